"""Alembic, driven from an installed wheel: no alembic.ini, no working directory."""

import importlib.util
import io
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from traceai.db.tables import APPEND_ONLY
from traceai.errors import SchemaError


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
    """The revision that the database is at; None where it was never migrated."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


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


def unprotected(engine: Engine) -> list[str]:
    """Evidence tables on which an append-only trigger is missing or switched off."""
    query = text(
        "SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE t.tgname IN ('append_only_rows', 'append_only_table') AND t.tgenabled = 'A'"
        " GROUP BY c.relname HAVING count(*) = 2"
    )
    with engine.connect() as connection:
        protected = set(connection.execute(query).scalars())
    return sorted({str(table.__tablename__) for table in APPEND_ONLY} - protected)
