"""Say for the record why triggers have no decision: a `gap/1` that a person declares."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlmodel import Session

from traceai.clock import timestamp
from traceai.db import tables
from traceai.db.tables import Station
from traceai.errors import ConflictError, InputError, StationNotFoundError
from traceai.inspection import completeness
from traceai.ledger import log
from traceai.ledger.log import Receipt
from traceai.ledger.records import Gap, validated
from traceai.ledger.triggers import Hole

_inspection = tables.table_of(tables.Inspection)
_gap = tables.table_of(tables.Gap)
_c, _g = _inspection.c, _gap.c

DECLARED = "declared"
# Ranges beyond this many are not named in a refusal.
_NAMED = 5


def declare(
    session: Session,
    station: str,
    triggers: tuple[int, int] | None,
    *,
    cause: str,
    actor: str,
    began_at: datetime | None = None,
    ended_at: datetime | None = None,
    lost: int = 0,
) -> Receipt:
    """Append a `gap/1` of `station`. The line is not held up while the record is looked through.

    Args:
        triggers: the first and the last of the camera's counts that have no decision; None for an outage without any.
        cause, actor: for the record.
        began_at, ended_at: where not given, when the decisions on both sides of the triggers occurred.
        lost: attempts of which nothing could be recorded.

    Raises:
        InputError: something that no record can hold, or a time that is not given and not known.
        StationNotFoundError: no such station.
        ConflictError: one of the triggers is not missing, or no longer.
    """
    if not cause.strip():
        raise InputError("The cause is empty; say in a sentence why, for an auditor will read it.")
    if session.get(Station, station) is None:
        raise StationNotFoundError(f"There is no station {station}; `traceai station list` shows those there are.")
    looked_at = log.read_head(session).size
    if triggers is not None:
        holes = completeness.counter(session, station).lacking(*triggers)
        _require_missing(holes, station, *triggers)
        before, after = completeness.between(session, [hole.entry for hole in holes])
        began_at, ended_at = began_at or before, ended_at or after
    if began_at is None or ended_at is None:
        raise InputError("The record does not say from when to when that was; give both times.")
    if ended_at < began_at:
        raise InputError("The gap ends before it begins; give a later end, or an earlier beginning.")
    first, last = triggers or (None, None)
    gap = validated(
        Gap,
        {
            "station": station,
            "began_at": timestamp(began_at),
            "ended_at": timestamp(ended_at),
            "cause_code": DECLARED,
            "cause": cause,
            "delayed": 0,
            "lost": lost,
            "first_trigger": first,
            "last_trigger": last,
            "actor": actor,
        },
    )
    if triggers is not None:
        log.lock(session)
        _require_nothing_new(session, station, *triggers, since=looked_at)
    return log.append(session, [gap])[0]


def _require_nothing_new(session: Session, station: str, first: int, last: int, *, since: int) -> None:
    """Raises:
    ConflictError: a decision or a gap with one of these triggers came after the record was looked through.
    """
    new = select(_c.journal_index).where(
        _c.station == station, _c.trigger.between(first, last), _c.journal_index >= since
    )
    explained = select(_g.journal_index).where(
        _g.station == station, _g.first_trigger <= last, _g.last_trigger >= first, _g.journal_index >= since
    )
    if session.execute(new.union_all(explained).limit(1)).first() is not None:
        raise ConflictError(
            f"One of the triggers {first} to {last} of {station} was recorded or explained at this moment; look at `traceai "
            "station gaps` again."
        )


def _require_missing(holes: Sequence[Hole], station: str, first: int, last: int) -> None:
    """Raises:
    ConflictError: not all of them are missing. One that the camera did not come to may still have its decision.
    """
    if sum(hole.last - hole.first + 1 for hole in holes) == last - first + 1:
        return
    if first == last:
        what = f"Trigger {first} of {station} is not missing"
    elif not holes:
        what = f"None of the triggers {first} to {last} of {station} is missing"
    else:
        named = ", ".join(f"{h.first}" if h.first == h.last else f"{h.first} to {h.last}" for h in holes[:_NAMED])
        more = " and others" if len(holes) > _NAMED else ""
        what = f"Of the triggers {first} to {last} of {station} only {named}{more} are missing"
    raise ConflictError(
        f"{what}; one that has a decision, is explained already or did not come yet cannot be declared missing."
    )
