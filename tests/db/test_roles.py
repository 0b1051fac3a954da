"""The roles bind: who records cannot change what is recorded, and whatever is taken away from that is named."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from alembic import command
from fastapi.testclient import TestClient
from psycopg import sql
from sqlalchemy.engine import make_url

from tests.conftest import cloned, database_url, register_tiny
from tests.ledger.test_log import refusal
from traceai import access
from traceai.data import store
from traceai.data.snapshot import take
from traceai.db import migrate, roles
from traceai.db.connection import Database
from traceai.db.privileges import APP, CHECKPOINT, OWNER, READER, ROLES, tables
from traceai.db.protection import names
from traceai.db.roles import Hardened, Report
from traceai.db.tables import APPEND_ONLY, PARTITIONED
from traceai.errors import ConflictError, DatabaseRefusedError, InputError
from traceai.inspection import history
from traceai.inspection.history import Filter
from traceai.ledger import log
from traceai.ledger.verification import verifier
from traceai.review import verdicts
from traceai.sdk import Trace, connect
from traceai.settings import Settings
from traceai_api.app import create_app
from traceai_reports import audit_report, evidence

LOGINS = {"line4": APP, "alice": READER, "notary": CHECKPOINT}
PARTS = [f"{name}_p0" for name in names(PARTITIONED)]
DENIED = "permission denied|must be owner"


@dataclass(frozen=True)
class Site:
    """A server with a database of this test's own; `url` is the administrator's."""

    server: str
    url: str

    @property
    def database(self) -> str:
        return str(make_url(self.url).database)

    def url_of(self, login: str) -> str:
        return make_url(self.url).set(username=login).render_as_string(hide_password=False)

    def sql(self, *statements: str, login: str | None = None) -> list[tuple]:
        """Each by itself, as the administrator or as a login; returns what the last one returned."""
        with psycopg.connect(self.url_of(login) if login else self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def opened(self, login: str | None = None) -> Iterator[Database]:
        with Database.open(Settings(database_url=self.url_of(login) if login else self.url)) as database:
            yield database

    def harden(self, *grant: str, login: str | None = None) -> Hardened:
        with self.opened(login) as database:
            return roles.harden(database.engine, grant)

    def check(self, login: str | None = None) -> Report:
        with self.opened(login) as database:
            return roles.check(database.engine)

    def findings(self) -> list[str]:
        return [f"{finding.fact}: {finding.says}" for finding in self.check().findings]


def known_roles(server: str) -> set[str]:
    with psycopg.connect(server) as connection:
        return {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}


@pytest.fixture(params=["server", "server_15"], ids=["18", "15"])
def bare(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Migrated and not hardened. Roles belong to the whole server, so those that a test makes go when it ends."""
    server = request.getfixturevalue(request.param)
    before = known_roles(server)
    for url in cloned(server):
        yield Site(server, url)
    with psycopg.connect(server, autocommit=True) as connection:
        # Those of traceai first: whoever granted them has to stay until they are gone.
        for name in sorted(known_roles(server) - before, key=lambda name: (name not in ROLES, name)):
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def site(bare: Site) -> Site:
    """Hardened, with a login for each group."""
    bare.sql(*(f"CREATE ROLE {login} LOGIN" for login in LOGINS))
    assert bare.harden("line4").left == ()
    bare.sql(*(f"GRANT {role} TO {login}" for login, role in LOGINS.items() if role != APP))
    return bare


@pytest.fixture
def line(site: Site, tmp_path: Path) -> Iterator[Trace]:
    """The ledger as the login that records opens it."""
    with connect(Settings(home=tmp_path / "home", database_url=site.url_of("line4"))) as trace:
        yield trace


# --- who records ---------------------------------------------------------------------------------------------------------


def test_who_records_can_do_everything_that_the_code_does(
    line: Trace, site: Site, images: Sequence[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "classes"
    for number, path in enumerate(images):
        target = folder / ("good", "dent")[number % 2]
        target.mkdir(parents=True, exist_ok=True)
        (target / path.name).write_bytes(path.read_bytes())
    with line.database.session() as session:
        store.save(session, line.blobs, take(folder, "tiles"), made_by="erin")
    reference = register_tiny(line)
    line.add_station("press-4", audit_pass_probability=1.0)
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:70])
    decisions = list(line.inspector(reference, "press-4").inspect_many([*images, broken]))
    with line.database.session() as session:
        verdicts.add(session, history.find(session, decisions[0].id), truth="good", reviewer="ruth")
        access.add_user(session, "alice", "auditor")
        token = access.create_token(session, "alice")
    with TestClient(create_app(line), headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.get("/v1/inspections").status_code == 200
    with line.database.session() as session:
        assert access.revoke_tokens(session, "alice") == 1
    about = evidence.issue("erin")
    digest = audit_report(evidence.audit(line, Filter(), about, "Audit"), tmp_path / "audit.pdf")
    evidence.record_issue(line, "audit", digest, {}, about)
    line.checkpoint()
    line.signer.rotate("ada", "Yearly.")
    outcome = verifier.verify(line.database.engine, line.blobs)
    assert outcome.holds, [fact.findings for fact in outcome.facts]
    counts = {
        table: site.sql(f"SELECT count(*) FROM {table}")[0][0]
        for table in ("inspection", "heat_map", "review", "dataset_image", "checkpoint", "access_log", "report_issued")
    }
    assert counts == {
        "inspection": 13, "heat_map": 12, "review": 1, "dataset_image": 12, "checkpoint": 3, "access_log": 1,
        "report_issued": 1,
    }  # fmt: skip
    assert site.findings() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {table} SET {column} = {column}",
        "DELETE FROM {table}",
        "TRUNCATE {table} CASCADE",
        "ALTER TABLE {table} DISABLE TRIGGER append_only_rows",
        "ALTER TABLE {table} DISABLE TRIGGER ALL",
        "DROP TRIGGER append_only_table ON {table}",
        "DROP TABLE {table} CASCADE",
        "ALTER TABLE {table} OWNER TO CURRENT_USER",
        "ALTER TABLE {table} ADD COLUMN mine int",
        "CREATE TRIGGER mine BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION tsvector_update_trigger()",
        "CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
    ],
)
def test_no_login_changes_evidence_or_what_protects_it(site: Site, statement: str) -> None:
    columns = {str(table.__tablename__): next(iter(table.__table__.c)).name for table in APPEND_ONLY}
    for login in LOGINS:
        with psycopg.connect(site.url_of(login), autocommit=True) as connection:
            for table in [*columns, *PARTS]:
                column = columns[table.removesuffix("_p0")]
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match=DENIED):
                    connection.execute(statement.format(table=table, column=f'"{column}"').encode())


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE OR REPLACE FUNCTION traceai_refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "DROP FUNCTION traceai_refuse_change() CASCADE",
        "ALTER FUNCTION traceai_extend(bigint) RESET ALL",
        "SELECT traceai_protect('journal')",
        "SET ROLE traceai_owner",
        "SET session_replication_role = replica",
        "CREATE TABLE journal_p1 (mine int)",
        "CREATE FUNCTION format(text, text) RETURNS text LANGUAGE sql AS 'SELECT NULL'",
        "DROP SCHEMA public CASCADE",
        "UPDATE station SET audit_pass_probability = 0.001",
        "UPDATE app_user SET role = 'admin'",
        "DELETE FROM api_token",
        "DELETE FROM ledger_head",
        "UPDATE alembic_version SET version_num = '0000'",
        "INSERT INTO journal_p0 VALUES (0, '', '')",
    ],
)
def test_no_login_gets_around_the_roles(site: Site, statement: str) -> None:
    for login in LOGINS:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            site.sql(statement, login=login)


def test_the_ledger_grows_into_a_partition_that_who_records_cannot_touch(site: Site) -> None:
    half = log.PARTITION // 2 - 1
    with psycopg.connect(site.url, autocommit=True) as connection:
        connection.execute("UPDATE ledger_head SET size = %s, frontier = %s", [half, bytes(32 * half.bit_count())])
    with site.opened("line4") as database, database.session() as session:
        log.append(session, [refusal()])
    assert site.sql(
        "SELECT c.relname, pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.relname LIKE '%\\_p1' AND relkind = 'r' ORDER BY 1"
    ) == [("heat_map_p1", OWNER), ("inspection_p1", OWNER), ("journal_p1", OWNER)]
    for statement in ("TRUNCATE journal_p1", "DELETE FROM heat_map_p1", "SELECT * FROM inspection_p1"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=DENIED):
            site.sql(statement, login="line4")
    assert site.findings() == []


def test_nothing_of_the_callers_stands_in_the_way_of_a_new_partition(site: Site) -> None:
    site.sql(
        "CREATE TEMP TABLE journal (mine int)",
        "CREATE TEMP TABLE inspection (mine int)",
        f"SELECT traceai_extend({log.PARTITION})",
        login="line4",
    )
    assert site.sql("SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid AND relkind = 'r'") == [
        (6,)
    ]


def test_whoever_records_cannot_have_a_million_partitions_made(site: Site) -> None:
    site.sql("UPDATE ledger_head SET size = 1::bigint << 40", "SELECT traceai_extend(1::bigint << 60)", login="line4")
    assert site.sql("SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid AND relkind = 'r'") == [
        (3 * 5,)
    ]


def test_a_size_that_whoever_records_made_up_is_told_and_has_nothing_made(site: Site) -> None:
    site.sql("UPDATE ledger_head SET size = 1::bigint << 62", login="line4")
    says = [
        f"partitions: {name}: there is no partition for ledger index 1048576 to 2097151" for name in names(PARTITIONED)
    ]
    assert site.findings() == says
    hardened = site.harden()
    assert hardened.cured == ()
    assert [f"{finding.fact}: {finding.says}" for finding in hardened.left] == says


def test_room_is_made_by_the_journal_and_by_nothing_that_whoever_records_says(site: Site) -> None:
    """From the newest entry on, and no further than four partitions at once."""
    last = log.PARTITION - 1
    site.sql(
        f"SELECT traceai_extend({last})", "SELECT traceai_extend(-1)", "SELECT traceai_extend(NULL)", login="line4"
    )
    site.sql(
        f"INSERT INTO journal VALUES ({last}, '\\x', sha256(''))",
        "SELECT traceai_extend(9223372036854775807)",
        login="line4",
    )
    assert [name for (name,) in site.sql(
        "SELECT c.relname FROM pg_class c WHERE relname LIKE 'journal\\_p%' AND relkind = 'r' ORDER BY 1"
    )] == [f"journal_p{number}" for number in range(5)]  # fmt: skip


# --- who reads, and who signs -----------------------------------------------------------------------------------------


def test_who_reads_can_search_and_verify_and_enters_nothing(
    site: Site, line: Trace, images: Sequence[Path], tmp_path: Path
) -> None:
    line.add_station("press-4", audit_pass_probability=1.0)
    list(line.inspector(register_tiny(line), "press-4").inspect_many(images))
    with connect(Settings(home=tmp_path / "auditor", database_url=site.url_of("alice"))) as trace:
        outcome = verifier.verify(trace.database.engine, line.blobs, workers=2)
        assert outcome.holds
        assert outcome.size == line.checkpoint().size
        with trace.database.session() as session:
            assert len(history.search(session, Filter(), limit=50).rows) == 12
        with pytest.raises(DatabaseRefusedError, match="permission denied for table station"):
            trace.add_station("press-5")
    for table in tables():
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            site.sql(f"INSERT INTO {table} SELECT * FROM {table}", login="alice")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        site.sql("SELECT * FROM api_token", login="alice")


def test_who_signs_publishes_checkpoints_and_nothing_else(site: Site, line: Trace) -> None:
    line.checkpoint()
    with line.database.session() as session:
        log.append(session, [refusal()])
    with connect(Settings(home=line.settings.home, database_url=site.url_of("notary"))) as trace:
        stored = trace.checkpoint()
        assert verifier.verify(trace.database.engine).holds
    assert stored.size == 2
    assert site.sql("SELECT size FROM checkpoint ORDER BY size") == [(1,), (2,)]
    for table in set(tables()) - {"checkpoint"}:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            site.sql(f"INSERT INTO {table} SELECT * FROM {table}", login="notary")


def test_a_login_without_a_role_is_told_so(site: Site) -> None:
    site.sql("CREATE ROLE stranger LOGIN")
    with pytest.raises(DatabaseRefusedError, match="permission denied for table alembic_version"):
        Database.open(Settings(database_url=site.url_of("stranger")))


# --- the owner ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement", ["UPDATE {table} SET {column} = {column}", "DELETE FROM {table}", "TRUNCATE {table} CASCADE"]
)
def test_not_even_the_owner_changes_evidence_in_a_replication_session(
    site: Site, line: Trace, images: Sequence[Path], statement: str
) -> None:
    line.add_station("press-4", audit_pass_probability=1.0)
    list(line.inspector(register_tiny(line), "press-4").inspect_many(images))
    line.checkpoint()
    refused = set()
    with psycopg.connect(site.url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(f"SET ROLE {OWNER}")
        for table in [*names(APPEND_ONLY), *PARTS]:
            column = connection.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum = 1", [table]
            ).fetchone()[0]
            rows = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()[0]
            if rows or statement.startswith("TRUNCATE"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                    connection.execute(statement.format(table=table, column=f'"{column}"').encode())
                refused.add(table)
    assert refused >= {"journal", "inspection", "model_event", "heat_map", "checkpoint", "ledger_opened", *PARTS}


# --- hardening ---------------------------------------------------------------------------------------------------------


CATALOGS = """
    SELECT 'class', c.oid::text, c.xmin::text, c.relacl::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'column', attrelid || ' ' || attnum, a.xmin::text, attacl::text FROM pg_attribute a
        JOIN pg_class c ON c.oid = attrelid WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'function', oid::text, xmin::text, proacl::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', oid::text, xmin::text, tgenabled::text FROM pg_trigger
    UNION ALL SELECT 'schema', oid::text, xmin::text, nspacl::text FROM pg_namespace
    UNION ALL SELECT 'database', oid::text, xmin::text, datacl::text FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'role', oid::text, xmin::text, rolname FROM pg_authid
    UNION ALL SELECT 'member', roleid || ' ' || member, xmin::text, admin_option::text FROM pg_auth_members
    ORDER BY 1, 2
"""


def test_hardening_twice_touches_nothing(site: Site) -> None:
    before = site.sql(CATALOGS)
    assert site.harden("line4").cured == ()
    assert site.sql(CATALOGS) == before


def test_two_databases_of_one_server_are_hardened_each(site: Site) -> None:
    for url in cloned(site.server):
        other = Site(site.server, url)
        assert not other.check().hardened
        site.sql("CREATE ROLE line5 LOGIN")
        assert {finding.fact for finding in other.harden("line5").cured} >= {"ownership", "privileges"}
        for one, login in ((site, "line4"), (other, "line5")):
            assert one.findings() == []
            with one.opened(login) as database, database.session() as session:
                log.append(session, [refusal()])
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=DENIED):
                one.sql("TRUNCATE journal_p0", login=login)


def test_the_administrator_need_not_be_a_superuser(bare: Site) -> None:
    """As on a hosted server: whoever may create roles and databases owns the one that traceai is given."""
    bare.sql("CREATE ROLE dba LOGIN CREATEROLE CREATEDB", "CREATE ROLE line4 LOGIN", "CREATE DATABASE hosted OWNER dba")
    hosted = Site(bare.server, database_url(bare.url, "hosted"))
    try:
        with Database.open(Settings(database_url=hosted.url_of("dba")), check_schema=False) as database:
            migrate.upgrade(database.engine)
        with pytest.raises(InputError, match="The role dba may act as traceai_owner"):
            hosted.harden("dba", login="dba")
        assert hosted.harden("line4", login="dba").left == ()
        assert hosted.harden("line4", login="dba").cured == ()
        report = hosted.check("dba")
        assert (report.findings, report.owners, report.superuser) == ((), ("dba",), False)
        with hosted.opened("line4") as database, database.session() as session:
            log.append(session, [refusal()])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=DENIED):
            hosted.sql("TRUNCATE journal_p0", login="line4")
    finally:
        bare.sql("DROP DATABASE hosted WITH (FORCE)")


def test_who_may_not_create_roles_is_refused_and_nothing_is_half_done(bare: Site) -> None:
    bare.sql("CREATE ROLE line4 LOGIN", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO line4")
    with pytest.raises(DatabaseRefusedError, match="The role line4 may not set up the roles"):
        bare.harden(login="line4")
    assert not known_roles(bare.server) & set(ROLES)
    assert bare.check().hardened is False


@pytest.mark.parametrize(
    ("made", "grant", "says"),
    [
        ("SELECT 1", "nobody", "no role nobody"),
        ("CREATE ROLE boss LOGIN SUPERUSER", "boss", "is a superuser"),
        ("CREATE ROLE mallory LOGIN IN ROLE traceai_owner", "mallory", "may act as traceai_owner"),
        ("CREATE ROLE deaf LOGIN NOINHERIT", "deaf", "ALTER ROLE deaf INHERIT"),
        ("SELECT 1", APP, "is a group"),
    ],
)
def test_a_login_that_no_role_binds_is_not_granted_one(site: Site, made: str, grant: str, says: str) -> None:
    site.sql(made)
    before = site.sql(CATALOGS)
    with pytest.raises(InputError, match=says):
        site.harden(grant)
    assert site.sql(CATALOGS) == before


def test_a_login_that_has_one_of_the_names_is_left_alone(bare: Site) -> None:
    bare.sql(f"CREATE ROLE {APP} LOGIN")
    with pytest.raises(ConflictError, match=f"{APP} may log in .ALTER ROLE {APP} NOLOGIN, or rename it"):
        bare.harden()
    assert known_roles(bare.server) & set(ROLES) == {APP}


def test_tables_in_use_are_not_waited_for_for_ever(bare: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "PATIENCE", "50ms")
    with psycopg.connect(bare.url) as connection:
        connection.execute("SELECT * FROM station FOR UPDATE")
        with pytest.raises(ConflictError, match="Others are using the tables"):
            bare.harden()
    assert not known_roles(bare.server) & set(ROLES)


def test_hardening_runs_nothing_that_somebody_left_there_with_the_rights_of_a_superuser(bare: Site) -> None:
    """Who owned the database, or could create in its schema, waits for the administrator."""
    trap = "LANGUAGE plpgsql AS $$BEGIN ALTER ROLE mallory SUPERUSER; RETURN NULL; END$$"
    bare.sql(
        "CREATE ROLE mallory LOGIN",
        f"CREATE OR REPLACE FUNCTION traceai_protect(target regclass) RETURNS void {trap.replace('RETURN NULL;', '')}",
        "ALTER FUNCTION traceai_protect(regclass) OWNER TO mallory",
        "DROP TRIGGER append_only_table ON review",
        "GRANT CREATE ON SCHEMA public TO mallory",
    )
    bare.sql(
        f"CREATE FUNCTION public.format(text, regclass) RETURNS text {trap}",
        f"CREATE FUNCTION public.pg_has_role(name, oid, text) RETURNS bool {trap}",
        f"CREATE FUNCTION public.pg_get_expr(pg_node_tree, oid) RETURNS text {trap}",
        login="mallory",
    )
    # With a function in the way of its own, hardening fails rather than lend out its rights.
    with pytest.raises(DatabaseRefusedError):
        bare.harden()
    assert bare.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'") == [(False,)]
    bare.sql("DROP FUNCTION public.format(text, regclass)")
    assert [finding.says.partition(":")[0] for finding in bare.harden().left] == [
        "function public.pg_get_expr(pg_node_tree,oid)", "function public.pg_has_role(name,oid,text)"
    ]  # fmt: skip
    assert bare.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'") == [(False,)]


# --- what is missing -----------------------------------------------------------------------------------------------------

EMPTY = (
    "CREATE OR REPLACE FUNCTION traceai_refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
)
NEVER = (
    "DROP TRIGGER append_only_rows ON review",
    "CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON review FOR EACH ROW WHEN (false)"
    " EXECUTE FUNCTION traceai_refuse_change()",
    "ALTER TABLE review ENABLE ALWAYS TRIGGER append_only_rows",
)
OTHER = (
    "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "DROP TRIGGER append_only_table ON inspection_p0",
    "CREATE TRIGGER append_only_table BEFORE TRUNCATE ON inspection_p0 EXECUTE FUNCTION mine()",
    "ALTER TABLE inspection_p0 ENABLE ALWAYS TRIGGER append_only_table",
)
INDEPENDENT = (
    "DROP TRIGGER append_only_rows ON journal",
    "SELECT traceai_protect('journal_p0')",
)

CURABLE = {
    "a partition's trigger dropped": (
        ("DROP TRIGGER append_only_table ON journal_p0",), ["append-only: journal_p0: append_only_table is missing"],
    ),
    "a partition's trigger switched off": (
        ("ALTER TABLE journal_p0 DISABLE TRIGGER append_only_rows",),
        ["append-only: journal_p0: append_only_rows is switched off"],
    ),
    "a trigger that a replication session passes": (
        ("ALTER TABLE review ENABLE TRIGGER append_only_table",),
        ["append-only: review: append_only_table does not fire in a replication session"],
    ),
    "a parent's trigger dropped": (
        ("DROP TRIGGER append_only_rows ON heat_map",),
        ["append-only: heat_map: append_only_rows is missing", "append-only: heat_map_p0: append_only_rows is missing"],
    ),
    "a parent's trigger dropped, not its partition's": (
        INDEPENDENT, ["append-only: journal: append_only_rows is missing"],
    ),
    "a trigger with a condition": (NEVER, ["append-only: review: append_only_rows is another trigger of that name"]),
    "a trigger with another function": (
        OTHER, ["append-only: inspection_p0: append_only_table is another trigger of that name"],
    ),
    "an emptied function": ((EMPTY,), ["functions: traceai_refuse_change is not as this release installs it"]),
    "a function with another body": (
        ("CREATE OR REPLACE FUNCTION traceai_protect(target regclass) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'",),
        ["functions: traceai_protect is not as this release installs it"],
    ),
    "a function that no longer runs as its owner": (
        ("ALTER FUNCTION traceai_extend(bigint) SECURITY INVOKER",),
        ["functions: traceai_extend is not as this release installs it"],
    ),
    "a function that looks wherever its caller does": (
        ("ALTER FUNCTION traceai_extend(bigint) RESET ALL",),
        ["privileges: traceai_extend runs as its owner, and calls what others could put in its way"],
    ),
    "a function dropped": (
        ("DROP FUNCTION traceai_extend(bigint)",), ["functions: traceai_extend is missing"],
    ),
    "a table of another owner": (
        ("ALTER TABLE review OWNER TO line4",), ["ownership: table review belongs to line4"],
    ),
    "a partition of another owner": (
        ("ALTER TABLE journal_p0 OWNER TO line4",), ["ownership: table journal_p0 belongs to line4"],
    ),
    "a function of another owner": (
        ("ALTER FUNCTION traceai_refuse_change() OWNER TO line4",),
        ["ownership: function traceai_refuse_change() belongs to line4"],
    ),
    "a schema of another owner": (
        ("ALTER SCHEMA public OWNER TO line4",), ["ownership: schema public belongs to line4, who may drop its tables"],
    ),
    "a database of another owner": (
        ("ALTER DATABASE {database} OWNER TO line4",),
        ["ownership: database {database} belongs to line4, who may drop it, and in schema public its tables"],
    ),
    "UPDATE for a login": (
        ("GRANT UPDATE ON review TO line4",), ["privileges: line4 has UPDATE on review, and must not"],
    ),
    "UPDATE of one column for all": (
        ("GRANT UPDATE (note) ON review TO PUBLIC",), ["privileges: PUBLIC has UPDATE (note) on review, and must not"],
    ),
    "DELETE on a partition": (
        (f"GRANT DELETE ON heat_map_p0 TO {APP}",), [f"privileges: {APP} has DELETE on heat_map_p0, and must not"],
    ),
    "TRUNCATE and TRIGGER": (
        (f"GRANT TRUNCATE, TRIGGER ON journal TO {APP}",),
        [f"privileges: {APP} has TRIGGER, TRUNCATE on journal, and must not"],
    ),
    "UPDATE of a whole row of operations": (
        (f"GRANT UPDATE ON station TO {APP}",), [f"privileges: {APP} has UPDATE on station, and must not"],
    ),
    "a privilege to pass on": (
        (f"GRANT INSERT ON review TO {APP} WITH GRANT OPTION",),
        [f"privileges: {APP} has INSERT WITH GRANT OPTION on review, and must not"],
    ),
    "INSERT for who reads": (
        (f"GRANT INSERT ON journal TO {READER}",), [f"privileges: {READER} has INSERT on journal, and must not"],
    ),
    "tokens for who reads": (
        (f"GRANT SELECT ON api_token TO {READER}, alice",),
        ["privileges: alice has SELECT on api_token, and must not",
         f"privileges: {READER} has SELECT on api_token, and must not"],
    ),
    "everything to see for all": (
        ("GRANT SELECT ON inspection TO PUBLIC",), ["privileges: PUBLIC has SELECT on inspection, and must not"],
    ),
    "a function for all": (
        ("GRANT EXECUTE ON FUNCTION traceai_protect(regclass) TO PUBLIC",),
        ["privileges: PUBLIC has EXECUTE on function traceai_protect, and must not"],
    ),
    "the schema for all": (
        ("GRANT CREATE ON SCHEMA public TO PUBLIC",), ["privileges: PUBLIC has CREATE on schema public, and must not"],
    ),
    "a privilege too few": (
        (f"REVOKE INSERT ON journal FROM {APP}", f"REVOKE UPDATE (last_seq) ON station FROM {APP}"),
        [f"privileges: {APP} lacks INSERT on journal", f"privileges: {APP} lacks UPDATE (last_seq) on station"],
    ),
    "who records is a member of the owner": (
        (f"GRANT {OWNER} TO {APP}",),
        [f"roles: {APP} is a member of {OWNER}", f"roles: line4 records, and may act as {OWNER}",
         f"roles: {APP} records, and may act as {OWNER}"],
    ),
    "who reads is a member of who records": (
        (f"GRANT {APP} TO {READER}",), [f"roles: {READER} is a member of {APP}"],
    ),
    "the next partition": (
        (f"UPDATE ledger_head SET size = {log.PARTITION // 2}",),
        [f"partitions: {name}: there is no partition for ledger index 1048576 to 2097151" for name in names(PARTITIONED)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("taken", CURABLE)
def test_what_is_taken_away_is_named_and_put_back(site: Site, taken: str) -> None:
    statements, says = CURABLE[taken]
    before = site.sql("SELECT count(*) FROM pg_trigger")
    site.sql(*(statement.format(database=site.database) for statement in statements))
    assert sorted(site.findings()) == sorted(line.format(database=site.database) for line in says)
    hardened = site.harden()
    assert hardened.left == ()
    assert site.findings() == []
    if taken != "the next partition":
        assert site.sql("SELECT count(*) FROM pg_trigger") == before
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        site.sql("TRUNCATE inspection_p0")


FOR_A_PERSON = {
    "a superuser that records": (("ALTER ROLE line4 SUPERUSER",), "roles: line4 records, and is a superuser"),
    "the owner's role for a login that records": (
        (f"GRANT {OWNER} TO line4",), f"roles: line4 records, and may act as {OWNER}",
    ),
    "the server's programs for a login that signs": (
        ("GRANT pg_execute_server_program TO notary",),
        "roles: notary records, and is a member of pg_execute_server_program",
    ),
    "every table for anybody": (
        ("GRANT pg_write_all_data TO alice",),
        "privileges: alice is a member of pg_write_all_data, which may change every table",
    ),
    "a table that is gone": (("DROP TABLE model_refused",), "append-only: model_refused: the table is missing"),
    "a partition with entries that is gone": (
        (f"SELECT traceai_extend({2 * log.PARTITION})", f"UPDATE ledger_head SET size = {log.PARTITION + 5}",
         "DROP TABLE journal_p1"),
        "partitions: journal: there is no partition for ledger index 1048576 to 2097151",
    ),
    "a second function of the name": (
        ("CREATE FUNCTION traceai_extend(last integer) RETURNS void LANGUAGE sql AS ''",
         f"ALTER FUNCTION traceai_extend(integer) OWNER TO {OWNER}",
         "REVOKE ALL ON FUNCTION traceai_extend(integer) FROM PUBLIC",
         f"GRANT EXECUTE ON FUNCTION traceai_extend(integer) TO {APP}"),
        "functions: there are traceai_extend(last bigint) and traceai_extend(last integer); drop what this release did not"
        " install",
    ),
    "row security": (
        ("ALTER TABLE app_user ENABLE ROW LEVEL SECURITY",),
        "queries: table app_user: row-level security is on, which can show different rows to different readers",
    ),
    "row security of a partition": (
        ("ALTER TABLE journal_p0 ENABLE ROW LEVEL SECURITY",),
        "queries: table journal_p0: row-level security is on, which can show different rows to different readers",
    ),
    "a rule": (
        ("CREATE RULE quiet AS ON INSERT TO access_log DO INSTEAD NOTHING",),
        "queries: table access_log: the rule quiet has PostgreSQL do something else than it is asked",
    ),
    "a table that adds its rows": (
        ("CREATE TABLE more () INHERITS (review)",),
        "queries: table more: it inherits from review, and its rows are shown as rows of that one",
    ),
    "another order of texts": (
        ('ALTER TABLE review ALTER note TYPE varchar COLLATE "C"',),
        'queries: table review, column note: it compares by the collation "C", and not by that of its type',
    ),
    "an operator": (
        ("CREATE FUNCTION alike(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT true'",
         "CREATE OPERATOR = (FUNCTION = alike, LEFTARG = varchar, RIGHTARG = varchar)"),
        "queries: operator public.=(character varying,character varying): it is not PostgreSQL's own, and whoever asks would have"
        " to believe it",
    ),
    "an operator of PostgreSQL's given another function": (
        ("CREATE FUNCTION alike(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
         "UPDATE pg_operator SET oprcode = 'alike(text, text)'::regprocedure WHERE oid = '=(text,text)'::regoperator"),
        "queries: operator =(text,text): it is not PostgreSQL's own, and whoever asks would have to believe it",
    ),
    "an operator in an extension that is another's": (
        ("CREATE FUNCTION alike(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT true'",
         "CREATE OPERATOR = (FUNCTION = alike, LEFTARG = varchar, RIGHTARG = varchar)",
         "ALTER EXTENSION plpgsql ADD OPERATOR = (varchar, varchar)"),
        "queries: operator public.=(character varying,character varying): it is not PostgreSQL's own, and whoever asks would have"
        " to believe it",
    ),
    "an order of texts of one's own": (
        ("CREATE FUNCTION alike(varchar, varchar) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0'",
         "CREATE OPERATOR CLASS all_one DEFAULT FOR TYPE varchar USING btree AS FUNCTION 1 alike(varchar, varchar)"),
        "queries: operator class all_one of btree for character varying: it is not PostgreSQL's own, and whoever sorts or searches"
        " would have to believe it",
    ),
    "a function that fits better": (
        ("CREATE FUNCTION lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'",),
        "queries: function public.lower(character varying): it is not PostgreSQL's own, and whoever asks would have to believe it",
    ),
    "a cast": (
        ("CREATE FUNCTION spell(bool) RETURNS numeric LANGUAGE sql AS 'SELECT 1::numeric'",
         "CREATE CAST (bool AS numeric) WITH FUNCTION spell(bool)"),
        "queries: cast from boolean to numeric: it is not PostgreSQL's own, and whoever asks would have to believe it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("done", FOR_A_PERSON)
def test_what_a_person_has_to_decide_is_named_and_left(site: Site, done: str) -> None:
    statements, says = FOR_A_PERSON[done]
    site.sql(*statements)
    assert site.findings() == [says]
    hardened = site.harden()
    assert hardened.cured == ()
    assert [f"{finding.fact}: {finding.says}" for finding in hardened.left] == [says]


def test_what_belongs_to_the_site_comes_between_nothing(site: Site) -> None:
    site.sql(
        "CREATE TYPE part_no AS (number int)",
        "CREATE FUNCTION alike(part_no, part_no) RETURNS bool LANGUAGE sql AS 'SELECT true'",
        "CREATE OPERATOR = (FUNCTION = alike, LEFTARG = part_no, RIGHTARG = part_no)",
        "CREATE FUNCTION parts_made(day date) RETURNS int LANGUAGE sql AS 'SELECT 0'",
    )
    offered = (
        "SELECT name FROM pg_available_extensions WHERE name IN ('vector', 'citext', 'pg_trgm', 'btree_gist', 'hstore')"
    )
    for (extension,) in site.sql(offered):
        site.sql(f"CREATE EXTENSION {extension}")
    assert site.findings() == []


def test_schemas_that_the_search_path_has_first_are_told(site: Site) -> None:
    site.sql(
        "CREATE SCHEMA early",
        "CREATE FUNCTION early.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT $1'",
        f'ALTER DATABASE "{site.database}" SET search_path = early, public, pg_catalog',
    )
    assert site.findings() == [
        "queries: function early.sha256(bytea): it is not PostgreSQL's own, and whoever asks would have to believe it",
        "queries: schema early: the search path of this connection has it before PostgreSQL's own",
        "queries: schema public: the search path of this connection has it before PostgreSQL's own",
    ]


def test_a_view_in_the_place_of_a_table_is_told(bare: Site) -> None:
    bare.sql("ALTER TABLE app_user RENAME TO hidden", "CREATE VIEW app_user AS SELECT * FROM hidden")
    assert bare.findings() == [
        "queries: table app_user: it is no table of this database, and can show different rows to different readers"
    ]


def test_a_group_that_became_a_login_is_named_and_not_worked_with(site: Site) -> None:
    site.sql(f"ALTER ROLE {OWNER} LOGIN")
    assert site.findings() == [f"roles: {OWNER} may log in (ALTER ROLE {OWNER} NOLOGIN, or rename it)"]
    with pytest.raises(ConflictError, match="groups and nothing more"):
        site.harden()


def test_who_may_create_roles_is_as_good_as_the_owner_before_postgresql_16(site: Site, request) -> None:
    site.sql("ALTER ROLE line4 CREATEROLE")
    says = ["roles: line4 records, and may create roles"] if request.node.callspec.id == "15" else []
    assert site.findings() == says


def test_a_role_of_the_sites_own_may_read(site: Site) -> None:
    site.sql("CREATE ROLE dashboards", "GRANT SELECT ON inspection, review TO dashboards")
    assert site.findings() == []
    site.sql("DROP OWNED BY dashboards")


def test_who_may_act_as_the_owner_is_told(site: Site) -> None:
    site.sql(f"CREATE ROLE dba LOGIN IN ROLE {OWNER}")
    assert site.check("dba") == Report(True, "dba", False, ("dba",), ())
    assert site.check().superuser


def test_every_role_may_check(site: Site) -> None:
    for login in LOGINS:
        assert site.check(login).findings == ()


def test_a_database_that_was_never_hardened_is_not_one_that_lost_everything(bare: Site) -> None:
    bare.sql("ALTER TABLE heat_map_p0 DISABLE TRIGGER append_only_table")
    report = bare.check()
    assert report.hardened is False
    assert [finding.says for finding in report.findings] == ["heat_map_p0: append_only_table is switched off"]
    with bare.opened() as database:
        assert roles.check(database.engine, embedded=True).hardened is None
        assert migrate.unprotected(database.engine) == ["heat_map_p0"]


# --- migrations ----------------------------------------------------------------------------------------------------------


def test_what_a_member_of_the_owner_migrates_belongs_to_the_owner(site: Site) -> None:
    site.sql(f"CREATE ROLE dba LOGIN IN ROLE {OWNER}")
    with Database.open(Settings(database_url=site.url_of("dba")), check_schema=False) as database:
        command.downgrade(migrate.configuration(database.engine), "base")
        assert roles.upgrade(database.engine)[:2] == (None, migrate.head(database.engine))
        with database.session() as session:
            assert session.connection().exec_driver_sql("SELECT current_user").scalar_one() == "dba"
    assert site.findings() == []
    with site.opened("line4") as database, database.session() as session:
        log.append(session, [refusal()])


def test_a_superuser_migrates_for_the_owner_too(site: Site) -> None:
    with Database.open(Settings(database_url=site.url), check_schema=False) as database:
        command.downgrade(migrate.configuration(database.engine), "base")
        cured = roles.upgrade(database.engine)[2]
    assert {finding.fact for finding in cured} == {"privileges"}
    assert site.findings() == []


def test_who_is_no_member_of_the_owner_does_not_migrate(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with site.opened("line4") as database:
        assert roles.upgrade(database.engine)[2] == ()
        monkeypatch.setattr(migrate, "head", lambda _: "0002")
        with pytest.raises(DatabaseRefusedError, match=f"line4 is not a member of {OWNER}"):
            roles.upgrade(database.engine)


def test_a_new_database_beside_a_hardened_one_is_migrated_as_anywhere(site: Site) -> None:
    site.sql("CREATE DATABASE beside")
    try:
        beside = Site(site.server, database_url(site.url, "beside"))
        with Database.open(Settings(database_url=beside.url), check_schema=False) as database:
            assert roles.upgrade(database.engine)[0] is None
        assert beside.check().hardened is False
    finally:
        site.sql("DROP DATABASE beside WITH (FORCE)")
