"""All commands, put together."""

import logging
from typing import Annotated

import typer

from traceai.cli import (
    data,
    database,
    decision,
    evidence,
    gaps,
    inspect,
    ledger,
    ledger_rebuild,
    model,
    people,
    rates,
    report,
    review,
    serve,
    spool,
    watch,
)
from traceai.cli.demo import demo
from traceai.errors import UsageError

app = typer.Typer(
    name="traceai",
    help="A flight recorder for neural-network visual inspection.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from traceai import __version__  # noqa: PLC0415

        typer.echo(f"traceai {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # what it warns of, whoever asked is told


app.command()(demo)
app.command("inspect")(inspect.inspect)
app.command("watch")(watch.watch)
app.command("rates")(rates.rates)
app.command("serve")(serve.serve)
app.add_typer(data.app, name="data", help="Images with labels: import, draw, look.")
app.add_typer(model.app, name="model", help="The life of a model version.")
app.add_typer(decision.app, name="decision", help="What was decided, and why.")
app.add_typer(review.app, name="review", help="Ground truth.")
app.add_typer(report.app, name="report", help="PDF reports.")
ledger.app.command("prove")(evidence.prove)
ledger.app.command("rebuild")(ledger_rebuild.rebuild)
app.command("verify")(evidence.verify)
app.add_typer(ledger.app, name="ledger", help="Evidence.")
people.station_app.command("gaps")(gaps.gaps)
people.station_app.command("explain-gap")(gaps.explain_gap)
app.add_typer(people.station_app, name="station", help="Places on the line.")
app.add_typer(spool.app, name="spool", help="What waits for a database that was away.")
app.add_typer(people.user_app, name="user", help="Who may use the API.")
app.add_typer(people.token_app, name="token", help="Secrets, printed once.")
app.add_typer(database.app, name="db", help="The database behind it.")


def run() -> int:
    """Do what was typed, and return the exit code.

    Raises:
        UsageError: it is no command of ours. Whatever a command raises comes out as well.
    """
    try:
        return app(prog_name="traceai", standalone_mode=False) or 0
    except typer.TyperException as error:
        said = error.format_message()
        if "\n" in said:  # no mistake but the help of a command that needs another
            typer.echo(said, err=True)
            return 2
        context: typer.Context | None = getattr(error, "ctx", None)
        command = context.command_path if context else "traceai"
        raise UsageError(f"{said.rstrip('.')}; see `{command} --help`.") from error
