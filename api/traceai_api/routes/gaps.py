"""Completeness: outages on record, and what is missing without one."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from traceai.access import Permission, Principal
from traceai.errors import InputError, RecordError
from traceai.inspection import completeness as record
from traceai.inspection import history
from traceai.inspection.completeness import Period
from traceai_api.answers import guarded
from traceai_api.dependencies import TraceDep, allowed
from traceai_api.routes.inspections import Moment
from traceai_api.schemas import CompletenessOut, GapOut, GapPage

router = APIRouter(prefix="/gaps", tags=["gaps"])


@router.get(
    "",
    summary="What is missing of the record: outages, newest first, and each station's completeness",
    responses=guarded(RecordError),
)
def gaps(
    _: Annotated[Principal, Depends(allowed(Permission.READ_DECISIONS))],
    trace: TraceDep,
    station: str | None = None,
    since: Annotated[Moment | None, Query(description="first moment, RFC 3339 with zone")] = None,
    until: Annotated[Moment | None, Query(description="first moment that no longer counts, likewise")] = None,
    limit: Annotated[int, Query(ge=1, le=history.LARGEST_PAGE)] = 50,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> GapPage:
    """An outage counts where any part of it lies in the period, missing triggers where a part of the time between the decisions on
    both sides of them does. All of one answer is of one moment."""
    if station is not None and "\x00" in station:
        raise InputError("A filter holds a NUL character, which no recorded text has; leave it out.")
    period = Period(since, until)
    with trace.database.moment() as session:
        page = record.gaps(session, station, period, limit=limit, after=after)
        items = [GapOut.of(journal, gap) for journal, gap in record.entries(session, page.indices)]
        stations = None
        if after is None:
            names = [name for name in record.stations(session) if station in (None, name)]
            stations = [CompletenessOut.of(record.completeness(session, name, period)) for name in names]
    return GapPage(items=items, next=page.next, stations=stations)
