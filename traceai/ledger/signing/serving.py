"""Which signed tree head the database shows: anybody who may write the table may have put a row there, or back there.

A row counts where the key that signed for the log at its size signed its note. What is found shows that it was signed, and never
that nothing else was.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from traceai.db import tables
from traceai.errors import CheckpointNotFoundError, NoteError, VerificationError
from traceai.ledger.note import ED25519, VerifierKey
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint

_opened = tables.table_of(tables.LedgerOpened)
_key = tables.table_of(tables.LedgerKey)
_checkpoint = tables.table_of(tables.Checkpoint)

# The keys of an origin, oldest first, each with the index of the entry that names it: it signs for the trees that hold that entry.
Signers = Sequence[tuple[int, VerifierKey]]


@dataclass(frozen=True)
class Served:
    """A checkpoint with the note that says so."""

    checkpoint: Checkpoint
    note: str


def served(connection: Connection) -> Served:
    """The signed tree head to serve: the largest of the origin that was opened last, though the journal be shorter.

    The keys are those that the tables name, so that a ledger whose journal was altered can still be followed, and be found out.

    Raises:
        CheckpointNotFoundError: nothing was signed yet.
    """
    opened = connection.execute(
        select(_opened.c.origin, _opened.c.key, _opened.c.journal_index)
        .order_by(_opened.c.journal_index.desc())
        .limit(1)
    ).one_or_none()
    found = None
    if opened is not None:
        found = newest(connection, opened.origin, _signers(connection, opened.origin, opened.key, opened.journal_index))
    if found is None:
        raise CheckpointNotFoundError("The ledger was not signed yet; run `traceai ledger checkpoint`.")
    return found


def newest(connection: Connection, origin: str, signers: Signers) -> Served | None:
    """The largest checkpoint of an origin in the database that the key in force at its size signed."""
    query = (
        select(_checkpoint.c.size, _checkpoint.c.note)
        .where(_checkpoint.c.origin == origin)
        .order_by(_checkpoint.c.size.desc(), _checkpoint.c.created_at.desc(), _checkpoint.c.id.desc())
        .execution_options(yield_per=16)
    )
    with connection.execute(query) as rows:
        for size, note in rows:
            checkpoint = _signed(note, [key for index, key in signers if index < size][-1:])
            if checkpoint is not None and (checkpoint.origin, checkpoint.size) == (origin, size):
                return Served(checkpoint, note)
    return None


def signing_key(origin: str, vkey: str) -> VerifierKey | None:
    """None where it cannot sign for the origin."""
    try:
        key = VerifierKey.parse(vkey)
    except NoteError:
        return None
    return key if key.name == origin and key.type == ED25519 else None


def takes_over(key: VerifierKey, replaces: str, before: Sequence[VerifierKey]) -> bool:
    """A key counts where it takes the current one's place, and nowhere else; one that was replaced never comes back."""
    return bool(before) and replaces == str(before[-1]) and key not in before


def _signers(connection: Connection, origin: str, first: str, index: int) -> Signers:
    key = signing_key(origin, first)
    found = [(index, key)] if key else []
    query = select(_key.c.journal_index, _key.c.key, _key.c.replaces).where(
        _key.c.origin == origin, _key.c.journal_index > index
    )
    for changed, vkey, replaces in connection.execute(query.order_by(_key.c.journal_index)):
        key = signing_key(origin, vkey)
        if key is not None and takes_over(key, replaces, [before for _, before in found]):
            found.append((changed, key))
    return found


def _signed(note: str, keys: Sequence[VerifierKey]) -> Checkpoint | None:
    try:
        return open_checkpoint(note, keys)[0]
    except VerificationError:
        return None
