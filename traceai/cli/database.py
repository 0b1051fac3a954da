"""`traceai db`: migrations, roles, the URL in use, the embedded server."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from traceai.cli.terminal import JsonOption, console, errors, print_facts, print_json
from traceai.db import migrate, roles
from traceai.db.connection import Database, translated
from traceai.db.embedded import EmbeddedServer
from traceai.db.privileges import OWNER
from traceai.db.protection import Finding
from traceai.db.roles import Report
from traceai.errors import SettingsError
from traceai.settings import Settings

app = typer.Typer(no_args_is_help=True)

# As many findings of a fact are told in full where they were put right; more are counted.
TOLD = 4


@app.command()
def upgrade() -> None:
    """Bring the schema up to this release."""
    with Database.open(Settings.from_environment(), check_schema=False) as database:
        before, after, cured = roles.upgrade(database.engine)
    console.print(
        f"The schema is at {after}." if before == after else f"The schema went from {before or 'nothing'} to {after}."
    )
    if cured:
        print_facts(_cured(cured), title="Set up for it")


@app.command()
def harden(
    grant: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="A login that records, and nothing more. Repeatable.")
    ] = None,
) -> None:
    """Set up the roles of a server of your own, so that who records cannot change what is recorded."""
    with Database.open(Settings.from_environment(), check_schema=False) as database:
        if database.embedded is not None:
            raise SettingsError(
                "The embedded server has no use for roles: whoever reaches its socket is its superuser, and the boundary is the "
                "account of the operating system; set TRACEAI_DATABASE_URL to a server of your own."
            )
        hardened = roles.harden(database.engine, grant or ())
    if not hardened.cured:
        console.print("Nothing was missing.")
    else:
        print_facts(_cured(hardened.cured), title=f"Set up in schema {hardened.schema}")
    for login in grant or ():
        console.print(f"The login {login} may record.", soft_wrap=True)
    if {finding.fact for finding in hardened.cured} & {"append-only", "functions"}:
        console.print(
            "Meanwhile evidence could be changed: `traceai ledger verify` finds whether it was.", soft_wrap=True
        )
    for finding in hardened.left:
        console.print(f"LEFT TO YOU ({finding.fact}): {finding.says}.", soft_wrap=True)
    if hardened.left:
        raise typer.Exit(1)


@app.command()
def check(json: JsonOption = False) -> None:
    """Say what this database is, and what is missing (exit 1)."""
    with Database.open(Settings.from_environment(), check_schema=False) as database, translated():
        with migrate.looking(database.engine) as catalog:
            ((server,),) = catalog.rows("SHOW server_version")
            offered = catalog.rows("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
            vector = offered[0][0] if offered else None
        found, expected = migrate.current(database.engine), migrate.head(database.engine)
        embedded = database.embedded is not None
        report = roles.check(database.engine, embedded=embedded) if found == expected else None
        unprotected = migrate.unprotected(database.engine) if found == expected else []
    facts: dict[str, Any] = {
        "server": f"PostgreSQL {server}",
        "embedded": embedded,
        "schema": found,
        "schema_expected": expected,
        "pgvector": vector,
        "unprotected_tables": unprotected,
        "hardened": report and report.hardened,
        "login": report and report.login,
        "superuser": report and report.superuser,
        "act_as_owner": list(report.owners) if report else [],
        "missing": {fact: report.of(fact) for fact in roles.FACTS} if report else {},
    }
    if json:
        print_json(facts)
    else:
        print_facts(
            {
                "server": facts["server"] + (" (embedded, no port)" if embedded else ""),
                "schema": f"{found or 'none'}; this release needs {expected}",
                "pgvector": vector or "not offered by this server",
            }
            | (_told(report, unprotected) if report else {})
        )
    if report is None or report.findings or report.hardened is False:
        raise typer.Exit(1)


def _told(report: Report, unprotected: list[str]) -> dict[str, str]:
    """One line a fact; a fact that does not hold has a line for each thing."""
    holds = {
        "roles": "four groups, bound by nothing else",
        "ownership": f"everything belongs to {OWNER}, as which nobody logs in",
        "privileges": "evidence is inserted and never changed by any role",
        "append-only": "enforced on every evidence table and partition",
        "functions": "as this release installs them",
        "partitions": "there is room for what comes",
        "queries": "nothing comes between them and the tables",
    }
    told = {}
    for fact in roles.FACTS if report.hardened else roles.PROTECTION:
        told[fact] = "\n".join(report.of(fact)) or holds[fact]
    if unprotected:
        told["append-only"] = "\n".join([f"MISSING on {', '.join(unprotected)}", *report.of("append-only")])
    if report.hardened is None:
        told["hardened"] = "does not apply: whoever reaches the socket of the embedded server is its superuser"
    elif not report.hardened:
        told["hardened"] = "NOT HARDENED: who records may also switch the triggers off; run `traceai db harden`"
    else:
        told["act as owner"] = ", ".join(report.owners) or "superusers only"
        told["connected as"] = report.login + (", a superuser, whom none of this binds" if report.superuser else "")
    return told


def _cured(findings: Iterable[Finding]) -> dict[str, str]:
    done = {
        "roles": "created or granted",
        "ownership": f"given to {OWNER}",
        "privileges": "granted or revoked",
        "append-only": "triggers made or switched on",
        "functions": "made as this release installs them",
        "partitions": "made",
        "queries": "put right",
    }
    told = {}
    for fact in roles.FACTS:
        if cured := [finding.says for finding in findings if finding.fact == fact]:
            told[fact] = "\n".join([f"{len(cured)} {done[fact]}", *(cured if len(cured) <= TOLD else [])])
    return told


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
