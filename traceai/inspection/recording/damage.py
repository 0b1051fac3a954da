"""A spool file that is damaged: it is set aside as it was found, and what can be read of it goes into a new one."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from traceai.clock import now, timestamp

CAUSE = " Then the spool's file was found damaged; what could not be read of it is lost."
_PARTS = ("", "-wal", "-shm")
_TABLES = ("waiting", "rejected", "outage", "affected", "tally")
# Where a database header holds the number of its last change, and the number of the change that its page count is of.
_CHANGED, _COUNTED = slice(24, 28), slice(92, 96)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is not what it wrote."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def found(path: Path) -> tuple[Path, ...]:
    """The damaged files that were set aside beside `path`, oldest first."""
    return tuple(sorted(path.parent.glob(f"{path.stem}-damaged-*.db")))


def set_aside(path: Path, schema: str) -> Path:
    """Give the damaged file another name, and make a new one in its place with whatever can be read of it.

    The caller keeps everybody else away from the file. A crash half-way leaves the damaged file under its new name.
    """
    aside = path.with_name(f"{path.stem}-damaged-{now():%Y%m%dT%H%M%S%f}.db")
    for part in _PARTS:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{part}").rename(f"{aside}{part}")
    fresh, copy = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.copy")
    for file in (fresh, copy):
        file.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as rescued:
        rescued.executescript(schema)
        first_page = fresh.read_bytes()[: _page_size(rescued)]
        with _open(aside, copy, first_page) as damaged:
            rescued.execute("BEGIN")
            for table in _TABLES:
                for row in _readable(damaged, table):
                    marks = ", ".join("?" * len(row))
                    with contextlib.suppress(sqlite3.Error):  # half a row is none
                        rescued.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608
            _count_what_is_lost(rescued)
            rescued.execute("COMMIT")
    copy.unlink(missing_ok=True)
    fresh.chmod(0o600)
    fresh.rename(path)
    return aside


def _page_size(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA page_size").fetchone()[0])


@contextlib.contextmanager
def _open(aside: Path, copy: Path, first_page: bytes) -> Iterator[sqlite3.Connection]:
    """The damaged file; one whose first page is damaged, with the first page of a new spool, for all of them begin alike."""
    with contextlib.closing(sqlite3.connect(aside)) as damaged:
        try:
            damaged.execute("SELECT count(*) FROM tally").fetchone()
        except sqlite3.Error:
            pass
        else:
            yield damaged
            return
    header = bytearray(first_page)
    header[_COUNTED] = bytes(byte ^ 0xFF for byte in header[_CHANGED])  # so that the file's length says how many pages it has
    copy.write_bytes(bytes(header) + aside.read_bytes()[len(first_page) :])
    with contextlib.closing(sqlite3.connect(copy)) as damaged:
        yield damaged


def _readable(damaged: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    """The rows that can be read: from the front up to the damage, and from the back."""
    seen: set[int] = set()
    for direction in ("ASC", "DESC"):
        try:
            for number, *row in damaged.execute(
                f"SELECT rowid, * FROM {table} ORDER BY rowid {direction}"  # noqa: S608  # a table of ours
            ):
                if number in seen:
                    break
                seen.add(number)
                yield tuple(row)
        except sqlite3.Error:
            continue


def _count_what_is_lost(rescued: sqlite3.Connection) -> None:
    """By station: what came into the spool, was not delivered, and waits no more."""
    rescued.execute(
        "INSERT OR IGNORE INTO outage VALUES (1, ?, 'spool-damaged', 'The spool could not be read.', NULL)",
        (timestamp(now()),),
    )
    rescued.execute(
        "UPDATE affected SET lost = max(0, delayed - delivered - (SELECT count(*) FROM waiting"
        " WHERE waiting.station = affected.station))"
    )
