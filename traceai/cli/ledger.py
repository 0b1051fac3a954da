"""`traceai ledger`: what the evidence is, and whether it holds."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from traceai.cli import ledger_keys, witness
from traceai.cli.gaps import outage, print_outages
from traceai.cli.terminal import (
    JsonOption,
    console,
    errors,
    moment,
    opened,
    print_facts,
    print_json,
    progress,
    table,
)
from traceai.errors import ConflictError, SchemaError, UnavailableError, VerificationError
from traceai.ledger import log
from traceai.ledger.signing import standing
from traceai.ledger.verification import verifier
from traceai.ledger.verification.facts import Outcome

if TYPE_CHECKING:
    from traceai.ledger.signing.checkpoints import Stored
    from traceai.sdk import Trace

app = typer.Typer(no_args_is_help=True)
app.command("open")(ledger_keys.open_ledger)
app.add_typer(ledger_keys.app, name="key", help="Who signs.")
app.add_typer(witness.app, name="witness", help="Others who vouch for this ledger, and vouching for theirs.")
app.command()(witness.timestamp)


@app.command()
def status(json: JsonOption = False) -> None:
    """Show the tree, who signs it, and what was signed last. Exit 1 where it is not what was signed here, or nobody can say.

    Note size and root down elsewhere: they fix everything before them.
    """
    with opened() as trace:
        with trace.database.session() as session:
            head = log.read_head(session)
        facts: dict[str, Any] = {"size": head.size, "root": head.root}
        try:
            found = trace.signer.state()
            facts = {
                "size": found.head.size,
                "root": found.head.root,
                "state": found.state,
                "found": found.found,
                "origin": found.origin,
                "key": found.key,
                "checkpoint": _checkpoint(found.last),
                "clock_behind_s": found.clock_behind.total_seconds() if found.clock_behind else None,
            }
            standing.require_writable(found)
        finally:
            # What can be said is said, and then why no more can be.
            if json:
                print_json(facts)
            else:
                _print_status(facts)
    if found.state in {standing.State.UNANCHORED, standing.State.TAKEN}:
        raise typer.Exit(1)


@app.command()
def checkpoint(json: JsonOption = False) -> None:
    """Sign the ledger as it stands, and print the checkpoint: a signed note for whoever keeps one outside."""
    with opened() as trace:
        stored = trace.checkpoint()
    if json:
        print_json(_checkpoint(stored))
    else:
        typer.echo(stored.note, nl=False)


@app.command()
def verify(
    blobs: Annotated[bool, typer.Option(help="Also read back and hash every image and model file.")] = True,
    since_last: Annotated[
        bool, typer.Option("--since-last", help="Go on where the last verification that held came to.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one a processor where nothing is said.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Recompute every hash, compare every table row with its entry, and all with the checkpoints kept here.

    Exit 1 when anything differs.
    """
    from traceai.ledger.verification.auditing import LastVerified, audit  # noqa: PLC0415

    with opened() as trace:
        last, origin = LastVerified(trace.settings.absolute_home), _origin(trace)
        since = last.load(origin) if since_last else None
        with progress("verifying", unit="entries") as advance:
            outcome = audit(
                trace.signer,
                trace.blobs if blobs else None,
                advance,
                since=since and since[0],
                workers=workers or verifier.processes(trace.database.engine, since and since[0]),
            )
        if outcome.holds and outcome.reached.size:
            last.save(origin, outcome.reached)
    if json:
        print_json(
            {
                "holds": outcome.holds,
                "size": outcome.size,
                "root": outcome.root,
                "since": since[0].size if since else 0,
                "facts": [{**asdict(fact), "holds": fact.holds} for fact in outcome.facts],
                "outages": {
                    "found": outcome.outages.count,
                    "newest": [outage(*one) for one in outcome.outages.newest],
                },
            }
        )
    else:
        print_outcome(outcome)
        if since:
            console.print(f"Entries below {since[0].size} were verified at {since[1]} and not looked at again.")
    if not outcome.holds:
        raise typer.Exit(1)


def _origin(trace: "Trace") -> str | None:
    try:
        return trace.signer.state().origin
    except (VerificationError, SchemaError):
        return None  # the audit itself says what is wrong


def sign_off(trace: "Trace") -> None:
    """Sign what was recorded, where this home can. Where it cannot, what was recorded stands, and somebody else signs it.

    Raises:
        VerificationError: this is not the ledger that was signed here before.
    """
    try:
        trace.checkpoint()
    except (UnavailableError, ConflictError) as error:
        errors.print(f"Recorded, and not signed here: {error.message}", style="yellow", soft_wrap=True)


def _checkpoint(stored: "Stored | None") -> dict[str, Any] | None:
    if stored is None:
        return None
    return {
        "origin": stored.origin,
        "size": stored.size,
        "root": stored.root,
        "accepted_at": stored.accepted_at,
        "note": stored.note,
    }


def _print_status(facts: dict[str, Any]) -> None:
    shown = {"entries": facts["size"], "root": facts["root"].hex()}
    if "state" in facts:
        last, behind = facts["checkpoint"], facts["clock_behind_s"]
        shown |= {
            "state": f"{facts['state']}: {facts['found']}.",
            "origin": facts["origin"],
            "key": facts["key"],
            "last checkpoint": last
            and f"{last['size']} entries, {moment(last['accepted_at'])} UTC, as {last['origin']}",
        }
        if behind is not None:
            shown["clock"] = (
                f"SET BACK: it stands {behind:.0f} s before a time that it said when a checkpoint was signed"
            )
    print_facts(shown)


def print_outcome(outcome: Outcome) -> None:
    """One line a fact, then every finding with its place, then the outages on record."""
    shown = table("", "fact", ">checked", "~meaning")
    for fact in outcome.facts:
        mark = Text("holds", style="blue") if fact.checked else Text("none", style="dim")
        mark = mark if fact.holds else Text("FAILS", style="bold red")
        shown.add_row(mark, fact.name, str(fact.checked), Text(fact.meaning, style="dim"))
    console.print(shown)
    for fact in outcome.facts:
        for finding in fact.findings:
            console.print(f"{fact.name}: {finding}", style="red", markup=False, soft_wrap=True)
        if fact.failures > len(fact.findings):
            console.print(f"{fact.name}: and {fact.failures - len(fact.findings)} more", style="red")
    print_outages(outcome.outages)
    print_facts({"entries": outcome.size, "root": outcome.root.hex()})
    if not outcome.holds:
        errors.print("The ledger does not verify.", style="bold red")
