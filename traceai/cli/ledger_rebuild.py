"""`traceai ledger rebuild`: the tables, made again what the journal says."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from traceai.cli.ledger import sign_off
from traceai.cli.terminal import (
    ActorOption,
    JsonOption,
    actor_or_operator,
    console,
    errors,
    print_facts,
    print_json,
    progress,
    table,
)
from traceai.errors import InputError

if TYPE_CHECKING:
    from traceai.ledger.rebuilding.rebuild import Rebuilt

# Findings of a fact that is left; `traceai ledger verify` lists them all.
TOLD = 10


def rebuild(
    reason: Annotated[str | None, typer.Option(help="Why; it goes on record. Not needed for a dry run.")] = None,
    actor: ActorOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be mended, and change nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Make the tables again what the journal says, as owner of the database; what was mended goes on record.

    Only what differs is touched, and nothing is where the journal itself was altered (exit 1). Nobody can record meanwhile. Heat
    maps, images of data sets and stored files are not in the journal: where they do not hold they are left, and named (exit 1).
    """
    from traceai.ledger.rebuilding import rebuild as rebuilding  # noqa: PLC0415
    from traceai.sdk import attach  # noqa: PLC0415  # `traceai --help` needs no database driver

    if reason is None and not dry_run:
        raise InputError("Say with --reason why the tables are rebuilt; it goes on record. Look first with --dry-run.")
    with attach() as trace:
        with progress("rebuilding") as advance:
            if reason is None or dry_run:
                done = rebuilding.preview(trace.signer, advance)
            else:
                done = rebuilding.rebuild(trace.signer, actor_or_operator(actor), reason, advance)
        if json:
            print_json(_as_json(done, dry_run))
        else:
            _print(done, dry_run)
        if done.receipt:
            sign_off(trace)
    if done.left and not dry_run:
        raise typer.Exit(1)


def _as_json(done: "Rebuilt", dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "entries": done.size,
        "root": done.root,
        "checkpoints": done.checkpoints,
        "mended": {name: {str(action): n for action, n in counts.items()} for name, counts in done.counts.items()},
        "rows": [asdict(change) for change in done.listed],
        "partitions": [{"table": name, "first": first} for name, first in done.partitions],
        "unprotected_before": done.unprotected,
        "left": [asdict(fact) for fact in done.left],
        "recorded": done.receipt and {"index": done.receipt.index, "leaf_hash": done.receipt.leaf_hash},
    }


def _print(done: "Rebuilt", dry_run: bool) -> None:
    if done.counts:
        _print_changes(done, dry_run)
    else:
        console.print("The tables are what the journal says; nothing was to be mended.")
    for name, first in done.partitions:
        console.print(f"The partition of {name} from ledger index {first} was missing, and was made.", soft_wrap=True)
    if done.unprotected:
        names = ", ".join(done.unprotected)
        console.print(f"Append-only triggers were off or missing, and are in force again: {names}.", soft_wrap=True)
    for fact in done.left:
        console.print(f"NOT MENDED: {fact.name}. The journal does not hold what that takes.", style="bold red")
        for finding in fact.findings[:TOLD]:
            console.print(f"{fact.name}: {finding}", style="red", soft_wrap=True)
        if fact.failures > TOLD:
            console.print(f"{fact.name}: and {fact.failures - TOLD} more", style="red")
    if not done.checkpoints:
        errors.print(
            "No checkpoint is kept in this home: the journal was held against nothing but the database itself.",
            style="yellow",
            soft_wrap=True,
        )
    facts: dict[str, Any] = {"entries": done.size, "root": done.root.hex(), "checkpoints": done.checkpoints}
    if done.receipt:
        facts["recorded at"] = done.receipt.index
    print_facts(facts)
    if done.receipt:
        console.print("Next: traceai ledger verify", style="dim")


def _print_changes(done: "Rebuilt", dry_run: bool) -> None:
    """The rows, as far as they are listed, and how many there are of each table."""
    shown = table("table", ">index", "id", "dry run" if dry_run else "done", "columns")
    for change in done.listed:
        index = "" if change.index is None else str(change.index)
        columns = ", ".join(difference.column for difference in change.columns)
        if change.action == "changed" and not columns:
            columns = "the same, written otherwise"
        shown.add_row(change.table, index, change.id or "", change.action, columns)
    console.print(shown)
    if more := sum(sum(counts.values()) for counts in done.counts.values()) - len(done.listed):
        console.print(f"and {more} more")
    told = {
        name: ", ".join(f"{n} {'would be ' if dry_run else ''}{action}" for action, n in sorted(counts.items()))
        for name, counts in sorted(done.counts.items())
    }
    print_facts(told, title="Would be mended" if dry_run else "Mended")
