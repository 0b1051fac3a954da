"""Verify one span of the ledger: the entries `start` to `stop` - 1, and the rows that stand for them.

A span is read in a handful of queries, whole columns at a time. Nearly every entry is settled by three comparisons: its hash
with the stored one, its bytes with the grammar of its record, and its hash with that of what PostgreSQL writes back from its row.
Only what differs in any of them is parsed and looked at column by column (`ledger.comparison`), so that the place can be named.

Spans are independent of each other: worker processes take them in any order, and `verification` puts the tree together.
"""

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg

from traceai.db import tables
from traceai.errors import RecordError
from traceai.ledger.entry import Entry
from traceai.ledger.merkle import Frontier
from traceai.ledger.packing import unpack
from traceai.ledger.projection import TABLES, leaves, readable
from traceai.ledger.records import SCHEMAS, Inspection, InspectionFailed, Record
from traceai.ledger.triggers import Step, decided
from traceai.ledger.verification import comparison
from traceai.ledger.verification.facts import Fact
from traceai.ledger.verification.grammar import recognise
from traceai.ledger.verification.readback import readback

# Entries a span: subtrees of this size are put together by the caller. Memory is in proportion to it.
SPAN = 4096
# The first number that no record holds.
UNCOUNTED = 2**53

Subtrees = list[tuple[int, bytes]]

_MAPS_AGREE = """
    SELECT m.indices IS NOT DISTINCT FROM d.indices AND m.digests IS NOT DISTINCT FROM d.digests
    FROM (
        SELECT pg_catalog.array_agg(journal_index ORDER BY journal_index) AS indices,
            pg_catalog.array_agg(pg_catalog.sha256(grid) ORDER BY journal_index) AS digests
        FROM heat_map WHERE journal_index >= %(start)s AND journal_index < %(stop)s
    ) m, (
        SELECT pg_catalog.array_agg(journal_index ORDER BY journal_index) AS indices,
            pg_catalog.array_agg(explanation_sha256 ORDER BY journal_index) AS digests
        FROM inspection WHERE journal_index >= %(start)s AND journal_index < %(stop)s AND failure_code IS NULL
    ) d
"""


@dataclass
class Findings:
    """The facts that a span can speak of."""

    entries: Fact
    leaves: Fact
    tree: Fact
    rows: Fact
    maps: Fact
    references: Fact
    sequence: Fact
    triggers: Fact

    @classmethod
    def none(cls) -> "Findings":
        return cls(
            Fact("entries", "every journal entry is present and its bytes are a known, canonical record"),
            Fact("leaf hashes", "every entry's bytes have the leaf hash stored with them"),
            Fact("tree", "the entries, in order, lead to every stored hash, to the root and to the size"),
            Fact("tables", "every table row says what its journal entry says, and every entry has its row"),
            Fact("heat maps", "every stored explanation has the digest that its decision recorded"),
            Fact("references", "what a record names (model, environment, decision) was on record before it"),
            Fact("stations", "every station's decisions are numbered without a gap"),
            Fact("triggers", "every count of a camera has its decision, or an entry that says why not"),
        )

    def all(self) -> tuple[Fact, ...]:
        return (
            self.entries, self.leaves, self.tree, self.rows, self.maps, self.references, self.sequence, self.triggers,
        )  # fmt: skip

    def add(self, other: "Findings") -> None:
        for mine, theirs in zip(self.all(), other.all(), strict=True):
            mine.add(theirs)


@dataclass
class Span:
    """What verifying a span found.

    subtrees: the complete subtrees that make up the span's part of the tree, in order; None where an entry is missing.
    marks: the same for the entries before each size that was asked for.
    missing: ranges (first, last) of indices without an entry.
    numbers: by station, its decisions in ledger order as runs (index, first number, last number).
    triggers: by station, the triggers of its decisions as runs, and those that gaps name, in ledger order.
    uses: (model name, version, digest, runtime or None) to the first index that names them.
    differing: indices whose row is not what their entry says, or is missing, or is there twice.
    foreign: (table, index) of rows that claim an entry of another table.
    """

    start: int
    stop: int
    found: Findings
    subtrees: Subtrees | None
    marks: dict[int, Subtrees]
    missing: list[tuple[int, int]]
    numbers: dict[str, list[tuple[int, int, int]]]
    triggers: dict[str, list[Step]]
    uses: dict[tuple[str, int, bytes, bytes | None], int]
    differing: list[int]
    foreign: list[tuple[str, int]]


def verify_span(connection: psycopg.Connection[Any], start: int, stop: int, marks: Sequence[int] = ()) -> Span:
    """Verify the entries `start` (a multiple of `SPAN`) to `stop` - 1 within the transaction of `connection`.

    marks: tree sizes above `start` and up to `stop`, at which the caller wants to know the tree.
    """
    return _Reader(connection, start, stop).run(frozenset(marks))


class _Reader:
    def __init__(self, connection: psycopg.Connection[Any], start: int, stop: int) -> None:
        self.connection, self.start, self.stop = connection, start, stop
        self.found = Findings.none()
        # Leaf hashes of the rows as PostgreSQL writes them back, by table and index. What is left at the end claims an entry that
        # is another's.
        self.written: dict[str, dict[int, bytes | None]] = {}
        self.doubles: set[tuple[str, int]] = set()
        self.numbers: dict[str, list[tuple[int, int, int]]] = {}
        self.triggers: dict[str, list[Step]] = {}
        # What gaps say of each station, until the decisions before it are in.
        self.declared: dict[str, deque[Step]] = {}
        self.suspects: list[tuple[int, bytes, bytes]] = []

    def run(self, marks: frozenset[int]) -> Span:
        for model in sorted(tables.EVIDENCE, key=lambda model: model is not tables.Gap):
            self._read_back(str(model.__tablename__))
        for station, steps in self.declared.items():
            self.triggers.setdefault(station, []).extend(steps)
        missing: list[tuple[int, int]] = []
        frontier, at, nodes = Frontier(), {}, {}
        expected = self.start
        journal = self._fetch(
            'SELECT "index", entry, leaf_hash FROM journal WHERE "index" >= %(start)s AND "index" < %(stop)s ORDER BY "index"'
        )
        for fact in (self.found.entries, self.found.leaves, self.found.rows):
            fact.checked = len(journal)
        for index, stored, leaf in journal:
            if index != expected:
                missing.append((expected, index - 1))
            expected = index + 1
            for level, node, value in frontier.append(self._entry(index, stored, leaf)):
                if level == 1:
                    nodes[self.start // 256 + node] = value
            if expected in marks:
                at[expected] = frontier.subtrees()
        if expected < self.stop:
            missing.append((expected, self.stop - 1))
        if not missing:
            self._nodes(nodes)
        differing = self._explain()
        maps = self._doubtful_maps() | {index for index, entry in differing if isinstance(entry.record, Inspection)}
        comparison.explain_maps(self.connection, sorted(maps), self.found.maps)
        foreign = [(table, index) for table, left in self.written.items() for index in left]
        for table, index in foreign:
            self.found.rows.fail(f"table {table}: a row claims journal index {index}, whose entry is another")
        self._reviews()
        uses = self._fetch(
            "SELECT model_name, model_version, model_digest, runtime, min(journal_index) FROM inspection"
            " WHERE journal_index >= %(start)s AND journal_index < %(stop)s GROUP BY 1, 2, 3, 4"
        )
        return Span(
            start=self.start,
            stop=self.stop,
            found=self.found,
            subtrees=None if missing else frontier.subtrees(),
            marks={} if missing else at,
            missing=missing,
            numbers=self.numbers,
            triggers=self.triggers,
            uses={(name, version, digest, runtime): first for name, version, digest, runtime, first in uses},
            differing=[index for index, _ in differing],
            foreign=foreign,
        )

    def _entry(self, index: int, stored: bytes | None, leaf: bytes | None) -> bytes:
        """Check one entry, and return the hash that its bytes have."""
        found = self.found
        try:
            entry = unpack(stored or b"")
        except RecordError as error:
            found.entries.fail(f"journal index {index}: {error.message}")
            found.leaves.fail(f"journal index {index}: the entry's bytes do not have the stored leaf hash")
            return leaf or bytes(32)
        computed = hashlib.sha256(b"\x00" + entry).digest()
        if computed != leaf:
            found.leaves.fail(f"journal index {index}: the entry's bytes do not have the stored leaf hash")
        if (schema := recognise(entry)) is not None:
            table = _table(schema)
            written = self.written[table]
            if written.get(index) == computed and not (self.doubles and (table, index) in self.doubles):
                del written[index]
                return computed
        self.suspects.append((index, entry, computed))
        return computed

    def _explain(self) -> list[tuple[int, Entry]]:
        """Parse what was not settled, and compare it column by column. Returns what differs."""
        differing: list[tuple[int, Entry]] = []
        for index, data, computed in self.suspects:
            try:
                entry = Entry.parse(data)
            except RecordError as error:
                self.found.entries.fail(f"journal index {index}: {error.message}")
                continue
            name = _table(entry.record.schema_name)
            if self.written[name].pop(index, None) != computed or (name, index) in self.doubles:
                differing.append((index, entry))
        comparison.explain(self.connection, differing, self.found.rows)
        return differing

    # --- what is read ---------------------------------------------------------------------------------------------

    def _fetch(self, query: str) -> list[tuple[Any, ...]]:
        """`query` has to name %(start)s and %(stop)s."""
        with self.connection.cursor(binary=True) as cursor:
            return cursor.execute(query.encode(), {"start": self.start, "stop": self.stop}).fetchall()

    def _read_back(self, table: str) -> None:
        written: dict[int, bytes | None] = {}
        for index, data, *about in self._fetch(_readback_query(table)):
            if index in written:
                self.doubles.add((table, index))
            written[index] = data
            if table == tables.Inspection.__tablename__:
                self._number(index, *about)
            elif table == tables.Gap.__tablename__:
                self._declare(index, *about)
        self.written[table] = written

    def _number(self, index: int, station: str | None, seq: int | None, trigger: int | None, has_verdict: bool) -> None:
        if has_verdict:
            self.found.maps.checked += 1
        if station is None or seq is None:
            return  # the row differs from its entry, and that is told
        self.found.sequence.checked += 1
        runs = self.numbers.setdefault(station, [])
        if runs and runs[-1][2] + 1 == seq:
            runs[-1] = (runs[-1][0], runs[-1][1], seq)
        else:
            runs.append((index, seq, seq))
        if trigger is not None:
            self._trigger(index, station, trigger)

    def _trigger(self, index: int, station: str, count: int) -> None:
        if not 0 <= count < UNCOUNTED:
            return  # likewise
        self.found.triggers.checked += 1
        steps = self.triggers.setdefault(station, [])
        if waiting := self.declared.get(station):
            while waiting and waiting[0].entry < index:
                steps.append(waiting.popleft())
        decided(steps, index, count)

    def _declare(self, index: int, station: str | None, first: int | None, last: int | None) -> None:
        if station is None or first is None or last is None or not 0 <= first <= last < UNCOUNTED:
            return  # it names no triggers, or the row differs from its entry
        self.declared.setdefault(station, deque()).append(Step(index, first, last, declared=True))

    def _nodes(self, computed: dict[int, bytes]) -> None:
        """Compare the stored hashes of level 1 with those of the entries."""
        stored = self._fetch(
            'SELECT "index", hash FROM tree_node WHERE level = 1'
            ' AND "index" >= %(start)s / 256 AND "index" < (%(stop)s + 255) / 256'
        )
        compare_nodes(1, dict(stored), computed, self.found.tree)

    def _doubtful_maps(self) -> set[int]:
        """Decisions whose heat map is missing or does not have the digest in their row, and maps that no row accounts for."""
        if self._maps_agree():
            return set()
        doubtful = self._fetch(
            "SELECT i.journal_index FROM inspection i LEFT JOIN heat_map h ON h.journal_index = i.journal_index"
            " WHERE i.journal_index >= %(start)s AND i.journal_index < %(stop)s AND i.failure_code IS NULL"
            " AND pg_catalog.sha256(h.grid) IS DISTINCT FROM i.explanation_sha256"
            " UNION SELECT h.journal_index FROM heat_map h LEFT JOIN inspection i ON i.journal_index = h.journal_index"
            " WHERE h.journal_index >= %(start)s AND h.journal_index < %(stop)s"
            " AND (i.journal_index IS NULL OR i.failure_code IS NOT NULL)"
        )
        return {index for (index,) in doubtful}

    def _maps_agree(self) -> bool:
        """The maps of the span, in order, have the digests in the rows of its decisions: one comparison in place of a join."""
        ((agree,),) = self._fetch(_MAPS_AGREE)
        return bool(agree)

    def _reviews(self) -> None:
        for index, inspection, known in self._fetch(
            "SELECT r.journal_index, r.inspection_id, EXISTS (SELECT FROM inspection i"
            ' JOIN journal j ON j."index" = i.journal_index WHERE i.id = r.inspection_id'
            " AND j.leaf_hash = r.inspection_leaf AND i.journal_index < r.journal_index) FROM review r"
            " WHERE r.journal_index >= %(start)s AND r.journal_index < %(stop)s"
        ):
            self.found.references.checked += 1
            if not known:
                self.found.references.fail(
                    f"journal index {index}: the review is of decision {inspection}, and no earlier entry of that decision "
                    "has the leaf hash that the review names"
                )


def compare_nodes(level: int, stored: dict[int, bytes], computed: dict[int, bytes], tree: Fact) -> None:
    """Stored and computed hashes of one tile level, by their index there."""
    for index in sorted(stored.keys() | computed.keys()):
        where = f"table tree_node, level {level}, index {index}"
        if index not in stored:
            tree.fail(f"{where}: the hash is missing")
        elif index not in computed:
            tree.fail(f"{where}: there is a hash, and the entries under it are not complete")
        elif stored[index] != computed[index]:
            first, last = index * 256**level, (index + 1) * 256**level - 1
            tree.fail(
                f"{where}: {readable(stored[index])} stands, entries {first} to {last} lead to {computed[index].hex()}"
            )


@cache
def _table(schema: str) -> str:
    return str(TABLES[SCHEMAS[schema]].__tablename__)


@cache
def _readback_query(table: str) -> str:
    sharing = [record for record, model in TABLES.items() if model.__tablename__ == table]
    written = {record: _alone(record, sharing) for record in sharing}
    about = ""
    if table == "inspection":
        decided, failed = written[Inspection], written[InspectionFailed]
        sql = f"CASE WHEN r.failure_code IS NULL THEN {decided} ELSE {failed} END"
        about = ", r.station, r.station_seq, r.trigger, r.failure_code IS NULL"
    else:
        (sql,) = written.values()
        if table == tables.Gap.__tablename__:
            about = ", r.station, r.first_trigger, r.last_trigger"
    columns = f"r.journal_index, pg_catalog.sha256('\\x00' || pg_catalog.convert_to({sql}, 'UTF8')){about}".replace(
        "%", "%%"
    )
    return (
        f"SELECT {columns} FROM {table} r"  # noqa: S608  # from the records and the metadata
        " WHERE r.journal_index >= %(start)s AND r.journal_index < %(stop)s ORDER BY r.journal_index"
    )


def _alone(record: type[Record], sharing: Sequence[type[Record]]) -> str:
    """The row written back as `record`, where every column that only another record of the table fills is empty."""
    own = {leaf.column for leaf in leaves(record)}
    others = sorted({leaf.column for other in sharing for leaf in leaves(other)} - own)
    if not others:
        return readback(record, "r")
    filled = ", ".join(f'r."{column}"' for column in others)
    return f"CASE WHEN pg_catalog.num_nonnulls({filled}) = 0 THEN {readback(record, 'r')} END"
