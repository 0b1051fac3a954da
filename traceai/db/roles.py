"""Who may do what in a database that traceai shares with an administrator: four roles, and whether it is still so.

    traceai_owner       owns every table, partition and function; nobody logs in as it
    traceai_app         records: reads everything, inserts evidence, changes what is operation and not evidence
    traceai_reader      reads everything but the tokens
    traceai_checkpoint  reads likewise, and publishes checkpoints

They are group roles without password, which the administrator grants to logins. They belong to the whole server, and what they
may do is set up in each database (`db.privileges`).

`check` compares the catalogs with what is wanted, `harden` runs what `check` found to be the cure: the two cannot disagree.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine, text

from traceai.db import migrate, protection
from traceai.db.connection import translated
from traceai.db.privileges import APP, CHECKPOINT, OWNER, ROLES, privileges, schema, tables
from traceai.db.protection import VERSION_TABLE, Catalog, Finding, Function
from traceai.db.tables import LedgerHead, Station
from traceai.errors import ConflictError, DatabaseRefusedError, InputError

# Facts that hold for any server, and those that only a hardened one has.
PROTECTION = ("append-only", "functions", "partitions", "queries")
FACTS = ("roles", "ownership", "privileges", *PROTECTION)

# How long a table that somebody uses is waited for.
PATIENCE = "10s"
# Predefined roles whose members reach the server's files or run its programs, and with that are as good as superusers.
_POWERFUL = ("pg_read_server_files", "pg_write_server_files", "pg_execute_server_program")
_ATTRIBUTES = {
    "rolcanlogin": ("may log in", "NOLOGIN"),
    "rolsuper": ("is a superuser", "NOSUPERUSER"),
    "rolcreaterole": ("may create roles", "NOCREATEROLE"),
    "rolcreatedb": ("may create databases", "NOCREATEDB"),
    "rolreplication": ("may replicate", "NOREPLICATION"),
    "rolbypassrls": ("bypasses row security", "NOBYPASSRLS"),
}


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Attributes:
        hardened: whether roles were ever set up here; None where they would bind nobody (the embedded server).
        login: the role that looked.
        superuser: whether it is one, whom none of this binds.
        owners: who may act as the owner without being superuser, and with that may switch the triggers off.
        findings: what is not as it has to be; of roles, ownership and privileges only where `hardened`.
    """

    hardened: bool | None
    login: str
    superuser: bool
    owners: tuple[str, ...]
    findings: tuple[Finding, ...]

    def of(self, fact: str) -> list[str]:
        return [finding.says for finding in self.findings if finding.fact == fact]


@dataclass(frozen=True)
class Hardened:
    """What `harden` put right, and what it left to a person."""

    schema: str
    cured: tuple[Finding, ...]
    left: tuple[Finding, ...]


def check(engine: Engine, *, embedded: bool = False) -> Report:
    """Compare the catalogs with what this release needs. Any of the roles may ask.

    Raises:
        DatabaseRefusedError: whoever asks may not even read the ledger's size.
    """
    release = migrate.functions(engine)
    with translated(), migrate.looking(engine) as catalog:
        login, superuser, owners = _who(catalog)
        hardened = None if embedded else is_hardened(catalog)
        findings = _protection(catalog, release, pinned=bool(hardened))
        if hardened:
            findings = [*_roles(catalog), *_logins(catalog), *schema(catalog), *_ownership(catalog), *privileges(catalog),
                        *findings]  # fmt: skip
        return Report(hardened, login, superuser, owners, tuple(findings))


def harden(engine: Engine, grant: Sequence[str] = ()) -> Hardened:
    """Set up the roles, or put right what is missing of them, in one transaction. Done twice it changes nothing.

    Whoever calls it is a superuser, or may create roles and owns database and tables; that one is a member of the owner role
    afterwards. On a database that is hardened already, any member of the owner role may.

    Args:
        engine: a database at the schema of this release.
        grant: logins that record: they become members of the application role.

    Raises:
        SchemaError: the schema is missing, older or newer.
        InputError: a login does not exist, or is one that no role binds.
        ConflictError: one of the four names belongs to a role that is more than a group, or the tables are in use.
        DatabaseRefusedError: who asks may not do this.
    """
    release = migrate.functions(engine)
    with translated():
        migrate.require_current(engine)
        with migrate.looking(engine) as catalog, _refusals(catalog):
            return _harden(catalog, release, grant)


def _harden(catalog: Catalog, release: Mapping[str, Function], grant: Sequence[str]) -> Hardened:
    run = catalog.connection.execute
    run(sql.SQL("SET LOCAL lock_timeout = {}").format(PATIENCE))
    run("SELECT pg_advisory_xact_lock(%s)", [migrate.ADVISORY_LOCK])
    cured: list[Finding] = []

    def cure(found: Iterable[Finding]) -> None:
        for finding in found:
            for statement in finding.cure:
                run(statement)
            if finding.cure:
                cured.append(finding)

    groups = _roles(catalog)
    if incurable := [finding.says for finding in groups if not finding.cure]:
        raise ConflictError(f"The roles of traceai are groups and nothing more, but {'; '.join(incurable)}.")
    _require_bound(catalog, grant)
    cure(groups)
    cure(_self(catalog))
    cure(schema(catalog))
    owned = _ownership(catalog)
    if owned:
        _lock(catalog)
    cure(owned)
    with _as_owner(catalog):
        cure(protection.functions(catalog, release, pinned=True))
        cure(protection.triggers(catalog))
        cure(protection.partitions(catalog))
        cure(privileges(catalog))
    cure(_members(catalog, grant))
    left = [*_roles(catalog), *_logins(catalog), *schema(catalog), *_ownership(catalog), *privileges(catalog)]
    return Hardened(catalog.schema, tuple(cured), (*left, *_protection(catalog, release, pinned=True)))


def _protection(catalog: Catalog, release: Mapping[str, Function], *, pinned: bool) -> list[Finding]:
    return [
        *protection.triggers(catalog),
        *protection.functions(catalog, release, pinned=pinned),
        *protection.partitions(catalog),
        *protection.queries(catalog),
    ]


# --- who asks ------------------------------------------------------------------------------------------------------------


def is_hardened(catalog: Catalog) -> bool:
    return any(relation.owner == OWNER for relation in catalog.relations(tables()))


def migration_role(connection: Connection) -> str | None:
    """The role to migrate as, so that new tables belong to it; None where the database is not hardened, or not ours to migrate."""
    found = connection.execute(
        text(
            "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner"
            " WHERE c.oid = pg_catalog.to_regclass(:table) AND r.rolname = :owner AND pg_catalog.pg_has_role(r.oid, :become)"
        ),
        {"table": VERSION_TABLE, "owner": OWNER, "become": _become(_version(connection))},
    ).scalar_one_or_none()
    return OWNER if found else None


def upgrade(engine: Engine) -> tuple[str | None, str, tuple[Finding, ...]]:
    """Bring the schema up to this release. A hardened database stays hardened, whatever is new in it.

    Returns:
        The revision before, the one after, and what had to be put right for the roles.

    Raises:
        DatabaseRefusedError: the database is hardened, and whoever asks is not a member of the owner role.
    """
    with translated():
        with migrate.looking(engine) as catalog:
            hardened = is_hardened(catalog)
        if not hardened:
            return *migrate.upgrade(engine), ()
        with engine.connect() as connection:
            found, login = migration_role(connection), connection.execute(text("SELECT current_user")).scalar_one()
        if found is None and migrate.current(engine) != migrate.head(engine):
            raise DatabaseRefusedError(
                f"This database is hardened, and {login} is not a member of {OWNER}; upgrade as one who is, or as a superuser."
            )
        before, after = migrate.upgrade(engine)
    return before, after, harden(engine).cured if found else ()


def _who(catalog: Catalog) -> tuple[str, bool, tuple[str, ...]]:
    login, superuser = catalog.rows("SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user")[0]
    owners = catalog.rows(
        "SELECT r.rolname FROM pg_roles r, pg_roles owner WHERE owner.rolname = %(owner)s AND r.oid <> owner.oid"
        " AND NOT r.rolsuper AND pg_has_role(r.oid, owner.oid, 'MEMBER') ORDER BY 1",
        {"owner": OWNER},
    )
    return login, superuser, tuple(name for (name,) in owners)


def _become(version: int) -> Literal["SET", "MEMBER"]:
    """What pg_has_role calls the right to SET ROLE; PostgreSQL 16 told it from membership."""
    return "SET" if version >= 16 else "MEMBER"


def _version(connection: Connection) -> int:
    version = connection.dialect.server_version_info
    return int(version[0]) if version else 0


def _server(catalog: Catalog) -> int:
    return catalog.connection.info.server_version // 10000


def _self(catalog: Catalog) -> list[Finding]:
    """Who may create roles is not yet a member of the one that gets the tables."""
    found = catalog.rows(
        "SELECT current_user WHERE NOT pg_has_role(%(owner)s, %(become)s)",
        {"owner": OWNER, "become": _become(_server(catalog))},
    )
    return [Finding("roles", f"{login} is not a member of {OWNER}", (_grant_role(OWNER, login),)) for (login,) in found]


def _require_bound(catalog: Catalog, logins: Sequence[str]) -> None:
    for name in logins:
        row = catalog.rows(
            "SELECT r.rolsuper, r.rolinherit, r.rolname = current_user OR coalesce(pg_has_role(r.oid, owner.oid, 'MEMBER'), false)"
            " FROM pg_roles r LEFT JOIN pg_roles owner ON owner.rolname = %(owner)s WHERE r.rolname = %(name)s",
            {"owner": OWNER, "name": name},
        )
        if not row:
            raise InputError(f"There is no role {name} on this server; create it first: CREATE ROLE {name} LOGIN.")
        superuser, inherits, acts_as_owner = row[0]
        if superuser:
            raise InputError(f"The role {name} is a superuser, whom no role binds; name the login that only records.")
        if name in ROLES:
            raise InputError(f"The role {name} is a group, and no login; name the login that records.")
        if acts_as_owner:
            raise InputError(f"The role {name} may act as {OWNER}; name the login that only records.")
        if not inherits:
            raise InputError(
                f"The role {name} does not inherit what its groups may do; run: ALTER ROLE {name} INHERIT."
            )


@contextmanager
def _as_owner(catalog: Catalog) -> Iterator[None]:
    """What runs here may call functions that others could have written: with the owner's rights, and no superuser's."""
    run = catalog.connection.execute
    run(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(OWNER)))
    run(sql.SQL("SET LOCAL search_path TO {}, pg_temp").format(sql.Identifier(catalog.schema)))
    yield
    run("SET LOCAL search_path TO pg_catalog, pg_temp")
    run("RESET ROLE")


@contextmanager
def _refusals(catalog: Catalog) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        login = catalog.connection.info.user
        raise DatabaseRefusedError(
            f"The role {login} may not set up the roles ({_said(error)}); do it as a superuser, or as one that owns database and "
            "tables and may create roles."
        ) from error
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise ConflictError(
            f"Others are using the tables ({_said(error)}); try again when the line stands still."
        ) from error


def _said(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[0]


def _lock(catalog: Catalog) -> None:
    """Every table, those that an append locks first in the same order: nobody is in the middle of one meanwhile."""
    first = protection.names((Station, LedgerHead))
    there = {relation.name: relation for relation in catalog.relations(tables()) if relation.parent is None}
    for name in [*first, *sorted(set(there) - set(first))]:
        if name in there:
            catalog.connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(there[name].identifier))


# --- roles ---------------------------------------------------------------------------------------------------------------


def _roles(catalog: Catalog) -> list[Finding]:
    found = []
    columns = ", ".join(_ATTRIBUTES)
    there = {
        name: dict(zip(_ATTRIBUTES, attributes, strict=True))
        for name, *attributes in catalog.rows(
            f"SELECT rolname, {columns} FROM pg_roles WHERE rolname = ANY(%(roles)s)",  # noqa: S608  # constants
            {"roles": list(ROLES)},
        )
    }
    for role in ROLES:
        if role not in there:
            create = sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role))
            found.append(Finding("roles", f"{role} is missing", (create,)))
            continue
        for attribute, (says, without) in _ATTRIBUTES.items():
            if there[role][attribute]:
                found.append(Finding("roles", f"{role} {says} (ALTER ROLE {role} {without}, or rename it)"))
    for role, member in catalog.rows(
        "SELECT DISTINCT r.rolname, m.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid"
        " JOIN pg_roles m ON m.oid = a.member WHERE r.rolname = ANY(%(roles)s) AND m.rolname = ANY(%(roles)s)",
        {"roles": list(ROLES)},
    ):
        revoke = sql.SQL("REVOKE {} FROM {} CASCADE").format(sql.Identifier(role), sql.Identifier(member))
        found.append(Finding("roles", f"{member} is a member of {role}", (revoke,)))
    return found


def _logins(catalog: Catalog) -> list[Finding]:
    """Who writes through a role that binds, and is not bound by it. A person decides what such a login loses."""
    found = []
    for name, superuser, creates_roles, acts_as_owner, powers in catalog.rows(
        "SELECT r.rolname, r.rolsuper, r.rolcreaterole, NOT r.rolsuper AND owner.oid IS NOT NULL"
        " AND pg_has_role(r.oid, owner.oid, 'MEMBER'), ARRAY(SELECT p.rolname FROM pg_roles p"
        " WHERE p.rolname = ANY(%(powerful)s) AND NOT r.rolsuper AND pg_has_role(r.oid, p.oid, 'MEMBER') ORDER BY 1)"
        " FROM pg_roles r LEFT JOIN pg_roles owner ON owner.rolname = %(owner)s"
        " WHERE r.rolname <> %(owner)s AND EXISTS (SELECT 1 FROM pg_roles w WHERE w.rolname = ANY(%(writers)s) AND CASE WHEN"
        " r.rolsuper THEN EXISTS (SELECT 1 FROM pg_auth_members a WHERE a.roleid = w.oid AND a.member = r.oid)"
        " ELSE pg_has_role(r.oid, w.oid, 'USAGE') END) ORDER BY 1",
        {"powerful": list(_POWERFUL), "owner": OWNER, "writers": [APP, CHECKPOINT]},
    ):
        flaws = [f"is a member of {power}" for power in powers]
        if superuser:
            flaws.append("is a superuser")
        if acts_as_owner:
            flaws.append(f"may act as {OWNER}")
        if creates_roles and _server(catalog) < 16:  # there it may grant itself any of them
            flaws.append("may create roles")
        found += [Finding("roles", f"{name} records, and {flaw}") for flaw in flaws]
    return found


def _members(catalog: Catalog, logins: Sequence[str]) -> list[Finding]:
    found = catalog.rows(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY(%(names)s) AND NOT pg_has_role(oid, %(role)s, 'USAGE') ORDER BY 1",
        {"names": list(logins), "role": APP},
    )
    return [Finding("roles", f"{name} is not a member of {APP}", (_grant_role(APP, name),)) for (name,) in found]


def _grant_role(role: str, member: str) -> sql.Composed:
    return sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(member))


# --- ownership -----------------------------------------------------------------------------------------------------------


def _ownership(catalog: Catalog) -> list[Finding]:
    """Tables, partitions and functions, and what they are in: who owns schema or database may drop what is inside."""
    owner = sql.Identifier(OWNER)
    found = []
    for relation in catalog.relations(tables()):
        if relation.owner != OWNER:
            alter = sql.SQL("ALTER TABLE {} OWNER TO {}").format(relation.identifier, owner)
            found.append(Finding("ownership", f"table {relation.name} belongs to {relation.owner}", (alter,)))
    for function in protection.installed_functions(catalog):
        if function.owner != OWNER:
            alter = sql.SQL("ALTER FUNCTION {} OWNER TO {}").format(function.identifier, owner)
            says = f"function {function.name}({function.arguments}) belongs to {function.owner}"
            found.append(Finding("ownership", says, (alter,)))
    # pg_database_owner is whoever owns the database, and comes next.
    for name, holder in catalog.rows(
        "SELECT n.nspname, r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner"
        " WHERE n.nspname = %(schema)s AND NOT r.rolsuper AND r.rolname NOT IN (%(owner)s, 'pg_database_owner')",
        {"schema": catalog.schema, "owner": OWNER},
    ):
        alter = sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(sql.Identifier(name), owner)
        found.append(Finding("ownership", f"schema {name} belongs to {holder}, who may drop its tables", (alter,)))
    for name, holder, may_give in catalog.rows(
        "SELECT d.datname, r.rolname, me.rolsuper OR me.rolcreatedb FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba"
        " JOIN pg_roles me ON me.rolname = current_user"
        " WHERE d.datname = current_database() AND NOT r.rolsuper AND r.rolname <> %(owner)s",
        {"owner": OWNER},
    ):
        alter = sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), owner)
        says = f"database {name} belongs to {holder}, who may drop it, and in schema public its tables"
        found.append(Finding("ownership", says, (alter,) if may_give else ()))
    return found
