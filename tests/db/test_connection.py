from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import text

from tests.conftest import database_url
from traceai.db import migrate
from traceai.db.connection import Database
from traceai.errors import DatabaseRefusedError, DatabaseUnavailableError, SchemaError, SettingsError
from traceai.settings import Settings


def settings(url: str) -> Settings:
    return Settings(home=Path("/nowhere"), database_url=url)


@pytest.fixture
def empty(server: str) -> Iterator[str]:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS empty")
        connection.execute("CREATE DATABASE empty")
        yield database_url(server, "empty")
        connection.execute("DROP DATABASE empty WITH (FORCE)")


def test_a_session_commits_at_its_end_and_rolls_back_on_an_error(trace) -> None:
    insert = text("INSERT INTO station VALUES (:name, 0, 0.5, now())")
    with trace.database.session() as session:
        session.execute(insert, {"name": "kept"})
    with pytest.raises(ZeroDivisionError), trace.database.session() as session:
        session.execute(insert, {"name": "lost"})
        raise ZeroDivisionError
    with trace.database.session() as session:
        assert session.execute(text("SELECT name FROM station")).scalars().all() == ["kept"]


def test_times_come_back_in_utc(clone: str) -> None:
    with psycopg.connect(clone, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {urlsplit(clone).path[1:]} SET timezone = 'Asia/Tokyo'")
    with Database.open(settings(clone)) as database, database.session() as session:
        assert session.execute(text("SHOW timezone")).scalar_one() == "UTC"


def test_no_server_at_the_address() -> None:
    with pytest.raises(DatabaseUnavailableError, match="does not answer"):
        Database.open(settings("postgresql://someone@127.0.0.1:1/nothing"))


def test_an_unknown_database_is_refused(server: str) -> None:
    with pytest.raises(DatabaseRefusedError, match="does not exist"):
        Database.open(settings(database_url(server, "no_such_database")))


def test_a_wrong_password_is_refused(server: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        folder = Path(connection.execute("SHOW data_directory").fetchone()[0])
        connection.execute("DROP ROLE IF EXISTS guarded")
        connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        rules = folder / "pg_hba.conf"
        before = rules.read_text()
        rules.write_text("local all guarded scram-sha-256\n" + before)
        try:
            connection.execute("SELECT pg_reload_conf()")
            url = server.replace("postgres@", "guarded:wrong@")
            with pytest.raises(DatabaseRefusedError, match="password authentication failed") as caught:
                Database.open(settings(url))
            assert "wrong@" not in caught.value.message
        finally:
            rules.write_text(before)
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("DROP ROLE guarded")


@pytest.mark.parametrize("url", ["mysql://u@h/d", "sqlite:///x.db", "not a url", "http://h"])
def test_only_postgresql_urls_are_accepted(url: str) -> None:
    with pytest.raises(SettingsError):
        Database.open(settings(url))


def test_a_database_without_schema_says_what_to_run(empty: str) -> None:
    with pytest.raises(SchemaError, match="traceai db upgrade"):
        Database.open(settings(empty))


def test_a_schema_of_a_later_release_is_left_alone(clone: str) -> None:
    with psycopg.connect(clone) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match="install a newer traceai"):
        Database.open(settings(clone))


def test_upgrading_twice_changes_nothing(empty: str) -> None:
    with Database.open(settings(empty), check_schema=False) as database:
        assert migrate.upgrade(database.engine) == (None, migrate.head(database.engine))
        assert migrate.upgrade(database.engine) == (migrate.head(database.engine),) * 2
    Database.open(settings(empty)).close()


def test_an_older_schema_says_what_to_run(clone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "head", lambda _: "0002")
    with pytest.raises(SchemaError, match="is at 0001 and this release needs 0002"):
        Database.open(settings(clone))
