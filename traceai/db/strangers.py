"""What stands between a query and the tables, and is neither PostgreSQL's nor this release's.

PostgreSQL chooses an operator, a function or a cast by the types of what it is given, and one that fits them exactly wins over its
own, wherever on the search path either lies: `text = text` is PostgreSQL's, and `varchar = varchar` is whoever's made one. Row
security, rules, collations and operator classes likewise show one reader what they hide from another.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg

# What verification calls. All of them are built in, and written in C.
_CALLED = (
    "array_agg", "byteacat", "convert_to", "encode", "num_nonnulls", "sha256", "textcat", "timezone", "to_char", "to_json",
)  # fmt: skip
# What queries compare and compute with. An extension may bring operators for PostgreSQL's types, and not these.
_USED = ("=", "<>", "<", "<=", ">", ">=", "||", "+", "-", "*", "/", "~~", "!~~", "~~*", "!~~*", "->", "->>")
# Object identifiers below this one are those that a new PostgreSQL is born with.
_FIRST_MADE = 16384

# The tables, and whatever hands its rows to one of them.
_READ = """
    WITH RECURSIVE read AS (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %(schema)s AND c.relname = ANY(%(tables)s) AND c.relkind NOT IN ('i', 'I', 'S', 't', 'c')
        UNION SELECT i.inhrelid FROM read JOIN pg_inherits i ON i.inhparent = read.oid
    )
    SELECT oid FROM read
"""
_QUERIES = {
    "table {}: it is no table of this database, and can show different rows to different readers": """
        SELECT relname FROM pg_class WHERE oid = ANY(%(read)s) AND relkind NOT IN ('r', 'p') ORDER BY 1
    """,
    "table {}: row-level security is on, which can show different rows to different readers": """
        SELECT relname FROM pg_class WHERE oid = ANY(%(read)s) AND relrowsecurity ORDER BY 1
    """,
    "table {}: it inherits from {}, and its rows are shown as rows of that one": """
        SELECT c.relname, parent.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        JOIN pg_class parent ON parent.oid = i.inhparent
        WHERE parent.oid = ANY(%(read)s) AND NOT c.relispartition ORDER BY 1, 2
    """,
    "table {}: the rule {} has PostgreSQL do something else than it is asked": """
        SELECT c.relname, r.rulename FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
        WHERE c.oid = ANY(%(read)s) AND c.relkind IN ('r', 'p') ORDER BY 1, 2
    """,
    "table {}, column {}: it compares by the collation {}, and not by that of its type": """
        SELECT c.relname, a.attname, a.attcollation::regcollation::text FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type t ON t.oid = a.atttypid
        WHERE c.oid = ANY(%(read)s) AND c.relkind IN ('r', 'p') AND a.attcollation <> t.typcollation ORDER BY 1, 2
    """,
    "operator {}: it is not PostgreSQL's own, and whoever asks would have to believe it": """
        SELECT o.oid::regoperator::text FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
        WHERE n.nspname = ANY(%(schemas)s) AND (o.oid >= %(made)s OR o.oprcode::oid >= %(made)s) AND CASE
            WHEN EXISTS (
                SELECT FROM pg_depend d WHERE d.classid = 'pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e'
            ) THEN o.oprname = ANY(%(used)s) AND o.oprleft < %(made)s AND o.oprright < %(made)s
            ELSE o.oprleft BETWEEN 1 AND %(made)s - 1 OR o.oprright < %(made)s
        END ORDER BY 1
    """,
    "operator class {} of {} for {}: it is not PostgreSQL's own, and whoever sorts or searches would have to believe it": """
        SELECT c.opcname, am.amname, c.opcintype::regtype::text FROM pg_opclass c JOIN pg_am am ON am.oid = c.opcmethod
        WHERE am.amname IN ('btree', 'hash') AND c.opcintype < %(made)s AND (
            (c.oid >= %(made)s AND c.opcdefault) OR EXISTS (
                SELECT FROM pg_amproc p
                WHERE p.amprocfamily = c.opcfamily AND p.amproclefttype = c.opcintype AND p.amproc::oid >= %(made)s
            )
        ) ORDER BY 1, 2, 3
    """,
    "function {}: it is not PostgreSQL's own, and whoever asks would have to believe it": """
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        JOIN pg_language l ON l.oid = p.prolang WHERE n.nspname = ANY(%(schemas)s) AND CASE
            WHEN p.oid < %(made)s THEN p.proname = ANY(%(called)s) AND l.lanname <> 'internal'
            WHEN EXISTS (
                SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
            ) AND (p.pronargs = 0 OR EXISTS (SELECT FROM unnest(p.proargtypes::oid[]) a (type) WHERE a.type >= %(made)s))
            THEN false
            ELSE EXISTS (
                SELECT FROM pg_proc own
                WHERE own.pronamespace = 'pg_catalog'::regnamespace AND own.oid < %(made)s AND own.proname = p.proname
            )
        END ORDER BY 1
    """,
    "cast from {} to {}: it is not PostgreSQL's own, and whoever asks would have to believe it": """
        SELECT c.castsource::regtype::text, c.casttarget::regtype::text FROM pg_cast c
        WHERE (c.oid >= %(made)s OR c.castfunc >= %(made)s) AND c.castsource < %(made)s AND c.casttarget < %(made)s
        ORDER BY 1, 2
    """,
}


def strangers(
    connection: psycopg.Connection[Any], schema: str, tables: Iterable[str], path: Sequence[str] = ()
) -> Iterator[str]:
    """Half a sentence for each, in the transaction of `connection`, whose search path is `pg_catalog` alone (`catalog.schema_of`).

    Args:
        schema: where `tables` lie.
        path: the other schemas in which a name of a query may be found.
    """
    named = {"schema": schema, "tables": list(tables)}
    read = [oid for (oid,) in connection.execute(_READ, named).fetchall()]
    parameters: dict[str, Any] = {
        "read": read, "schemas": ["pg_catalog", schema, *path], "made": _FIRST_MADE, "used": list(_USED), "called": list(_CALLED),
    }  # fmt: skip
    for says, query in _QUERIES.items():
        for row in connection.execute(query.encode(), parameters).fetchall():
            yield says.format(*row)
