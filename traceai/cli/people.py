"""`traceai user`, `traceai token`, `traceai station`: who and where."""

from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy import select

from traceai import access
from traceai.access import Role
from traceai.cli.terminal import JsonOption, console, moment, opened, parse_moment, print_json, table
from traceai.db.tables import Station, User
from traceai.inspection import stages

user_app = typer.Typer(no_args_is_help=True)
token_app = typer.Typer(no_args_is_help=True)
station_app = typer.Typer(no_args_is_help=True)


@user_app.command("add")
def add_user(name: str, role: Annotated[str, typer.Option(help=", ".join(Role))]) -> None:
    """Add a user of the API."""
    with opened() as trace, trace.database.session() as session:
        access.add_user(session, name, role)
    console.print(f"Added {name} as {role}. Next: traceai token create --user {name}", soft_wrap=True, markup=False)


@user_app.command("list")
def list_users(json: JsonOption = False) -> None:
    """Show the users and their roles."""
    with opened() as trace, trace.database.session() as session:
        rows = session.execute(select(User).order_by(User.name)).scalars().all()
    if json:
        print_json([row.model_dump() for row in rows])
        return
    shown = table("name", "role", "since (UTC)")
    for row in rows:
        shown.add_row(row.name, row.role, moment(row.created_at))
    console.print(shown)


@token_app.command("create")
def create_token(user: Annotated[str, typer.Option(help="A user added before.")]) -> None:
    """Print a new token. It cannot be shown again: only its hash is kept."""
    with opened() as trace, trace.database.session() as session:
        token = access.create_token(session, user)
    typer.echo(token)


@token_app.command("revoke")
def revoke_tokens(user: Annotated[str, typer.Option(help="Whose tokens.")]) -> None:
    """Make every token of a user worthless, at once."""
    with opened() as trace, trace.database.session() as session:
        count = access.revoke_tokens(session, user)
    console.print(f"Revoked {count} tokens of {user}.")


@station_app.command("add")
def add_station(
    name: str,
    audit: Annotated[
        float, typer.Option(help="Probability with which a passed part is drawn for blind verification.")
    ] = 0.05,
) -> None:
    """Add a place on the line."""
    with opened() as trace:
        trace.add_station(name, audit_pass_probability=audit)
    console.print(f"Added station {name}; {audit:.1%} of its passes will be drawn for verification.", markup=False)


@station_app.command("list")
def list_stations(json: JsonOption = False) -> None:
    """Show the stations."""
    with opened() as trace, trace.database.session() as session:
        rows = session.execute(select(Station).order_by(Station.name)).scalars().all()
    if json:
        print_json([row.model_dump() for row in rows])
        return
    shown = table("name", ">decisions", ">passes drawn", "since (UTC)")
    for row in rows:
        shown.add_row(row.name, str(row.last_seq), f"{row.audit_pass_probability:.1%}", moment(row.created_at))
    console.print(shown)


@station_app.command("latency")
def latency(
    station: Annotated[str | None, typer.Option(help="Of this station only.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From when on; without a zone it is UTC.")] = None,
    json: JsonOption = False,
) -> None:
    """Show where the time of an inspection goes, stage by stage, in milliseconds.

    read: read, hash, store, decode. wait: until the network was free. judge: preprocess, one forward pass, explain.
    record: until the record was durable. The quantiles are those of the worst minute.
    """
    with opened() as trace, trace.database.session() as session:
        found = stages.budgets(session, station, parse_moment(since, "--since"))
    if json:
        print_json([asdict(budget) for budget in found])
        return
    shown = table("station", "stage", ">inspections", ">median", ">share", ">p95", ">p99", ">longest")
    for budget in found:
        shown.add_row(
            budget.station,
            budget.stage,
            str(budget.count),
            *(f"{budget.p50_us / 1000:.1f}", f"{budget.share:.0%}"),
            *(f"{microseconds / 1000:.1f}" for microseconds in (budget.p95_us, budget.p99_us, budget.max_us)),
        )
    console.print(shown)
