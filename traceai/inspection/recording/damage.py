"""A spool file that is damaged: it is kept as it was found, and what can be read of it goes into a new one in its place."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from traceai.clock import now, timestamp

CAUSE = " Then the spool's file was found damaged; what could not be read of it is lost."
_TABLES = ("waiting", "rejected", "outage", "affected", "access", "tally")
# Where a database header holds the number of its last change, and the number of the change that its page count is of.
_CHANGED, _COUNTED = slice(24, 28), slice(92, 96)
# Rows that are looked for one by one between two damaged places.
_PROBED = 1_000_000


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is not what it wrote."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def found(path: Path) -> tuple[Path, ...]:
    """The damaged files that were set aside beside `path`, oldest first."""
    return tuple(sorted(path.parent.glob(f"{path.stem}-damaged-*.db")))


def set_aside(path: Path, schema: str) -> Path:
    """Keep a copy of the damaged file under another name, and put a new one in its place with whatever can be read of it.

    The caller keeps everybody else away from the file. Until the last step the damaged file is in its place: whoever opens it after
    a crash half-way, or once there is room on the disk again, finds it damaged and begins anew.

    Raises:
        OSError, sqlite3.Error: there is no room for the copy or for the new file.
    """
    aside = path.with_name(f"{path.stem}-damaged-{now():%Y%m%dT%H%M%S%f}.db")
    fresh, work = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.work")
    try:
        _copy(path, aside)
        _copy(path, work)
        _rescue(work, fresh, schema)
    except BaseException:
        for file in (aside, fresh, work):
            _remove(file)
        raise
    _remove(work)
    fresh.chmod(0o600)
    # The journal of the damaged file belongs to no other; without it the copy still has all that there was.
    for part in ("-wal", "-shm"):
        Path(f"{path}{part}").unlink(missing_ok=True)
    fresh.replace(path)
    return aside


def _copy(path: Path, to: Path) -> None:
    for part in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{path}{part}", f"{to}{part}")
            Path(f"{to}{part}").chmod(0o600)


def _remove(file: Path) -> None:
    for part in ("", "-wal", "-shm", "-journal"):
        Path(f"{file}{part}").unlink(missing_ok=True)


def _rescue(work: Path, fresh: Path, schema: str) -> None:
    """Read what can be read of `work`, a copy that may be spoiled, into `fresh`."""
    _remove(fresh)
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as rescued:
        rescued.executescript(schema)
        page = int(rescued.execute("PRAGMA page_size").fetchone()[0])
        with fresh.open("rb") as stream:
            first_page = stream.read(page)
    with (
        contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as rescued,
        _open(work, first_page) as damaged,
    ):
        rescued.execute("BEGIN")
        for table in _TABLES:
            for row in _readable(damaged, table):
                marks = ", ".join("?" * len(row))
                with contextlib.suppress(sqlite3.IntegrityError):  # half a row is none
                    rescued.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608
        _count_what_is_lost(rescued)
        rescued.execute("COMMIT")


@contextlib.contextmanager
def _open(work: Path, first_page: bytes) -> Iterator[sqlite3.Connection]:
    """The damaged file; one whose first page is damaged, with the first page of a new spool, for all of them begin alike."""
    damaged = sqlite3.connect(work)
    try:
        damaged.execute("SELECT count(*) FROM tally").fetchone()
    except sqlite3.Error:
        damaged.close()
        header = bytearray(first_page)
        header[_COUNTED] = bytes(
            byte ^ 0xFF for byte in header[_CHANGED]
        )  # so that the file's length says how many pages it has
        with work.open("r+b") as stream:
            stream.write(header)
        damaged = sqlite3.connect(work)
    with contextlib.closing(damaged):
        yield damaged


def _readable(damaged: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    """The rows that can be read: from the front up to the damage, from the back, and one by one between two damaged places."""
    seen: set[int] = set()
    ends: list[int] = []
    for direction in ("ASC", "DESC"):
        last = None
        try:
            for number, *row in damaged.execute(
                f"SELECT rowid, * FROM {table} ORDER BY rowid {direction}"  # noqa: S608  # a table of ours
            ):
                if number in seen:
                    return
                seen.add(number)
                last = number
                yield tuple(row)
        except sqlite3.Error:
            ends += [last] if last is not None else []
        else:
            return
    low, high = (min(ends), max(ends)) if ends else (0, 0)
    for number in range(low + 1, min(high, low + _PROBED)):
        with contextlib.suppress(sqlite3.Error):
            for row in damaged.execute(f"SELECT * FROM {table} WHERE rowid = ?", (number,)):  # noqa: S608
                yield tuple(row)


def _count_what_is_lost(rescued: sqlite3.Connection) -> None:
    """By station: what came into the spool, was not delivered, and waits no more."""
    rescued.execute(
        "INSERT OR IGNORE INTO outage VALUES (1, ?, 'spool-damaged', 'The spool could not be read.', NULL)",
        (timestamp(now()),),
    )
    rescued.execute(
        "UPDATE affected SET lost = max(0, delayed - delivered - (SELECT count(*) FROM waiting"
        " WHERE waiting.station = affected.station AND numbered))"
    )
