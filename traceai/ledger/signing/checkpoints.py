"""The memory outside the database: every checkpoint ever accepted, in one SQLite file that only grows and never goes back.

A database can be put back to an older copy, or rewritten; what was signed before is then here and contradicts it. Whole notes
are kept, so that two that contradict each other prove to anybody who signed them. The log keeps one such file, and a witness
one of its own. Deleting the file costs the memory, and no signature can be forged with it.

It also remembers its home's own acts: the entries that say who signs are bytes in a database, and anybody can copy a public key.

Owners: nothing but `advance` and the `add_` methods writes. Each is one transaction that holds the file's write lock from its
first read, so that processes and threads may share the file. When one returns, what it wrote survives a power cut; a crash
before that leaves the file as it was.
"""

import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from traceai import clock
from traceai.clock import parse_timestamp, timestamp
from traceai.errors import CheckpointConflictError, CheckpointStoreError, VerificationError
from traceai.ledger.note import join_note, split_note
from traceai.ledger.signing.keys import sync_folder
from traceai.ledger.tlog.checkpoint import Checkpoint

APPLICATION_ID = 0x74726370  # "trcp"
VERSION = 2
# Seconds to wait for another process's transaction, which takes milliseconds.
PATIENCE = 20.0

# Refused by the file itself: changing or removing what was accepted, and going back. A row of a size that is not the last is
# accepted only as the same tree with more signatures: a witness may answer late.
_SCHEMA = """
CREATE TABLE checkpoint (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    origin TEXT NOT NULL CHECK (origin <> ''),
    size INTEGER NOT NULL CHECK (size >= 0),
    root BLOB NOT NULL CHECK (length(root) = 32),
    note TEXT NOT NULL,
    accepted_at TEXT NOT NULL
) STRICT;
CREATE INDEX checkpoint_latest ON checkpoint (origin, size, id);
CREATE TABLE timestamp (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    origin TEXT NOT NULL,
    size INTEGER NOT NULL,
    tsa TEXT NOT NULL,
    token BLOB NOT NULL,
    accepted_at TEXT NOT NULL
) STRICT;
CREATE INDEX timestamp_of ON timestamp (origin, size, id);
CREATE TABLE act (
    place INTEGER NOT NULL CHECK (place >= 0),
    leaf BLOB NOT NULL CHECK (length(leaf) = 32),
    accepted_at TEXT NOT NULL,
    PRIMARY KEY (place, leaf)
) STRICT;
CREATE TRIGGER checkpoint_forward BEFORE INSERT ON checkpoint
WHEN EXISTS (SELECT 1 FROM checkpoint WHERE origin = NEW.origin AND size >= NEW.size)
 AND NOT EXISTS (SELECT 1 FROM checkpoint WHERE origin = NEW.origin AND size = NEW.size AND root = NEW.root)
BEGIN SELECT RAISE(ABORT, 'checkpoints never go back'); END;
CREATE TRIGGER checkpoint_one_root BEFORE INSERT ON checkpoint
WHEN EXISTS (SELECT 1 FROM checkpoint WHERE origin = NEW.origin AND size = NEW.size AND root <> NEW.root)
BEGIN SELECT RAISE(ABORT, 'a size has one root'); END;
CREATE TRIGGER checkpoint_kept_insert BEFORE INSERT ON checkpoint
WHEN EXISTS (SELECT 1 FROM checkpoint WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER checkpoint_kept_update BEFORE UPDATE ON checkpoint BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER checkpoint_kept_delete BEFORE DELETE ON checkpoint BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER act_kept_update BEFORE UPDATE ON act BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER act_kept_delete BEFORE DELETE ON act BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER timestamp_kept_insert BEFORE INSERT ON timestamp
WHEN EXISTS (SELECT 1 FROM timestamp WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER timestamp_kept_update BEFORE UPDATE ON timestamp BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER timestamp_kept_delete BEFORE DELETE ON timestamp BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""
_COLUMNS = "origin, size, root, note, accepted_at"


@dataclass(frozen=True)
class Stored:
    """A checkpoint as it was accepted.

    Attributes:
        root: 32 bytes.
        note: the signed note, whole.
        accepted_at: what this machine's clock said, right or wrong. Order is that of acceptance, never that of these times.
    """

    origin: str
    size: int
    root: bytes
    note: str
    accepted_at: datetime


@dataclass(frozen=True)
class StoredTimestamp:
    """An RFC 3161 response (DER, as it came) over a checkpoint's text, from the authority that `tsa` names."""

    tsa: str
    token: bytes
    accepted_at: datetime


class CheckpointStore:
    """The file at `path`, which the first checkpoint creates. Every call opens it anew: there is nothing to close.

    Signatures are not verified here: whoever offers a note has done that.

    Every method raises CheckpointStoreError where the file is damaged, is something else, is writable by others, or stays
    locked. It is never replaced.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = clock.now) -> None:
        self.path, self._now = path, now

    def create(self) -> None:
        """Create the file, empty, where there is none. Where several processes do so at once, one file results."""
        if self.exists():
            return
        beside = ""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made whole under another name, so that nobody ever sees half a file under this one.
            descriptor, beside = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")  # mode 0600
            os.close(descriptor)
            with closing(sqlite3.connect(beside, isolation_level=None)) as connection:
                marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
                connection.executescript(f"PRAGMA synchronous = EXTRA; BEGIN; {marks} {_SCHEMA} COMMIT;")
            # A link, unlike a rename, never takes the place of a file that another process has meanwhile made and filled.
            with suppress(FileExistsError):
                os.link(beside, self.path)
            sync_folder(self.path.parent)
        except (OSError, sqlite3.Error) as error:
            raise CheckpointStoreError(
                f"The checkpoint store {self.path} cannot be created ({error}); give traceai a folder that it may write to."
            ) from error
        finally:
            if beside:
                Path(beside).unlink(missing_ok=True)

    def exists(self) -> bool:
        try:
            self.path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        return True

    # --- reading --------------------------------------------------------------------------------------------------

    def latest(self, origin: str) -> Stored | None:
        """The largest checkpoint of `origin`, with every signature that came; None where there is none."""
        with self._reading() as connection:
            return _latest(connection, origin)

    def at(self, origin: str, size: int) -> Stored | None:
        """The checkpoint of `size`, with every signature that came; None where none of that size was accepted."""
        with self._reading() as connection:
            return None if connection is None else _at(connection, origin, size)

    def latest_of_each(self) -> list[Stored]:
        """`latest` of every origin, in the order in which their first checkpoints were accepted; all of one moment."""
        with self._reading() as connection:
            rows = _query(connection, "SELECT origin FROM checkpoint GROUP BY origin ORDER BY min(id)")
            found = [_latest(connection, origin) for (origin,) in rows]
        return [stored for stored in found if stored is not None]

    def newest(self) -> Stored | None:
        """The largest checkpoint of the origin that came last: of the log that this store is in use for."""
        found = self.latest_of_each()
        return found[-1] if found else None

    def origins(self) -> list[str]:
        """In the order in which their first checkpoints were accepted."""
        return [stored.origin for stored in self.latest_of_each()]

    def history(self, origin: str) -> list[Stored]:
        """Everything ever accepted of `origin`, in that order; the same checkpoint again where it got more signatures."""
        with self._reading() as connection:
            rows = _query(connection, f"SELECT {_COLUMNS} FROM checkpoint WHERE origin = ? ORDER BY id", origin)  # noqa: S608
            return [_stored(row) for row in rows]

    def timestamps(self, origin: str, size: int) -> list[StoredTimestamp]:
        """Of the checkpoint of `size`, in the order in which they were added."""
        with self._reading() as connection:
            query = "SELECT tsa, token, accepted_at FROM timestamp WHERE origin = ? AND size = ? ORDER BY id"
            rows = _query(connection, query, origin, size)
            return [StoredTimestamp(tsa, token, _time(at)) for tsa, token, at in rows]

    def stamped(self, origin: str) -> list[int]:
        """The sizes of the checkpoints that have a timestamp, ascending."""
        with self._reading() as connection:
            query = "SELECT DISTINCT size FROM timestamp WHERE origin = ? ORDER BY size"
            return [size for (size,) in _query(connection, query, origin)]

    def acts(self) -> set[tuple[int, bytes]]:
        """Every entry (index, leaf hash) by which this home opened a log or changed its key."""
        with self._reading() as connection:
            return {(place, leaf) for place, leaf in _query(connection, "SELECT place, leaf FROM act")}

    def latest_time(self) -> datetime | None:
        """The latest that the clock ever said when a checkpoint was accepted: a clock that is behind it was set back."""
        with self._reading() as connection:
            rows = _query(connection, "SELECT max(accepted_at) FROM checkpoint")
            return _time(rows[0][0]) if rows and rows[0][0] is not None else None

    # --- writing --------------------------------------------------------------------------------------------------

    def advance(self, origin: str, expected_size: int | None, note: str) -> Stored:
        """Accept the next checkpoint of `origin`, where the last one is that of `expected_size` (None: there is none yet).

        The same checkpoint again changes nothing, but for signatures that are new.

        Returns:
            What is stored now.

        Raises:
            CheckpointConflictError: the last one is another, or `note` is of a smaller size, or of the same with another root.
            NoteError, CheckpointError: `note` is not a signed checkpoint, or not one of `origin`.
        """
        offered = self._read(origin, note)
        if expected_size is None:
            self.create()
        with self._writing() as connection:
            last = _latest(connection, origin)
            if (last.size if last else None) != expected_size:
                raise CheckpointConflictError(
                    f"The last checkpoint of {origin} is {_named(last.size if last else None)} and not {_named(expected_size)}; "
                    "somebody else was faster, so look again."
                )
            if last is not None and offered.size < last.size:
                raise CheckpointConflictError(
                    f"The last checkpoint of {origin} has {last.size} entries; one of {offered.size} would go back."
                )
            if last is not None and offered.size == last.size:
                if offered.root != last.root:
                    raise CheckpointConflictError(
                        f"The checkpoint of {origin} at {last.size} entries has another root."
                    )
                if split_note(last.note)[0] == split_note(note)[0]:
                    return self._merge(connection, last, note)
            return self._insert(connection, offered, note)

    def add_signatures(self, origin: str, size: int, note: str) -> Stored:
        """Add the signatures of `note` to the checkpoint of `size`. A key's newer signature takes its older one's place; the
        older note stays in the history.

        Returns:
            What is stored now.

        Raises:
            CheckpointConflictError: there is no such checkpoint, or its text is another.
            NoteError, CheckpointError: `note` is not a signed checkpoint, or not one of `origin`.
        """
        self._read(origin, note)
        with self._writing() as connection:
            known = _at(connection, origin, size)
            if known is None or split_note(known.note)[0] != split_note(note)[0]:
                raise CheckpointConflictError(
                    f"The checkpoint of {origin} at {size} entries is not the one that was signed."
                )
            return self._merge(connection, known, note)

    def add_timestamp(self, origin: str, size: int, tsa: str, token: bytes) -> None:
        """Keep an RFC 3161 response over the text of the checkpoint of `size`.

        Raises:
            CheckpointConflictError: there is no such checkpoint.
        """
        with self._writing() as connection:
            if _at(connection, origin, size) is None:
                raise CheckpointConflictError(f"There is no checkpoint of {origin} at {size} entries to be stamped.")
            connection.execute(
                "INSERT INTO timestamp (origin, size, tsa, token, accepted_at) VALUES (?, ?, ?, ?, ?)",
                (origin, size, tsa, token, timestamp(self._now())),
            )

    def add_act(self, index: int, leaf: bytes) -> None:
        """Remember an entry of this home's making that says who signs, before it is committed. Where that fails, no journal ever
        has the entry, and remembering it says nothing."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO act (place, leaf, accepted_at) VALUES (?, ?, ?)",
                (index, leaf, timestamp(self._now())),
            )

    def _read(self, origin: str, note: str) -> Checkpoint:
        checkpoint = Checkpoint.parse(split_note(note)[0])
        if checkpoint.origin != origin:
            raise CheckpointConflictError(f"This is a checkpoint of {checkpoint.origin} and not of {origin}.")
        return checkpoint

    def _merge(self, connection: sqlite3.Connection, known: Stored, note: str) -> Stored:
        text, old = split_note(known.note)
        _, new = split_note(note)
        signatures = {(signature.name, signature.key_id): signature for signature in (*old, *new)}
        merged = join_note(text, list(signatures.values()))
        return known if merged == known.note else self._insert(connection, Checkpoint.parse(text), merged)

    def _insert(self, connection: sqlite3.Connection, checkpoint: Checkpoint, note: str) -> Stored:
        row = (checkpoint.origin, checkpoint.size, checkpoint.root, note, timestamp(self._now()))
        connection.execute(f"INSERT INTO checkpoint ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)", row)  # noqa: S608
        return _stored(row)

    # --- the file -------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection within one read transaction; None where there is no file."""
        if not self.exists():
            yield None
            return
        with self._opened() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if not self.exists():
            raise CheckpointStoreError(
                f"The checkpoint store {self.path} is gone; restore it from your backup, or open a new origin with `traceai "
                "ledger open --reason ...`."
            )
        with self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection  # closing without COMMIT rolls back
            connection.execute("COMMIT")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            mode = stat.S_IMODE(self.path.stat().st_mode)
            if mode & 0o022:
                raise CheckpointStoreError(
                    f"Others can write to the checkpoint store {self.path} (mode {mode:04o}); run `chmod 600 {self.path}`."
                )
            # mode=rw: SQLite creates nothing.
            uri = f"{self.path.absolute().as_uri()}?mode=rw"
            with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)) as connection:
                # DELETE with EXTRA is FULL and more: the folder is synced too, without which a power cut may bring the rollback
                # journal back and undo what was committed last. One file at rest, so that a copy of it is all of it.
                connection.execute("PRAGMA journal_mode = DELETE")
                connection.execute("PRAGMA synchronous = EXTRA")
                self._require_ours(connection)
                yield connection
        except (OSError, sqlite3.Error, OverflowError) as error:
            raise self._unusable(error) from error

    def _require_ours(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise CheckpointStoreError(
                f"{self.path} is no checkpoint store; restore it from your backup, or move it away if it is not traceai's."
            )
        if version != VERSION:
            raise CheckpointStoreError(
                f"The checkpoint store {self.path} has version {version} and this release knows {VERSION}; use the release that "
                "wrote it."
            )

    def _unusable(self, error: Exception) -> CheckpointStoreError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            return CheckpointStoreError(
                f"The checkpoint store {self.path} stayed locked for {PATIENCE:g} s; look which process holds it."
            )
        return CheckpointStoreError(
            f"The checkpoint store {self.path} cannot be used ({error}); it was not touched, so look at the disk, or restore it "
            "from your backup."
        )


def _query(connection: sqlite3.Connection | None, query: str, *parameters: Any) -> Sequence[tuple[Any, ...]]:
    return [] if connection is None else connection.execute(query, parameters).fetchall()


def _latest(connection: sqlite3.Connection | None, origin: str) -> Stored | None:
    query = f"SELECT {_COLUMNS} FROM checkpoint WHERE origin = ? ORDER BY size DESC, id DESC LIMIT 1"  # noqa: S608
    rows = _query(connection, query, origin)
    return _stored(rows[0]) if rows else None


def _at(connection: sqlite3.Connection, origin: str, size: int) -> Stored | None:
    query = f"SELECT {_COLUMNS} FROM checkpoint WHERE origin = ? AND size = ? ORDER BY id DESC LIMIT 1"  # noqa: S608
    rows = _query(connection, query, origin, size)
    return _stored(rows[0]) if rows else None


def _stored(row: tuple[Any, ...]) -> Stored:
    """The row, which has to say what its own note says.

    Raises:
        sqlite3.DatabaseError: it does not.
    """
    origin, size, root, note, accepted_at = row
    try:
        said = Checkpoint.parse(split_note(note)[0])
    except VerificationError as error:
        raise sqlite3.DatabaseError(f"the row of {origin} at {size} entries holds no checkpoint") from error
    if (said.origin, said.size, said.root) != (origin, size, root):
        raise sqlite3.DatabaseError(f"the row of {origin} at {size} entries holds another checkpoint")
    return Stored(origin, size, root, note, _time(accepted_at))


def _time(text: str) -> datetime:
    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"{text!r} is no time") from error


def _named(size: int | None) -> str:
    return "none" if size is None else f"that of {size} entries"
