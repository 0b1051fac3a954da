"""A spool file that is damaged: it is set aside as it was found, and what can be read of it goes into a new one."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from traceai.clock import now

_PARTS = ("", "-wal", "-shm")
_TABLES = ("waiting", "rejected", "outage", "affected", "tally")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is not what it wrote."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def found(path: Path) -> tuple[Path, ...]:
    """The damaged files that were set aside beside `path`, oldest first."""
    return tuple(sorted(path.parent.glob(f"{path.stem}-damaged-*.db")))


def set_aside(path: Path, schema: str) -> Path:
    """Give the damaged file another name, and make a new one in its place with whatever can be read of it.

    The caller keeps everybody else away from the file. A crash half-way leaves the damaged file under its new name, and nothing in
    its place or a new file that is complete.
    """
    aside = path.with_name(f"{path.stem}-damaged-{now():%Y%m%dT%H%M%S%f}.db")
    for part in _PARTS:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{part}").rename(f"{aside}{part}")
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(fresh)) as rescued, contextlib.closing(sqlite3.connect(aside)) as damaged:
        rescued.executescript(schema)
        with rescued:
            for table in _TABLES:
                for row in _readable(damaged, table):
                    marks = ", ".join("?" * len(row))
                    with contextlib.suppress(sqlite3.Error):  # half a row is none
                        rescued.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608
    fresh.chmod(0o600)
    fresh.rename(path)
    return aside


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
