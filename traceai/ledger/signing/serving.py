"""Which signed tree head the database shows: anybody who may write the table may have put a row there, or back there.

A row counts where a key of the log signed its note and the journal is long enough for it. What is found shows that it was signed,
and never that nothing else was.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Table, select

from traceai.db import tables
from traceai.errors import CheckpointNotFoundError, NoteError, VerificationError
from traceai.ledger.note import ED25519, VerifierKey
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint

_opened: Table = tables.LedgerOpened.__table__  # type: ignore[attr-defined]  # set by SQLAlchemy
_key: Table = tables.LedgerKey.__table__  # type: ignore[attr-defined]
_checkpoint: Table = tables.Checkpoint.__table__  # type: ignore[attr-defined]
_head: Table = tables.LedgerHead.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Served:
    """A checkpoint with the note that says so."""

    checkpoint: Checkpoint
    note: str


def served(connection: Connection) -> Served:
    """The signed tree head to serve: the largest of the origin that was opened last.

    The keys are those that the tables name, so that a ledger whose journal was altered can still be followed, and be found out.

    Raises:
        CheckpointNotFoundError: nothing was signed yet.
    """
    opened = connection.execute(
        select(_opened.c.origin, _opened.c.key).order_by(_opened.c.journal_index.desc()).limit(1)
    ).one_or_none()
    found = None
    if opened is not None:
        changed = connection.execute(select(_key.c.key).where(_key.c.origin == opened.origin)).scalars()
        keys = (signing_key(opened.origin, vkey) for vkey in (opened.key, *changed))
        found = newest(connection, opened.origin, filter(None, keys))
    if found is None:
        raise CheckpointNotFoundError("The ledger was not signed yet; run `traceai ledger checkpoint`.")
    return found


def newest(connection: Connection, origin: str, keys: Iterable[VerifierKey]) -> Served | None:
    """The largest checkpoint of an origin that one of its keys signed, of no larger a tree than there is."""
    keys = tuple(keys)
    query = (
        select(_checkpoint.c.size, _checkpoint.c.note)
        .where(_checkpoint.c.origin == origin, _checkpoint.c.size <= select(_head.c.size).scalar_subquery())
        .order_by(_checkpoint.c.size.desc(), _checkpoint.c.created_at.desc(), _checkpoint.c.id.desc())
        .execution_options(yield_per=16)
    )
    with connection.execute(query) as rows:
        for size, note in rows:
            checkpoint = _signed(note, keys)
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


def _signed(note: str, keys: Iterable[VerifierKey]) -> Checkpoint | None:
    try:
        return open_checkpoint(note, keys)[0]
    except VerificationError:
        return None
