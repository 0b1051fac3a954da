"""A ledger of several spans: the tree is put together from them, by processes too, and a later run goes on from an earlier one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.conftest import cloned
from tests.ledger.test_log import refusal
from traceai.db.connection import Database, create_engine
from traceai.errors import DatabaseUnavailableError
from traceai.ledger import log, merkle
from traceai.ledger.tree import DatabaseTree
from traceai.ledger.verification import spans, verifier
from traceai.ledger.verification.facts import KnownHead
from traceai.ledger.verification.workers import work
from traceai.sdk import Trace

SIZE = 2 * spans.SPAN + 700
Sql = Callable[..., list[tuple]]


@pytest.fixture(scope="module")
def long(server: str) -> Iterator[str]:
    """A database with entries for more than two spans."""
    from traceai.settings import Settings

    url = next(databases := cloned(server))
    with Database.open(Settings(home=Path("/nonexistent"), database_url=url)) as database:
        for start in range(0, SIZE, 1000):
            with database.session() as session:
                log.append(session, [refusal(number) for number in range(start, min(start + 1000, SIZE))])
    yield url.rpartition("/")[2].partition("?")[0]
    next(databases, None)


@pytest.fixture
def clone(server: str, long: str) -> Iterator[str]:
    yield from cloned(server, long)


def leaves(trace: Trace) -> list[bytes]:
    with trace.database.session() as session:
        return list(session.execute(text('SELECT leaf_hash FROM journal ORDER BY "index"')).scalars())


@pytest.mark.parametrize("workers", [1, 2])
def test_spans_make_one_tree(trace: Trace, workers: int) -> None:
    hashes = leaves(trace)
    known = [
        KnownHead(n, merkle.root(hashes[:n]), str(n)) for n in (1, 300, spans.SPAN, spans.SPAN + 1, SIZE - 1, SIZE)
    ]
    done: list[int] = []
    outcome = verifier.verify(trace.database.engine, progress=lambda n, _: done.append(n), known=known, workers=workers)
    assert outcome.holds, [fact.findings for fact in outcome.facts if not fact.holds]
    assert (outcome.size, outcome.root) == (SIZE, merkle.root(hashes))
    assert done == [spans.SPAN, 2 * spans.SPAN, SIZE]


def test_the_stored_nodes_are_those_of_the_tree(trace: Trace) -> None:
    hashes = leaves(trace)
    with trace.database.session() as session:
        stored = DatabaseTree(session.connection()).hashes([(1, 0, SIZE // 256)])
    assert stored == [[merkle.root(hashes[n * 256 : (n + 1) * 256]) for n in range(SIZE // 256)]]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_change_in_any_span_is_found(trace: Trace, sql: Sql, workers: int) -> None:
    for index in (5, spans.SPAN, SIZE - 1):
        sql("UPDATE model_refused SET actor = 'mallory' WHERE journal_index = %s", index)
    sql("UPDATE tree_node SET hash = sha256('x') WHERE level = 1 AND \"index\" = 20")
    outcome = verifier.verify(trace.database.engine, workers=workers)
    found = "\n".join(finding for fact in outcome.facts for finding in fact.findings)
    for index in (5, spans.SPAN, SIZE - 1):
        assert f"table model_refused, journal index {index} " in found
    assert "table tree_node, level 1, index 20:" in found
    assert "entries 5120 to 5375 lead to" in found


def test_a_process_that_gets_no_connection_is_said_in_a_sentence(trace: Trace, sql: Sql) -> None:
    sql("CREATE ROLE only_one LOGIN CONNECTION LIMIT 1")
    try:
        sql("GRANT pg_read_all_data TO only_one")
        engine = create_engine(trace.database.engine.url.set(username="only_one").render_as_string(hide_password=False))
        with pytest.raises(DatabaseUnavailableError, match=r"too many connections.*run it with `--workers 1`"):
            verifier.verify(engine, workers=2)
        engine.dispose()
    finally:
        sql("DROP ROLE only_one")


def test_a_process_that_cannot_see_the_same_moment_is_said_in_a_sentence(trace: Trace) -> None:
    """Behind a pooler or a load balancer another server may answer, which knows no such snapshot."""
    with pytest.raises(DatabaseUnavailableError, match=r"snapshot .*; .* run it with `--workers 1`"):
        work(trace.database.url, "00000000-00000000-1", (0, 10, ()))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_database_is_set_to_does_not_change_what_is_read(trace: Trace, sql: Sql, workers: int) -> None:
    (name,) = sql("SELECT current_database()")[0]
    settings = (
        "client_encoding = 'LATIN1'", "datestyle = 'German'", "timezone = 'Asia/Tokyo'", "bytea_output = 'escape'",
        "extra_float_digits = -15", "idle_session_timeout = 200", "idle_in_transaction_session_timeout = 200",
        "quote_all_identifiers = on", "statement_timeout = 50", "lock_timeout = 50", "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'", "default_transaction_deferrable = on", "array_nulls = off",
        "standard_conforming_strings = off", "intervalstyle = 'iso_8601'", "xmloption = 'document'",
    )  # fmt: skip
    sql("; ".join(f'ALTER DATABASE "{name}" SET {setting}' for setting in settings))
    trace.database.engine.dispose()
    outcome = verifier.verify(trace.database.engine, workers=workers)
    assert outcome.holds, [fact.findings for fact in outcome.facts if not fact.holds]
    assert outcome.size == SIZE


def test_a_later_run_goes_on_from_an_earlier_one(trace: Trace) -> None:
    first = verifier.verify(trace.database.engine)
    assert first.reached.size == 2 * spans.SPAN
    with trace.database.session() as session:
        log.append(session, [refusal(), refusal()])
    hashes = leaves(trace)
    known = [KnownHead(n, merkle.root(hashes[:n]), str(n)) for n in (2 * spans.SPAN, SIZE, SIZE + 2)]
    second = verifier.verify(trace.database.engine, since=first.reached, known=known)
    assert second.holds, [fact.findings for fact in second.facts if not fact.holds]
    assert (second.size, second.root) == (SIZE + 2, merkle.root(hashes))
    assert {fact.name: fact.checked for fact in second.facts}["entries"] == 702


def test_a_later_run_too_looks_where_no_tree_has_a_hash(trace: Trace, sql: Sql) -> None:
    first = verifier.verify(trace.database.engine)
    sql("ALTER TABLE tree_node DROP CONSTRAINT ck_tree_node_index")
    sql("ALTER TABLE tree_node DROP CONSTRAINT ck_tree_node_level")
    sql("INSERT INTO tree_node VALUES (1, -1, sha256('x')), (3, -1, sha256('x')), (0, 5, sha256('x'))")
    (tree,) = (fact for fact in verifier.verify(trace.database.engine, since=first.reached).facts if not fact.holds)
    assert [finding.partition(":")[0] for finding in tree.findings] == [
        "table tree_node, level 0, index 5", "table tree_node, level 1, index -1", "table tree_node, level 3, index -1"
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["hash", "sha256('x')"])
@pytest.mark.parametrize("index", [20, 31])
def test_a_hash_of_the_tree_that_stands_twice_is_told(trace: Trace, sql: Sql, index: int, value: str) -> None:
    """Whoever reads a tile gets both, and what follows out of place."""
    sql("ALTER TABLE tree_node DROP CONSTRAINT pk_tree_node")
    sql(f'INSERT INTO tree_node SELECT level, "index", {value} FROM tree_node WHERE (level, "index") = (1, {index})')
    (tree,) = (fact for fact in verifier.verify(trace.database.engine).facts if not fact.holds)
    assert f"table tree_node, level 1, index {index}: 2 rows stand for one hash" in tree.findings


def test_a_hash_of_the_tree_without_its_value_is_told(trace: Trace, sql: Sql) -> None:
    sql("ALTER TABLE tree_node ALTER hash DROP NOT NULL")
    sql('UPDATE tree_node SET hash = NULL WHERE level = 1 AND "index" = 20')
    (tree,) = (fact for fact in verifier.verify(trace.database.engine).facts if not fact.holds)
    assert tree.findings[0].startswith(
        "table tree_node, level 1, index 20: no value stands, entries 5120 to 5375 lead to"
    )


def test_a_whole_span_of_entries_gone_is_told_in_one_line(trace: Trace, sql: Sql) -> None:
    sql('DELETE FROM journal WHERE "index" >= 100 AND "index" < %s', spans.SPAN + 50)
    outcome = verifier.verify(trace.database.engine)
    entries, _, tree, rows, *_ = outcome.facts
    assert entries.findings == [f"journal index 100 to {spans.SPAN + 49}: the entries are missing"]
    assert tree.findings == ["the tree cannot be recomputed beyond entry 100, which is missing"]
    assert rows.failures == spans.SPAN - 50


def test_a_dropped_partition_is_told(trace: Trace, sql: Sql) -> None:
    sql("DROP TABLE journal_p0")
    outcome = verifier.verify(trace.database.engine)
    assert f"journal index 0 to {SIZE - 1}: removed from the end of the journal" in outcome.facts[0].findings


def test_the_ledger_grows_into_the_next_partition(trace: Trace, sql: Sql) -> None:
    """The head is set to shortly before the end of the first partition, as if the entries before it were there."""
    last = log.PARTITION - 2
    sql("UPDATE ledger_head SET size = %s, frontier = %s", last, bytes(32 * last.bit_count()))
    with trace.database.session() as session:
        session.execute(text("SELECT traceai_extend(:n)"), {"n": log.PARTITION})
        receipts = log.append(session, [refusal(), refusal(), refusal(), refusal()])
    assert [receipt.index for receipt in receipts] == [last, last + 1, last + 2, last + 3]
    assert [name for (name,) in sql('SELECT tableoid::regclass::text FROM journal WHERE "index" >= %s ORDER BY "index"', last)] == [
        "journal_p0", "journal_p0", "journal_p1", "journal_p1"
    ]  # fmt: skip


def test_the_next_partition_is_made_long_before_it_is_needed(trace: Trace, sql: Sql) -> None:
    half = log.PARTITION // 2 - 1
    sql("UPDATE ledger_head SET size = %s, frontier = %s", half, bytes(32 * half.bit_count()))
    with trace.database.session() as session:
        log.append(session, [refusal()])
    assert sql("SELECT to_regclass('journal_p1') IS NOT NULL, to_regclass('heat_map_p1') IS NOT NULL") == [(True, True)]
