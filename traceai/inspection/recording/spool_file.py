"""The spool's file: opened, locked, written durably, and replaced where it is damaged. What lies in it is for `spool` to say."""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from traceai.errors import SpoolError
from traceai.inspection.recording import damage

SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
    position INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, station TEXT NOT NULL, spooled_at TEXT NOT NULL,
    draft BLOB NOT NULL, grid BLOB, sha256 BLOB NOT NULL, numbered INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS rejected (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL, station TEXT NOT NULL, spooled_at TEXT NOT NULL,
    draft BLOB NOT NULL, grid BLOB, sha256 BLOB NOT NULL, numbered INTEGER NOT NULL,
    rejected_at TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS outage (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1), began_at TEXT NOT NULL, code TEXT NOT NULL, cause TEXT NOT NULL,
    answered_at TEXT
);
CREATE TABLE IF NOT EXISTS affected (
    station TEXT PRIMARY KEY, delayed INTEGER NOT NULL, delivered INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS access (position INTEGER PRIMARY KEY AUTOINCREMENT, asked BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tally (name TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""


class SpoolFile:
    """The file at `path`, for threads and processes to share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Reentrant, and with it the lock on the file: whoever holds it goes on using it.
        self._lock = threading.RLock()
        self._held = False
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have every other thread and process wait with whatever it wants of this file.

        Raises:
            SpoolError: the home cannot be written to.
        """
        with self._lock:
            if self._held:
                yield
                return
            with self._alone():
                self._held = True
                try:
                    yield
                finally:
                    self._held = False

    def close(self) -> None:
        with self._lock:
            self._hang_up()

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction on the file, alone. One that is damaged is set aside first, and what can be read of it comes along."""
        with self.held():
            try:
                spool = self._opened()
                spool.execute("BEGIN IMMEDIATE")
            except (OSError, sqlite3.Error) as error:
                self._hang_up()
                raise self._unusable(error) from error
            try:
                yield spool
                spool.execute("COMMIT")
            except sqlite3.Error as error:
                self._hang_up()  # which rolls back
                if damage.is_damage(error):
                    self._set_aside()
                raise self._unusable(error) from error
            except BaseException:
                spool.execute("ROLLBACK")
                raise

    def _opened(self) -> sqlite3.Connection:
        """The open file, or the one that has taken its place since."""
        if self._connection is not None and self._inode == _inode(self.path):
            return self._connection
        self._hang_up()
        try:
            self._connection = _connect(self.path)
        except sqlite3.DatabaseError as error:
            if not damage.is_damage(error):
                raise
            self._set_aside()
            self._connection = _connect(self.path)
        self._inode = _inode(self.path)
        return self._connection

    def _set_aside(self) -> None:
        try:
            damage.set_aside(self.path, SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes out: who sets a damaged file aside must not have it written to."""
        try:
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _unusable(self, error: Exception) -> SpoolError:
        return SpoolError(
            f"The spool {self.path} cannot be used ({error}), so what the database does not take cannot be kept; make room on its "
            "disk, or give TRACEAI_HOME a folder that can be written to."
        )


def _connect(path: Path) -> sqlite3.Connection:
    """Open a spool file, and make the tables that are missing. Committed is durable.

    The caller keeps every other process away from the file.
    """
    # Only where there is none: to close a descriptor of a file is to drop every lock that this process has on it, SQLite's too.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
