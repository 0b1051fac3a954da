"""What keeps evidence append-only, read from the system catalogs: triggers, their functions, and room for the next entries; and
what could come between a query and the tables.

Whoever may change the catalogs may also make them say what they like; verification of the ledger is what does not depend on
them. What is read here finds accidents, and carelessness that calls itself administration.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlmodel import SQLModel

from traceai.db.catalog import schema_of
from traceai.db.strangers import strangers
from traceai.db.tables import APPEND_ONLY, PARTITIONED
from traceai.ledger.log import PARTITION
from traceai.ledger.printing import shown

VERSION_TABLE = "alembic_version"
REFUSE, PROTECT, EXTEND = "traceai_refuse_change", "traceai_protect", "traceai_extend"
# pg_trigger.tgtype: ROW 1, BEFORE 2, DELETE 8, UPDATE 16, TRUNCATE 32.
TRIGGERS = {"append_only_rows": 1 + 2 + 8 + 16, "append_only_table": 2 + 32}
ROW_TRIGGER = "append_only_rows"
_FUNCTION = re.compile(
    r"\s*CREATE (?:OR REPLACE )?(FUNCTION (\w+)\(([^)]*)\)(.*?)AS (\$\w*\$)(.*)\5\s*)", re.DOTALL | re.IGNORECASE
)


Statement = sql.SQL | sql.Composed


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it has to be.

    Attributes:
        fact: which of `roles.FACTS` does not hold.
        says: half a sentence that names the object.
        cure: the statements that put it right; none where a person has to decide.
    """

    fact: str
    says: str
    cure: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Relation:
    """A table of ours, or a partition of one, in which case `parent` names the table."""

    oid: int
    schema: str
    name: str
    owner: str
    parent: str | None

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True)
class Function:
    """A function as this release installs it."""

    name: str
    statement: str
    language: str
    security_definer: bool
    body: str

    @classmethod
    def parse(cls, statement: str) -> "Function | None":
        """From its CREATE FUNCTION; None where `statement` is another."""
        match = _FUNCTION.fullmatch(statement)
        if match is None:
            return None
        rest, name, _, options, _, body = match.groups()
        language = re.search(r"LANGUAGE (\w+)", options, re.IGNORECASE)
        return cls(
            name=name,
            statement=f"CREATE OR REPLACE {rest}",
            language=language[1] if language else "",
            security_definer="SECURITY DEFINER" in options.upper(),
            body=body,
        )


class Catalog:
    """What the system catalogs say about one traceai schema, in the transaction of `connection`.

    `path`: the schemas in which the connection looked for names before.

    Made, it has set the search path of that transaction to `pg_catalog`: a superuser who looks around runs no function that
    somebody left in the schema.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        ((self.path,),) = connection.execute("SELECT pg_catalog.current_schemas(true)::pg_catalog.text[]").fetchall()
        self.schema = schema_of(connection, VERSION_TABLE) or "public"

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return self.connection.execute(query.encode(), parameters).fetchall()

    def relations(self, tables: Iterable[str]) -> list[Relation]:
        """Those of `tables` that there are, parents before partitions."""
        found = self.rows(
            "WITH named AS (SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %(schema)s AND c.relname = ANY(%(tables)s) AND c.relkind IN ('r', 'p'))"
            " SELECT c.oid, n.nspname, c.relname, pg_get_userbyid(c.relowner), t.parent FROM"
            " (SELECT oid, NULL::name AS parent FROM named UNION ALL"
            " SELECT part.relid, named.relname FROM named, pg_partition_tree(named.oid) part WHERE part.level > 0) t"
            " JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " ORDER BY t.parent IS NOT NULL, c.relname",
            {"schema": self.schema, "tables": list(tables)},
        )
        return [Relation(*row) for row in found]

    def identifier(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.schema, name)


def names(tables: Iterable[type[SQLModel]]) -> list[str]:
    return [str(table.__tablename__) for table in tables]


# --- triggers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trigger:
    as_released: bool
    enabled: str
    inherited: bool


def triggers(catalog: Catalog) -> list[Finding]:
    """Every evidence table, and every partition by itself: TRUNCATE of a partition asks no trigger of its parent."""
    there = catalog.relations(names(APPEND_ONLY))
    stand = _triggers(catalog, there)
    missing = sorted(set(names(APPEND_ONLY)) - {relation.name for relation in there})
    found = [Finding("append-only", f"{name}: the table is missing") for name in missing]
    for relation in there:
        for trigger in TRIGGERS:
            if flaw := _flaw(stand.get((relation.oid, trigger))):
                cure = tuple(_protect(catalog, relation, trigger, there, stand))
                found.append(Finding("append-only", f"{relation.name}: {trigger} {flaw}", cure))
    return found


def unprotected(catalog: Catalog) -> list[str]:
    """Evidence tables and partitions on which an append-only trigger is missing, switched off or another."""
    return sorted({finding.says.partition(":")[0] for finding in triggers(catalog)})


def carrying(catalog: Catalog, trigger: str, tables: Iterable[str]) -> list[Relation]:
    """Those of `tables`, and of their partitions, that have a trigger of that name."""
    there = catalog.relations(tables)
    stand = _triggers(catalog, there)
    return [relation for relation in there if (relation.oid, trigger) in stand]


def _triggers(catalog: Catalog, relations: Iterable[Relation]) -> dict[tuple[int, str], _Trigger]:
    found = catalog.rows(
        "SELECT t.tgrelid, t.tgname, t.tgtype, t.tgenabled::text, t.tgparentid <> 0,"
        " p.proname = %(refuse)s AND n.nspname = %(schema)s AND t.tgqual IS NULL AND t.tgattr::text = ''"
        " FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE t.tgrelid = ANY(%(oids)s) AND t.tgname = ANY(%(triggers)s)",
        {
            "refuse": REFUSE,
            "schema": catalog.schema,
            "oids": [relation.oid for relation in relations],
            "triggers": list(TRIGGERS),
        },
    )
    return {
        (relation, name): _Trigger(plain and kind == TRIGGERS[name], enabled, inherited)
        for relation, name, kind, enabled, inherited, plain in found
    }


def _flaw(trigger: _Trigger | None) -> str | None:
    if trigger is None:
        return "is missing"
    if not trigger.as_released:
        return "is another trigger of that name"
    return {"A": None, "D": "is switched off"}.get(trigger.enabled, "does not fire in a replication session")


def _protect(
    catalog: Catalog,
    relation: Relation,
    name: str,
    relations: Iterable[Relation],
    stand: Mapping[tuple[int, str], _Trigger],
) -> Iterator[Statement]:
    drop = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}")
    trigger = stand.get((relation.oid, name))
    if trigger is not None and not trigger.as_released and not trigger.inherited:
        yield drop.format(sql.Identifier(name), relation.identifier)
    if name == ROW_TRIGGER and (trigger is None or not trigger.as_released):
        # A new row trigger of the parent comes to each partition, unless one of that name stands in its place.
        for part in relations:
            own = stand.get((part.oid, name))
            if part.parent == relation.name and own is not None and not own.inherited:
                yield drop.format(sql.Identifier(name), part.identifier)
    yield sql.SQL("SELECT {}({}::pg_catalog.regclass)").format(
        catalog.identifier(PROTECT), sql.Literal(relation.identifier.as_string(catalog.connection))
    )


# --- functions -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InstalledFunction:
    """A function as it stands, whatever release or person made it."""

    oid: int
    name: str
    arguments: str
    owner: str
    language: str
    security_definer: bool
    settings: tuple[str, ...]
    body: str
    identifier: sql.Composed


def installed_functions(catalog: Catalog) -> list[InstalledFunction]:
    found = catalog.rows(
        "SELECT p.oid, p.proname, pg_get_function_identity_arguments(p.oid), pg_get_userbyid(p.proowner), l.lanname, p.prosecdef,"
        " coalesce(p.proconfig, '{}'), p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " JOIN pg_language l ON l.oid = p.prolang WHERE n.nspname = %(schema)s AND p.proname = ANY(%(names)s)"
        " ORDER BY p.proname, p.oid",
        {"schema": catalog.schema, "names": [REFUSE, PROTECT, EXTEND]},
    )
    return [
        InstalledFunction(
            oid, name, arguments, owner, language, definer, tuple(settings), body,
            # The catalog's own spelling of the argument types.
            sql.SQL("{}({})").format(catalog.identifier(name), sql.SQL(arguments)),
        )
        for oid, name, arguments, owner, language, definer, settings, body in found
    ]  # fmt: skip


def functions(catalog: Catalog, release: Mapping[str, Function], *, pinned: bool) -> list[Finding]:
    """An emptied function disables every trigger, and no trigger shows it.

    Args:
        release: the functions that this release installs.
        pinned: whether a function that runs as its owner has to name the one schema in which it looks for what it calls.
            pg_temp comes first unless it is named last, and whoever may create there could put tables of theirs in the way.
    """
    quoted = catalog.rows("SELECT quote_ident(%(schema)s)", {"schema": catalog.schema})[0][0]
    found = []
    stand = installed_functions(catalog)
    for name, function in release.items():
        cure = (sql.SQL(function.statement),)
        named = [one for one in stand if one.name == name]
        if not named:
            found.append(Finding("functions", f"{name} is missing", cure))
        elif len(named) > 1:
            signatures = " and ".join(f"{name}({one.arguments})" for one in named)
            found.append(Finding("functions", f"there are {signatures}; drop what this release did not install"))
        elif not _same(named[0], function):
            found.append(Finding("functions", f"{name} is not as this release installs it", cure))
        elif pinned and function.security_definer and named[0].settings != (f"search_path={quoted}, pg_temp",):
            found.append(
                Finding("privileges", f"{name} runs as its owner, and calls what others could put in its way", cure)
            )
    return found


def _same(stands: InstalledFunction, released: Function) -> bool:
    return (stands.language, stands.security_definer, stands.body) == (
        released.language,
        released.security_definer,
        released.body,
    ) and not any(setting.partition("=")[0] != "search_path" for setting in stands.settings)


# --- queries -------------------------------------------------------------------------------------------------------------


def queries(catalog: Catalog) -> list[Finding]:
    """What could have a query see something else than what is there. A person decides: it may serve something of theirs."""
    path = [name for name in catalog.path if not name.startswith("pg_temp")]
    others = [name for name in path if name not in ("pg_catalog", catalog.schema)]
    tables = [*SQLModel.metadata.tables, VERSION_TABLE]
    found = [Finding("queries", shown(says)) for says in strangers(catalog.connection, catalog.schema, tables, others)]
    for name in path[: path.index("pg_catalog")]:
        says = f"schema {name}: the search path of this connection has it before PostgreSQL's own"
        found.append(Finding("queries", shown(says)))
    return found


# --- partitions ----------------------------------------------------------------------------------------------------------


def partitions(catalog: Catalog) -> list[Finding]:
    """Room for every entry there is, and for the next half partition of them."""
    size = _size(catalog)
    there = _attached(catalog)
    found = []
    for table, first in missing_partitions(catalog):
        says = f"{table}: there is no partition for ledger index {first} to {first + PARTITION - 1}"
        # One that had entries is a loss, which an empty one in its place would only hide.
        made = first >= size and (first == 0 or _bounds(first // PARTITION - 1) in there[table])
        make = sql.SQL("SELECT {}({})").format(catalog.identifier(EXTEND), first)
        found.append(Finding("partitions", says, (make,) if made else ()))
    return found


def missing_partitions(catalog: Catalog) -> list[tuple[str, int]]:
    """The table, and the first ledger index, of each partition that has to be there and is not, in order.

    Whoever records may set the size to anything: of what it asks for beyond the partitions there are, the next is named.
    """
    there = _attached(catalog)
    made = max(map(len, there.values()))
    wanted = (_size(catalog) + PARTITION // 2) // PARTITION + 1
    return [
        (table, number * PARTITION)
        for table, bounds in there.items()
        for number in range(min(wanted, made + 1))
        if _bounds(number) not in bounds
    ]


def _size(catalog: Catalog) -> int:
    head = catalog.connection.execute(
        sql.SQL("SELECT size FROM {}").format(catalog.identifier("ledger_head"))
    ).fetchone()
    return head[0] if head else 0


def _attached(catalog: Catalog) -> dict[str, set[str]]:
    """The bounds of the partitions of each partitioned table."""
    there: dict[str, set[str]] = {name: set() for name in names(PARTITIONED)}
    for parent, bounds in catalog.rows(
        "SELECT parent.relname, pg_get_expr(part.relpartbound, part.oid) FROM pg_inherits i"
        " JOIN pg_class parent ON parent.oid = i.inhparent JOIN pg_namespace n ON n.oid = parent.relnamespace"
        " JOIN pg_class part ON part.oid = i.inhrelid WHERE n.nspname = %(schema)s AND parent.relname = ANY(%(tables)s)",
        {"schema": catalog.schema, "tables": list(there)},
    ):
        there[parent].add(bounds)
    return there


def _bounds(number: int) -> str:
    return f"FOR VALUES FROM ('{number * PARTITION}') TO ('{(number + 1) * PARTITION}')"
