"""`traceai ledger`: what the evidence is, and whether it holds."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from traceai.cli.terminal import JsonOption, console, errors, opened, print_facts, print_json, progress, table
from traceai.ledger import log, verification
from traceai.ledger.verification import Outcome

app = typer.Typer(no_args_is_help=True)


@app.command()
def status(json: JsonOption = False) -> None:
    """Show the size and the root of the ledger's tree. Note them down elsewhere: they fix everything before them."""
    with opened() as trace, trace.database.session() as session:
        head = log.read_head(session)
    if json:
        print_json({"size": head.size, "root": head.root})
    else:
        print_facts({"entries": head.size, "root": head.root.hex()})


@app.command()
def verify(
    blobs: Annotated[bool, typer.Option(help="Also read back and hash every image and model file.")] = True,
    json: JsonOption = False,
) -> None:
    """Recompute every hash and compare every table row with its journal entry. Exit 1 when anything differs."""
    with opened() as trace, progress("verifying") as advance:
        outcome = verification.verify(trace.database.engine, trace.blobs if blobs else None, advance)
    if json:
        print_json(
            {
                "holds": outcome.holds,
                "size": outcome.size,
                "root": outcome.root,
                "facts": [{**asdict(fact), "holds": fact.holds} for fact in outcome.facts],
            }
        )
    else:
        print_outcome(outcome)
    if not outcome.holds:
        raise typer.Exit(1)


def print_outcome(outcome: Outcome) -> None:
    """One line a fact, then every finding with its place."""
    shown = table("", "fact", ">checked", "meaning")
    for fact in outcome.facts:
        mark = Text("holds", style="blue") if fact.holds else Text("FAILS", style="bold red")
        shown.add_row(mark, fact.name, str(fact.checked), Text(fact.meaning, style="dim"))
    console.print(shown)
    for fact in outcome.facts:
        for finding in fact.findings:
            console.print(f"{fact.name}: {finding}", style="red", markup=False, soft_wrap=True)
        if fact.failures > len(fact.findings):
            console.print(f"{fact.name}: and {fact.failures - len(fact.findings)} more", style="red")
    print_facts({"entries": outcome.size, "root": outcome.root.hex()})
    if not outcome.holds:
        errors.print("The ledger does not verify.", style="bold red")
