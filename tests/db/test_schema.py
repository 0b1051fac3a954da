"""The migrated schema is the declared one: tables, constraints, indexes, and the triggers that metadata cannot express."""

import psycopg
import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

from traceai.db import migrate
from traceai.db.tables import APPEND_ONLY
from traceai.sdk import Trace

CONSTRAINTS = """
    SELECT c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid) FROM pg_constraint c
    JOIN pg_namespace n ON n.oid = c.connamespace JOIN pg_class t ON t.oid = c.conrelid
    WHERE n.nspname = current_schema() AND NOT t.relispartition
    AND c.conrelid::regclass::text NOT LIKE '%alembic_version' AND c.contype <> 'n' ORDER BY 1, 2
"""
INDEXES = """
    SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename <> 'alembic_version'
    AND tablename !~ '_p[0-9]+$'
"""


def test_migrations_and_metadata_agree(trace: Trace) -> None:
    command.check(migrate.configuration(trace.database.engine))


def test_a_migrated_schema_has_the_constraints_and_indexes_of_a_fresh_one(trace: Trace) -> None:
    found = []
    with trace.database.engine.connect() as connection:
        for schema in ("public", "fresh"):
            if schema == "fresh":
                connection.execute(text("CREATE SCHEMA fresh"))
                connection.execute(text("SET LOCAL search_path TO fresh"))
                SQLModel.metadata.create_all(connection, checkfirst=False)
            constraints = [tuple(row) for row in connection.execute(text(CONSTRAINTS))]
            indexes = sorted(row[0].replace(f" {schema}.", " ") for row in connection.execute(text(INDEXES)))
            found.append((constraints, indexes))
        connection.rollback()
    assert found[0] == found[1]
    assert len(found[0][0]) > 40


@pytest.mark.parametrize("table", [table.__tablename__ for table in APPEND_ONLY])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_evidence_is_append_only_even_for_the_superuser(
    trace: Trace, tiny: str, images: list, clone: str, table: str, statement: str
) -> None:
    with psycopg.connect(clone, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        column = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s LIMIT 1", [table]
        ).fetchone()[0]
        rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        if statement.startswith("TRUNCATE") or rows:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                connection.execute(statement.format(table, f'"{column}" = "{column}"'))
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == rows


def test_a_disabled_trigger_is_reported(trace: Trace, clone: str) -> None:
    assert migrate.unprotected(trace.database.engine) == []
    with psycopg.connect(clone, autocommit=True) as connection:
        connection.execute("ALTER TABLE journal DISABLE TRIGGER append_only_rows")
        connection.execute("DROP TRIGGER append_only_table ON review")
        connection.execute("DROP TRIGGER append_only_table ON inspection_p0")
    assert migrate.unprotected(trace.database.engine) == ["inspection_p0", "journal", "journal_p0", "review"]


def test_a_second_ledger_head_is_refused(trace: Trace) -> None:
    with pytest.raises(IntegrityError, match="only_one"), trace.database.engine.begin() as connection:
        connection.execute(text("INSERT INTO ledger_head VALUES (2, 0, sha256(''), '')"))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"ended_at": "2026-01-31 05:00Z"}, "ended_at"),
        ({"lost": -1}, "counts"),
        ({"delayed": -1}, "counts"),
        ({"first_trigger": 7}, "triggers"),
        ({"last_trigger": 7}, "triggers"),
        ({"first_trigger": 8, "last_trigger": 7}, "triggers"),
        ({"first_trigger": -1, "last_trigger": 7}, "triggers"),
    ],
)
def test_a_gap_that_contradicts_itself_is_refused(trace: Trace, change: dict[str, object], rule: str) -> None:
    row: dict[str, object] = {
        "id": "01a209f6-0000-7000-8000-000000000000", "journal_index": 0, "occurred_at": "2026-01-31 06:20Z",
        "recorded_at": "2026-01-31 06:20Z", "salt": b"salt", "station": "press-4", "began_at": "2026-01-31 06:00Z",
        "ended_at": "2026-01-31 06:20Z", "cause_code": "declared", "cause": "A cable.", "delayed": 0, "lost": 0,
        "first_trigger": None, "last_trigger": None, "actor": "ada", **change,
    }  # fmt: skip
    statement = text(f"INSERT INTO gap ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})")
    with pytest.raises(IntegrityError, match=f"ck_gap_{rule}"), trace.database.engine.begin() as connection:
        connection.execute(statement, row)
