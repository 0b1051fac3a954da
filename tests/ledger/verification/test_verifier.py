"""Every way to falsify a finished ledger with SQL, and the place that verification names."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.dialects import postgresql

from tests.conftest import cloned, register_tiny
from tests.ledger.test_log import refusal
from traceai.data import store
from traceai.data.snapshot import take
from traceai.db.connection import Database
from traceai.db.tables import EVIDENCE
from traceai.errors import RecordError, SchemaError
from traceai.images.blobs import BlobStore
from traceai.inspection import history
from traceai.ledger import log, records
from traceai.ledger.entry import Entry
from traceai.ledger.merkle import Frontier, leaf_hash, root
from traceai.ledger.packing import unpack
from traceai.ledger.verification import verifier
from traceai.ledger.verification.auditing import audit
from traceai.ledger.verification.facts import KnownHead, Outcome
from traceai.models import registry
from traceai.review import verdicts
from traceai.sdk import Trace
from traceai.settings import Settings

REPORT = records.ReportIssued(kind="audit", sha256="2" * 64, scope={"lot": "L1"}, issued_by="erin")
Sql = Callable[..., list[tuple]]


OPENED = records.LedgerOpened(
    origin="plant.example/line", key="plant.example/line+00000000+AQ==", actor="ada", reason="A new ledger.",
    previous=records.LogHead(origin="plant.example/old", size=7, root="3" * 64),
)  # fmt: skip
ROTATED = records.LedgerKey(origin="plant.example/line", key="new", replaces="old", actor="ada", reason="Yearly.")
WITNESSED = records.WitnessPolicy(
    origin="plant.example/line", threshold=1, actor="ada", reason="Agreed with the auditor.",
    witnesses=[records.Witness(name="witness.example", key="witness.example+00000000+BA==", url="https://witness.example")],
)  # fmt: skip
REBUILT = records.TablesRebuilt(mended={"review": {"changed": 1}}, actor="ada", reason="A row was altered.")
LATE = records.Gap(
    station="press-4", began_at="2026-01-31T06:00:00.000000Z", ended_at="2026-01-31T06:20:00.000000Z", delayed=4, lost=0,
    cause_code="database-unavailable", cause="The database did not answer.", first_trigger=7, last_trigger=8, actor="press-4",
)  # fmt: skip


def explained(model: records.ModelRef) -> records.ExplanationQuality:
    return records.ExplanationQuality(
        model=model, method="grad-cam/1", layer="resnet.encoder.stages.1", snapshot_name="parts", snapshot_digest="5" * 64,
        images="all images of parts", randomisation="gone", measures={"defects": 3, "left": "0.1200"}, actor="erin",
    )  # fmt: skip


def export(trace: Trace, model: records.ModelRef) -> records.ModelExport:
    return records.ModelExport(
        model=model, format="onnx", sha256=trace.blobs.put(b"a file"), size=6, tools={"onnx": "1.23.2"}, images=8,
        logit_difference="0.000002", grid_difference="0.000001", made_by="erin",
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(server: str, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Ten decisions, one of them a failure, two reviews, and one of every other record: (database, home)."""
    folder = tmp_path_factory.mktemp("ledger")
    broken = folder / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:60])
    for number, path in enumerate(images):
        (folder / "data" / ("good" if number % 2 else "dent")).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "data" / ("good" if number % 2 else "dent"))
    settings = Settings(home=folder / "home", database_url=next(databases := cloned(server)))
    settings.ensure_home()
    with Trace(settings, Database.open(settings), BlobStore(settings.blobs_url)) as trace:
        tiny = register_tiny(trace)
        trace.add_station("press-4", audit_pass_probability=1.0)
        inspector = trace.inspector(tiny, "press-4")
        decisions = list(inspector.inspect_many([*images[:6], broken, *images[6:9]], batch=4))
        with trace.database.session() as session:
            for decision, truth in ((decisions[0], "good"), (decisions[1], "defective")):
                verdicts.add(session, history.find(session, decision.id), truth=truth, reviewer="ruth")
            model = registry.reference_of(registry.find(session, tiny))
            log.append(
                session,
                [refusal(), export(trace, model), REPORT, OPENED, ROTATED, WITNESSED, REBUILT, LATE, explained(model)],
            )
        with trace.database.session() as session:
            store.save(session, trace.blobs, take(folder / "data", "plates"), made_by="erin")
    assert settings.database_url is not None
    yield settings.database_url.rpartition("/")[2].partition("?")[0], folder / "home"
    next(databases, None)


@pytest.fixture
def clone(server: str, finished: tuple[str, Path]) -> Iterator[str]:
    """The finished ledger, for this test alone."""
    yield from cloned(server, finished[0])


@pytest.fixture
def ledger(trace: Trace, finished: tuple[str, Path]) -> Trace:
    shutil.copytree(finished[1] / "blobs", Path(trace.settings.blobs_url), dirs_exist_ok=True)
    return trace


@pytest.fixture
def tiny() -> str:
    return "tiles@1"


def entry_of(sql: Sql, index: int) -> bytes:
    return unpack(sql('SELECT entry FROM journal WHERE "index" = %s', index)[0][0])


def verify(trace: Trace) -> Outcome:
    return verifier.verify(trace.database.engine, trace.blobs)


def findings(trace: Trace) -> str:
    outcome = verify(trace)
    assert not outcome.holds
    return "\n".join(f"{fact.name}: {finding}" for fact in outcome.facts for finding in fact.findings)


def test_an_untouched_ledger_verifies_and_everything_was_looked_at(ledger: Trace) -> None:
    outcome = verify(ledger)
    assert outcome.holds
    assert {fact.name: fact.checked for fact in outcome.facts} == {
        "entries": outcome.size,
        "leaf hashes": outcome.size,
        "tree": 1,
        "tables": outcome.size,
        "heat maps": 9,
        "references": 13,
        "datasets": 1,
        "stations": 10,
        "triggers": 0,
        "blobs": 17,
    }


@pytest.mark.parametrize("position", [0, 1, 57, -1])
def test_one_byte_of_an_entry(ledger: Trace, sql: Sql, position: int) -> None:
    altered = bytearray(entry_of(sql, 5))
    altered[position] ^= 1
    sql('UPDATE journal SET entry = %s WHERE "index" = 5', bytes(altered))
    assert "leaf hashes: journal index 5: the entry's bytes do not have the stored leaf hash" in findings(ledger)


def test_an_entry_rewritten_together_with_its_leaf_hash_and_its_row(ledger: Trace, sql: Sql) -> None:
    index = sql("SELECT journal_index FROM review WHERE truth = 'good'")[0][0]
    entry = entry_of(sql, index)
    altered = entry.replace(b'"truth":"good"', b'"truth":"defective"')
    assert altered != entry
    sql('UPDATE journal SET entry = %s, leaf_hash = %s WHERE "index" = %s', altered, leaf_hash(altered), index)
    sql("UPDATE review SET truth = 'defective' WHERE journal_index = %s", index)
    assert "tree: the stored root is" in findings(ledger)


COLUMNS = [
    (str(table.__tablename__), column.name)
    for table in EVIDENCE
    for column in table.__table__.columns
    if column.name != "journal_index"
]
VALUES = {
    "UUID": "gen_random_uuid()",
    "BYTEA": "sha256('other')",
    "BIGINT": "COALESCE({0}, 0) + 1000",
    "INTEGER": "COALESCE({0}, 0) + 1000",
    "NUMERIC": "COALESCE({0}, 0) * 0.5 + 0.25",
    "BOOLEAN": "NOT COALESCE({0}, false)",
    "JSON": """'{{"other": "1"}}'""",
    "TIMESTAMP WITH TIME ZONE": "{0} + interval '1 microsecond'",
    "VARCHAR": "COALESCE({0}, '') || 'x'",
}


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_one_column_of_one_row(ledger: Trace, sql: Sql, clone: str, table: str, column: str) -> None:
    declared = next(t for t in EVIDENCE if t.__tablename__ == table).__table__.columns[column]
    index = sql(f"SELECT min(journal_index) FROM {table}")[0][0]
    sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")  # foreign keys too: the administrator can
    for (name,) in sql("SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = %s::regclass", table):
        sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for (child, name) in sql(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'f' AND (confrelid = %s::regclass"
        " OR conrelid = %s::regclass)", table, table
    ):  # fmt: skip
        sql(f"ALTER TABLE {child} DROP CONSTRAINT {name}")
    value = VALUES[str(declared.type.compile(dialect=postgresql.dialect()))].format(f'"{column}"')
    sql(f'UPDATE {table} SET "{column}" = {value} WHERE journal_index = {index}')
    found = findings(ledger)
    assert f"table {table}, journal index {index}" in found
    assert f"column {column}:" in found


DATASET_COLUMNS = {
    "path": "path || 'x'",
    "label": "'good'",
    "defect_type": "'other'",
    "split": "CASE split WHEN 'train' THEN 'test' ELSE 'train' END",
    "condition": "'other'",
    "label_note": "'other'",
    "sha256": "sha256('other')",
    "width": "width + 1",
}


@pytest.mark.parametrize("column", DATASET_COLUMNS)
def test_one_column_of_one_image_of_a_dataset(ledger: Trace, sql: Sql, column: str) -> None:
    (path,) = sql("SELECT min(path) FROM dataset_image WHERE label = 'defect'")[0]
    sql(f"UPDATE dataset_image SET {column} = {DATASET_COLUMNS[column]} WHERE path = %s", path)
    found = findings(ledger)
    assert "datasets: dataset plates: the listed images are not those that were recorded" in found
    assert f"dataset plates, {path}" in found
    assert column == "path" or f"column {column}:" in found


def test_an_image_of_a_dataset_deleted(ledger: Trace, sql: Sql) -> None:
    (path,) = sql("SELECT min(path) FROM dataset_image")[0]
    sql("DELETE FROM dataset_image WHERE path = %s", path)
    found = findings(ledger)
    assert "dataset plates: 12 images were recorded, 11 are listed" in found
    assert f"{path}: the row is missing" in found


def test_a_deleted_row(ledger: Trace, sql: Sql) -> None:
    index = sql("SELECT max(journal_index) FROM review")[0][0]
    sql("DELETE FROM review WHERE journal_index = %s", index)
    assert f"tables: table review: the row of journal index {index}" in findings(ledger)


EMPTIED = [
    *((str(t.__tablename__), f"tables: table {t.__tablename__}: the row of journal index") for t in EVIDENCE),
    ("journal", "entries: journal index 0 to 27: removed from the end of the journal"),
    ("heat_map", "the heat map is missing"),
    ("dataset_image", "datasets: dataset plates: 12 images were recorded, 0 are listed"),
    ("ledger_head", "tree: table ledger_head: its one row is missing"),
]


@pytest.mark.parametrize(("table", "finding"), EMPTIED)
def test_a_table_truncated(ledger: Trace, sql: Sql, table: str, finding: str) -> None:
    for (child, name) in sql(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'f' AND confrelid = %s::regclass", table
    ):  # fmt: skip
        sql(f"ALTER TABLE {child} DROP CONSTRAINT {name}")
    sql(f"TRUNCATE {table}")
    assert finding in findings(ledger)


@pytest.mark.parametrize("how", ["TRUNCATE {0}_p0", "DROP TABLE {0}_p0", "ALTER TABLE {0} DETACH PARTITION {0}_p0"])
@pytest.mark.parametrize(
    ("table", "finding"),
    [
        ("journal", "entries: journal index 0"),
        ("inspection", "tables: table inspection: the row of journal index"),
        ("heat_map", "the heat map is missing"),
    ],
)
def test_a_partition_taken_away(ledger: Trace, sql: Sql, table: str, finding: str, how: str) -> None:
    sql(how.format(table))
    assert finding in findings(ledger)


def test_an_invented_row(ledger: Trace, sql: Sql) -> None:
    sql("ALTER TABLE review DROP CONSTRAINT uq_review_journal_index")
    columns = (
        "occurred_at, recorded_at, salt, inspection_id, inspection_leaf, truth, defect_type, reviewer, source, note"
    )
    for index in (0, 999):
        sql(
            f"INSERT INTO review (id, journal_index, {columns}) SELECT gen_random_uuid(), {index}, {columns} FROM review LIMIT 1"
        )
    found = findings(ledger)
    assert "tables: table review: a row claims journal index 0, whose entry is another" in found
    assert "tables: table review: a row claims journal index 999, which does not exist" in found


def test_an_entry_removed_from_the_middle_together_with_its_row(ledger: Trace, sql: Sql) -> None:
    index = sql("SELECT min(journal_index) FROM review")[0][0]
    sql("DELETE FROM review WHERE journal_index = %s", index)
    sql('DELETE FROM journal WHERE "index" = %s', index)
    assert f"entries: journal index {index}: the entry is missing" in findings(ledger)


def test_entries_removed_from_the_end(ledger: Trace, sql: Sql) -> None:
    last = sql('SELECT max("index") FROM journal')[0][0]
    sql("DELETE FROM dataset_image")
    sql("DELETE FROM dataset_snapshot WHERE journal_index = %s", last)
    sql('DELETE FROM journal WHERE "index" = %s', last)
    assert f"entries: journal index {last}: removed from the end of the journal" in findings(ledger)


def test_two_entries_swapped(ledger: Trace, sql: Sql) -> None:
    for pair in ((5, 1000), (6, 5), (1000, 6)):
        sql('UPDATE journal SET "index" = %s WHERE "index" = %s', pair[1], pair[0])
    found = findings(ledger)
    assert "journal index 5" in found
    assert "tree: the stored root is" in found


@pytest.mark.parametrize("column", ["size", "root", "frontier"])
def test_the_head_rewritten(ledger: Trace, sql: Sql, column: str) -> None:
    value = "size + 1" if column == "size" else f"set_byte({column}, 0, get_byte({column}, 0) # 255)"
    sql(f"UPDATE ledger_head SET {column} = {value}")
    assert "tree: the stored" in findings(ledger)


def test_the_head_deleted(ledger: Trace, sql: Sql) -> None:
    sql("DELETE FROM ledger_head")
    assert "tree: table ledger_head: its one row is missing" in findings(ledger)


def test_two_heat_maps_swapped(ledger: Trace, sql: Sql) -> None:
    (one, two) = [row[0] for row in sql("SELECT journal_index FROM heat_map ORDER BY 1 LIMIT 2")]
    maps = dict(sql("SELECT journal_index, grid FROM heat_map"))
    sql("UPDATE heat_map SET grid = %s WHERE journal_index = %s", maps[two], one)
    sql("UPDATE heat_map SET grid = %s WHERE journal_index = %s", maps[one], two)
    found = findings(ledger)
    assert found.count("the heat map is not the one that was recorded") == 2
    assert str(one) in found


def test_a_heat_map_deleted(ledger: Trace, sql: Sql) -> None:
    sql("DELETE FROM heat_map WHERE journal_index = (SELECT min(journal_index) FROM heat_map)")
    assert "the heat map is missing" in findings(ledger)


def test_a_station_counter_set_back(ledger: Trace, sql: Sql) -> None:
    sql("UPDATE station SET last_seq = 3")
    assert "stations: station press-4: the counter stands at 3, its last recorded decision has number 10" in findings(
        ledger
    )


@pytest.mark.parametrize("damage", ["alter", "swap", "delete"])
def test_an_image_in_the_blob_store(ledger: Trace, sql: Sql, damage: str) -> None:
    digests = [row[0].hex() for row in sql("SELECT image_sha256 FROM inspection ORDER BY journal_index LIMIT 2")]
    one, two = (Path(ledger.settings.blobs_url) / ledger.blobs.path(digest) for digest in digests)
    for path in (one, two):
        path.chmod(0o600)
    if damage == "alter":
        one.write_bytes(one.read_bytes()[:-1] + b"\x00")
    elif damage == "swap":
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)
    else:
        one.unlink()
    found = findings(ledger)
    assert found.count("blobs: journal index") == (2 if damage == "swap" else 1)
    assert digests[0] in found
    assert verifier.verify(ledger.database.engine).holds  # the database itself is untouched, and says so


def test_verification_reads_one_moment_while_others_write(ledger: Trace, images: Sequence[Path], tiny: str) -> None:
    inspector = ledger.inspector(tiny, "press-4")
    done = []

    def write_meanwhile(*_: int) -> None:
        if not done:
            done.append(inspector.inspect(images[0]))

    outcome = verifier.verify(ledger.database.engine, ledger.blobs, write_meanwhile)
    assert done
    assert outcome.holds
    assert verify(ledger).size > outcome.size


def test_the_tables_cannot_be_altered_without_switching_the_triggers_off(ledger: Trace, clone: str) -> None:
    with psycopg.connect(clone) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute("UPDATE inspection SET verdict = 'pass'")


FORGED = "occurred_at, recorded_at, salt, inspection_id, inspection_leaf, truth, defect_type, reviewer, source, note"


@pytest.mark.parametrize("index", ["NULL", "journal_index", "-5"])
def test_a_row_that_no_entry_explains(ledger: Trace, sql: Sql, index: str) -> None:
    sql("ALTER TABLE review ALTER journal_index DROP NOT NULL")
    sql("ALTER TABLE review DROP CONSTRAINT uq_review_journal_index")
    sql(
        f"INSERT INTO review (id, journal_index, {FORGED}) SELECT gen_random_uuid(), {index}, {FORGED} FROM review LIMIT 1"
    )
    assert "tables: table review:" in findings(ledger)


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE runtime SET environment = jsonb_set(environment::jsonb, '{threads}', 'true')", "column environment"),
        ("UPDATE dataset_snapshot SET counts = jsonb_set(counts::jsonb, '{train,dent}', '4.0')", "column counts"),
        ("UPDATE inspection SET occurred_at = 'infinity' WHERE station_seq = 1", "column occurred_at"),
        ("UPDATE inspection SET occurred_at = '2026-01-01 BC' WHERE station_seq = 1", "column occurred_at"),
        ("UPDATE inspection SET recorded_at = '-infinity' WHERE station_seq = 1", "column recorded_at"),
        ("UPDATE inspection SET defect_score = (defect_score::text || '0')::numeric WHERE station_seq = 1", "column defect_score"),
        ("UPDATE inspection SET scores = (scores::text || ' ')::json WHERE station_seq = 1", "column scores"),
        ("UPDATE dataset_image SET sha256 = '\\x01' WHERE path = (SELECT min(path) FROM dataset_image)", "column sha256"),
        ("UPDATE dataset_snapshot SET occurred_at = 'infinity'", "column occurred_at"),
        ("UPDATE dataset_snapshot SET listing = '\\x01'", "column listing"),
        ("ALTER TABLE dataset_image ALTER width TYPE float", "holds what was never recorded"),
        ("ALTER TABLE inspection ALTER station_seq TYPE numeric", "column station_seq"),
        ("ALTER TABLE dataset_image ALTER width TYPE bigint", "table dataset_image, column width: it holds bigint"),
        ("ALTER TABLE dataset_image ALTER path TYPE text", "table dataset_image, column path: it holds text"),
        ("ALTER TABLE dataset_image ALTER label TYPE character(40)", "table dataset_image, column label: it holds character(40)"),
        ("ALTER TABLE ledger_head ALTER size TYPE numeric", "table ledger_head, column size: it holds numeric"),
        ("ALTER TABLE station ALTER last_seq TYPE numeric", "table station, column last_seq: it holds numeric"),
        ("ALTER TABLE station ALTER audit_pass_probability TYPE real", "column audit_pass_probability: it holds real"),
        ("ALTER TABLE checkpoint ALTER size TYPE numeric", "table checkpoint, column size: it holds numeric"),
        ("ALTER TABLE journal ALTER entry DROP NOT NULL; UPDATE journal SET entry = NULL WHERE \"index\" = 4", "index 4"),
        ("ALTER TABLE ledger_head DROP CONSTRAINT ck_ledger_head_only_one;"
         " INSERT INTO ledger_head SELECT 2, size, root, frontier FROM ledger_head", "it holds 2 rows"),
        ("INSERT INTO heat_map SELECT journal_index, 'x' FROM inspection WHERE verdict IS NULL", "whose entry records none"),
    ],
)  # fmt: skip
def test_damage_of_every_kind_is_named_and_never_crashes_the_verifier(
    ledger: Trace, sql: Sql, statement: str, place: str
) -> None:
    for part in statement.split(";"):
        sql(part)
    assert place in findings(ledger)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"recorded_at":"2', b'"recorded_at":"x'),
        (b'"station_seq":1,', b'"station_seq":' + b"9" * 5000 + b","),
        (b'"station_seq":1,', b'"station_seq":true,'),
        (b'"occurred_at":"2026-', b'"occurred_at":"2026-13'),
    ],
)
def test_an_entry_of_garbage_is_named(ledger: Trace, sql: Sql, old: bytes, new: bytes) -> None:
    index = sql("SELECT min(journal_index) FROM inspection")[0][0]
    entry = entry_of(sql, index)
    assert old in entry
    sql('UPDATE journal SET entry = %s WHERE "index" = %s', entry.replace(old, new), index)
    assert f"entries: journal index {index}:" in findings(ledger)


def test_a_dropped_column_is_told_and_is_no_crash(ledger: Trace, sql: Sql) -> None:
    sql("ALTER TABLE review DROP COLUMN note")
    with pytest.raises(SchemaError, match="db check"):
        verify(ledger)


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE review SET inspection_leaf = sha256('x')", "references: journal index"),
        ("UPDATE inspection SET model_digest = sha256('x') WHERE station_seq = 2", "was not registered before it"),
        ("UPDATE model_export SET model_digest = sha256('x')", "was not registered before it"),
        ("UPDATE explanation_quality SET model_version = 2", "was not registered before it"),
        (
            "ALTER TABLE model_export ALTER sha256 DROP NOT NULL; UPDATE model_export SET sha256 = NULL",
            "tables: table model_export",
        ),
        (
            """UPDATE runtime SET environment = (repeat('{"export":', 900) || '1' || repeat('}', 900))::json""",
            "was decided by the file of a name that is no text",
        ),
        ("UPDATE runtime SET environment = '[]'", "the environment does not have the digest"),
        ("UPDATE inspection SET runtime = sha256('x') WHERE station_seq = 2", "was not on record before it"),
        (
            "INSERT INTO tree_node VALUES (1, 0, sha256('x'))",
            "tree: table tree_node, level 1, index 0: there is a hash",
        ),
        (
            "INSERT INTO tree_node VALUES (2, 7, sha256('x'))",
            "tree: table tree_node, level 2, index 7: there is a hash",
        ),
    ],
)
def test_what_records_and_hashes_refer_to(ledger: Trace, sql: Sql, statement: str, place: str) -> None:
    sql(statement)
    assert place in findings(ledger)


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            "VALUES (1, -1, sha256('x'))",
            "level 1, index -1: there is a hash, and the entries under it are not complete",
        ),
        ("VALUES (1, -(1::bigint << 40), sha256('x'))", "level 1, index -1099511627776: there is a hash"),
        (
            "VALUES (2, -1, sha256('x'))",
            "level 2, index -1: there is a hash, and the entries under it are not complete",
        ),
        ("VALUES (0, 3, sha256('x'))", "level 0, index 3: there is a hash, and the entries under it are not complete"),
        (
            "VALUES (-1, 0, sha256('x'))",
            "level -1, index 0: there is a hash, and the entries under it are not complete",
        ),
        ("VALUES (32767, 0, sha256('x'))", "level 32767, index 0: there is a hash"),
        ("VALUES (1, NULL, sha256('x'))", "level 1, index no value: a hash has no place without both"),
        ("VALUES (NULL, 1, sha256('x'))", "level no value, index 1: a hash has no place without both"),
        ("VALUES (1, 0, NULL)", "level 1, index 0: there is a hash, and the entries under it are not complete"),
    ],
)
def test_a_hash_of_the_tree_where_no_tree_has_one(ledger: Trace, sql: Sql, statement: str, finding: str) -> None:
    """What the constraints of the table keep out stands there as soon as its owner drops them."""
    for constraint in ("ck_tree_node_index", "ck_tree_node_level", "ck_tree_node_hash", "pk_tree_node"):
        sql(f"ALTER TABLE tree_node DROP CONSTRAINT {constraint}")
    for column in ("level", "index", "hash"):
        sql(f'ALTER TABLE tree_node ALTER "{column}" DROP NOT NULL')
    sql(f"INSERT INTO tree_node {statement}")
    (tree,) = (fact for fact in verify(ledger).facts if fact.name == "tree")
    assert len(tree.findings) == 1
    assert f"table tree_node, {finding}" in tree.findings[0]


def test_an_entry_before_the_first(ledger: Trace, sql: Sql) -> None:
    sql("CREATE TABLE before (LIKE journal INCLUDING CONSTRAINTS)")
    for table in ("journal", "before"):
        sql(f"ALTER TABLE {table} DROP CONSTRAINT ck_journal_index")
    sql("ALTER TABLE journal ATTACH PARTITION before FOR VALUES FROM (-1048576) TO (0)")
    sql('INSERT INTO journal SELECT -7, entry, leaf_hash FROM journal WHERE "index" = 3')
    assert "entries: journal index -7: an entry stands there, and the journal begins with 0" in findings(ledger)


def test_a_consistent_rewrite_is_found_against_a_head_from_outside_and_located(ledger: Trace, sql: Sql) -> None:
    """Whoever owns the database can make everything in it agree; what was noted elsewhere still does not."""
    index = sql("SELECT journal_index FROM review WHERE truth = 'good'")[0][0]
    leaves = [leaf for (leaf,) in sql('SELECT leaf_hash FROM journal ORDER BY "index"')]
    known = [KnownHead(size, root(leaves[:size]), f"noted at {size}") for size in (index, index + 1, len(leaves))]
    assert verifier.verify(ledger.database.engine, known=known).holds
    altered = entry_of(sql, index).replace(b'"truth":"good"', b'"truth":"defective"')
    leaves[index] = leaf_hash(altered)
    sql('UPDATE journal SET entry = %s, leaf_hash = %s WHERE "index" = %s', altered, leaf_hash(altered), index)
    sql("UPDATE review SET truth = 'defective' WHERE journal_index = %s", index)
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    sql("UPDATE ledger_head SET root = %s, frontier = %s", frontier.root(), bytes(frontier))
    assert verify(ledger).holds
    outcome = verifier.verify(ledger.database.engine, known=known)
    (fact,) = [fact for fact in outcome.facts if not fact.holds]
    assert fact.name == "checkpoints"
    assert fact.findings[0].startswith(f"noted at {index + 1}: the first {index + 1} entries once had the root")
    assert fact.findings[0].endswith(f"an entry from {index} to {index} was rewritten")


def test_a_truncation_with_a_matching_head_is_found_against_a_head_from_outside(ledger: Trace) -> None:
    size = verify(ledger).size
    outcome = verifier.verify(ledger.database.engine, known=[KnownHead(size + 3, bytes(32), "noted yesterday")])
    assert not outcome.holds
    assert f"the ledger once had {size + 3} entries and has {size}" in outcome.facts[-1].findings[0]


# --- a server that answers verification otherwise than everybody else -----------------------------------------------------

SHADOWS = {
    "the hash function": (
        "CREATE FUNCTION evil.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$SELECT leaf_hash FROM journal WHERE index = 5$$",
    ),
    "an operator": (
        "CREATE FUNCTION evil.cat(text, text) RETURNS text LANGUAGE sql AS $$SELECT pg_catalog.textcat($1, $2)$$",
        "CREATE OPERATOR evil.|| (FUNCTION = evil.cat, LEFTARG = text, RIGHTARG = text)",
    ),
    "a table": ("CREATE TABLE evil.inspection (LIKE inspection)",),
}


@pytest.mark.parametrize("made", SHADOWS)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_stands_in_front_of_the_catalog_is_not_asked(
    ledger: Trace, sql: Sql, monkeypatch: pytest.MonkeyPatch, made: str, workers: int
) -> None:
    monkeypatch.setattr(verifier, "SPAN", 8)
    monkeypatch.setattr(verifier.spans, "SPAN", 8)
    sql("CREATE SCHEMA evil")
    for statement in SHADOWS[made]:
        sql(statement)
    (name,) = sql("SELECT current_database()")[0]
    sql("UPDATE inspection SET lot = 'L9' WHERE journal_index = (SELECT min(journal_index) FROM inspection)")
    path = "public, evil, pg_catalog" if made == "a table" else "evil, public, pg_catalog"
    sql(f'ALTER DATABASE "{name}" SET search_path = {path}')
    ledger.database.engine.dispose()
    outcome = verifier.verify(ledger.database.engine, workers=workers)
    (fact,) = (fact for fact in outcome.facts if fact.name == "tables")
    assert len(fact.findings) == 1
    assert "column lot: L9 stands" in fact.findings[0]


DECEIT = {
    "the server's own function replaced": (
        ("CREATE OR REPLACE FUNCTION pg_catalog.sha256(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$SELECT $1$$",),
        "tables: function sha256(bytea): it is not PostgreSQL's own",
    ),
    "a cast of its own": (
        ("CREATE FUNCTION spell(numeric) RETURNS text LANGUAGE sql AS $$SELECT '0.5'$$",
         "CREATE CAST (numeric AS text) WITH FUNCTION spell(numeric)"),
        "tables: cast from numeric to text: it is not PostgreSQL's own",
    ),
    "a view in a table's place": (
        ("ALTER TABLE review RENAME TO review_hidden", "CREATE VIEW review AS SELECT * FROM review_hidden"),
        "tables: table review: it is no table of this database",
    ),
    "an operator that fits better": (
        ("CREATE FUNCTION alike(varchar, varchar) RETURNS bool LANGUAGE sql AS $$SELECT true$$",
         "CREATE OPERATOR = (FUNCTION = alike, LEFTARG = varchar, RIGHTARG = varchar)"),
        "tables: operator public.=(character varying,character varying): it is not PostgreSQL's own",
    ),
    "a rule": (
        ("CREATE RULE quiet AS ON INSERT TO review DO INSTEAD NOTHING",),
        "tables: table review: the rule quiet has PostgreSQL do something else than it is asked",
    ),
    "rows that only some may see": (
        ("ALTER TABLE inspection_p0 ENABLE ROW LEVEL SECURITY",),
        "tables: table inspection_p0: row-level security is on",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", DECEIT)
def test_a_server_that_could_answer_as_it_likes_is_told(ledger: Trace, sql: Sql, how: str) -> None:
    statements, finding = DECEIT[how]
    for statement in statements:
        sql(statement)
    assert finding in findings(ledger)


def test_a_row_that_lies_where_nobody_looks_for_it_is_told(ledger: Trace, sql: Sql) -> None:
    """A partition that holds rows of another's range: a search by serial number sees them, a range of indices does not."""
    ((parts,),) = sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'inspection'::regclass")
    first, last = parts * 2**20, (parts + 1) * 2**20
    sql("CREATE TABLE aside (LIKE inspection INCLUDING ALL)")
    sql("INSERT INTO aside SELECT * FROM inspection WHERE journal_index = (SELECT min(journal_index) FROM inspection)")
    sql("UPDATE aside SET id = gen_random_uuid(), serial = 'FORGED-1'")
    sql(f"ALTER TABLE aside ADD CONSTRAINT held CHECK (journal_index IS NOT NULL AND journal_index >= {first}"
        f" AND journal_index < {last}) NOT VALID")  # fmt: skip
    sql("UPDATE pg_constraint SET convalidated = true WHERE conname = 'held'")
    sql(f"ALTER TABLE inspection ATTACH PARTITION aside FOR VALUES FROM ({first}) TO ({last})")
    assert sql("SELECT count(*) FROM inspection WHERE serial = 'FORGED-1'") == [(1,)]
    assert f"table inspection: a partition for journal index {first} to {last - 1} holds rows of" in findings(ledger)


def test_a_row_that_an_index_leaves_out_is_told(ledger: Trace, sql: Sql) -> None:
    sql("ALTER TABLE inspection DROP CONSTRAINT pk_inspection CASCADE")
    sql("CREATE INDEX partly ON inspection_p0 (journal_index) WHERE journal_index > 1000")
    sql("UPDATE pg_index SET indpred = NULL WHERE indexrelid = 'partly'::regclass")
    assert (
        "table inspection: a partition for journal index 0 to 1048575 holds 10 rows, and its index shows"
        in findings(ledger)
    )


def test_a_decision_recorded_twice_under_one_id_is_told(ledger: Trace, sql: Sql) -> None:
    ((index, reference),) = sql("SELECT journal_index, id::text FROM inspection ORDER BY 1 LIMIT 1")
    record = Entry.parse(entry_of(sql, index)).record
    with ledger.database.session() as session:
        log.append(session, [record.model_copy(update={"station_seq": 11})])
    sql("UPDATE station SET last_seq = 11")
    assert f"have the same id, {reference}" in findings(ledger)
    with ledger.database.session() as session, pytest.raises(RecordError, match="both claim the id"):
        history.find(session, reference)


def test_a_station_deleted_is_told(ledger: Trace, sql: Sql) -> None:
    sql("DELETE FROM station")
    assert "stations: station press-4: its row is missing, and 10 decisions were recorded there" in findings(ledger)


DAMAGE = [
    "DELETE FROM ledger_head",
    "UPDATE ledger_head SET size = NULL",
    "UPDATE ledger_head SET root = NULL",
    "UPDATE runtime SET environment = '{\"threads\":1.5}'",
    "UPDATE runtime SET environment = (repeat('[', 3000) || repeat(']', 3000))::json",
    "UPDATE runtime SET digest = NULL",
    "UPDATE model_event SET model_digest = NULL",
    "UPDATE model_event SET journal_index = NULL",
    "UPDATE model_version SET journal_index = NULL",
    "UPDATE inspection SET model_digest = NULL",
    "UPDATE inspection SET scores = (repeat('[', 3000) || repeat(']', 3000))::json",
    "UPDATE inspection SET scores = ('{\"a\":' || repeat('9', 5000) || '}')::json",
    "UPDATE review SET note = E'x\\x1b[8m'",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_whole_audit_ends_in_findings(ledger: Trace, sql: Sql, damage: str) -> None:
    for table in ("ledger_head", "runtime", "model_event", "model_version", "inspection"):
        for (column,) in sql(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attnotnull AND NOT attisdropped"
            " AND attname NOT IN ('id', 'journal_index') OR attrelid = %s::regclass AND attname = 'journal_index'"
            " AND %s LIKE 'model%%'",
            table, table, table,
        ):  # fmt: skip
            sql(f"ALTER TABLE {table} ALTER {column} DROP NOT NULL")
    sql(damage)
    outcome = audit(ledger.signer)
    found = "\n".join(finding for fact in outcome.facts for finding in fact.findings)
    assert found
    assert "\x1b" not in found
