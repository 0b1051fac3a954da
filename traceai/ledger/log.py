"""Appending to the ledger: journal entry, typed row and tree in one transaction.

Hash first, lock last: `seal` makes the entries without any lock, `lock` takes the place in the order of all writers, `write` gives
them their places. `append` is the three in a row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
from sqlmodel import Session

from traceai.clock import now, timestamp
from traceai.db.tables import Evidence, Journal, TreeNode
from traceai.errors import SchemaError
from traceai.ledger import guard
from traceai.ledger.copying import Placed, Tail, copy, together
from traceai.ledger.entry import entry_bytes, fields_of
from traceai.ledger.lines import Line, line
from traceai.ledger.merkle import Frontier, leaf_hash
from traceai.ledger.packing import pack
from traceai.ledger.projection import TABLES, Columns, columns
from traceai.ledger.records import Record

# Entries a partition; the same number stands in the migration.
PARTITION = 2**20


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True)
class StoredHead(Head):
    """The head with the right edge of its tree, as `merkle.Frontier` stores it."""

    frontier: bytes


class Sealed(NamedTuple):
    """An entry that lacks nothing but its place: its row in the journal, the packed bytes and their hash, and its own row."""

    id: str
    recorded_at: datetime
    leaf_hash: bytes
    journal: Tail
    record_type: type[Record]
    line: Line

    def receipt(self, index: int) -> Receipt:
        """What to hand out once it stands at `index`, and the transaction is committed."""
        return Receipt(self.id, index, self.leaf_hash, self.recorded_at)


def append(session: Session, records: Sequence[Record]) -> list[Receipt]:
    """Append `records` in order, within the transaction of `session`.

    Until the caller's commit nobody sees the entries, and a rollback leaves no gap.

    Raises:
        LedgerRolledBackError, LedgerForkedError: the journal is not the one that this home signed (`ledger.guard`).
        RecordError: a record that has no canonical form, or too long a one.
    """
    if not records:
        return []
    sealed = seal(records)
    first = write(session, lock(session), sealed)
    return [entry.receipt(index) for index, entry in enumerate(sealed, start=first)]


def seal(records: Iterable[Record]) -> list[Sealed]:
    """Make the entries of `records`: everything that can be prepared before their place is known.

    Raises:
        RecordError: a record that has no canonical form, or too long a one.
    """
    moment = now()
    return [seal_at(record, moment) for record in records]


def seal_at(record: Record, moment: datetime, placed: Mapping[str, Any] = MappingProxyType({})) -> Sealed:
    """Make the entry of `record` as it is recorded at `moment`, with `placed` for what only now is known of its fields.

    Raises:
        RecordError: a record that has no canonical form, or too long a one.
    """
    fields = fields_of(record, _text_of(moment), placed)
    data = entry_bytes(fields)
    leaf = leaf_hash(data)
    return Sealed(record.id, moment, leaf, Tail.of(pack(data), leaf), type(record), line(type(record), fields))


_text_of = lru_cache(maxsize=1)(timestamp)  # that of a whole group is the same


def write(session: Session, head: StoredHead, sealed: Sequence[Sealed]) -> int:
    """Give entries their places after `head`, whose lock the transaction of `session` holds until it ends.

    Others wait for that lock, so what can be done without it belongs before or after this.

    Returns:
        The index of the first.

    Raises:
        LedgerRolledBackError, LedgerForkedError: the journal is not the one that this home signed (`ledger.guard`).
    """
    guard.require_writable(session, head.size, head.root)
    connection = driver(session)
    _make_room(connection, head.size, len(sealed))
    frontier = Frontier(head.size, head.frontier)
    journal = [(index, entry.journal) for index, entry in enumerate(sealed, head.size)]
    with together(connection, len(sealed)):
        with Placed.of(Journal, ("index", "entry", "leaf_hash"), journal).under_way(connection):
            rows: dict[type[Record], list[tuple[int, Line]]] = {}
            for index, entry in enumerate(sealed, head.size):
                rows.setdefault(entry.record_type, []).append((index, entry.line))
            placed = [Placed.of(TABLES[kind], columns(kind), found) for kind, found in rows.items()]
        leaves, nodes = (entry.leaf_hash for entry in sealed), []
        for one in placed:
            with one.under_way(connection):
                nodes += [node for leaf in leaves for node in frontier.append(leaf)]  # all of them the first time
        if nodes:
            copy(connection, TreeNode, ("level", "index", "hash"), nodes)
        connection.execute(
            "UPDATE ledger_head SET size = %s, root = %s, frontier = %s",
            [frontier.size, frontier.root(), bytes(frontier)],
        )
    return head.size


def enter(session: Session, rows: Mapping[type[Evidence], Sequence[Columns]]) -> None:
    """Insert the rows that `projection.project` made."""
    for table, table_rows in rows.items():
        # One statement a set of columns: an attempt that failed has others than one that came to a verdict.
        for names in {tuple(row) for row in table_rows}:
            copy(driver(session), table, names, [tuple(row.values()) for row in table_rows if tuple(row) == names])


def driver(session: Session) -> psycopg.Connection[Any]:
    """The driver's connection behind `session`, in the same transaction."""
    return session.connection().connection.driver_connection  # type: ignore[return-value]


def _make_room(connection: psycopg.Connection[Any], size: int, more: int) -> None:
    """Have the partitions ready that these entries and the next half partition need; the owner's function makes them."""
    if size // (PARTITION // 2) != (size + more) // (PARTITION // 2):
        connection.execute("SELECT traceai_extend(%s)", [size + more + PARTITION // 2])


def lock(session: Session) -> StoredHead:
    """Take the place in the order of all writers, until the transaction ends.

    Raises:
        SchemaError: the head row is gone, or there are several.
    """
    return locked(ask_for_lock(driver(session)))


def ask_for_lock(connection: psycopg.Connection[Any]) -> psycopg.Cursor[Any]:
    """As `lock`, for who has more to ask in the same round trip: `locked` waits for the answer."""
    return connection.execute("SELECT size, root, frontier FROM ledger_head FOR UPDATE")


def locked(answer: psycopg.Cursor[Any]) -> StoredHead:
    return _only(answer.fetchall())


def stored_head(session: Session) -> StoredHead:
    """The head as it is stored, without a lock. Raises SchemaError, as `lock`."""
    return _only(driver(session).execute("SELECT size, root, frontier FROM ledger_head").fetchall())


def read_head(session: Session) -> Head:
    head = stored_head(session)
    return Head(head.size, head.root)


def _only(heads: Sequence[tuple[int, bytes, bytes]]) -> StoredHead:
    if len(heads) == 1:
        (head,) = heads
        if None in head:
            raise SchemaError(
                "The ledger's head row lacks a value; restore the database from a backup and run `traceai ledger verify`."
            )
        return StoredHead(*head)
    raise SchemaError(
        f"The ledger has {len(heads) or 'no'} head row{'s' if heads else ''}; restore the database from a backup and run `traceai "
        "ledger verify`."
    )
