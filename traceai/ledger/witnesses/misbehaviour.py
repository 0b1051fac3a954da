"""What a witness keeps when a log contradicts itself: both signed checkpoints, whole, and the proof that came with them.

Three kinds, and only two of them convict:

- `other-root`: two checkpoints of one size with different roots. The log signed two histories.
- `other-prefix`: the proof that came with the later checkpoint leads to its root, and shows that its first entries are not
  those that the log had signed before.
- `unproven`: the proof leads nowhere. A rewritten log cannot do better, but a damaged request looks the same, and anybody who
  has a signed checkpoint can send one. It is settled when the same checkpoint is proved consistent later.

The file is append-only by triggers and belongs to the witness. Writing is durable when `keep` returns.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from traceai.errors import HomeError, VerificationError
from traceai.ledger.merkle import node_hash

Kind = Literal["other-root", "other-prefix", "unproven"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS misbehaviour (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    seen_at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('other-root', 'other-prefix', 'unproven')),
    origin TEXT NOT NULL,
    size INTEGER NOT NULL,
    known_size INTEGER NOT NULL,
    known_note TEXT NOT NULL,
    note TEXT NOT NULL,
    proof BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS misbehaviour_once BEFORE INSERT ON misbehaviour
    WHEN EXISTS (SELECT 1 FROM misbehaviour WHERE digest = NEW.digest OR id = NEW.id) BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER IF NOT EXISTS misbehaviour_no_update BEFORE UPDATE ON misbehaviour
    BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS misbehaviour_no_delete BEFORE DELETE ON misbehaviour
    BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""


@dataclass(frozen=True)
class Misbehaviour:
    """A signed checkpoint beside the one it contradicts.

    Attributes:
        known_note: the checkpoint that the witness cosigned, of `known_size` entries.
        note: the checkpoint that came later, of `size` entries, with the log's signatures that verified.
        proof: the hashes (32 bytes each) that came with `note`, from the size its sender named.
    """

    kind: Kind
    origin: str
    known_size: int
    known_note: str
    size: int
    note: str
    proof: tuple[bytes, ...]
    seen_at: datetime

    @property
    def convicts(self) -> bool:
        """Whether the two checkpoints, with the proof, show by themselves that the log signed two histories."""
        return self.kind != "unproven"

    @property
    def meaning(self) -> str:
        """One sentence for an auditor."""
        if self.kind == "other-root":
            return (
                f"{self.origin} signed two different histories of {self.size} entries: the checkpoints below state one size "
                "and two roots. Entries were altered, removed or exchanged between them."
            )
        if self.kind == "other-prefix":
            return (
                f"{self.origin} signed a history of {self.size} entries whose first {self.known_size} are not the "
                f"{self.known_size} that it had signed before. Entries were altered, removed or exchanged in between."
            )
        return (
            f"{self.origin} signed a history of {self.size} entries, and what was sent with it does not show that it continues "
            f"the {self.known_size} entries it had signed before. This witness refused it."
        )


class MisbehaviourFile:
    """The witness's own append-only file of what it refused. Every call opens it anew, so threads may share an object."""

    def __init__(self, path: Path) -> None:
        """Create the file where it is missing, readable by its owner only.

        Raises:
            HomeError: it cannot be used.
        """
        self._path = path
        try:
            path.touch(mode=0o600)
        except OSError as error:
            raise HomeError(
                f"The witness cannot write {path} ({error.strerror}); give it a folder of its own."
            ) from error
        with self._opened() as connection:
            connection.executescript(_SCHEMA)

    def keep(self, found: Misbehaviour) -> None:
        """Append `found`, durably. The same contradiction is kept once, however often it is sent.

        Raises:
            HomeError: it cannot be written.
        """
        proof = b"".join(found.proof)
        parts = (found.kind, found.known_note.partition("\n\n")[0], found.note.partition("\n\n")[0])
        digest = hashlib.sha256("\0".join(parts).encode()).digest()
        with self._opened() as connection:
            connection.execute(
                "INSERT INTO misbehaviour (digest, seen_at, kind, origin, size, known_size, known_note, note, proof)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    digest, int(found.seen_at.timestamp()), found.kind, found.origin, found.size, found.known_size,
                    found.known_note, found.note, proof,
                ),
            )  # fmt: skip

    def all(self) -> list[Misbehaviour]:
        """Everything kept, oldest first.

        Raises:
            HomeError: it cannot be read.
        """
        with self._opened() as connection:
            rows = connection.execute(
                "SELECT kind, origin, known_size, known_note, size, note, proof, seen_at FROM misbehaviour ORDER BY id"
            ).fetchall()
        return [
            Misbehaviour(
                kind, origin, known_size, known_note, size, note,
                tuple(proof[i : i + 32] for i in range(0, len(proof), 32)), datetime.fromtimestamp(seen_at, UTC),
            )
            for kind, origin, known_size, known_note, size, note, proof, seen_at in rows
        ]  # fmt: skip

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except sqlite3.Error as error:
            raise HomeError(
                f"The witness cannot use {self._path} ({error}); look at the disk and its permissions."
            ) from error


def roots(size1: int, size2: int, proof: Sequence[bytes], root1: bytes) -> tuple[bytes, bytes]:
    """The roots of the first `size1` and of all `size2` leaves that a consistency proof leads to (RFC 6962, 2.1.2).

    `root1` is used only where it is itself part of the tree of `size2`; then it is what comes back.

    Args:
        proof: hashes of 32 bytes, as `merkle.consistency_proof` gives them.

    Raises:
        VerificationError: the proof has another length than one between these sizes.
    """
    hashes = iter(proof)

    def next_hash() -> bytes:
        found = next(hashes, None)
        if found is None:
            raise VerificationError("The consistency proof is too short.")
        return found

    def subproof(m: int, n: int, *, complete: bool) -> tuple[bytes, bytes]:
        if m == n:
            known = root1 if complete else next_hash()
            return known, known
        k = 1 << (n - 1).bit_length() - 1
        if m <= k:
            old, new = subproof(m, k, complete=complete)
            return old, node_hash(new, next_hash())
        old, new = subproof(m - k, n - k, complete=False)
        left = next_hash()
        return node_hash(left, old), node_hash(left, new)

    if not 0 < size1 < size2:
        raise VerificationError("Only between two different sizes above 0 does a consistency proof say anything.")
    found = subproof(size1, size2, complete=True)
    if next(hashes, None) is not None:
        raise VerificationError("The consistency proof is too long.")
    return found
