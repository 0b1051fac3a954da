"""Alembic, driven from an installed wheel: no alembic.ini, no working directory."""

import importlib.util
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Engine, inspect

from traceai.db import protection
from traceai.db.catalog import schema_of
from traceai.db.protection import VERSION_TABLE, Catalog, Function
from traceai.errors import SchemaError

# Whoever changes the schema holds it. Any number serves, as long as every release uses the same: "trac" in ASCII.
ADVISORY_LOCK = 0x74726163


def configuration(engine: Engine) -> Config:
    """An Alembic configuration on the migrations that ship with this release, bound to `engine`."""
    spec = importlib.util.find_spec("traceai_migrations")
    if spec is None or not spec.submodule_search_locations:
        raise SchemaError("The migrations are not installed; install traceai from its wheel.")
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(Path(spec.submodule_search_locations[0])).replace("%", "%%"))
    config.attributes["engine"] = engine
    return config


def head(engine: Engine) -> str:
    """The revision that this release was written for."""
    revision = ScriptDirectory.from_config(configuration(engine)).get_current_head()
    if revision is None:
        raise SchemaError("This installation holds no migrations; install traceai from its wheel.")
    return revision


def current(engine: Engine) -> str | None:
    """The revision that the database is at; None where it was never migrated. Runs nothing that somebody left in a schema."""
    with engine.connect() as connection:
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        schema = schema_of(driver, VERSION_TABLE)
        if schema is None:
            return None
        query = sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(schema, VERSION_TABLE))
        return " and ".join(sorted(revision for (revision,) in driver.execute(query))) or None


def is_empty(engine: Engine) -> bool:
    return not inspect(engine).get_table_names()


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Bring the schema up to this release; a second caller waits for the first. Returns (before, after)."""
    before = current(engine)
    command.upgrade(configuration(engine), "head")
    return before, head(engine)


def require_current(engine: Engine) -> None:
    """Refuse to work on any schema but the one this release was written for.

    Raises:
        SchemaError: the schema is missing, older or newer.
    """
    found, expected = current(engine), head(engine)
    if found == expected:
        return
    if found is None:
        raise SchemaError("The database has no traceai schema yet; run `traceai db upgrade`.")
    known = {script.revision for script in ScriptDirectory.from_config(configuration(engine)).walk_revisions()}
    if found in known:
        raise SchemaError(
            f"The database schema is at {found} and this release needs {expected}; run `traceai db upgrade`."
        )
    raise SchemaError(f"The database schema is at {found}, which this release does not know; install a newer traceai.")


def functions(engine: Engine) -> dict[str, Function]:
    """The functions in the database by name, as the newest migration that makes one makes it."""
    found: dict[str, Function] = {}
    for script in ScriptDirectory.from_config(configuration(engine)).walk_revisions():
        for value in vars(script.module).values():
            function = Function.parse(value) if isinstance(value, str) else None
            if function is not None:
                found.setdefault(function.name, function)
    return found


def unprotected(engine: Engine) -> list[str]:
    """Evidence tables and partitions on which an append-only trigger is missing, switched off or another."""
    with looking(engine) as catalog:
        return protection.unprotected(catalog)


@contextmanager
def looking(engine: Engine) -> Iterator[Catalog]:
    """The system catalogs, in one transaction: committed at the end of the block, rolled back when the block raises."""
    with engine.begin() as connection:
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        yield Catalog(driver)
