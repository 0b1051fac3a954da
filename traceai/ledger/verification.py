"""Verify the ledger against itself: every leaf, the tree, and every table row against the entry it stands for.

The outcome is a list of separate facts, each with what was found, never one boolean. A finding names the place:
journal index, table, row and column.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, DateTime, Engine, RowMapping, Table, func, select
from sqlmodel import SQLModel

from traceai.clock import timestamp
from traceai.db import tables
from traceai.db.connection import translated
from traceai.errors import BlobMissingError, BlobTamperedError, InputError, RecordError
from traceai.images.blobs import BlobStore
from traceai.images.decode import identify
from traceai.ledger import canonical
from traceai.ledger.merkle import Frontier, leaf_hash
from traceai.ledger.projection import project, readable
from traceai.ledger.records import Entry, Inspection

HEAD: Table = tables.LedgerHead.__table__  # type: ignore[attr-defined]  # set by SQLAlchemy
BATCH = 1000
# Findings beyond this many of a fact are counted, not listed: an emptied table would otherwise fill the screen.
LISTED = 100


@dataclass
class Fact:
    """One thing that was checked, how often, and every place where it does not hold."""

    name: str
    meaning: str
    checked: int = 0
    failures: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return self.failures == 0

    def fail(self, finding: str) -> None:
        self.failures += 1
        if len(self.findings) < LISTED:
            self.findings.append(finding)


@dataclass(frozen=True)
class Outcome:
    """The facts, and the tree they were established for."""

    size: int
    root: bytes
    facts: tuple[Fact, ...]

    @property
    def holds(self) -> bool:
        return all(fact.holds for fact in self.facts)


Progress = Callable[[int, int], None]


def verify(engine: Engine, blobs: BlobStore | None = None, progress: Progress | None = None) -> Outcome:
    """Recompute the whole ledger from its bytes and compare everything that claims to agree with it.

    Reads in one repeatable-read snapshot, `BATCH` entries at a time. `blobs`: also read every image and model file back and
    hash it; None leaves the blob store alone, and the fact out.
    """
    with (
        translated(),
        engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
        connection.begin(),
    ):
        return verify_within(connection, blobs, progress)


def verify_within(connection: Connection, blobs: BlobStore | None = None, progress: Progress | None = None) -> Outcome:
    """The same, in the caller's transaction: what else it reads there is of the same moment."""
    return _Verification(connection, blobs, progress).run()


class _Verification:
    def __init__(self, connection: Connection, blobs: BlobStore | None, progress: Progress | None) -> None:
        self.connection = connection
        self.blobs = blobs
        self.progress = progress
        self.entries = Fact("entries", "every journal entry is present and its bytes are a known, canonical record")
        self.leaves = Fact("leaf hashes", "every entry's bytes have the leaf hash stored with them")
        self.tree = Fact("tree", "the entries, in order, lead to the stored root and size")
        self.rows = Fact("tables", "every table row says what its journal entry says, and every entry has its row")
        self.maps = Fact("heat maps", "every stored explanation has the digest that its decision recorded")
        self.snapshots = Fact("datasets", "the images listed for every dataset snapshot have its recorded digest")
        self.sequence = Fact("stations", "every station's decisions are numbered without a gap")
        self.stored = Fact("blobs", "every recorded image and model file is stored, byte for byte")
        self.last_seq: Counter[str] = Counter()
        self.seen_blobs: set[bytes] = set()

    def run(self) -> Outcome:
        heads = self.connection.execute(select(HEAD).order_by(HEAD.c.id)).mappings().all()
        if len(heads) > 1:
            self.tree.fail(f"table ledger_head: it holds {len(heads)} rows and may hold one")
        head = heads[0] if heads else None
        size = head["size"] if head else 0
        frontier = Frontier()
        expected = 0
        for batch in self._journal():
            for row in batch:
                if row["index"] != expected:
                    missing = f"{expected}" if row["index"] == expected + 1 else f"{expected} to {row['index'] - 1}"
                    self.entries.fail(f"journal index {missing}: the entry is missing")
                expected = row["index"] + 1
                frontier.append(leaf_hash(row["entry"] or b""))
            self._batch(batch)
            if self.progress:
                self.progress(expected, max(size, expected))
        self._tree(head, frontier, expected)
        self._strays(expected)
        self._stations()
        self._snapshots()
        facts = [self.entries, self.leaves, self.tree, self.rows, self.maps, self.snapshots, self.sequence]
        if self.blobs is not None:
            facts.append(self.stored)
        return Outcome(frontier.size, frontier.root(), tuple(facts))

    def _journal(self) -> Iterator[Sequence[Any]]:
        journal = tables.Journal.__table__  # type: ignore[attr-defined]  # set by SQLAlchemy
        after = None
        while True:
            query = select(*_readable_columns(journal)).order_by(journal.c.index).limit(BATCH)
            if after is not None:
                query = query.where(journal.c.index > after)
            batch = self.connection.execute(query).mappings().all()
            if not batch:
                return
            yield batch
            after = batch[-1]["index"]

    def _batch(self, batch: Sequence[Any]) -> None:
        """Compare one run of journal entries with the table rows that point into it."""
        first, last = batch[0]["index"], batch[-1]["index"]
        found = {table: self._rows(table, first, last) for table in tables.EVIDENCE}
        maps = self._maps(first, last)
        for stored in batch:
            index = stored["index"]
            self.entries.checked += 1
            self.leaves.checked += 1
            if stored["entry"] is None or leaf_hash(stored["entry"]) != stored["leaf_hash"]:
                self.leaves.fail(f"journal index {index}: the entry's bytes do not have the stored leaf hash")
            try:
                entry = Entry.parse(stored["entry"] or b"")
            except RecordError as error:
                self.entries.fail(f"journal index {index}: {error.message}")
                continue
            self._journal_columns(stored, entry)
            table, columns = project(index, entry)
            self.rows.checked += 1
            rows = found[table].pop(index, [])
            name = str(table.__tablename__)
            if not rows:
                self.rows.fail(f"table {name}: the row of journal index {index} ({entry.record.id}) is missing")
            for row in rows:
                self._row(name, index, columns, row)
            if len(rows) > 1:
                self.rows.fail(f"table {name}: {len(rows)} rows claim journal index {index}, which stands for one")
            if isinstance(entry.record, Inspection):
                self._map(index, entry.record, maps.pop(columns["id"], None))
            self._order(index, columns)
            self._blob(index, columns)
        for inspection in maps:
            self.maps.fail(f"table heat_map: there is a map of {inspection}, whose entry records none")
        for table, left in found.items():
            for index in left:
                self.rows.fail(
                    f"table {table.__tablename__}: a row claims journal index {index}, whose entry is another"
                )

    def _journal_columns(self, stored: Any, entry: Entry) -> None:
        if stored["schema"] != entry.record.schema_name:
            self.rows.fail(
                f"table journal, index {stored['index']}, column schema: {stored['schema']} stands, "
                f"{entry.record.schema_name} was recorded"
            )
        if stored["recorded_at"] != _in_era(entry.recorded_at):
            self.rows.fail(
                f"table journal, index {stored['index']}, column recorded_at: {stored['recorded_at']} stands, "
                f"{entry.recorded_at} was recorded"
            )

    def _row(self, table: str, index: int, expected: dict[str, Any], row: Any) -> None:
        for column, stands in row.items():
            recorded = expected.get(column)
            if isinstance(recorded, datetime):
                recorded = _in_era(timestamp(recorded))
            if not _same(stands, recorded):
                self.rows.fail(
                    f"table {table}, journal index {index} ({row['id']}), column {column}: {readable(stands)} stands, "
                    f"{readable(recorded)} was recorded"
                )

    def _rows(self, table: type[SQLModel], first: int, last: int) -> dict[int, list[Any]]:
        t = table.__table__  # type: ignore[attr-defined]  # set by SQLAlchemy
        query = select(*_readable_columns(t)).where(t.c.journal_index.between(first, last))
        found: dict[int, list[Any]] = {}
        for row in self.connection.execute(query).mappings():
            found.setdefault(row["journal_index"], []).append(row)
        return found

    def _maps(self, first: int, last: int) -> dict[Any, bytes]:
        inspection, heat_map = tables.Inspection.__table__, tables.HeatMap.__table__  # type: ignore[attr-defined]
        query = (
            select(heat_map.c.inspection_id, heat_map.c.grid)
            .join(inspection, inspection.c.id == heat_map.c.inspection_id)
            .where(inspection.c.journal_index.between(first, last))
        )
        return {row.inspection_id: row.grid for row in self.connection.execute(query)}

    def _map(self, index: int, record: Inspection, grid: bytes | None) -> None:
        self.maps.checked += 1
        if grid is None:
            self.maps.fail(f"journal index {index} ({record.id}): the heat map is missing")
        elif identify(grid) != record.explanation.sha256:
            self.maps.fail(f"journal index {index} ({record.id}): the heat map is not the one that was recorded")

    def _order(self, index: int, columns: dict[str, Any]) -> None:
        station, seq = columns.get("station"), columns.get("station_seq")
        if station is None or seq is None:
            return
        self.sequence.checked += 1
        if seq != self.last_seq[station] + 1:
            self.sequence.fail(
                f"journal index {index}: station {station} goes from number {self.last_seq[station]} to {seq}"
            )
        self.last_seq[station] = seq

    def _blob(self, index: int, columns: dict[str, Any]) -> None:
        for column in ("image_sha256", "weights_sha256", "listing"):
            self._stored(f"journal index {index}, {column}", columns.get(column))
        # Only a model version has a manifest of its own; the other digests are of rows and environments.
        if "weights_sha256" in columns:
            self._stored(f"journal index {index}, digest", columns["digest"])

    def _stored(self, where: str, digest: bytes | None) -> None:
        if self.blobs is None or digest is None or digest in self.seen_blobs:
            return
        self.seen_blobs.add(digest)
        self.stored.checked += 1
        try:
            self.blobs.get(digest.hex())
        except (BlobMissingError, BlobTamperedError, InputError) as error:
            self.stored.fail(f"{where}: {error.message}")

    def _tree(self, head: Any, frontier: Frontier, end: int) -> None:
        self.tree.checked = 1
        if head is None:
            self.tree.fail("table ledger_head: its one row is missing")
            return
        if head["size"] > end:
            gone = f"{end}" if head["size"] == end + 1 else f"{end} to {head['size'] - 1}"
            self.entries.fail(f"journal index {gone}: removed from the end of the journal")
        if head["size"] != frontier.size:
            self.tree.fail(f"the stored tree has {head['size']} entries, the journal {frontier.size}")
        elif head["root"] != frontier.root():
            self.tree.fail(f"the stored root is {head['root'].hex()}, the entries lead to {frontier.root().hex()}")
        elif head["frontier"] != bytes(frontier):
            self.tree.fail("the stored right edge of the tree is not that of the entries")

    def _strays(self, end: int) -> None:
        """Rows that point outside the journal."""
        for table in tables.EVIDENCE:
            t = table.__table__  # type: ignore[attr-defined]  # set by SQLAlchemy
            outside = (t.c.journal_index < 0) | (t.c.journal_index >= end) | t.c.journal_index.is_(None)
            for (index,) in self.connection.execute(select(t.c.journal_index).where(outside).limit(LISTED)):
                claim = "no journal index" if index is None else f"journal index {index}, which does not exist"
                self.rows.fail(f"table {table.__tablename__}: a row claims {claim}")
        heat_map, inspection = tables.HeatMap.__table__, tables.Inspection.__table__  # type: ignore[attr-defined]
        orphans = select(heat_map.c.inspection_id).where(heat_map.c.inspection_id.not_in(select(inspection.c.id)))
        for (inspection_id,) in self.connection.execute(orphans.limit(LISTED)):
            self.maps.fail(f"table heat_map: there is a map of {inspection_id}, which was never inspected")

    def _stations(self) -> None:
        station = tables.Station.__table__  # type: ignore[attr-defined]  # set by SQLAlchemy
        for row in self.connection.execute(select(station.c.name, station.c.last_seq)):
            if row.last_seq != self.last_seq[row.name]:
                self.sequence.fail(
                    f"station {row.name}: the counter stands at {row.last_seq}, its last recorded decision has number "
                    f"{self.last_seq[row.name]}"
                )

    def _snapshots(self) -> None:
        snapshot, image = tables.DatasetSnapshot.__table__, tables.DatasetImage.__table__  # type: ignore[attr-defined]
        c = snapshot.c
        for row in self.connection.execute(select(c.id, c.name, c.listing, c.images)).mappings():
            self.snapshots.checked += 1
            images = self.connection.execute(select(image).where(image.c.snapshot_id == row["id"])).mappings().all()
            if len(images) != row["images"]:
                self.snapshots.fail(
                    f"dataset {row['name']}: {row['images']} images were recorded, {len(images)} are listed"
                )
            try:
                listing = listing_of(images)
            except RecordError as error:
                self.snapshots.fail(
                    f"dataset {row['name']}: an image's row holds what was never recorded: {error.message}"
                )
                continue
            if identify(listing) != readable(row["listing"]):
                self.snapshots.fail(f"dataset {row['name']}: the listed images are not those that were recorded")
                self._locate(row, listing)
            for listed in images:
                for column in ("sha256", "mask_sha256"):
                    self._stored(f"dataset {row['name']}, {listed['path']}, {column}", listed[column])
        self._orphans(snapshot, image)

    def _locate(self, snapshot: Any, listing: bytes) -> None:
        """Name the altered images, where the stored listing is at hand to compare with."""
        if self.blobs is None:
            return
        try:
            recorded = canonical.loads(self.blobs.get(readable(snapshot["listing"])))
        except (BlobMissingError, BlobTamperedError, InputError) as error:
            self.snapshots.fail(f"dataset {snapshot['name']}: {error.message}")
            return
        then = {image["path"]: image for image in recorded}
        now = {image["path"]: image for image in canonical.loads(listing)}
        for path in sorted(then.keys() | now.keys()):
            if path not in now or path not in then:
                stands = "is missing" if path not in now else "was not recorded"
                self.snapshots.fail(f"table dataset_image, dataset {snapshot['name']}, {path}: the row {stands}")
                continue
            for column, value in then[path].items():
                if now[path][column] != value:
                    self.snapshots.fail(
                        f"table dataset_image, dataset {snapshot['name']}, {path}, column {column}: "
                        f"{now[path][column]} stands, {value} was recorded"
                    )

    def _orphans(self, snapshot: Any, image: Any) -> None:
        orphans = select(func.count()).select_from(image).where(image.c.snapshot_id.not_in(select(snapshot.c.id)))
        if count := self.connection.execute(orphans).scalar_one():
            self.snapshots.fail(f"table dataset_image: {count} images belong to no snapshot")


def _readable_columns(table: Table) -> list[ColumnElement[Any]]:
    """Times as text: the server knows more of them (infinity, years before our era) than Python does."""
    return [
        func.to_char(func.timezone("UTC", column), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z" BC').label(column.name)
        if isinstance(column.type, DateTime)
        else column
        for column in table.c
    ]


def _in_era(recorded: str) -> str:
    return f"{recorded} AD"


def _same(stands: Any, recorded: Any) -> bool:
    """Equal and of the same type: to Python, true is 1 and 1 is 1.0."""
    if isinstance(stands, dict | list):
        try:
            return canonical.dumps(stands) == canonical.dumps(recorded)
        except RecordError:
            return False
    return type(stands) is type(recorded) and bool(stands == recorded)


def listing_of(images: Iterable[Mapping[str, Any] | RowMapping]) -> bytes:
    """The canonical list of a snapshot's images, by path: every column but `snapshot_id`, digests in hex."""
    rows = [
        {
            column: value.hex() if isinstance(value, bytes) else value
            for column, value in image.items()
            if column != "snapshot_id"
        }
        for image in images
    ]
    return canonical.dumps(sorted(rows, key=lambda row: str(row["path"])))
