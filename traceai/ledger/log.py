"""Appending to the ledger: journal entry, typed row and tree in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, text
from sqlmodel import Session

from traceai.clock import now, parse_timestamp, timestamp
from traceai.db.tables import Evidence, Journal, LedgerHead, TreeNode
from traceai.errors import SchemaError
from traceai.ledger import guard
from traceai.ledger.merkle import Frontier, leaf_hash
from traceai.ledger.projection import Columns, project
from traceai.ledger.records import Entry, Record

# Entries a partition; the same number stands in the migration.
PARTITION = 2**20


@dataclass(frozen=True)
class Receipt:
    """What the caller may hold against the ledger later: the entry's place and its hash. True once committed."""

    id: str
    index: int
    leaf_hash: bytes
    recorded_at: datetime


@dataclass(frozen=True)
class Head:
    """The tree over the whole journal: `size` leaves under `root` (32 bytes)."""

    size: int
    root: bytes


def append(session: Session, records: Sequence[Record]) -> list[Receipt]:
    """Append `records` in order, within the transaction of `session`.

    Everything that can be prepared is prepared first; the lock on the head, which orders all writers, is taken last
    and held until the caller's commit. Until then nobody sees the entries, and a rollback leaves no gap.

    Raises:
        LedgerRolledBackError, LedgerForkedError: the journal is not the one that this home signed (`ledger.guard`).
    """
    if not records:
        return []
    recorded_at = timestamp(now())
    entries = [Entry.seal(record, recorded_at) for record in records]
    leaves = [leaf_hash(entry.data) for entry in entries]

    head = lock(session)
    guard.require_writable(session, head.size, head.root)
    frontier = Frontier(head.size, head.frontier)
    at = parse_timestamp(recorded_at)
    _make_room(session, head.size, len(entries))
    receipts: list[Receipt] = []
    journal: list[dict[str, Any]] = []
    nodes: list[dict[str, Any]] = []
    rows: dict[type[Evidence], list[Columns]] = {}
    for index, (entry, leaf) in enumerate(zip(entries, leaves, strict=True), start=head.size):
        table, row = project(index, entry)
        rows.setdefault(table, []).append(row)
        journal.append({"index": index, "entry": entry.data, "leaf_hash": leaf})
        nodes += [{"level": level, "index": node, "hash": h} for level, node, h in frontier.append(leaf)]
        receipts.append(Receipt(entry.record.id, index, leaf, at))
    session.execute(insert(Journal), journal)
    if nodes:
        session.execute(insert(TreeNode), nodes)
    enter(session, rows)
    head.size, head.root, head.frontier = frontier.size, frontier.root(), bytes(frontier)
    session.flush()
    return receipts


def enter(session: Session, rows: Mapping[type[Evidence], Sequence[Columns]]) -> None:
    """Insert the rows that `projection.project` made."""
    for table, table_rows in rows.items():
        # One statement a set of columns: an attempt that failed has others than one that came to a verdict.
        for columns in {tuple(row) for row in table_rows}:
            session.execute(insert(table), [row for row in table_rows if tuple(row) == columns])


def _make_room(session: Session, size: int, more: int) -> None:
    """Have the partitions ready that these entries and the next half partition need; the owner's function makes them."""
    if size // (PARTITION // 2) != (size + more) // (PARTITION // 2):
        session.execute(text("SELECT traceai_extend(:last)"), {"last": size + more + PARTITION // 2})


def lock(session: Session) -> LedgerHead:
    """Take the place in the order of all writers, until the transaction ends.

    Raises:
        SchemaError: the head row is gone, or there are several.
    """
    return _only(session.execute(select(LedgerHead).with_for_update()).scalars().all())


def stored_head(session: Session) -> LedgerHead:
    """The head as it is stored, without a lock. Raises SchemaError, as `lock`."""
    return _only(session.execute(select(LedgerHead)).scalars().all())


def read_head(session: Session) -> Head:
    head = stored_head(session)
    return Head(head.size, head.root)


def _only(heads: Sequence[LedgerHead]) -> LedgerHead:
    if len(heads) == 1:
        (head,) = heads
        if None in (head.size, head.root, head.frontier):
            raise SchemaError(
                "The ledger's head row lacks a value; restore the database from a backup and run `traceai ledger verify`."
            )
        return head
    raise SchemaError(
        f"The ledger has {len(heads) or 'no'} head row{'s' if heads else ''}; restore the database from a backup and run `traceai "
        "ledger verify`."
    )
