"""Whatever was done to the tables, a rebuild makes them what the journal says, and says what it did."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.dialects import postgresql

from tests.conftest import cloned
from tests.ledger.test_log import refusal
from tests.ledger.verification.test_verifier import FORGED, VALUES, Sql, finished, ledger  # noqa: F401  # fixtures
from traceai.db import migrate, roles
from traceai.db.tables import EVIDENCE
from traceai.errors import ConflictError, InputError, SchemaError
from traceai.ledger import log
from traceai.ledger.entry import Entry
from traceai.ledger.log import PARTITION
from traceai.ledger.rebuilding.rebuild import Rebuilt, preview, rebuild
from traceai.ledger.records import TablesRebuilt
from traceai.ledger.tree import DatabaseTree
from traceai.ledger.verification import verifier
from traceai.sdk import Trace

TABLES = {str(table.__tablename__): table for table in EVIDENCE}


@pytest.fixture
def clone(server: str, finished: tuple[str, Path]) -> Iterator[str]:  # noqa: F811
    yield from cloned(server, finished[0])


@pytest.fixture
def hands(sql: Sql) -> Sql:
    """The administrator's, with no CHECK, UNIQUE or foreign key in their way."""
    sql(
        """DO $$ DECLARE one record; BEGIN
        FOR one IN SELECT conrelid::regclass AS place, conname FROM pg_constraint WHERE contype IN ('f', 'c', 'u')
            AND connamespace = 'public'::regnamespace AND conparentid = 0 AND coninhcount = 0 ORDER BY contype = 'u'
        LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', one.place, one.conname); END LOOP; END $$"""
    )
    return sql


def mend(trace: Trace) -> Rebuilt:
    return rebuild(trace.signer, "ada", "Somebody was here.")


def holds(trace: Trace) -> bool:
    outcome = verifier.verify(trace.database.engine, trace.blobs)
    assert outcome.holds, [finding for fact in outcome.facts for finding in fact.findings]
    return True


def rows(rebuilt: Rebuilt) -> list[tuple[str, int | None, str, tuple[str, ...]]]:
    return [
        (change.table, change.index, str(change.action), tuple(d.column for d in change.columns))
        for change in rebuilt.listed
    ]


def contents(trace: Trace) -> dict[str, list[tuple]]:
    names = [*TABLES, "journal", "tree_node", "ledger_head", "station", "heat_map", "dataset_image"]
    with psycopg.connect(trace.database.url) as connection:
        return {name: sorted(connection.execute(f"SELECT {name}::text FROM {name}")) for name in names}


# --- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_every_column(ledger: Trace, hands: Sql, table: str) -> None:  # noqa: F811
    index = hands(f"SELECT min(journal_index) FROM {table}")[0][0]
    columns = [column for column in TABLES[table].__table__.columns if column.name != "journal_index"]
    values = {c.name: VALUES[str(c.type.compile(dialect=postgresql.dialect()))].format(f'"{c.name}"') for c in columns}
    altered = ", ".join(f'"{name}" = {value}' for name, value in values.items())
    hands(f"UPDATE {table} SET {altered} WHERE journal_index = {index}")
    rebuilt = mend(ledger)
    assert rows(rebuilt)[0] == (table, index, "changed", tuple(values))
    assert {name for name, *_ in rows(rebuilt)} <= {table, "station"}
    assert holds(ledger)


def test_one_column_and_what_stood_there(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    (index,) = sql("SELECT journal_index FROM review WHERE truth = 'good'")[0]
    others = sql("SELECT journal_index, xmin FROM review WHERE journal_index <> %s", index)
    sql("UPDATE review SET truth = 'defective' WHERE journal_index = %s", index)
    (change,) = mend(ledger).listed
    assert [(d.column, d.stood, d.recorded) for d in change.columns] == [("truth", "defective", "good")]
    assert sql("SELECT journal_index, xmin FROM review WHERE journal_index <> %s", index) == others
    assert holds(ledger)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE inspection SET defect_score = (defect_score::text || '0')::numeric WHERE station_seq = 1",
        "UPDATE inspection SET scores = (scores::text || ' ')::json WHERE station_seq = 1",
        "UPDATE inspection SET occurred_at = 'infinity' WHERE station_seq = 1",
        "UPDATE runtime SET environment = jsonb_set(environment::jsonb, '{threads}', 'true')",
        "DELETE FROM review WHERE truth = 'good'",
        "UPDATE review SET journal_index = journal_index + 1000 WHERE truth = 'good'",
        "UPDATE inspection SET journal_index = journal_index + 1000",
        "UPDATE review SET journal_index = 0 WHERE truth = 'good'",
        "ALTER TABLE review ALTER journal_index DROP NOT NULL; UPDATE review SET journal_index = NULL",
        # Exchanged: no row may stand in another's way.
        "ALTER TABLE review DROP CONSTRAINT pk_review; UPDATE review a SET id = b.id FROM review b WHERE a.id <> b.id",
        f"INSERT INTO review (id, journal_index, {FORGED}) SELECT gen_random_uuid(), journal_index, {FORGED} FROM review",
        f"INSERT INTO review (id, journal_index, {FORGED}) SELECT gen_random_uuid(), 0, {FORGED} FROM review LIMIT 1",
        "UPDATE dataset_snapshot SET id = gen_random_uuid()",
        "UPDATE station SET last_seq = 3",
        "UPDATE inspection SET station = 'press-5', station_seq = 70 WHERE station_seq = 10",
        "DELETE FROM inspection WHERE station_seq > 7; UPDATE station SET last_seq = 7",
        "DROP TABLE inspection_p0",
        "UPDATE ledger_head SET frontier = set_byte(frontier, 0, get_byte(frontier, 0) # 255)",
        "INSERT INTO tree_node VALUES (1, 0, sha256('x'))",
        "; ".join(f"TRUNCATE {table} CASCADE" for table in TABLES if table != "dataset_snapshot"),
    ],
)
def test_whatever_was_done(ledger: Trace, hands: Sql, statement: str) -> None:  # noqa: F811
    for part in statement.split("; "):
        hands(part)
    before = contents(ledger)
    foreseen = preview(ledger.signer)
    assert contents(ledger) == before
    rebuilt = mend(ledger)
    assert (rows(foreseen), foreseen.counts) == (rows(rebuilt), rebuilt.counts)
    assert rebuilt.left == ()
    assert holds(ledger)
    assert bool(rebuilt.receipt) == bool(rebuilt.counts)


def test_a_snapshots_row_is_exchanged_under_its_images(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    sql("UPDATE dataset_snapshot SET images = 7")
    assert [row[3] for row in rows(mend(ledger))] == [("images",)]
    assert holds(ledger)


def test_a_lost_partition_is_made_again(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    sql("DROP TABLE inspection_p0")
    rebuilt = mend(ledger)
    assert rebuilt.partitions == (("inspection", 0),)
    assert rebuilt.counts == {"inspection": {"inserted": 10}}
    assert holds(ledger)
    assert roles.check(ledger.database.engine, embedded=True).findings == ()


def test_a_row_in_the_next_partition_comes_back(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    sql(f"SELECT traceai_extend({PARTITION})")
    sql("UPDATE inspection SET journal_index = %s WHERE station_seq = 4", PARTITION + 5)
    assert [(row[0], row[2]) for row in rows(mend(ledger))] == [("inspection", "inserted"), ("inspection", "deleted")]
    assert holds(ledger)


def test_a_detached_partition_is_left_to_a_person(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    sql("ALTER TABLE inspection DETACH PARTITION inspection_p0")
    with pytest.raises(SchemaError, match="no partition of inspection for ledger index 0 to 1048575"):
        mend(ledger)
    sql(f"ALTER TABLE inspection ATTACH PARTITION inspection_p0 FOR VALUES FROM (0) TO ({PARTITION})")
    assert holds(ledger)


def test_the_stored_tree(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    with ledger.database.session() as session:
        log.append(session, [refusal(number) for number in range(600)])
    sql("UPDATE tree_node SET hash = sha256('x') WHERE \"index\" = 0")
    sql('DELETE FROM tree_node WHERE "index" = 1')
    sql("INSERT INTO tree_node VALUES (2, 0, sha256('x'))")
    found = rows(mend(ledger))
    assert found == [
        ("tree_node", 0, "changed", ("hash",)),
        ("tree_node", 1, "inserted", ()),
        ("tree_node", 0, "deleted", ()),
    ]
    assert holds(ledger)


def test_hashes_of_the_tree_that_stand_where_none_may_or_twice(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    with ledger.database.session() as session:
        log.append(session, [refusal(number) for number in range(600)])
    for constraint in ("ck_tree_node_index", "ck_tree_node_level", "pk_tree_node"):
        sql(f"ALTER TABLE tree_node DROP CONSTRAINT {constraint}")
    sql('ALTER TABLE tree_node ALTER "index" DROP NOT NULL')
    sql('INSERT INTO tree_node SELECT * FROM tree_node WHERE "index" = 1')
    sql("INSERT INTO tree_node VALUES (1, -1, sha256('x')), (1, NULL, sha256('x')), (9, 0, sha256('x'))")
    assert rows(mend(ledger)) == [
        ("tree_node", None, "deleted", ()),
        ("tree_node", -1, "deleted", ()),
        ("tree_node", 1, "changed", ("hash",)),
        ("tree_node", 0, "deleted", ()),
    ]
    assert holds(ledger)


# --- what is left ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "fact"),
    [
        ("UPDATE heat_map SET grid = 'x' WHERE journal_index = (SELECT min(journal_index) FROM heat_map)", "heat maps"),
        ("DELETE FROM heat_map WHERE journal_index = (SELECT min(journal_index) FROM heat_map)", "heat maps"),
        ("INSERT INTO heat_map VALUES (999, 'x')", "heat maps"),
        ("UPDATE dataset_image SET label = 'good'", "datasets"),
    ],
)
def test_what_the_journal_holds_by_digest_is_left_and_named(
    ledger: Trace,  # noqa: F811
    sql: Sql,
    statement: str,
    fact: str,
) -> None:
    sql("UPDATE review SET truth = 'defective'")
    sql(statement)
    before = contents(ledger)
    assert [left.name for left in preview(ledger.signer).left] == [fact]
    rebuilt = mend(ledger)
    assert [left.name for left in rebuilt.left] == [fact]
    assert rebuilt.receipt is not None
    after = contents(ledger)
    assert [after[name] == before[name] for name in ("heat_map", "dataset_image", "review")] == [True, True, False]
    again = mend(ledger)
    assert ([left.name for left in again.left], again.receipt) == ([fact], None)


def test_a_map_whose_row_was_lost_is_not_taken_for_an_invented_one(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    sql("DELETE FROM inspection")
    assert preview(ledger.signer).left == ()


def test_an_invented_data_set_with_images_is_left_to_a_person(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    sql("ALTER TABLE dataset_image DROP CONSTRAINT fk_dataset_image_snapshot_id")
    sql("UPDATE dataset_snapshot SET id = gen_random_uuid()")
    sql("UPDATE dataset_image SET snapshot_id = (SELECT id FROM dataset_snapshot)")
    sql(
        "ALTER TABLE dataset_image ADD CONSTRAINT fk_dataset_image_snapshot_id FOREIGN KEY (snapshot_id)"
        " REFERENCES dataset_snapshot DEFERRABLE"
    )
    before = contents(ledger)
    with pytest.raises(ConflictError, match="fk_dataset_image_snapshot_id"):
        mend(ledger)
    assert contents(ledger) == before


# --- on the record ----------------------------------------------------------------------------------------------------


def test_it_is_on_record_who_mended_what_and_why(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    sql("UPDATE review SET truth = 'defective'")
    sql("DELETE FROM model_event")
    sql("UPDATE station SET last_seq = 3")
    rebuilt = mend(ledger)
    assert rebuilt.receipt is not None
    with ledger.database.session() as session:
        record = Entry.parse(DatabaseTree(session.connection()).entry(rebuilt.receipt.index)).record
    assert isinstance(record, TablesRebuilt)
    assert (record.actor, record.reason) == ("ada", "Somebody was here.")
    assert record.mended == {
        "review": {"changed": 1},
        "model_event": {"inserted": 2},
        "station": {"changed": 1},
    }
    assert holds(ledger)


def test_what_agrees_is_neither_touched_nor_recorded(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    before = contents(ledger)
    rebuilt = mend(ledger)
    assert (rebuilt.counts, rebuilt.listed, rebuilt.left, rebuilt.receipt) == ({}, (), (), None)
    assert contents(ledger) == before


def test_what_cannot_be_recorded_is_refused_first(ledger: Trace) -> None:  # noqa: F811
    with pytest.raises(InputError, match="actor"):
        rebuild(ledger.signer, "a\nda", "x")


# --- one transaction --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["verifying", "mending", "verifying again"])
def test_an_interrupt_leaves_all_as_it_was(ledger: Trace, sql: Sql, clone: str, moment: str) -> None:  # noqa: F811
    sql("UPDATE review SET truth = 'defective'")
    sql("DROP TABLE inspection_p0")
    before, unprotected = contents(ledger), migrate.unprotected(ledger.database.engine)

    def interrupt(done: int, total: int, what: str) -> None:
        if what == moment and done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(ledger.signer, "ada", "x", interrupt)
    assert (contents(ledger), migrate.unprotected(ledger.database.engine)) == (before, unprotected)
    assert sql("SELECT to_regclass('inspection_p0')") == [(None,)]


def test_afterwards_every_table_is_append_only_again(ledger: Trace, sql: Sql, clone: str) -> None:  # noqa: F811
    sql("UPDATE inspection SET lot = 'x'")
    sql("DELETE FROM review")
    assert {"inspection_p0", "review"} <= {*mend(ledger).unprotected}
    assert roles.check(ledger.database.engine, embedded=True).findings == ()
    with psycopg.connect(clone, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for table in ("inspection", "inspection_p0", "review", "tables_rebuilt"):
            for statement in (f"UPDATE {table} SET journal_index = 1", f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                    connection.execute(statement)


def test_writers_wait_and_readers_do_not(ledger: Trace, sql: Sql, clone: str) -> None:  # noqa: F811
    sql("UPDATE review SET truth = 'defective'")
    seen: list[object] = []

    def look(done: int, total: int, what: str) -> None:
        if what != "verifying again" or seen:
            return
        with psycopg.connect(clone, autocommit=True) as other:
            seen.extend(other.execute("SELECT count(*) FROM review WHERE truth = 'good'").fetchone())
            other.execute("SET lock_timeout = '20ms'")
            for statement in ("SELECT * FROM ledger_head FOR UPDATE", "UPDATE station SET last_seq = 1"):
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    other.execute(statement)

    rebuild(ledger.signer, "ada", "x", look)
    assert seen == [0]
    assert holds(ledger)


def test_who_holds_the_tables_is_not_waited_for_for_ever(
    ledger: Trace,  # noqa: F811
    sql: Sql,
    clone: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sql("UPDATE review SET truth = 'defective'")
    monkeypatch.setattr(roles, "PATIENCE", "50ms")
    with psycopg.connect(clone) as other:
        other.execute("SELECT * FROM ledger_head FOR UPDATE")
        with pytest.raises(ConflictError, match="when the line stands still"):
            mend(ledger)


def test_a_trigger_of_somebody_else_is_no_way_to_keep_a_forgery(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    sql("UPDATE review SET truth = 'defective'")
    sql(
        "CREATE FUNCTION forge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.truth := 'defective'; RETURN NEW; END $$"
    )
    sql("CREATE TRIGGER forge BEFORE INSERT ON review FOR EACH ROW EXECUTE FUNCTION forge()")
    before = contents(ledger)
    with psycopg.connect(str(ledger.database.url), autocommit=True) as connection:
        connection.execute("ALTER TABLE review ENABLE TRIGGER forge")
    with pytest.raises(SchemaError, match="do not keep what is written into them"):
        mend(ledger)
    assert contents(ledger) == before


def test_a_column_of_another_type_is_told_first(ledger: Trace, sql: Sql) -> None:  # noqa: F811
    sql("ALTER TABLE inspection ALTER station_seq TYPE numeric")
    with pytest.raises(SchemaError, match="column station_seq: it holds numeric, and has to hold bigint"):
        mend(ledger)
