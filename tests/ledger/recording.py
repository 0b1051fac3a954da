"""Decisions of a station straight into the ledger, with the triggers that a test needs, and the gaps between them."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import insert, select

from tests.ledger import evidence_samples as samples
from traceai.clock import now, timestamp, uuid7
from traceai.db.tables import HeatMap, Station
from traceai.ledger import log, records
from traceai.ledger.log import Receipt
from traceai.sdk import Trace


def record(
    trace: Trace, triggers: Iterable[int | None], *, station: str = "press-4", at: str | None = None
) -> list[Receipt]:
    """Append a decision for each of these triggers, in one batch, as the inspector does. `at`: when all of them occurred."""
    with trace.database.session() as session:
        row = session.execute(select(Station).where(Station.name == station).with_for_update()).scalar_one()
        found = [
            samples.inspection(
                1, id=str(uuid7()), occurred_at=at or timestamp(now()), station=station, station_seq=number, trigger=trigger
            )
            for number, trigger in enumerate(triggers, row.last_seq + 1)
        ]  # fmt: skip
        before: list[records.Record] = [] if log.read_head(session).size > 2 else [samples.model(), samples.runtime()]
        receipts = log.append(session, [*before, *found])[len(before) :]
        session.execute(insert(HeatMap), [{"journal_index": r.index, "grid": samples.HEAT_MAP} for r in receipts])
        row.last_seq = found[-1].station_seq
    return receipts


def gap(station: str = "press-4", **changes: Any) -> records.Gap:
    """An outage of twenty minutes of which nothing is missing."""
    fields: dict[str, Any] = {
        "station": station,
        "began_at": "2026-01-31T06:00:00.000000Z",
        "ended_at": "2026-01-31T06:20:00.000000Z",
        "cause_code": "database-unavailable",
        "cause": "The database did not answer.",
        "delayed": 37,
        "lost": 0,
        "first_trigger": None,
        "last_trigger": None,
        "actor": "press-4",
    }
    return records.Gap(**fields | changes)


def note(trace: Trace, *gaps: records.Gap) -> list[Receipt]:
    with trace.database.session() as session:
        return log.append(session, gaps)


def missing(first: int, last: int, station: str = "press-4", **changes: Any) -> records.Gap:
    """Three counts that were lost, say."""
    return gap(station, delayed=0, lost=last - first + 1, first_trigger=first, last_trigger=last, **changes)
