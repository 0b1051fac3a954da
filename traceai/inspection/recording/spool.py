"""The spool: what the database cannot take now is kept on this machine's own disk, and nothing leaves it unseen.

A SQLite file in the home, written with `synchronous=FULL`: what `put` returned survives a power cut. Three tables say where a draft
is (`waiting`, in the order of arrival; `rejected`, for good or until somebody retries it; gone when it was delivered), two say
what the outage was. Several processes share the file. A crash between a delivery and its entry here leaves the draft waiting; it is
offered again, and the ledger knows its id.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from traceai.clock import now, parse_timestamp, timestamp
from traceai.errors import IdTakenError, RecordError, TraceaiError
from traceai.inspection.recording import damage
from traceai.inspection.recording.draft import Draft, Spooled
from traceai.inspection.recording.spool_file import SpoolFile
from traceai.ledger import records

_PUT = "INSERT INTO waiting (id, station, spooled_at, draft, grid, sha256, numbered) VALUES (?, ?, ?, ?, ?, ?, ?)"
_AGAIN = (
    "While the database was away the inspection {} was made again and {}; the ledger holds what was decided before."
)
_REJECT = "INSERT INTO rejected SELECT *, ?, ?, ? FROM waiting WHERE id = ?"
_COUNT = "INSERT INTO tally VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET count = count + excluded.count"


@dataclass(frozen=True)
class Waiting:
    """What waits at `position`: the draft, or why it cannot be read."""

    position: int
    draft: Draft | RecordError


@dataclass(frozen=True)
class Rejected:
    """A draft that the ledger does not take. It is kept for good, and can be offered again."""

    id: str
    station: str
    spooled_at: datetime
    rejected_at: datetime
    code: str
    reason: str


@dataclass(frozen=True)
class Outage:
    """Since when the database does not take records, and why. `answered_at`: when it took the first one again."""

    began_at: datetime
    code: str
    cause: str
    answered_at: datetime | None


@dataclass(frozen=True)
class Status:
    """Where everything is that ever came into the spool.

    spooled, delivered: decisions in all. waiting: by station. oldest: when the oldest of them came.
    damaged: files of an earlier spool that could not be read, kept as they were found.
    """

    spooled: int
    delivered: int
    waiting: dict[str, int]
    oldest: datetime | None
    rejected: tuple[Rejected, ...]
    outage: Outage | None
    damaged: tuple[Path, ...]


class Spool:
    """The spool of a home. Threads may share it."""

    def __init__(self, home: Path) -> None:
        self.path = home / "spool.db"
        self._file = SpoolFile(self.path)

    def put(self, drafts: Sequence[Draft], since: datetime, error: TraceaiError) -> list[Spooled | TraceaiError]:
        """Keep `drafts` behind those that wait already. What is returned survives a power cut.

        Args:
            since: when the ledger took nothing more.
            error: why.

        Returns:
            For each draft what its sender is told; IdTakenError where the id waits for another inspection.

        Raises:
            SpoolError: nothing was kept; the disk is full, or the home cannot be written to.
        """
        moment = now()
        with self._file.transaction() as spool:
            spool.execute(
                "INSERT OR IGNORE INTO outage VALUES (1, ?, ?, ?, NULL)", (timestamp(since), error.code, error.cause)
            )
            return [self._put(spool, draft, moment) for draft in drafts]

    @staticmethod
    def _put(spool: sqlite3.Connection, draft: Draft, moment: datetime) -> Spooled | TraceaiError:
        reference = draft.record.id
        row = spool.execute("SELECT draft, grid, sha256, spooled_at FROM waiting WHERE id = ?", (reference,)).fetchone()
        if row is not None:
            kept = _read(*row[:3])
            if isinstance(kept, RecordError):
                return kept
            if kept.subject != draft.subject:
                return IdTakenError(f"The id {reference} waits in the spool for another inspection; choose another.")
            return Spooled(reference, parse_timestamp(row[3]), kept)
        _insert(spool, draft, moment)
        if draft.is_numbered:
            spool.execute(
                "INSERT INTO affected (station, delayed) VALUES (?, 1) ON CONFLICT (station) DO UPDATE SET delayed = delayed + 1",
                (draft.station,),
            )
            spool.execute(_COUNT, ("spooled", 1))
        return Spooled(reference, moment)

    def oldest(self, limit: int) -> list[Waiting]:
        """The drafts that wait longest, in the order in which they came."""
        with self._file.transaction() as spool:
            rows = spool.execute(
                "SELECT position, draft, grid, sha256 FROM waiting ORDER BY position LIMIT ?", (limit,)
            ).fetchall()
        return [Waiting(position, _read(*stored)) for position, *stored in rows]

    @property
    def empty(self) -> bool:
        """Whether nothing waits, and no outage is open."""
        if not self.path.exists():
            return True
        with self._file.transaction() as spool:
            query = "SELECT NOT EXISTS (SELECT 1 FROM waiting) AND NOT EXISTS (SELECT 1 FROM outage)"
            return bool(spool.execute(query).fetchone()[0])

    def held(self) -> AbstractContextManager[None]:
        """Have every other thread and process wait with whatever it wants of this spool. Raises SpoolError, as `put`."""
        return self._file.held()

    def close(self) -> None:
        self._file.close()

    # --- what the forwarder says ----------------------------------------------------------------------------------

    def silent(self) -> None:
        """The database took nothing."""
        with self._file.transaction() as spool:
            spool.execute("UPDATE outage SET answered_at = NULL")

    def settle(
        self,
        delivered: Sequence[int],
        rejected: Sequence[tuple[int, TraceaiError]],
        actor: str,
        repeated: Sequence[Draft] = (),
    ) -> None:
        """Enter what became of drafts: those at the positions `delivered` are in the ledger, those `rejected` never will be.

        Args:
            actor: who says on the record that one was rejected.
            repeated: of those delivered, those under whose id another record stands: what was said of them meanwhile is told.
        """
        moment = now()
        with self._file.transaction() as spool:
            spool.execute("UPDATE outage SET answered_at = coalesce(answered_at, ?)", (timestamp(moment),))
            for position in delivered:
                ((station, numbered),) = spool.execute(
                    "DELETE FROM waiting WHERE position = ? RETURNING station, numbered", (position,)
                ).fetchall()
                spool.execute("UPDATE affected SET delivered = delivered + ? WHERE station = ?", (numbered, station))
                spool.execute(_COUNT, ("delivered", numbered))
            for draft in repeated:
                # Not late, but twice: the first of them is what the ledger has.
                spool.execute(
                    "UPDATE affected SET delayed = delayed - 1, delivered = delivered - 1 WHERE station = ?",
                    (draft.station,),
                )
                _tell(spool, draft, "recorded-before", _AGAIN.format(draft.record.id, _said(draft)), 0, actor)
            for position, error in rejected:
                self._reject(spool, position, error, moment, actor)

    @staticmethod
    def _reject(spool: sqlite3.Connection, position: int, error: TraceaiError, moment: datetime, actor: str) -> None:
        ((reference, station, data, grid, digest, numbered),) = spool.execute(
            "SELECT id, station, draft, grid, sha256, numbered FROM waiting WHERE position = ?", (position,)
        ).fetchall()
        spool.execute(_REJECT, (timestamp(moment), error.code, error.message, reference))
        spool.execute("DELETE FROM waiting WHERE position = ?", (position,))
        if not numbered:
            return  # a gap that could not be told is no second gap
        spool.execute("UPDATE affected SET delayed = delayed - 1 WHERE station = ?", (station,))
        draft = _read(data, grid, digest)
        cause = f"The record {reference} was not accepted and is kept in the spool: {error.cause}"
        _tell(spool, draft if isinstance(draft, Draft) else station, "record-rejected", cause, 1, actor)

    def set_aside(self, draft: Draft, error: TraceaiError) -> None:
        """Keep a draft that the ledger refused when it was handed in; its sender was told, and the ledger is by others."""
        moment = now()
        with self._file.transaction() as spool:
            _insert(spool, draft, moment)
            spool.execute(_REJECT, (timestamp(moment), error.code, error.message, draft.record.id))
            spool.execute("DELETE FROM waiting WHERE id = ?", (draft.record.id,))

    def conclude(self, actor: str) -> bool:
        """End the outage where nothing waits any more: have what happened at each station written into the ledger.

        Returns:
            Whether nothing waits; what is told of the outage waits as well, until it is delivered.
        """
        with self._file.transaction() as spool:
            if spool.execute("SELECT 1 FROM waiting LIMIT 1").fetchone():
                return False
            row = spool.execute("SELECT began_at, code, cause, answered_at FROM outage").fetchone()
            if row is None:
                return True
            began_at, code, cause, answered_at = row
            affected = spool.execute(
                "SELECT station, delayed - lost, lost FROM affected WHERE delayed > 0 ORDER BY station"
            ).fetchall()
            ended_at = max(answered_at or timestamp(now()), began_at)  # a clock may have been set back
            for station, delayed, lost in affected:
                gap = records.Gap(
                    station=station, began_at=began_at, ended_at=ended_at, cause_code=code,
                    cause=(cause + (damage.CAUSE if lost else ""))[:2000], delayed=delayed, lost=lost,
                    first_trigger=None, last_trigger=None, actor=actor,
                )  # fmt: skip
                _insert(spool, Draft(gap), now())
            spool.execute("DELETE FROM outage")
            spool.execute("DELETE FROM affected")
            return not affected

    def retry(self, reference: str) -> bool:
        """Offer a rejected draft again, behind those that wait. Returns False where none of that id was rejected."""
        with self._file.transaction() as spool:
            row = spool.execute(
                "SELECT position, id, station, spooled_at, draft, grid, sha256, numbered FROM rejected WHERE id = ?"
                " ORDER BY position DESC LIMIT 1",
                (reference,),
            ).fetchone()
            if row is None:
                return False
            spool.execute("DELETE FROM rejected WHERE position = ?", row[:1])
            spool.execute(_PUT, row[1:])
            return True

    # --- who asked meanwhile --------------------------------------------------------------------------------------

    def keep_access(self, asked: bytes) -> None:
        """Keep a line of the access log. What is kept survives a power cut.

        Raises:
            SpoolError: it is not kept.
        """
        with self._file.transaction() as spool:
            spool.execute("INSERT INTO access (asked) VALUES (?)", (asked,))

    def accesses(self) -> list[tuple[int, bytes]]:
        """Position and content of what is kept of the access log, oldest first."""
        if not self.path.exists():
            return []
        with self._file.transaction() as spool:
            return spool.execute("SELECT position, asked FROM access ORDER BY position").fetchall()

    def forget_accesses(self, last: int) -> None:
        """They are in the access log, up to the one at position `last`."""
        with self._file.transaction() as spool:
            spool.execute("DELETE FROM access WHERE position <= ?", (last,))

    # --- looking --------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        damaged = damage.found(self.path)
        if not self.path.exists():
            return Status(0, 0, {}, None, (), None, damaged)
        with self._file.transaction() as spool:
            tally = dict(spool.execute("SELECT name, count FROM tally").fetchall())
            waiting = dict(spool.execute("SELECT station, count(*) FROM waiting GROUP BY 1 ORDER BY 1").fetchall())
            ((oldest,),) = spool.execute("SELECT min(spooled_at) FROM waiting").fetchall()
            rejected = spool.execute(
                "SELECT id, station, spooled_at, rejected_at, code, reason FROM rejected ORDER BY position"
            ).fetchall()
            outage = spool.execute("SELECT began_at, code, cause, answered_at FROM outage").fetchone()
        return Status(
            spooled=tally.get("spooled", 0),
            delivered=tally.get("delivered", 0),
            waiting=waiting,
            oldest=_moment(oldest),
            rejected=tuple(
                Rejected(reference, station, parse_timestamp(came), parse_timestamp(went), code, reason)
                for reference, station, came, went, code, reason in rejected
            ),
            outage=None
            if outage is None
            else Outage(parse_timestamp(outage[0]), outage[1], outage[2], _moment(outage[3])),
            damaged=damaged,
        )


def _insert(spool: sqlite3.Connection, draft: Draft, moment: datetime) -> None:
    data = draft.to_bytes()
    digest = _digest(data, draft.grid)
    row = (draft.record.id, draft.station, timestamp(moment), data, draft.grid, digest, int(draft.is_numbered))
    spool.execute(_PUT, row)


def _tell(spool: sqlite3.Connection, about: Draft | str, code: str, cause: str, lost: int, actor: str) -> None:
    """Have it written into the ledger what became of a draft, or of one that cannot be read, at a station."""
    moment, trigger, station = timestamp(now()), None, about
    if isinstance(about, Draft):
        moment, station = about.record.occurred_at, about.station
        trigger = about.decided.trigger if lost else None
    gap = records.Gap(
        station=str(station), began_at=moment, ended_at=moment, cause_code=code, cause=cause[:2000], delayed=0, lost=lost,
        first_trigger=trigger, last_trigger=trigger, actor=actor,
    )  # fmt: skip
    _insert(spool, Draft(gap), now())


def _said(draft: Draft) -> str:
    record = draft.record
    return f"came to {record.verdict}" if isinstance(record, records.Inspection) else "failed"


def _digest(data: bytes, grid: bytes | None) -> bytes:
    return hashlib.sha256(len(data).to_bytes(8, "big") + data + (grid or b"")).digest()


def _read(data: object, grid: object, digest: object) -> Draft | RecordError:
    """The draft in a row of a file that may be damaged."""
    if not (isinstance(data, bytes) and isinstance(grid, bytes | None) and _digest(data, grid) == digest):
        return RecordError("What is stored in the spool is not what was put there; the disk or its file is damaged.")
    try:
        return Draft.from_bytes(data, grid)
    except RecordError as error:
        return error


def _moment(text: str | None) -> datetime | None:
    return None if text is None else parse_timestamp(text)
