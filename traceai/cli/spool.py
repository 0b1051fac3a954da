"""`traceai spool`: what this machine keeps for a database that was away."""

from dataclasses import asdict
from typing import Annotated

import typer

from traceai.cli.terminal import JsonOption, console, errors, moment, opened, print_facts, print_json, table
from traceai.errors import NotFoundError
from traceai.inspection.recording.spool import Spool, Status
from traceai.settings import Settings

app = typer.Typer(no_args_is_help=True)


@app.command()
def status(json: JsonOption = False) -> None:
    """Show what waits to be recorded, what was delivered and what was rejected. Needs no database.

    Exit 1 where something was rejected or damaged: then a person has to look.
    """
    spool = Spool(Settings.from_environment().absolute_home)
    try:
        found = spool.status()
    finally:
        spool.close()
    if json:
        print_json({**asdict(found), "damaged": [str(path) for path in found.damaged]})
    else:
        _print(spool, found)
    if found.rejected or found.damaged:
        raise typer.Exit(1)


@app.command()
def deliver() -> None:
    """Record now what waits. A running line and `traceai serve` do so by themselves when the database is back."""
    with opened() as trace:
        count = trace.recorder.deliver()
        left = trace.recorder.spool.status()
    console.print(f"{count} delivered; {sum(left.waiting.values())} wait, {len(left.rejected)} rejected.")


@app.command()
def retry(
    reference: Annotated[str, typer.Argument(metavar="ID", help="A rejected record; see `traceai spool status`.")],
) -> None:
    """Offer a rejected record again, once what it was rejected for is mended."""
    with opened() as trace:
        if not trace.recorder.spool.retry(reference):
            raise NotFoundError(f"No record {reference} was rejected; `traceai spool status` shows those that were.")
        trace.recorder.deliver()
        again = [one for one in trace.recorder.spool.status().rejected if one.id == reference]
    if again:
        errors.print(f"{reference} was rejected again: {again[0].reason}", style="yellow", soft_wrap=True)
        raise typer.Exit(1)
    console.print(f"{reference} is in the ledger.")


def _print(spool: Spool, found: Status) -> None:
    waiting = sum(found.waiting.values())
    outage = found.outage
    facts: dict[str, object] = {
        "spool": spool.path,
        "kept so far": found.spooled,
        "delivered": found.delivered,
        "waiting": f"{waiting}, the oldest since {moment(found.oldest)} UTC" if found.oldest else waiting,
        "rejected": len(found.rejected),
        "database": "takes records, as far as this machine knows"
        if outage is None
        else f"away since {moment(outage.began_at)} UTC: {outage.cause} [{outage.code}]"
        if outage.answered_at is None
        else f"was away from {moment(outage.began_at)} to {moment(outage.answered_at)} UTC; what waits is being delivered",
    }
    print_facts(facts)
    if found.waiting:
        by_station = table("station", ">waiting")
        for station, count in found.waiting.items():
            by_station.add_row(station, str(count))
        console.print(by_station)
    if found.rejected:
        rejected = table("id", "station", "rejected (UTC)", "code", "~reason", title="Rejected, and kept")
        for one in found.rejected:
            rejected.add_row(one.id, one.station, moment(one.rejected_at), one.code, one.reason)
        console.print(rejected)
    for path in found.damaged:
        errors.print(f"A spool was damaged and is kept as it was found: {path}", style="yellow", soft_wrap=True)
