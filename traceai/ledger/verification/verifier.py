"""Verify the ledger against itself, and against whatever is known of it from outside.

The outcome is a list of separate facts, each with what was found, never one boolean. A finding names the place: journal index,
table, row and column. The work is done in spans (`ledger.spans`), by several processes where there is enough of it, all of them
looking at one moment of the database. The tree, the stations and the references are put together here. Memory stays flat.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import orjson
import psycopg
from sqlalchemy import Connection, Engine, Text, cast, func, select, text
from sqlmodel import SQLModel

from traceai.db import tables
from traceai.db.connection import translated
from traceai.images.blobs import BlobStore
from traceai.images.decode import identify
from traceai.ledger.merkle import Frontier
from traceai.ledger.projection import readable
from traceai.ledger.verification import comparison, spans
from traceai.ledger.verification.counting import Counting, outages
from traceai.ledger.verification.datasets import verify_snapshots
from traceai.ledger.verification.facts import Fact, KnownHead, Outcome, Verified
from traceai.ledger.verification.files import verify_files
from traceai.ledger.verification.server import check_partitions, check_server, look_in_the_catalog_first
from traceai.ledger.verification.spans import SPAN, Findings, Span
from traceai.ledger.verification.workers import Stretch, no_stragglers, work

HEAD = tables.table_of(tables.LedgerHead)
JOURNAL = tables.table_of(tables.Journal)
NODE = tables.table_of(tables.TreeNode)

# Fewer spans than this are done sooner here than processes are started.
WORTH_PROCESSES = 8

Progress = Callable[[int, int], None]
Visit = Callable[[Span], None]


def verify(
    engine: Engine,
    blobs: BlobStore | None = None,
    progress: Progress | None = None,
    *,
    known: Sequence[KnownHead] = (),
    since: Verified | None = None,
    workers: int = 1,
) -> Outcome:
    """Recompute the ledger from its bytes and compare everything that claims to agree with it.

    Args:
        engine: the database; one repeatable-read snapshot of it is verified.
        blobs: also read every image and model file back and hash it; None leaves the store alone, and the fact out.
        progress: called with (entries done, entries in all).
        known: tree heads known from outside the database; the history has to lead to each of them.
        since: go on from here instead of from the beginning.
        workers: processes; 1 is this one alone. More are spawned, so a script that asks for them has to be importable: it calls
            this under `if __name__ == "__main__":` (see `multiprocessing`).
    """
    with (
        translated(),
        engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
        connection.begin(),
    ):
        return _Verifier(connection, blobs, progress, known, since or Verified(), workers).run()


def processes(engine: Engine, since: Verified | None = None) -> int:
    """As many as it is worth to verify this ledger with: one a processor, and this one alone where there is little to do."""
    with translated(), engine.connect() as connection:
        last: int = connection.execute(select(func.coalesce(func.max(JOURNAL.c.index), -1))).scalar_one()
    entries = last + 1 - (since.size if since else 0)
    return (os.cpu_count() or 1) if entries >= WORTH_PROCESSES * SPAN else 1


def verify_within(
    connection: Connection,
    blobs: BlobStore | None = None,
    progress: Progress | None = None,
    known: Sequence[KnownHead] = (),
    visit: Visit | None = None,
) -> Outcome:
    """`verify` within the transaction of `connection`, which has to be REPEATABLE READ for one consistent view.

    visit: shown every span, in order, right after it was verified.
    """
    return _Verifier(connection, blobs, progress, known, Verified(), workers=1, visit=visit).run()


class _Verifier:
    def __init__(
        self,
        connection: Connection,
        blobs: BlobStore | None,
        progress: Progress | None,
        known: Sequence[KnownHead],
        since: Verified,
        workers: int,
        visit: Visit | None = None,
    ) -> None:
        self.connection, self.blobs, self.workers = connection, blobs, workers
        self.progress, self.visit = progress, visit
        self.driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        self.found = Findings.none()
        self.known = sorted(known, key=lambda head: head.size)
        self.heads = Fact("checkpoints", "the history leads to every tree head that is kept outside the database")
        self.since = since
        self.frontier: Frontier | None = Frontier(since.size, since.frontier)
        self.counting = Counting(since)
        self.roots: dict[int, bytes] = {since.size: self.frontier.root()} if since.size else {}
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.uses: dict[tuple[str, int, bytes, bytes | None], int] = {}
        self.missing: list[tuple[int, int]] = []
        self.reached = since

    def run(self) -> Outcome:
        look_in_the_catalog_first(self.driver)
        check_server(self.driver, self.found.rows)
        if not self.since.size:
            check_partitions(self.driver, self.found.rows)
        heads = self.connection.execute(select(HEAD).order_by(HEAD.c.id)).mappings().all()
        self.found.tree.checked = 1
        if len(heads) > 1:
            self.found.tree.fail(f"table ledger_head: it holds {len(heads)} rows and may hold one")
        head = heads[0] if heads else None
        last = self.connection.execute(select(func.max(JOURNAL.c.index))).scalar_one()
        end = 0 if last is None else last + 1
        comparison.compare_types(self.driver, self.found.rows)
        for span in self._spans(end):
            self._take(span, end)
            if self.visit:
                self.visit(span)
            if self.progress:
                self.progress(span.stop, max(end, (head and head["size"]) or 0))
        self._missing()
        self._tree(head, end)
        self._upper_nodes()
        self._known(end)
        self._strays(end)
        self.counting.complete(self.connection, self.found.sequence, self.found.triggers)
        self._doubles()
        self._references()
        facts = [*self.found.all(), verify_snapshots(self.connection, self.blobs)]
        if self.known:
            facts.append(self.heads)
        if self.blobs is not None:
            facts.append(verify_files(self.connection, self.blobs, self.since.size))
        root = self.frontier.root() if self.frontier else bytes(32)
        size = end - sum(b - a + 1 for a, b in self.missing)
        return Outcome(size, root, tuple(facts), self.reached, outages(self.connection))

    # --- spans ----------------------------------------------------------------------------------------------------

    def _spans(self, end: int) -> Iterator[Span]:
        stretches: list[Stretch] = []
        sizes = sorted({head.size for head in self.known})
        for start in range(self.since.size, end, SPAN):
            stop = min(start + SPAN, end)
            stretches.append((start, stop, tuple(size for size in sizes if start < size <= stop)))
        if self.workers == 1 or len(stretches) == 1:
            for stretch in stretches:
                yield spans.verify_span(self.driver, *stretch)
            return
        url = self.connection.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        snapshot = self.connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
        with (
            ProcessPoolExecutor(self.workers, get_context("spawn")) as pool,
            no_stragglers(pool),
        ):
            # Never more under way than the processes need: what is done waits here for its turn, and memory stays flat.
            waiting: deque[Future[Span]] = deque()
            for stretch in stretches:
                waiting.append(pool.submit(work, url, snapshot, stretch))
                if len(waiting) > 2 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _take(self, span: Span, end: int) -> None:
        self.found.add(span.found)
        self.counting.take(span, self.found.sequence)
        for use, index in span.uses.items():
            self.uses.setdefault(use, index)
        for first, last in span.missing:
            if self.missing and self.missing[-1][1] == first - 1:
                self.missing[-1] = (self.missing[-1][0], last)
            else:
                self.missing.append((first, last))
        if self.frontier is None or span.subtrees is None:
            self.frontier = None  # without an entry, nothing after it can be proved
            return
        for size, subtrees in span.marks.items():
            tree = self.frontier.copy()
            for height, node in subtrees:
                tree.append(node, height)
            self.roots[size] = tree.root()
        for height, node in span.subtrees:
            for level, index, value in self.frontier.append(node, height):
                self.nodes[level, index] = value
        if span.stop % SPAN == 0 and span.stop + SPAN > end:
            counting = self.counting
            self.reached = Verified(span.stop, bytes(self.frontier), dict(counting.numbers), counting.triggers())

    # --- what has to be put together --------------------------------------------------------------------------------

    def _missing(self) -> None:
        for first, last in self.missing:
            what = f"{first}: the entry is missing" if first == last else f"{first} to {last}: the entries are missing"
            self.found.entries.fail(f"journal index {what}")

    def _tree(self, head: Any, end: int) -> None:
        tree = self.found.tree
        if head is None:
            tree.fail("table ledger_head: its one row is missing")
            return
        if None in (head["size"], head["root"], head["frontier"]):
            tree.fail("table ledger_head: its row lacks a value")
            return
        if head["size"] > end:
            gone = f"{end}" if head["size"] == end + 1 else f"{end} to {head['size'] - 1}"
            self.found.entries.fail(f"journal index {gone}: removed from the end of the journal")
        if self.frontier is None:
            tree.fail(f"the tree cannot be recomputed beyond entry {self.missing[0][0]}, which is missing")
            return
        if head["size"] != end:
            tree.fail(f"the stored tree has {head['size']} entries, the journal {end}")
        elif head["root"] != self.frontier.root():
            tree.fail(f"the stored root is {head['root'].hex()}, the entries lead to {self.frontier.root().hex()}")
        elif head["frontier"] != bytes(self.frontier):
            tree.fail("the stored right edge of the tree is not that of the entries")

    def _upper_nodes(self) -> None:
        """Stored hashes that no span looked at: above level 1, beyond the journal, and where no tree has any."""
        self._misplaced_nodes()
        if self.frontier is None:
            return
        size = self.frontier.size
        aside = (NODE.c.index < 0) | (NODE.c.index >= -(-size // 256))
        query = select(NODE.c.level, NODE.c.index, NODE.c.hash).where((NODE.c.level != 1) | aside)
        stored: dict[int, dict[int, bytes]] = {}
        for level, index, value in self.connection.execute(query):
            if level is None or index is None:
                continue  # told as misplaced
            if level < 1 or index < 0 or (index + 1) * 256**level > self.since.size:
                stored.setdefault(level, {})[index] = value
        computed: dict[int, dict[int, bytes]] = {}
        for (level, index), value in self.nodes.items():
            computed.setdefault(level, {})[index] = value
        for level in sorted(stored.keys() | computed.keys()):
            spans.compare_nodes(level, stored.get(level, {}), computed.get(level, {}), self.found.tree)

    def _misplaced_nodes(self) -> None:
        """Hashes that share a place, or have none: no constraint forbids it where the table's owner dropped them."""
        c = NODE.c
        query = select(c.level, c.index, func.count()).group_by(c.level, c.index)
        for level, index, count in self.connection.execute(
            query.having((func.count() > 1) | c.level.is_(None) | c.index.is_(None)).order_by(c.level, c.index)
        ):
            where = f"table tree_node, level {readable(level)}, index {readable(index)}"
            if level is None or index is None:
                self.found.tree.fail(f"{where}: a hash has no place without both")
            else:
                self.found.tree.fail(f"{where}: {count} rows stand for one hash")

    def _known(self, end: int) -> None:
        """Hold the history against what is known from outside, and say between which two heads it was changed."""
        agreed = self.since.size
        for head in self.known:
            if head.size < self.since.size:
                continue
            self.heads.checked += 1
            if head.size == 0 and head.root == Frontier().root():
                continue
            if head.size > end:
                self.heads.fail(
                    f"{head.label}: the ledger once had {head.size} entries and has {end}; entries {end} to {head.size - 1} "
                    "were removed, or this is an older copy"
                )
            elif head.size not in self.roots:
                self.heads.fail(
                    f"{head.label}: an entry before {head.size} is missing, so its root cannot be recomputed"
                )
            elif self.roots[head.size] != head.root:
                self.heads.fail(
                    f"{head.label}: the first {head.size} entries once had the root {head.root.hex()} and lead to "
                    f"{self.roots[head.size].hex()} now; an entry from {agreed} to {head.size - 1} was rewritten"
                )
            else:
                agreed = head.size

    def _strays(self, end: int) -> None:
        """Rows that point outside the journal, and entries before its first."""
        for (index,) in self.connection.execute(
            select(JOURNAL.c.index).where((JOURNAL.c.index < 0) | JOURNAL.c.index.is_(None)).order_by(JOURNAL.c.index)
        ):
            self.found.entries.fail(
                f"journal index {readable(index)}: an entry stands there, and the journal begins with 0"
            )
        for name in (*(str(table.__tablename__) for table in tables.EVIDENCE), "heat_map"):
            c = SQLModel.metadata.tables[name].c
            fact = self.found.maps if name == "heat_map" else self.found.rows
            for (index,) in self.connection.execute(
                select(c.journal_index).where(comparison.outside(c.journal_index, end))
            ):
                claim = "no journal index" if index is None else f"journal index {index}, which does not exist"
                fact.fail(f"table {name}: a row claims {claim}")

    def _doubles(self) -> None:
        """Identifiers that stand twice: no constraint spans the partitions."""
        query = text(
            "SELECT later.id, earlier.journal_index, later.journal_index FROM inspection later JOIN inspection earlier"
            " ON earlier.id = later.id AND earlier.journal_index < later.journal_index WHERE later.journal_index >= :since"
        )
        for reference, first, second in self.connection.execute(query, {"since": self.since.size}):
            self.found.rows.fail(f"table inspection: journal index {first} and {second} have the same id, {reference}")

    def _references(self) -> None:
        """What decisions, approvals, exports and measurements name was on record before them."""
        fact = self.found.references
        kinds = (tables.ModelEvent, tables.ModelExport, tables.ExplanationQuality)
        events = [tables.table_of(kind).c for kind in kinds]
        v, r, x = (tables.table_of(kind).c for kind in (tables.ModelVersion, tables.Runtime, tables.ModelExport))
        versions = {
            (name, number, digest): index
            for name, number, digest, index in self.connection.execute(
                select(v.name, v.version, v.digest, v.journal_index)
            )
        }
        exports = {
            (name, number, digest, sha256.hex()): index
            for name, number, digest, sha256, index in self.connection.execute(
                # The first of several stays, for they come last first.
                select(x.model_name, x.model_version, x.model_digest, x.sha256, x.journal_index)
                .where(x.journal_index.is_not(None), x.sha256.is_not(None))
                .order_by(x.journal_index.desc())
            )
        }
        ran = {}
        runtimes = {}
        for digest, environment, index in self.connection.execute(
            select(r.digest, cast(r.environment, Text), r.journal_index)
        ):
            fact.checked += 1
            runtimes[digest] = index
            ran[digest] = _export_in(environment)
            if identify((environment or "").encode()) != readable(digest):
                fact.fail(f"journal index {index}: the environment does not have the digest that it is recorded under")
        named = [(index, (name, number, digest)) for (name, number, digest, _), index in self.uses.items()]
        named += [
            (index, (name, number, digest))
            for e in events
            for index, name, number, digest in self.connection.execute(
                select(e.journal_index, e.model_name, e.model_version, e.model_digest)
            )
        ]
        for index, (name, number, digest) in sorted(
            (use for use in named if use[0] is not None), key=lambda use: use[0]
        ):
            fact.checked += 1
            registered = versions.get((name, number, digest))
            if registered is None or registered >= index:
                fact.fail(
                    f"journal index {index}: {name}@{number} with digest {readable(digest)} was not registered before it"
                )
        for (name, number, digest, environment), index in sorted(self.uses.items(), key=lambda use: use[1]):
            file = ran.get(environment)
            if file is not None and exports.get((name, number, digest, file), index) >= index:
                fact.fail(
                    f"journal index {index}: it was decided by the file {file}, which was not registered before it as an export of "
                    "that version"
                )
            on_record = runtimes.get(environment)
            if environment is not None and (on_record is None or on_record >= index):
                fact.fail(f"journal index {index}: the environment {readable(environment)} was not on record before it")


def _export_in(environment: str | None) -> str | None:
    """The SHA-256 of the exported file that ran, of an environment that names one; whatever stands there instead is told."""
    try:
        found = orjson.loads(environment or "")
    except ValueError:
        return None
    named = found.get("export") if isinstance(found, dict) else None
    return named if named is None or isinstance(named, str) else "of a name that is no text"
