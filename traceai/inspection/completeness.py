"""Whether what happened at a station is on record: its numbers, the triggers of its camera, and the outages in between.

PostgreSQL reduces a station's decisions to where something does not go on; only those places are read. Which counts are missing is
for `ledger.triggers` to say, from the whole history of the station, and a period selects among what was found. Where an entry can
be quoted it is, because the tables only say where to look.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, text
from sqlmodel import Session

from traceai.clock import parse_timestamp
from traceai.db import tables
from traceai.db.tables import Journal
from traceai.errors import InputError, RecordError
from traceai.inspection.history import LARGEST_PAGE, position, token
from traceai.ledger.entry import Entry
from traceai.ledger.records import Gap
from traceai.ledger.triggers import Counter, Hole, Restart, Step

# Places beyond this many of a kind are counted and not listed: nobody reads a thousand of them, and the first hundred tell.
LISTED = 100
_CHUNK = 1000

_inspection = tables.table_of(tables.Inspection)
_station = tables.table_of(tables.Station)
_gap = tables.table_of(tables.Gap)
_c, _g = _inspection.c, _gap.c

_BREAKS = text("""
    SELECT count(*) OVER (), i.journal_index, n.before, n.station_seq FROM (
        SELECT station_seq, coalesce(lag(station_seq) OVER (ORDER BY station_seq), 0) AS before
        FROM inspection WHERE station = :station
    ) n JOIN inspection i ON i.station = :station AND i.station_seq = n.station_seq
    WHERE n.station_seq <> n.before + 1
        AND (CAST(:since AS timestamptz) IS NULL OR i.occurred_at >= :since)
        AND (CAST(:until AS timestamptz) IS NULL OR i.occurred_at < :until)
    ORDER BY n.station_seq DESC, i.journal_index DESC LIMIT :listed
""")
# A run ends where the next begins, and where a gap stands in between. Its last count is the one before the next run.
_RUNS = text("""
    WITH counted AS (
        SELECT journal_index, station_seq, trigger, lag(trigger) OVER places AS before, part, lag(part) OVER places AS part_before
        FROM (
            SELECT *, width_bucket(journal_index, CAST(:declared AS bigint[])) AS part FROM inspection
            WHERE station = :station AND trigger BETWEEN 0 AND 9007199254740991
        ) placed
        WINDOW places AS (ORDER BY station_seq)
    )
    SELECT journal_index, trigger, coalesce(
        lead(before) OVER (ORDER BY station_seq),
        (SELECT trigger FROM inspection WHERE station = :station AND trigger BETWEEN 0 AND 9007199254740991
            ORDER BY station_seq DESC LIMIT 1)
    )
    FROM counted WHERE before IS NULL OR trigger NOT IN (before, before + 1) OR part <> part_before
    ORDER BY station_seq
""")
# Around each place: the decision that revealed it, and the one with a trigger before that. It lies in a period that it touches.
_AROUND = text("""
    SELECT noticed.journal_index, earlier.journal_index FROM inspection noticed LEFT JOIN LATERAL (
        SELECT journal_index, occurred_at FROM inspection i
        WHERE i.station = noticed.station AND i.station_seq < noticed.station_seq AND i.trigger IS NOT NULL
        ORDER BY i.station_seq DESC LIMIT 1
    ) earlier ON true
    WHERE noticed.journal_index = ANY(:places)
        AND (CAST(:since AS timestamptz) IS NULL OR noticed.occurred_at >= :since)
        AND (CAST(:until AS timestamptz) IS NULL OR coalesce(earlier.occurred_at, noticed.occurred_at) < :until)
""")


@dataclass(frozen=True)
class Period:
    """`since` is inclusive, `until` exclusive (both UTC-aware); None leaves an end open."""

    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.since and self.until and self.since >= self.until:
            raise InputError("The period ends before it begins; give a later end.")


@dataclass(frozen=True)
class Break:
    """The decision at `index` has `number`, and the one before it `before`: they do not follow each other."""

    index: int
    before: int
    number: int


@dataclass(frozen=True)
class Missing:
    """Triggers without a decision and without an explanation.

    noticed: index of the decision that revealed them. before, after: when the decisions on both sides occurred; None where their
    entries are unreadable.
    """

    first: int
    last: int
    noticed: int
    before: datetime | None
    after: datetime | None


@dataclass(frozen=True)
class Completeness:
    """What is on record of one station, in a period. The newest `LISTED` of each kind are there, and `found` counts all of them.

    decisions: attempts, failed ones included, numbered from `first_number` to `last_number`; `counted` of them have a trigger.
    explained: triggers without a decision of which a `gap/1` says why. `entry` is its index.
    restarts: where the camera's counter began anew.
    outages: indices of the `gap/1` entries, newest first. delayed, lost: what all of them add up to.
    """

    station: str
    decisions: int
    first_number: int | None
    last_number: int | None
    counted: int
    breaks: tuple[Break, ...]
    breaks_found: int
    missing: tuple[Missing, ...]
    missing_found: int
    missing_triggers: int
    explained: tuple[Hole, ...]
    explained_found: int
    restarts: tuple[Restart, ...]
    restarts_found: int
    outages: tuple[int, ...]
    outages_found: int
    delayed: int
    lost: int

    @property
    def holds(self) -> bool:
        """Whether the numbers have no gap, and every trigger has its decision or its explanation."""
        return not self.breaks_found and not self.missing_found


def stations(session: Session) -> list[str]:
    """Every place on the line that was added, or of which an outage is on record."""
    names = select(_station.c.name).union(select(_g.station))
    return sorted(session.execute(names).scalars())


def completeness(session: Session, station: str, period: Period = Period()) -> Completeness:
    """Look at one station, within one repeatable-read transaction of `session`."""
    decisions, first, last, counted = session.execute(
        select(func.count(), func.min(_c.station_seq), func.max(_c.station_seq), func.count(_c.trigger)).where(
            _c.station == station, *_during(period)
        )
    ).one()
    breaks = session.execute(_BREAKS, {"station": station, "listed": LISTED, **_ends(period)}).all()
    outages, delayed, lost = _outages(session, station, period)
    found = counter(session, station).result()
    around = _around(session, {hole.entry for hole in found.unexplained}, period)
    missing = [hole for hole in found.unexplained if hole.entry in around]
    explained = [hole for hole in found.explained if hole.entry in outages]
    restarts = _during_period(session, found.restarts, period)
    shown = missing[-LISTED:]
    times = moments(
        session, [index for hole in shown for index in (hole.entry, around[hole.entry]) if index is not None]
    )
    return Completeness(
        station=station,
        decisions=decisions,
        first_number=first,
        last_number=last,
        counted=counted,
        breaks=tuple(Break(*row) for _, *row in reversed(breaks)),
        breaks_found=breaks[0][0] if breaks else 0,
        missing=tuple(
            Missing(hole.first, hole.last, hole.entry, times.get(around[hole.entry]), times.get(hole.entry))
            for hole in shown
        ),
        missing_found=len(missing),
        missing_triggers=sum(hole.last - hole.first + 1 for hole in missing),
        explained=tuple(explained[-LISTED:]),
        explained_found=len(explained),
        restarts=tuple(restarts[-LISTED:]),
        restarts_found=len(restarts),
        outages=tuple(sorted(outages, reverse=True)[:LISTED]),
        outages_found=len(outages),
        delayed=delayed,
        lost=lost,
    )


def counter(session: Session, station: str) -> Counter:
    """The camera's counter of a station as its whole record has it."""
    declared = [
        Step(index, first, last, declared=True)
        for index, first, last in session.execute(
            select(_g.journal_index, _g.first_trigger, _g.last_trigger)
            .where(_g.station == station, _g.first_trigger >= 0, _g.last_trigger.between(_g.first_trigger, 2**53 - 1))
            .order_by(_g.journal_index)
        )
    ]
    made, waiting = Counter(), iter(declared)
    following = next(waiting, None)
    runs = session.execute(
        _RUNS,
        {"station": station, "declared": [step.entry for step in declared]},
        execution_options={"yield_per": _CHUNK},
    )
    for index, first, last in runs:
        while following is not None and following.entry < index:
            made.take(following)
            following = next(waiting, None)
        made.take(Step(index, first, last))
    while following is not None:
        made.take(following)
        following = next(waiting, None)
    return made


@dataclass(frozen=True)
class Page:
    """Journal indices of `gap/1` entries, newest first. `next` is opaque; None on the last page."""

    indices: Sequence[int]
    next: str | None


def gaps(
    session: Session, station: str | None, period: Period = Period(), *, limit: int = 50, after: str | None = None
) -> Page:
    """One page of the outages that touch a period, by keyset.

    Raises:
        InputError: `after` is not a token that an earlier page gave, or `limit` is out of range.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise InputError(f"A page has 1 to {LARGEST_PAGE} gaps; ask for fewer.")
    query = select(_g.journal_index).where(*_touching(period)).order_by(_g.journal_index.desc()).limit(limit + 1)
    if station is not None:
        query = query.where(_g.station == station)
    if after is not None:
        query = query.where(_g.journal_index < position(after, "g"))
    found = session.execute(query).scalars().all()
    return Page(found[:limit], token(found[limit - 1], "g") if len(found) > limit else None)


def entries(session: Session, indices: Sequence[int]) -> list[tuple[Journal, Gap]]:
    """The outages at these places as their entries have them, in the order asked for.

    Raises:
        RecordError: an entry is gone, unreadable, or no gap's.
    """
    found = {entry.index: entry for entry in _journal(session, indices)}
    quoted = []
    for index in indices:
        record = Entry.parse(found[index].entry).record if index in found else None
        if not isinstance(record, Gap):
            raise RecordError(f"Journal entry {index} is not the gap that the table has; run `traceai ledger verify`.")
        quoted.append((found[index], record))
    return quoted


def moments(session: Session, indices: Sequence[int]) -> dict[int | None, datetime]:
    """When what these entries say occurred; one that is gone or unreadable is left out."""
    found: dict[int | None, datetime] = {}
    for chunk in _chunks(sorted(set(indices))):
        try:
            for entry in _journal(session, chunk):
                found[entry.index] = parse_timestamp(Entry.parse(entry.entry).record.occurred_at)
        except RecordError:
            if len(chunk) > 1:
                for index in chunk:
                    found |= moments(session, [index])
    return found


def between(session: Session, places: Sequence[int]) -> tuple[datetime | None, datetime | None]:
    """When the decisions occurred that surround what was noticed at these entries; None where none of them can be read."""
    around = _around(session, set(places), Period())
    times = moments(session, [index for pair in around.items() for index in pair if index is not None])
    found = sorted(times.values())
    return (found[0], found[-1]) if found else (None, None)


# --- parts -----------------------------------------------------------------------------------------------------------


def _journal(session: Session, indices: Sequence[int]) -> Sequence[Journal]:
    return session.execute(select(Journal).where(Journal.index.in_(indices))).scalars().all()  # type: ignore[attr-defined]


def _ends(period: Period) -> dict[str, datetime | None]:
    return {"since": period.since, "until": period.until}


def _during(period: Period) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if period.since is not None:
        found.append(_c.occurred_at >= period.since)
    if period.until is not None:
        found.append(_c.occurred_at < period.until)
    return found


def _touching(period: Period) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if period.since is not None:
        found.append(_g.ended_at >= period.since)
    if period.until is not None:
        found.append(_g.began_at < period.until)
    return found


def _outages(session: Session, station: str, period: Period) -> tuple[set[int], int, int]:
    here = (_g.station == station, *_touching(period))
    indices = set(session.execute(select(_g.journal_index).where(*here)).scalars())
    delayed, lost = session.execute(
        select(func.coalesce(func.sum(_g.delayed), 0), func.coalesce(func.sum(_g.lost), 0)).where(*here)
    ).one()
    return indices, int(delayed), int(lost)


def _around(session: Session, places: set[int], period: Period) -> dict[int, int | None]:
    """Of these places those that lie in the period, each with the index of the decision before it."""
    found: dict[int, int | None] = {}
    for chunk in _chunks(sorted(places)):
        found |= dict(session.execute(_AROUND, {"places": list(chunk), **_ends(period)}).all())
    return found


def _during_period(session: Session, restarts: Sequence[Restart], period: Period) -> list[Restart]:
    within = set[int]()
    for chunk in _chunks([restart.entry for restart in restarts]):
        query = select(_c.journal_index).where(_c.journal_index.in_(chunk), *_during(period))
        within |= set(session.execute(query).scalars())
    return [restart for restart in restarts if restart.entry in within]


def _chunks(indices: Sequence[int]) -> Iterator[Sequence[Any]]:
    return (indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK))
