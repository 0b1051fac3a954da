"""What a rebuild has to change: every row that is not what its entry says, and what the database remembers of the tree.

`Plan.look` is shown each span while the journal is verified, and `complete` looks at the rest. It reads and changes nothing, so a
preview and a rebuild find the same. In memory: eight bytes a row that differs, a 256th of the tree's hashes where the tree is
not as it has to be, and what is listed.
"""

import enum
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Connection, func, select

from traceai.db import tables
from traceai.ledger.entry import Entry
from traceai.ledger.log import StoredHead
from traceai.ledger.merkle import Frontier
from traceai.ledger.packing import unpack
from traceai.ledger.projection import TABLES, project, readable
from traceai.ledger.records import Inspection, InspectionFailed
from traceai.ledger.verification import comparison
from traceai.ledger.verification.facts import LISTED
from traceai.ledger.verification.spans import SPAN, Span

NODE = tables.table_of(tables.TreeNode)
HEAD, STATION = "ledger_head", "station"
BY_NAME = {str(table.__tablename__): table for table in tables.EVIDENCE}

# The hashes of the tree that lie in `tree_node`, by (level, index).
Nodes = dict[tuple[int | None, int | None], bytes]


class Action(enum.StrEnum):
    CHANGED = "changed"
    INSERTED = "inserted"
    DELETED = "deleted"


@dataclass(frozen=True)
class Difference:
    column: str
    stood: str
    recorded: str


@dataclass(frozen=True)
class Change:
    """One row, by the journal index that it claims, and what is done with it. `columns`: those of a changed row that differ.

    None differs where a row says the same and is written otherwise.
    """

    table: str
    index: int | None
    id: str | None
    action: Action
    columns: tuple[Difference, ...] = ()


class Plan:
    """Everything that a rebuild changes.

    Attributes:
        counts: by table, how many rows are to be what.
        listed: the first `facts.LISTED` of them.
        altered: by table, the indices whose rows have to go.
        lacking: the indices whose row has to be made.
        stray: the tables that hold rows of indices outside the journal.
        nodes: by (level, index), the hash that has to stand; None where none may. Either is None where the row has none.
        frontier: the right edge of the tree, where another one stands.
        counters: by station, the number of its last recorded decision, where another one stands.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        self.counts: dict[str, Counter[Action]] = {}
        self.listed: list[Change] = []
        self.altered: dict[str, array[int]] = {}
        self.lacking: array[int] = array("q")
        self.stray: list[str] = []
        self.nodes: dict[tuple[int | None, int | None], bytes | None] = {}
        self.frontier: bytes | None = None
        self.counters: dict[str, int] = {}
        self._numbers: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self.counts)

    def look(self, span: Span) -> None:
        """Take over which rows of a verified span differ, and from what."""
        entries = dict(read(self._driver, span.differing))
        self._differing(entries)
        for table, indices in _by_table(span.foreign).items():
            self._doom(table, indices)
            for index, rows in comparison.standing(self._driver, BY_NAME[table], indices).items():
                for row in rows:
                    self._note(Change(table, index, str(row["id"]), Action.DELETED))
        self._number(span, entries)

    def complete(self, end: int, head: StoredHead, *, tree_holds: bool) -> None:
        """Look at what no span shows: rows of no entry, the stations' counters, and the tree.

        Args:
            end: the number of entries.
            head: as it is stored; its size and root are those of the entries.
            tree_holds: whether verification found the stored tree to be that of the entries.
        """
        for name, table in BY_NAME.items():
            c = tables.table_of(table).c
            outside = comparison.outside(c.journal_index, end)
            count = self.connection.execute(select(func.count()).where(outside)).scalar_one()
            if count:
                self.stray.append(name)
                shown = self.connection.execute(select(c.journal_index, c.id).where(outside).limit(LISTED)).all()
                for index, identity in shown:
                    self._note(Change(name, index, str(identity), Action.DELETED))
                self.counts[name][Action.DELETED] += count - len(shown)
        station = tables.table_of(tables.Station)
        query = select(station.c.name, station.c.last_seq).order_by(station.c.name)
        for name, last in self.connection.execute(query):
            if last != (recorded := self._numbers.get(name, 0)):
                self.counters[name] = recorded
                differs = Difference("last_seq", str(last), str(recorded))
                self._note(Change(STATION, None, name, Action.CHANGED, (differs,)))
        if not tree_holds:
            self._tree(end, head)

    # --- rows -------------------------------------------------------------------------------------------------------

    def _differing(self, entries: Mapping[int, Entry]) -> None:
        of = _by_table((str(TABLES[type(entry.record)].__tablename__), index) for index, entry in entries.items())
        for name, indices in of.items():
            standing = comparison.standing(self._driver, BY_NAME[name], indices)
            self._doom(name, sorted(standing))
            self.lacking.extend(indices)
            for index in indices:
                _, columns = project(index, entries[index])
                rows = standing.get(index, [])
                # Of several rows for one index, the one that says most of what was recorded passes for it.
                compared = [(comparison.differences(columns, row), str(row["id"])) for row in rows]
                ranked = sorted(compared, key=lambda one: len(one[0]))
                if not ranked:
                    self._note(Change(name, index, entries[index].record.id, Action.INSERTED))
                elif ranked[0][0] or len(ranked) == 1:
                    differ = tuple(Difference(*one) for one in ranked[0][0])
                    self._note(Change(name, index, entries[index].record.id, Action.CHANGED, differ))
                for _, identity in ranked[1:]:
                    self._note(Change(name, index, identity, Action.DELETED))

    def _doom(self, table: str, indices: Sequence[int]) -> None:
        if indices:
            self.altered.setdefault(table, array("q")).extend(indices)

    def _number(self, span: Span, entries: Mapping[int, Entry]) -> None:
        """The last number of every station as the journal has it: from the rows that agree, and the entries of the others."""
        if not span.differing and not span.foreign:
            self._numbers |= {station: runs[-1][2] for station, runs in span.numbers.items()}
            return
        wrong = [*span.differing, *(index for _, index in span.foreign)]
        numbers = self._driver.execute(
            "SELECT journal_index, station, station_seq FROM inspection"
            " WHERE journal_index >= %s AND journal_index < %s AND journal_index <> ALL(%s)",
            [span.start, span.stop, wrong],
        ).fetchall()
        for index, entry in entries.items():
            if isinstance(entry.record, Inspection | InspectionFailed):
                numbers.append((index, entry.record.station, entry.record.station_seq))
        self._numbers |= {station: number for _, station, number in sorted(numbers)}

    def _note(self, change: Change) -> None:
        self.counts.setdefault(change.table, Counter())[change.action] += 1
        if len(self.listed) < LISTED:
            self.listed.append(change)

    # --- the tree ---------------------------------------------------------------------------------------------------

    def _tree(self, end: int, head: StoredHead) -> None:
        frontier, computed = Frontier(), Nodes()
        for start in range(0, end, SPAN):
            for (leaf,) in self._driver.execute(
                'SELECT leaf_hash FROM journal WHERE "index" >= %s AND "index" < %s ORDER BY "index"',
                [start, min(start + SPAN, end)],
            ):
                computed |= {(level, index): value for level, index, value in frontier.append(leaf)}
        stored: dict[tuple[int | None, int | None], list[bytes | None]] = {}
        for level, index, value in self.connection.execute(select(NODE.c.level, NODE.c.index, NODE.c.hash)):
            stored.setdefault((level, index), []).append(value)
        for place in sorted(stored.keys() | computed.keys(), key=_in_order):
            stands, recorded = stored.get(place, []), computed.get(place)
            if stands == ([] if recorded is None else [recorded]):
                continue
            self.nodes[place] = recorded
            what = f"level {readable(place[0])}"
            if stands and recorded is not None:
                told = " and ".join(readable(value) for value in stands)
                differs = Difference("hash", told, recorded.hex())
                self._note(Change(NODE.name, place[1], what, Action.CHANGED, (differs,)))
            else:
                self._note(Change(NODE.name, place[1], what, Action.DELETED if stands else Action.INSERTED))
        if head.frontier != bytes(frontier):
            self.frontier = bytes(frontier)
            differs = Difference("frontier", head.frontier.hex(), self.frontier.hex())
            self._note(Change(HEAD, None, None, Action.CHANGED, (differs,)))


def read(connection: psycopg.Connection[Any], indices: Sequence[int]) -> Iterator[tuple[int, Entry]]:
    """The entries at these places, in ledger order.

    Raises:
        RecordError: one of them is no record.
    """
    query = 'SELECT "index", entry FROM journal WHERE "index" = ANY(%s) ORDER BY "index"'
    if indices:
        with connection.cursor(binary=True) as cursor:
            for index, stored in cursor.execute(query, [list(indices)]).fetchall():
                yield index, Entry.parse(unpack(stored))


def _in_order(place: tuple[int | None, int | None]) -> tuple[int, ...]:
    """Those first that are no place at all."""
    return tuple(-(2**63) if part is None else part for part in place)


def _by_table(places: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for table, index in places:
        found.setdefault(table, []).append(index)
    return found
