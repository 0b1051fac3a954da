"""Which signed tree head the database shows: anybody who may write the table may have put a row there, or back there.

A row counts where the key that signed for the log at its size signed its note. What is found shows that it was signed, and never
that nothing else was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, Table, select, true

from traceai.db import tables
from traceai.errors import CheckpointNotFoundError, LedgerGapError, NoteError, RecordError, VerificationError
from traceai.ledger.entry import Entry
from traceai.ledger.note import ED25519, VerifierKey
from traceai.ledger.records import LedgerKey, LedgerOpened, Record
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from traceai.ledger.tree import DatabaseTree

_opened = tables.table_of(tables.LedgerOpened)
_key = tables.table_of(tables.LedgerKey)
_checkpoint = tables.table_of(tables.Checkpoint)
_head = tables.table_of(tables.LedgerHead)

# The keys of an origin, oldest first, each with the index of the entry that names it: it signs for the trees that hold that entry.
Signers = Sequence[tuple[int, VerifierKey]]


@dataclass(frozen=True)
class Served:
    """A checkpoint with the note that says so."""

    checkpoint: Checkpoint
    note: str


def served(connection: Connection) -> Served:
    """The signed tree head to serve: the largest of the origin that was opened last, though the journal be shorter.

    Who signs is what the journal's entries say; the tables only say where to look. That the entries are under the root is not
    asked, so that a ledger that was altered can still be followed, and be found out.

    Raises:
        CheckpointNotFoundError: nothing was signed yet, or nothing in the database is what the log signed.
    """
    opened = _opened_last(connection)
    if opened is None:
        raise CheckpointNotFoundError("The ledger was not signed yet; run `traceai ledger checkpoint`.")
    index, entry = opened
    found = newest(connection, entry.origin, _signers(connection, index, entry))
    if found is None:
        raise CheckpointNotFoundError(
            f"No checkpoint of {entry.origin} in the database is signed by its key; run `traceai ledger checkpoint`."
        )
    return found


def newest(connection: Connection, origin: str, signers: Signers) -> Served | None:
    """The largest checkpoint of an origin in the database that the key in force at its size signed."""
    return next(genuine(connection, origin, signers), None)


def genuine(
    connection: Connection, origin: str, signers: Signers, sizes: ColumnElement[bool] | None = None
) -> Iterator[Served]:
    """The checkpoints of an origin in the database that the key in force at their size signed, largest first, newest first.

    sizes: which ones to look at, as a condition on the table's `size`; None: all.
    """
    query = (
        select(_checkpoint.c.size, _checkpoint.c.note)
        .where(_checkpoint.c.origin == origin, true() if sizes is None else sizes)
        .order_by(_checkpoint.c.size.desc(), _checkpoint.c.created_at.desc(), _checkpoint.c.id.desc())
        .execution_options(yield_per=16)
    )
    with connection.execute(query) as rows:
        for size, note in rows:
            checkpoint = signed(note, signers, size)
            if checkpoint is not None and (checkpoint.origin, checkpoint.size) == (origin, size):
                yield Served(checkpoint, note)


def signed(note: str, signers: Signers, size: int) -> Checkpoint | None:
    """The checkpoint in `note`, where the key in force at `size` signed it."""
    try:
        return open_checkpoint(note, [key for index, key in signers if index < size][-1:])[0]
    except VerificationError:
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


def _opened_last(connection: Connection) -> tuple[int, LedgerOpened] | None:
    for index in connection.execute(_within(_opened).order_by(_opened.c.journal_index.desc())).scalars().all():
        if isinstance(record := _recorded(connection, index), LedgerOpened):
            return index, record
    return None


def _signers(connection: Connection, index: int, opened: LedgerOpened) -> Signers:
    key = signing_key(opened.origin, opened.key)
    found = [(index, key)] if key else []
    query = _within(_key).where(_key.c.origin == opened.origin, _key.c.journal_index > index)
    for changed in connection.execute(query.order_by(_key.c.journal_index)).scalars().all():
        record = _recorded(connection, changed)
        if not isinstance(record, LedgerKey) or record.origin != opened.origin:
            continue
        key = signing_key(record.origin, record.key)
        if key is not None and takes_over(key, record.replaces, [before for _, before in found]):
            found.append((changed, key))
    return found


def _within(table: Table) -> Select[int]:
    """Where in the journal the rows of `table` say that their entries lie: anybody who may insert can say so of any place."""
    return select(table.c.journal_index).where(table.c.journal_index < select(_head.c.size).limit(1).scalar_subquery())


def _recorded(connection: Connection, index: int) -> Record | None:
    try:
        return Entry.parse(DatabaseTree(connection).entry(index)).record
    except (RecordError, LedgerGapError):
        return None
