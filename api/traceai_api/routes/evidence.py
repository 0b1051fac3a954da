"""Rates, the review queue and the access log."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from sqlalchemy import select

from traceai.access import Permission, Principal
from traceai.db.tables import AccessFields, AccessLog, Inspection, table_of
from traceai.errors import RecordError
from traceai.inspection import history
from traceai.ledger.records import Part
from traceai.review import rates as review_rates
from traceai.review import verdicts
from traceai_api.answers import guarded
from traceai_api.dependencies import SessionDep, allowed
from traceai_api.routes.inspections import FilterDep
from traceai_api.schemas import ProportionOut

router = APIRouter()
_asked = table_of(AccessLog)


class RatesOut(BaseModel):
    """The rates of one group. Every rate has its interval, or the reason why it cannot be estimated."""

    group: str | None
    decisions: int
    failed: int
    reviewed: int
    simulated_reviews: int
    false_negative_rate: ProportionOut
    false_positive_rate: ProportionOut
    escape_rate: ProportionOut
    overkill_rate: ProportionOut
    defect_prevalence: ProportionOut
    undecided_share: ProportionOut
    caveats: list[str]

    @classmethod
    def of(cls, report: review_rates.RatesReport) -> "RatesOut":
        rates = report.rates
        return cls(
            group=report.group,
            decisions=report.decisions,
            failed=report.failed,
            reviewed=report.reviewed,
            simulated_reviews=report.simulated,
            false_negative_rate=ProportionOut.of(rates.false_negative_rate),
            false_positive_rate=ProportionOut.of(rates.false_positive_rate),
            escape_rate=ProportionOut.of(rates.escape_rate),
            overkill_rate=ProportionOut.of(rates.overkill_rate),
            defect_prevalence=ProportionOut.of(rates.defect_prevalence),
            undecided_share=ProportionOut.of(rates.undecided_share),
            caveats=list(rates.caveats),
        )


class Waiting(BaseModel):
    """A part to verify. What the model said of it is left out on purpose: who verifies blind must not see it."""

    id: UUID
    ledger_index: int
    occurred_at: datetime
    station: str
    part: Part
    image: str

    @classmethod
    def of(cls, row: Inspection) -> "Waiting":
        return cls(
            id=row.id,
            ledger_index=row.journal_index,
            occurred_at=row.occurred_at,
            station=row.station,
            part=Part(product=row.product, serial=row.serial, lot=row.lot, view=row.view),
            image=f"/v1/inspections/{row.id}/image",
        )


class AccessPage(BaseModel):
    items: list[AccessFields]
    next: UUID | None


@router.get(
    "/rates",
    tags=["rates"],
    summary="False-positive and false-negative rates with intervals",
    responses=guarded(RecordError),
)
def rates(
    _: Annotated[Principal, Depends(allowed(Permission.READ_RATES))],
    session: SessionDep,
    wanted: FilterDep,
    by: Literal["station", "model", "version", "product", "lot", "day"] | None = None,
    confidence: Annotated[float, Query(gt=0.5, lt=1)] = 0.95,
) -> list[RatesOut]:
    return [RatesOut.of(report) for report in review_rates.rates(session, wanted, by=by, confidence=confidence)]


@router.get(
    "/reviews/queue",
    tags=["reviews"],
    summary="Decisions drawn for verification that still wait for it",
    responses=guarded(),
)
def queue(
    _: Annotated[Principal, Depends(allowed(Permission.REVIEW))],
    session: SessionDep,
    station: str | None = None,
    limit: Annotated[int, Query(ge=1, le=history.LARGEST_PAGE)] = 50,
) -> list[Waiting]:
    return [Waiting.of(row) for row in verdicts.queue(session, station=station, limit=limit)]


@router.get("/access-log", tags=["access"], summary="Who asked for what, newest first", responses=guarded())
def access_log(
    _: Annotated[Principal, Depends(allowed(Permission.READ_ACCESS_LOG))],
    session: SessionDep,
    limit: Annotated[int, Query(ge=1, le=history.LARGEST_PAGE)] = 100,
    after: UUID | None = None,
) -> AccessPage:
    query = select(AccessLog).order_by(_asked.c.id.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(_asked.c.id < after)
    rows = session.execute(query).scalars().all()
    items = [AccessFields.model_validate(row.model_dump()) for row in rows[:limit]]
    return AccessPage(items=items, next=rows[limit - 1].id if len(rows) > limit else None)
