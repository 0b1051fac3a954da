"""The completeness section of an audit report: what the stations in scope lack, found in the tables, quoted from the journal."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlmodel import Session

from traceai.clock import parse_timestamp
from traceai.db import tables
from traceai.inspection import completeness
from traceai.inspection.completeness import Period
from traceai.inspection.history import Filter
from traceai.ledger import records
from traceai_reports.content import Unreadable
from traceai_reports.quotes import Quotes
from traceai_reports.station import Completeness, MissingTriggers, NumberBreak, Outage, StationRecord, Unquoted

_inspection = tables.table_of(tables.Inspection)
_c = _inspection.c

# What selects parts and not times or stations: the record of a station is complete or not for all of its parts.
_OF_PARTS = ("serial", "lot", "product", "model", "version", "verdict")


def account(session: Session, quotes: Quotes, wanted: Filter, first: int | None, last: int | None) -> Completeness:
    """The record of every station in scope, within one repeatable-read transaction.

    Where `wanted` selects parts, the times are those from the first to the last of them, and the stations those that saw them.

    Args:
        first, last: ledger indices of the first and the last inspection in scope; None where there is none.
    """
    narrowed = any(getattr(wanted, name) is not None for name in _OF_PARTS)
    since, until = wanted.since, wanted.until
    if narrowed:
        since, until = _times(session, wanted, first, last)
        seen = select(_c.station).where(*wanted.conditions()).distinct()
        names = sorted(session.execute(seen).scalars())
    else:
        names = [name for name in completeness.stations(session) if wanted.station in (None, name)]
    period = Period(since, until)
    stations = tuple(_record(session, quotes, name, period) for name in names)
    return Completeness(stations=stations, since=since, until=until, narrowed=narrowed)


def _times(
    session: Session, wanted: Filter, first: int | None, last: int | None
) -> tuple[datetime | None, datetime | None]:
    found = completeness.moments(session, [index for index in (first, last) if index is not None])
    if not found:
        return wanted.since, wanted.until
    return min(found.values()), max(found.values()) + timedelta(microseconds=1)


def _record(session: Session, quotes: Quotes, station: str, period: Period) -> StationRecord:
    found = completeness.completeness(session, station, period)
    quotes.read(found.outages)
    return StationRecord(
        station=station,
        decisions=found.decisions,
        first_number=found.first_number,
        last_number=found.last_number,
        with_trigger=found.counted,
        breaks=tuple(NumberBreak(ledger_index=b.index, before=b.before, number=b.number) for b in found.breaks),
        breaks_found=found.breaks_found,
        missing=tuple(
            MissingTriggers(first=m.first, last=m.last, noticed=m.noticed, before=m.before, after=m.after)
            for m in found.missing
        ),
        missing_found=found.missing_found,
        missing_triggers=found.missing_triggers,
        explained=found.explained_found,
        restarts=found.restarts_found,
        outages=tuple(_outage(quotes, index, station) for index in reversed(found.outages)),
        outages_found=found.outages_found,
        delayed=found.delayed,
        lost=found.lost,
    )


def _outage(quotes: Quotes, index: int, station: str) -> Outage | Unquoted:
    gap = quotes.record(index, records.Gap)
    if isinstance(gap, Unreadable):
        return Unquoted(ledger_index=index, station=station)
    first, last = gap.first_trigger, gap.last_trigger
    return Outage(
        ledger_index=index,
        station=gap.station,
        began_at=parse_timestamp(gap.began_at),
        ended_at=parse_timestamp(gap.ended_at),
        code=gap.cause_code,
        cause=gap.cause,
        delayed=gap.delayed,
        lost=gap.lost,
        by=gap.actor,
        triggers=None if first is None or last is None else (first, last),
    )
