"""The way into the system catalogs that runs nothing somebody left in a schema."""

from typing import Any

import psycopg


def schema_of(connection: psycopg.Connection[Any], table: str) -> str | None:
    """The schema of `table` as the search path finds it; None where it finds none.

    Afterwards, for the rest of the transaction, names are looked up in `pg_catalog` alone. No operator is used before that: one of
    the schema's own could take its place, and run with the rights of whoever looks.
    """
    ((found,),) = connection.execute("SELECT pg_catalog.to_regclass(%s)::pg_catalog.oid", [table]).fetchall()
    connection.execute("SET LOCAL search_path TO pg_catalog, pg_temp")
    row = connection.execute(
        "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s", [found]
    ).fetchone()
    return row[0] if row else None
