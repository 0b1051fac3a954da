"""`traceai db`: migrations, the URL in use, the embedded server."""

from typing import Any

import typer
from sqlalchemy import text

from traceai.cli.terminal import JsonOption, console, errors, print_facts, print_json
from traceai.db import migrate
from traceai.db.connection import Database
from traceai.db.embedded import EmbeddedServer
from traceai.errors import SettingsError
from traceai.settings import Settings

app = typer.Typer(no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Bring the schema up to this release."""
    with Database.open(Settings.from_environment(), check_schema=False) as database:
        before, after = migrate.upgrade(database.engine)
    console.print(
        f"The schema is at {after}." if before == after else f"The schema went from {before or 'nothing'} to {after}."
    )


@app.command()
def check(json: JsonOption = False) -> None:
    """Say what this database is, and what is missing (exit 1)."""
    with Database.open(Settings.from_environment(), check_schema=False) as database:
        with database.engine.connect() as connection:
            server = connection.execute(text("SHOW server_version")).scalar_one()
            vector = connection.execute(
                text("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
            ).scalar_one_or_none()
        found, expected = migrate.current(database.engine), migrate.head(database.engine)
        unprotected = migrate.unprotected(database.engine) if found == expected else []
        facts: dict[str, Any] = {
            "server": f"PostgreSQL {server}",
            "embedded": database.embedded is not None,
            "schema": found,
            "schema_expected": expected,
            "pgvector": vector,
            "unprotected_tables": unprotected,
        }
    if json:
        print_json(facts)
    else:
        print_facts(
            {
                "server": facts["server"] + (" (embedded, no port)" if facts["embedded"] else ""),
                "schema": f"{found or 'none'}; this release needs {expected}",
                "pgvector": vector or "not offered by this server",
                "append-only": "enforced on every evidence table"
                if not unprotected
                else f"MISSING on {', '.join(unprotected)}",
            }
        )
    if found != expected or unprotected:
        raise typer.Exit(1)


@app.command()
def url() -> None:
    """Print the connection URL in use, password included."""
    settings = Settings.from_environment()
    if settings.database_url is not None:
        with Database.open(settings, check_schema=False) as database:
            typer.echo(database.url)
        return
    server = EmbeddedServer(settings.ensure_home())
    typer.echo(server.url)
    if not server.running:
        errors.print("The embedded server is down while nobody uses it; `traceai db start` keeps it up.", style="dim")


@app.command()
def start() -> None:
    """Keep the embedded server up for psql and other tools, until `traceai db stop`."""
    server = _embedded()
    server.keep_running()
    with Database.open(Settings.from_environment()):
        pass
    console.print(f"The embedded PostgreSQL is up: {server.url}", soft_wrap=True)


@app.command()
def stop() -> None:
    """Stop the embedded server."""
    stopped = _embedded().stop()
    console.print("The embedded PostgreSQL is down." if stopped else "The embedded PostgreSQL was not running.")


def _embedded() -> EmbeddedServer:
    settings = Settings.from_environment()
    if settings.database_url is not None:
        raise SettingsError("TRACEAI_DATABASE_URL names your own server, which traceai neither starts nor stops.")
    return EmbeddedServer(settings.ensure_home())
