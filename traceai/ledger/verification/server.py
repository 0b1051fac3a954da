"""Have the server's own functions answer, and its tables be tables.

Verification lets PostgreSQL hash what it writes back. An administrator can put a function, an operator or a view of his own
where those are looked for, and have it answer verification one thing and everybody else another.
"""

from typing import Any

import psycopg
from psycopg import sql
from sqlmodel import SQLModel

from traceai.db import tables
from traceai.ledger.verification.facts import Fact

# What verification calls. All of them are built in, and written in C.
_CALLED = (
    "array_agg", "byteacat", "convert_to", "encode", "num_nonnulls", "sha256", "textcat", "timezone", "to_char", "to_json",
)  # fmt: skip
_READ: tuple[type[SQLModel], ...] = (
    *tables.EVIDENCE,
    tables.Journal,
    tables.TreeNode,
    tables.LedgerHead,
    tables.HeatMap,
    tables.DatasetImage,
)
# Object identifiers below this one are those that a new PostgreSQL is born with.
_FIRST_MADE = 16384


def look_in_the_catalog_first(connection: psycopg.Connection[Any]) -> None:
    """For the transaction: names mean what PostgreSQL means by them, and only then what stands beside the journal."""
    ((journal,),) = connection.execute("SELECT pg_catalog.to_regclass('journal')::pg_catalog.oid").fetchall()
    connection.execute("SET LOCAL search_path TO pg_catalog, pg_temp")
    found = connection.execute(
        "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s", [journal]
    ).fetchone()
    if found is not None:
        connection.execute(sql.SQL("SET LOCAL search_path TO pg_catalog, {}, pg_temp").format(sql.Identifier(found[0])))


def check_server(connection: psycopg.Connection[Any], fact: Fact) -> None:
    """What is read is a table that shows everybody the same rows, and what is called is PostgreSQL's."""
    named = [str(model.__tablename__) for model in _READ]
    for name, strange, policies in connection.execute(
        "WITH RECURSIVE read AS ("
        " SELECT oid, relkind, relrowsecurity FROM pg_class WHERE oid = ANY (SELECT to_regclass(name) FROM unnest(%s::text[]) name)"
        " UNION SELECT c.oid, c.relkind, c.relrowsecurity FROM read"
        " JOIN pg_inherits i ON i.inhparent = read.oid JOIN pg_class c ON c.oid = i.inhrelid)"
        " SELECT oid::regclass::text, relkind NOT IN ('r', 'p'), relrowsecurity FROM read ORDER BY 1",
        [named],
    ):
        if strange:
            fact.fail(
                f"table {name}: it is no table of this database, and can show different rows to different readers"
            )
        if policies:
            fact.fail(f"table {name}: row-level security is on, which can show different rows to different readers")
    for (name,) in connection.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang"
        " WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY(%s::name[])"
        " AND (p.oid >= %s OR l.lanname <> 'internal') ORDER BY 1",
        [list(_CALLED), _FIRST_MADE],
    ):
        fact.fail(f"function {name}: it is not PostgreSQL's own, and verification would have to believe it")
    for source, target in connection.execute(
        "SELECT c.castsource::regtype::text, c.casttarget::regtype::text FROM pg_cast c"
        " WHERE c.oid >= %s AND c.castsource < %s AND c.casttarget < %s ORDER BY 1, 2",
        [_FIRST_MADE, _FIRST_MADE, _FIRST_MADE],
    ):
        fact.fail(
            f"cast from {source} to {target}: it is not PostgreSQL's own, and verification would have to believe it"
        )
