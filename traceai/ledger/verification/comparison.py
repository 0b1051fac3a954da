"""Say where an entry and its rows differ, column by column: the long way, for what a comparison of bytes did not settle."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy import JSON, ColumnElement, DateTime
from sqlalchemy.dialects import postgresql
from sqlmodel import SQLModel

from traceai.clock import timestamp
from traceai.db import tables
from traceai.errors import RecordError
from traceai.images.decode import identify
from traceai.ledger import canonical
from traceai.ledger.entry import Entry
from traceai.ledger.packing import unpack
from traceai.ledger.projection import TABLES, project, readable
from traceai.ledger.records import Inspection
from traceai.ledger.verification.facts import Fact

# What PostgreSQL calls the types that the schema declares.
_TYPES = {
    "BIGINT": "bigint",
    "INTEGER": "integer",
    "SMALLINT": "smallint",
    "BYTEA": "bytea",
    "BOOLEAN": "boolean",
    "FLOAT": "double precision",
    "NUMERIC": "numeric",
    "JSON": "json",
    "UUID": "uuid",
    "VARCHAR": "character varying",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
}


# What verification reads, and what is served or counted from beside it.
_TYPED: tuple[type[SQLModel], ...] = (
    tables.Journal, tables.TreeNode, tables.LedgerHead, tables.HeatMap, tables.DatasetImage, tables.Station, tables.Checkpoint,
    *tables.EVIDENCE,
)  # fmt: skip


def explain(connection: psycopg.Connection[Any], differing: Sequence[tuple[int, Entry]], fact: Fact) -> None:
    """Name every column in which the rows of these entries differ from them. `differing`: (index, entry), and they do differ."""
    wanted: dict[type[tables.Evidence], list[int]] = {}
    for index, entry in differing:
        wanted.setdefault(TABLES[type(entry.record)], []).append(index)
    rows = {table: standing(connection, table, indices) for table, indices in wanted.items()}
    for index, entry in differing:
        table, columns = project(index, entry)
        name = str(table.__tablename__)
        found = rows[table].get(index, [])
        before = fact.failures
        if not found:
            fact.fail(f"table {name}: the row of journal index {index} ({entry.record.id}) is missing")
        for row in found:
            for column, stands, recorded in differences(columns, row):
                fact.fail(
                    f"table {name}, journal index {index} ({row['id']}), column {column}: {stands} stands, "
                    f"{recorded} was recorded"
                )
        if len(found) > 1:
            fact.fail(f"table {name}: {len(found)} rows claim journal index {index}, which stands for one")
        if fact.failures == before:
            fact.fail(
                f"table {name}, journal index {index} ({entry.record.id}): the row, written back, is not the entry"
            )


def explain_maps(connection: psycopg.Connection[Any], indices: Sequence[int], fact: Fact) -> None:
    """Hold the heat maps of these decisions against their entries: a row cannot be trusted with the digest of its own map."""
    query = (
        'SELECT j."index", j.entry, h.grid FROM journal j LEFT JOIN heat_map h ON h.journal_index = j."index"'
        ' WHERE j."index" = ANY(%s) ORDER BY 1'
    )
    with connection.cursor(binary=True) as cursor:
        for index, stored, grid in cursor.execute(query, [list(indices)]):
            try:
                record = Entry.parse(unpack(stored or b"")).record
            except RecordError:
                continue  # told as an entry
            if not isinstance(record, Inspection):
                fact.fail(f"table heat_map: there is a map of journal index {index}, whose entry records none")
            elif grid is None:
                fact.fail(f"journal index {index} ({record.id}): the heat map is missing")
            elif identify(grid) != record.explanation.sha256:
                fact.fail(f"journal index {index} ({record.id}): the heat map is not the one that was recorded")


def compare_types(connection: psycopg.Connection[Any], fact: Fact) -> None:
    """Every column has the type that the schema declares: another type can say the same and mean something else."""
    for model in _TYPED:
        table = tables.table_of(model)
        stand = dict(
            connection.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
                [table.name],
            ).fetchall()
        )
        for column in table.c:
            declared = _TYPES[str(column.type.compile(dialect=postgresql.dialect()))]  # type: ignore[no-untyped-call]
            if (stands := stand.get(column.name)) not in (declared, None):
                fact.fail(f"table {table.name}, column {column.name}: it holds {stands}, and has to hold {declared}")


def differences(expected: Mapping[str, Any], row: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Every column of a row of `standing` that is not as `project` has it: (column, what stands, what was recorded)."""
    found = []
    for column, stands in row.items():
        recorded, era = expected.get(column), ""
        if isinstance(recorded, datetime):
            recorded, era = f"{timestamp(recorded)} AD", " AD"
        elif isinstance(recorded, dict | list):
            recorded = canonical.dumps(recorded).decode()
        if not _same(stands, recorded):
            found.append((column, readable(stands).removesuffix(era), readable(recorded).removesuffix(era)))
    return found


def outside(journal_index: ColumnElement[Any], end: int) -> ColumnElement[bool]:
    """Of a row that points outside a journal of `end` entries."""
    return (journal_index < 0) | (journal_index >= end) | journal_index.is_(None)


def standing(
    connection: psycopg.Connection[Any], table: type[tables.Evidence], indices: Sequence[int]
) -> dict[int, list[Any]]:
    """Whole rows by journal index. Times and JSON as text: the server knows more of them than Python can read."""
    query = sql.SQL("SELECT {} FROM {} WHERE journal_index = ANY(%s)").format(
        sql.SQL(", ").join(_columns(table)), sql.Identifier(str(table.__tablename__))
    )
    found: dict[int, list[Any]] = {}
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(query, [list(indices)]):
            found.setdefault(row["journal_index"], []).append(row)
    return found


@cache
def _columns(table: type[tables.Evidence]) -> tuple[sql.Composable, ...]:
    return tuple(
        sql.SQL("to_char(timezone('UTC', {0}), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\" BC') AS {0}").format(
            sql.Identifier(column.name)
        )
        if isinstance(column.type, DateTime)
        else sql.SQL("{0}::text AS {0}").format(sql.Identifier(column.name))
        if isinstance(column.type, JSON)
        else sql.Identifier(column.name)
        for column in tables.table_of(table).c
    )


def _same(stands: Any, recorded: Any) -> bool:
    """Equal and of the same type: to Python, true is 1 and 1 is 1.0."""
    if isinstance(stands, Decimal) and isinstance(recorded, Decimal):
        return stands.as_tuple() == recorded.as_tuple()
    return type(stands) is type(recorded) and bool(stands == recorded)
