"""`traceai db harden` and `traceai db check` on a server of one's own, and on the embedded one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.cli.conftest import Run
from traceai.db.privileges import ROLES
from traceai.sdk import Trace


@pytest.fixture
def login(here: Trace, clone: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Has the command line connect as another role from here on. Roles belong to the server, and go again."""
    made = list(ROLES)

    def become(name: str) -> None:
        with psycopg.connect(clone, autocommit=True) as connection:
            if name != "postgres" and name not in made:
                connection.execute(f"CREATE ROLE {name} LOGIN".encode())
                made.append(name)
        monkeypatch.setenv(
            "TRACEAI_DATABASE_URL", make_url(clone).set(username=name).render_as_string(hide_password=False)
        )

    yield become
    here.close()
    with psycopg.connect(clone, autocommit=True) as connection:
        known = [name for (name,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [made])]
        if ROLES[0] in known:
            connection.execute(f"REASSIGN OWNED BY {ROLES[0]} TO postgres".encode())
        for name in known:
            connection.execute(f"DROP OWNED BY {name}".encode())
        for name in known:
            connection.execute(f"DROP ROLE {name}".encode())


def test_a_server_that_is_not_hardened_says_what_to_run(run: Run, here: Trace) -> None:
    result = run("db", "check")
    assert result.code == 1
    assert "NOT HARDENED" in result.out
    assert "`traceai db harden`" in result.out
    assert run("db", "check", "--json").json["hardened"] is False


def test_hardening_says_what_it_did_and_then_all_is_well(run: Run, login: Callable[[str], None]) -> None:
    login("line4")
    login("postgres")
    result = run("db", "harden", "--grant", "line4")
    assert result.code == 0
    assert "5 created or granted" in result.out
    assert "The login line4 may record." in result.out
    assert "Nothing was missing." in run("db", "harden").out
    result = run("db", "check")
    assert result.code == 0
    assert "a superuser, whom none of this binds" in result.out
    login("line4")
    report = run("db", "check", "--json").json
    assert (report["hardened"], report["login"], report["superuser"]) == (True, "line4", False)
    assert not any(report["missing"].values())
    assert run("station", "add", "press-4").code == 0


def test_what_is_missing_is_told_fact_by_fact(run: Run, login: Callable[[str], None], clone: str) -> None:
    run("db", "harden")
    with psycopg.connect(clone, autocommit=True) as connection:
        connection.execute("DROP TRIGGER append_only_table ON journal_p0")
        connection.execute("GRANT DELETE ON review TO traceai_app")
    result = run("db", "check")
    assert result.code == 1
    assert "MISSING on journal_p0" in result.out
    assert "traceai_app has DELETE on review, and must not" in result.out
    report = run("db", "check", "--json")
    assert report.code == 1
    assert report.json["missing"]["append-only"] == ["journal_p0: append_only_table is missing"]
    assert report.json["unprotected_tables"] == ["journal_p0"]
    result = run("db", "harden")
    assert result.code == 0
    assert "`traceai ledger verify` finds whether it was" in result.out
    assert run("db", "check").code == 0


def test_what_is_left_to_a_person_is_an_exit_code_too(run: Run, login: Callable[[str], None], clone: str) -> None:
    login("line4")
    login("postgres")
    assert run("db", "harden", "--grant", "line4").code == 0
    with psycopg.connect(clone, autocommit=True) as connection:
        connection.execute("ALTER ROLE line4 SUPERUSER")
    result = run("db", "harden")
    assert result.code == 1
    assert "LEFT TO YOU (roles): line4 records, and is a superuser." in result.out


PLANTED = [
    ("oid", "regtype"), ("oid", "oid"), ("name", "name"), ("name", "text"), ("name", "varchar"), ("text", "text"),
    ("varchar", "varchar"), ("varchar", "text"), ('"char"', '"char"'), ("int4", "int4"), ("int8", "int4"), ("bool", "bool"),
]  # fmt: skip


@pytest.mark.parametrize("path", ["public, pg_catalog", "public"])
def test_who_checks_runs_no_operator_that_somebody_planted_and_is_told_of_each(
    run: Run, login: Callable[[str], None], clone: str, path: str
) -> None:
    """Whoever may create in the schema waits for an administrator to look, and PostgreSQL takes what fits best."""
    assert run("db", "harden").code == 0
    with psycopg.connect(clone, autocommit=True) as connection:
        for number, (left, right) in enumerate(PLANTED):
            connection.execute(
                f"CREATE FUNCTION trap_{number}({left}, {right}) RETURNS bool LANGUAGE plpgsql AS $$"
                " BEGIN RAISE EXCEPTION 'the trap was run'; END $$".encode()
            )
            for operator in ("=", "<>"):
                connection.execute(
                    f"CREATE OPERATOR public.{operator} (FUNCTION = trap_{number}, LEFTARG = {left}, RIGHTARG = {right})".encode()
                )
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET search_path = {path}'.encode())
    result = run("db", "check", "--json")
    assert result.code == 1
    found = [says for says in result.json["missing"]["queries"] if says.startswith("operator public.")]
    assert len(found) == 2 * len(PLANTED)
    assert {fact for fact, says in result.json["missing"].items() if says} == {"queries"}
    result = run("db", "harden")
    assert result.code == 1
    assert "LEFT TO YOU (queries): operator public.=(oid,regtype): it is not PostgreSQL's own" in result.out
    with psycopg.connect(clone, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" RESET search_path'.encode())


@pytest.mark.parametrize(
    "command", [("db", "check"), ("db", "harden"), ("db", "upgrade"), ("ledger", "verify"), ("decision", "list")]
)
def test_a_login_without_rights_gets_one_sentence(
    run: Run, login: Callable[[str], None], command: tuple[str, ...]
) -> None:
    run("db", "harden")
    login("stranger")
    result = run(*command)
    assert (result.code, result.out) == (2, "")
    assert "permission denied for table" in result.err
    assert result.err.count("\n") == 1
    assert "[database-refused]" in result.err


def test_who_reads_is_told_what_it_may_not(run: Run, login: Callable[[str], None], clone: str) -> None:
    run("db", "harden")
    login("auditor")
    with psycopg.connect(clone, autocommit=True) as connection:
        connection.execute("GRANT traceai_reader TO auditor")
    assert run("decision", "list").code == 0
    for command in (
        ("station", "add", "press-5"),
        ("user", "add", "bob", "--role", "auditor"),
        ("token", "create", "--user", "bob"),
    ):
        result = run(*command)
        assert result.code == 2
        assert result.err.count("\n") == 1


def test_the_embedded_server_has_no_use_for_roles(
    run: Run, open_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEAI_HOME", str(open_folder()))
    monkeypatch.delenv("TRACEAI_DATABASE_URL", raising=False)
    assert run("db", "start").code == 0
    try:
        result = run("db", "harden")
        assert result.code == 2
        assert "the boundary is the account of the operating system" in result.err
        result = run("db", "check")
        assert result.code == 0
        assert "does not apply" in result.out
        assert run("db", "check", "--json").json["hardened"] is None
    finally:
        run("db", "stop")
