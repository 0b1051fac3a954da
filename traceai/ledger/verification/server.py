"""Have the server's own functions answer, and its tables be tables.

Verification lets PostgreSQL hash what it writes back. An administrator can put a function, an operator or a view of his own
where those are looked for, and have it answer verification one thing and everybody else another.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from sqlmodel import SQLModel

from traceai.db import tables
from traceai.db.catalog import schema_of
from traceai.db.strangers import strangers
from traceai.ledger.verification.facts import Fact

_READ: tuple[type[SQLModel], ...] = (
    *tables.EVIDENCE,
    tables.Journal,
    tables.TreeNode,
    tables.LedgerHead,
    tables.HeatMap,
    tables.DatasetImage,
    tables.Station,
    tables.Checkpoint,
)


def look_in_the_catalog_first(connection: psycopg.Connection[Any]) -> None:
    """For the transaction: names mean what PostgreSQL means by them, and only then what stands beside the journal."""
    connection.execute("SET LOCAL standard_conforming_strings TO on")
    _look_in(connection, schema_of(connection, "journal"))


def _look_in(connection: psycopg.Connection[Any], schema: str | None) -> None:
    if schema is not None:
        connection.execute(sql.SQL("SET LOCAL search_path TO pg_catalog, {}, pg_temp").format(sql.Identifier(schema)))


def check_partitions(connection: psycopg.Connection[Any], fact: Fact) -> None:
    """Rows lie where their index says. One that does not is seen by whoever reads all, and not by who reads a range."""
    for model in (tables.Inspection, tables.HeatMap):
        parent = sql.Identifier(str(model.__tablename__))
        # The whole heap is read once: an index may leave rows out. And then all that the indices show.
        everything = sql.SQL(
            "SELECT tableoid, min(journal_index), max(journal_index), count(*) FROM {} GROUP BY 1 ORDER BY 2"
        ).format(parent)
        within = sql.SQL("SELECT count(*) FROM {} WHERE journal_index >= %s AND journal_index < %s").format(parent)
        bounds = _bounds(connection, str(model.__tablename__))
        with _without(connection, "indexscan", "indexonlyscan"):
            held = connection.execute(everything).fetchall()
        for partition, low, high, there in held:
            first, end = bounds.get(partition, (0, 0))
            where = f"table {model.__tablename__}: a partition for journal index {first} to {end - 1}"
            if low is not None and not first <= low <= high < end:
                fact.fail(f"{where} holds rows of {low} to {high}, which are hidden from who looks for them there")
                continue
            with _without(connection, "seqscan", "bitmapscan"):
                ((shown,),) = connection.execute(within, [first, end]).fetchall()
            if shown != there:
                fact.fail(f"{where} holds {there} rows, and its index shows {shown}")


@contextmanager
def _without(connection: psycopg.Connection[Any], *ways: str) -> Iterator[None]:
    """Plans in which the server reads a table in none of these ways."""
    settings = [sql.Identifier(f"enable_{way}") for way in ways]
    for setting in settings:
        connection.execute(sql.SQL("SET LOCAL {} TO off").format(setting))
    yield
    for setting in settings:
        connection.execute(sql.SQL("SET LOCAL {} TO DEFAULT").format(setting))


def _bounds(connection: psycopg.Connection[Any], parent: str) -> dict[int, tuple[int, int]]:
    """By partition (its oid), the range of ledger indices that it is declared to hold."""
    found = {}
    for oid, bound in connection.execute(
        "SELECT c.oid, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = to_regclass(%s)::oid",
        [parent],
    ):
        declared = re.fullmatch(r"FOR VALUES FROM \('(\d+)'\) TO \('(\d+)'\)", bound or "")
        if declared:
            found[oid] = (int(declared[1]), int(declared[2]))
    return found


def check_server(connection: psycopg.Connection[Any], fact: Fact) -> None:
    """What is read is a table that shows everybody the same rows, and what is called is PostgreSQL's."""
    schema = schema_of(connection, "journal")
    for found in strangers(connection, schema or "public", [str(model.__tablename__) for model in _READ]):
        fact.fail(found)
    _look_in(connection, schema)
