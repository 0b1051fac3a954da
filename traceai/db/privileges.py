"""Who may do what: the four roles, the privileges of each, and how they differ from what the catalogs say.

Rights are granted on parents only: who goes through the parent needs none on a partition, and who names a partition has none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from sqlmodel import SQLModel

from traceai.db import protection
from traceai.db.protection import EXTEND, VERSION_TABLE, Catalog, Finding
from traceai.db.tables import APPEND_ONLY, ApiToken, Checkpoint, LedgerHead, StageLatency, Station, User

OWNER, APP, READER, CHECKPOINT = "traceai_owner", "traceai_app", "traceai_reader", "traceai_checkpoint"
ROLES = (OWNER, APP, READER, CHECKPOINT)

# A privilege, and the column where it is of one column only.
Privilege = tuple[str, str | None]
Privileges = frozenset[Privilege]

# What the code changes in place, column by column. SELECT ... FOR UPDATE asks for UPDATE of any one column.
_CHANGED: dict[type[SQLModel], tuple[str, ...]] = {
    LedgerHead: ("size", "root", "frontier"),
    Station: ("last_seq",),
    ApiToken: ("revoked_at",),
}
_INSERTED: tuple[type[SQLModel], ...] = (*APPEND_ONLY, Station, StageLatency, User, ApiToken)
# Neither changes evidence. An administrator may have given them to roles of their own, for analysis and for maintenance.
_HARMLESS = {"SELECT", "MAINTAIN"}


def tables() -> list[str]:
    return [*SQLModel.metadata.tables, VERSION_TABLE]


def wanted() -> dict[str, dict[str, Privileges]]:
    """Privileges by table and role. The owner's come with owning."""
    granted: dict[str, dict[str, set[Privilege]]] = {}
    for table in tables():
        granted[table] = {role: {("SELECT", None)} for role in (APP, READER, CHECKPOINT)}
    for role in (READER, CHECKPOINT):
        del granted[str(ApiToken.__tablename__)][role]
    for model in _INSERTED:
        granted[str(model.__tablename__)][APP].add(("INSERT", None))
    granted[str(Checkpoint.__tablename__)][CHECKPOINT].add(("INSERT", None))
    for model, columns in _CHANGED.items():
        granted[str(model.__tablename__)][APP].update(("UPDATE", column) for column in columns)
    return {table: {role: frozenset(has) for role, has in roles.items()} for table, roles in granted.items()}


@dataclass(frozen=True)
class _Held:
    """Who (None: PUBLIC) holds a privilege on the object `oid`, apart from its owner."""

    oid: int
    grantee: str | None
    privilege: Privilege
    grantable: bool


def privileges(catalog: Catalog) -> list[Finding]:
    found = []
    relations = catalog.relations(tables())
    granted = wanted()
    held = _held(
        catalog,
        "SELECT c.oid, a.*, c.relowner, NULL::text FROM pg_class c,"
        " aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a WHERE c.oid = ANY(%(oids)s)"
        " UNION ALL SELECT c.oid, a.*, c.relowner, att.attname FROM pg_class c JOIN pg_attribute att ON att.attrelid = c.oid,"
        " aclexplode(att.attacl) a WHERE c.oid = ANY(%(oids)s) AND NOT att.attisdropped",
        {"oids": [relation.oid for relation in relations]},
    )
    there = _existing(catalog)
    for relation in relations:
        has = [one for one in held if one.oid == relation.oid]
        target = sql.SQL("TABLE {}").format(relation.identifier)
        want = {} if relation.parent else granted[relation.name]
        private = relation.name == ApiToken.__tablename__
        found += _compare(relation.name, target, want, has, there, tolerant=not private)
    for function in protection.installed_functions(catalog):
        has = _held(
            catalog,
            "SELECT p.oid, a.*, p.proowner, NULL::text FROM pg_proc p,"
            " aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE p.oid = %(oid)s",
            {"oid": function.oid},
        )
        want = {APP: frozenset({("EXECUTE", None)})} if function.name == EXTEND else {}
        target = sql.SQL("FUNCTION {}").format(function.identifier)
        found += _compare(f"function {function.name}", target, want, has, there, tolerant=False)
    for (name,) in catalog.rows(
        "SELECT r.rolname FROM pg_roles r, pg_roles p WHERE p.rolname = 'pg_write_all_data' AND r.oid <> p.oid"
        " AND NOT r.rolsuper AND pg_has_role(r.oid, p.oid, 'MEMBER') ORDER BY 1"
    ):
        found.append(Finding("privileges", f"{name} is a member of pg_write_all_data, which may change every table"))
    return found


def schema(catalog: Catalog) -> list[Finding]:
    """Who may create in the schema could put a function in the way of one that runs as its owner."""
    held = _held(
        catalog,
        "SELECT n.oid, a.*, n.nspowner, NULL::text FROM pg_namespace n,"
        " aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a WHERE n.nspname = %(schema)s",
        {"schema": catalog.schema},
    )
    use: Privileges = frozenset({("USAGE", None)})
    want = {OWNER: use | {("CREATE", None)}, APP: use, READER: use, CHECKPOINT: use}
    # Others may look into the schema. Who owns it needs no grant, and is told under ownership.
    held = [one for one in held if one.privilege != ("USAGE", None) or one.grantee in ROLES]
    target = sql.SQL("SCHEMA {}").format(sql.Identifier(catalog.schema))
    owns = {name for (name,) in catalog.rows(
        "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %(schema)s", {"schema": catalog.schema}
    )}  # fmt: skip
    want = {role: has for role, has in want.items() if role not in owns}
    return _compare(f"schema {catalog.schema}", target, want, held, _existing(catalog), tolerant=False)


def _held(catalog: Catalog, query: str, parameters: Mapping[str, Any]) -> list[_Held]:
    rows = catalog.rows(
        "SELECT o.oid, r.rolname, o.privilege_type, o.col, o.is_grantable FROM"  # noqa: S608  # `query` is one of this module
        f" ({query}) o (oid, grantor, grantee, privilege_type, is_grantable, holder, col)"
        " LEFT JOIN pg_roles r ON r.oid = o.grantee WHERE o.grantee <> o.holder ORDER BY r.rolname, 3, 4",
        parameters,
    )
    return [_Held(oid, grantee, (kind, column), grantable) for oid, grantee, kind, column, grantable in rows]


def _existing(catalog: Catalog) -> set[str]:
    rows = catalog.rows("SELECT rolname FROM pg_roles WHERE rolname = ANY(%(roles)s)", {"roles": list(ROLES)})
    return {name for (name,) in rows}


def _compare(
    name: str,
    target: sql.Composable,
    want: Mapping[str, Privileges],
    held: Sequence[_Held],
    existing: set[str],
    *,
    tolerant: bool,
) -> list[Finding]:
    """One finding for whoever has too much of `name`, and one for each role that has too little.

    Args:
        tolerant: whether roles that are none of ours may have what changes nothing.
    """
    found = []
    for grantee in dict.fromkeys([one.grantee for one in held] + [role for role in want if role in existing]):
        wanted: Privileges = want.get(grantee, frozenset()) if grantee else frozenset()
        has = {one.privilege for one in held if one.grantee == grantee}
        passed_on = {one.privilege for one in held if one.grantee == grantee and one.grantable}
        surplus = (has - wanted) | passed_on
        if tolerant and grantee and grantee not in ROLES:
            surplus = {privilege for privilege in surplus if privilege[0] not in _HARMLESS}
        who = sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")
        # To revoke a privilege of a table takes it from its columns too, so what is wanted is granted again.
        give = [sql.SQL("GRANT {} ON {} TO {}").format(_listed(wanted), target, who)] if wanted else []
        if surplus:
            take = sql.SQL("REVOKE {} ON {} FROM {} CASCADE").format(_listed(surplus), target, who)
            says = f"{grantee or 'PUBLIC'} has {_told(surplus, passed_on & wanted)} on {name}, and must not"
            found.append(Finding("privileges", says, (take, *give)))
        if lacking := wanted - has:
            found.append(Finding("privileges", f"{grantee} lacks {_told(lacking)} on {name}", tuple(give)))
    return found


def _listed(privileges: Iterable[Privilege]) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL(kind) if column is None else sql.SQL("{} ({})").format(sql.SQL(kind), sql.Identifier(column))
        for kind, column in sorted(privileges, key=str)
    )


def _told(privileges: Iterable[Privilege], passed_on: Iterable[Privilege] = ()) -> str:
    passed_on = set(passed_on)
    return ", ".join(
        kind + (f" ({column})" if column else "") + (" WITH GRANT OPTION" if (kind, column) in passed_on else "")
        for kind, column in sorted(privileges, key=str)
    )
