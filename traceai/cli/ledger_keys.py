"""`traceai ledger open` and `traceai ledger key`: under which name, and with which key, a ledger is signed."""

from typing import Annotated

import typer

from traceai.cli.terminal import (
    ActorOption,
    JsonOption,
    actor_or_operator,
    console,
    opened,
    print_facts,
    print_json,
    table,
)

app = typer.Typer(no_args_is_help=True)

ReasonOption = Annotated[str, typer.Option(help="Why; it goes on record.")]


def open_ledger(
    reason: ReasonOption,
    actor: ActorOption = None,
    origin: Annotated[
        str | None, typer.Option(help="A URL without schema, as plant.example/line-4; made up where none is given.")
    ] = None,
) -> None:
    """Sign under a new origin from here on, with a new key. What was signed last is named as what it continues.

    A new ledger is opened by itself. Do this to give it a name of your own, or to go on, on the record, with a database that
    contradicts what was signed here: a restored backup, say.
    """
    from traceai.sdk import attach  # noqa: PLC0415  # `traceai --help` needs no database driver

    with attach() as trace:
        stored = trace.signer.open(actor_or_operator(actor), reason, origin)
        (key,) = trace.signer.verifier_keys(stored.origin)
    print_facts({"origin": stored.origin, "key": key, "entries": stored.size, "root": stored.root.hex()})
    console.print(
        "Give the key to whoever will verify: it is what they have to know to trust no one else.", style="dim"
    )


@app.command()
def show(json: JsonOption = False) -> None:
    """Show the public keys that ever signed, oldest first; the last one signs today."""
    with opened() as trace:
        found = trace.signer.state()
        keys = [
            {
                "origin": opening.origin,
                "key": str(key),
                "current": opening is found.opening and key == opening.key,
                "here": trace.signer.keys.has(key),
            }
            for opening in found.openings
            for key in opening.keys
        ]
    if json:
        print_json(keys)
        return
    shown = table("", "private key", "public key", spare=("private key",))
    for row in keys:
        shown.add_row(
            "signs today" if row["current"] else "signed before", "here" if row["here"] else "not here", str(row["key"])
        )
    console.print(shown)


@app.command()
def rotate(reason: ReasonOption, actor: ActorOption = None) -> None:
    """Sign with a new key from here on, on the record. The first checkpoint is signed with both; old signatures stay valid."""
    with opened() as trace:
        stored = trace.signer.rotate(actor_or_operator(actor), reason)
        *_, old, new = trace.signer.verifier_keys(stored.origin)
    print_facts(
        {"origin": stored.origin, "key": new, "replaces": old, "entries": stored.size, "root": stored.root.hex()}
    )
