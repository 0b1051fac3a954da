"""`traceai ledger witness` and `traceai ledger timestamp`: what others, outside this database, say about the ledger."""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from traceai.cli.terminal import (
    ActorOption,
    JsonOption,
    actor_or_operator,
    console,
    errors,
    moment,
    opened,
    print_facts,
    print_json,
    table,
)
from traceai.errors import InputError, NotFoundError, PolicyError, TimestampError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate

    from traceai.ledger.signing.checkpoints import CheckpointStore
    from traceai.ledger.witnesses.home import WitnessHome
    from traceai.ledger.witnesses.misbehaviour import Misbehaviour
    from traceai.ledger.witnesses.witnessing import Collected

app = typer.Typer(no_args_is_help=True)

# The base64 of a verifier key of 33 bytes has 44 characters and no padding, so the `=` behind it is ours.
_WITNESS = re.compile(r"(?P<key>[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44})=(?P<url>.+)")

HomeOption = Annotated[Path, typer.Option(help="The witness's own folder: its key, its memory, what it refused.")]


@app.command()
def serve(
    home: HomeOption,
    log: Annotated[
        list[str], typer.Option(help="Verifier key of a log to witness; its name is the origin. Repeatable.")
    ],
    name: Annotated[
        str | None, typer.Option(help="What to call the witness, as example.com/w1. Only at first.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8766,
) -> None:
    """Witness the checkpoints of logs over HTTP (C2SP tlog-witness) until interrupted. Needs no database.

    Run it on a machine that whoever runs the log does not administer.
    """
    arguments = [f"--home={home}", *(f"--log={key}" for key in log), f"--host={host}", f"--port={port}"]
    if name is not None:
        arguments.append(f"--name={name}")
    sys.stdout.flush()
    # The process becomes the witness, and leaves behind everything that the rest of traceai has loaded into it.
    module = ["-P", "-m", "traceai.cli.witness_process"]
    os.execv(sys.executable, [sys.executable, *module, *arguments])  # noqa: S606  # no shell; our own interpreter


@app.command()
def show(home: HomeOption, json: JsonOption = False) -> None:
    """Show a witness's key, what it cosigned last of each log, and what it refused. Exit 1 when a log contradicted itself."""
    from traceai.ledger.witnesses.home import WitnessHome  # noqa: PLC0415

    found = WitnessHome(home.expanduser().absolute())
    key = found.key()
    if key is None:
        raise NotFoundError(f"There is no witness in {home}; begin one with `traceai ledger witness serve`.")
    kept = found.misbehaviour.all()
    settled = [_is_settled(found, one) for one in kept]
    if json:
        print_json(_shown(found, str(key.verifier), kept, settled))
    else:
        _print_witness(found, str(key.verifier), kept, settled)
    if any(one.convicts for one in kept):
        raise typer.Exit(1)


def _is_settled(home: "WitnessHome", one: "Misbehaviour") -> bool:
    """Whether the checkpoint that came without a proof was cosigned after all."""
    from traceai.ledger.note import split_note  # noqa: PLC0415

    stored = home.store.at(one.origin, one.size)
    return not one.convicts and stored is not None and split_note(stored.note)[0] == split_note(one.note)[0]


def _shown(home: "WitnessHome", key: str, kept: list["Misbehaviour"], settled: list[bool]) -> dict[str, Any]:
    return {
        "key": key,
        "logs": [
            {
                "origin": stored.origin, "size": stored.size, "root": stored.root, "accepted_at": stored.accepted_at,
                "note": stored.note,
            }
            for stored in home.store.latest_of_each()
        ],
        "misbehaviour": [
            {
                "kind": one.kind, "convicts": one.convicts, "settled": done, "origin": one.origin, "seen_at": one.seen_at,
                "meaning": one.meaning, "known_size": one.known_size, "known_note": one.known_note, "size": one.size,
                "note": one.note, "proof": list(one.proof),
            }
            for one, done in zip(kept, settled, strict=True)
        ],
    }  # fmt: skip


def _print_witness(home: "WitnessHome", key: str, kept: list["Misbehaviour"], settled: list[bool]) -> None:
    console.print(f"key  {key}", soft_wrap=True)
    shown = table("log", ">entries", "root", "cosigned (UTC)", spare=("cosigned (UTC)",))
    for stored in home.store.latest_of_each():
        shown.add_row(stored.origin, str(stored.size), stored.root.hex(), moment(stored.accepted_at))
    console.print(shown)
    for one, done in zip(kept, settled, strict=True):
        console.print()
        mark = Text("CONTRADICTION", style="bold red") if one.convicts else Text("refused", style="yellow")
        console.print(Text.assemble(mark, f"  {moment(one.seen_at)} UTC"))
        console.print(one.meaning + (" It was proved and cosigned later." if done else ""), soft_wrap=True)
        known = f"cosigned before, {one.known_size} entries:", one.known_note
        for label, note in (known, (f"signed by the log, {one.size} entries:", one.note)):
            console.print(f"\n{label}\n", style="dim")
            console.print(note.rstrip("\n"), soft_wrap=True)
        if one.proof:
            console.print("\nproof that came with it:\n", style="dim")
            for node in one.proof:
                console.print(node.hex(), soft_wrap=True)
    if any(one.convicts for one in kept):
        errors.print(
            "A log signed two histories. Each pair of checkpoints above proves it to anybody.", style="bold red"
        )


@app.command()
def policy(
    threshold: Annotated[
        int | None, typer.Option(min=0, help="How many of the witnesses make a checkpoint witnessed.")
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="VKEY=URL", help="A witness: its key, and where it is asked. Repeatable."),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; recorded.")] = None,
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Record whose cosignatures are asked for, and how many it takes; without options, show what is recorded."""
    from traceai.ledger.witnesses.policy import Policy  # noqa: PLC0415
    from traceai.ledger.witnesses.witnessing import read_policy, record_policy  # noqa: PLC0415

    with opened() as trace:
        origin = trace.signer.state().origin or trace.signer.sign().origin
        if threshold is None and not witness and reason is None:
            with trace.database.session() as session:
                recorded = read_policy(session, origin)
        else:
            if threshold is None or reason is None:
                raise InputError("Recording a policy needs --threshold and --reason; without any option it is shown.")
            listed = [_witness(text) for text in witness or ()]
            try:
                recorded = Policy.parse({"origin": origin, "threshold": threshold, "witnesses": listed})
            except PolicyError as error:
                raise InputError(error.message) from error
            record_policy(trace.signer, recorded, actor=actor_or_operator(actor), reason=reason)
            trace.signer.sign()
    if json:
        print_json(
            None if recorded is None else
            {
                "origin": recorded.origin, "threshold": recorded.threshold,
                "witnesses": [{"name": w.name, "key": str(w.key), "url": w.url} for w in recorded.witnesses],
            }
        )  # fmt: skip
    elif recorded is None or not recorded.witnesses:
        console.print(
            f"{origin} asks for no witness: nobody outside confirms that it shows everybody the same history.",
            soft_wrap=True,
        )
    else:
        print_facts({"origin": recorded.origin, "witnessed by": f"{recorded.threshold} of {len(recorded.witnesses)}"})
        shown = table("witness", "key", "asked at", spare=("witness",))
        for one in recorded.witnesses:
            shown.add_row(one.name, str(one.key), one.url)
        console.print(shown)


def _witness(text: str) -> dict[str, str]:
    found = _WITNESS.fullmatch(text)
    if found is None:
        raise InputError(f"--witness {text!r} is not VKEY=URL; the key is what `traceai ledger witness show` prints.")
    return {"name": found["key"].partition("+")[0], "key": found["key"], "url": found["url"]}


@app.command()
def collect(
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, help="Seconds to wait for an answer of a witness.")
    ] = 10.0,
    json: JsonOption = False,
) -> None:
    """Sign the ledger as it is, and ask its witnesses now. Exit 1 when too few cosign, or one has seen another history."""
    from traceai.ledger.witnesses import witnessing  # noqa: PLC0415

    with opened() as trace:
        stored = trace.signer.sign()
        sizes = witnessing.CosignedSizes(trace.settings.absolute_home / "witnesses.json")
        found = witnessing.collect(trace.signer, stored, sizes, timeout)
    if found is None:
        raise NotFoundError("No witness policy is recorded; record one with `traceai ledger witness policy`.")
    if json:
        print_json(_collected(stored.origin, stored.size, found))
    else:
        _print_collected(stored.origin, stored.size, found)
    if found.contradicted or not found.fact.witnessed:
        raise typer.Exit(1)


def _collected(origin: str, size: int, found: "Collected") -> dict[str, Any]:
    return {
        "origin": origin,
        "size": size,
        "witnessed": found.fact.witnessed,
        "needed": found.fact.needed,
        "by": [{"witness": one.witness, "at": one.at} for one in found.fact.by],
        "contradicted": found.contradicted,
        "asked": [
            {
                "witness": one.witness,
                "outcome": one.outcome,
                "contradicts": one.contradicts,
                "said": one.said,
                "at": one.at,
            }
            for one in found.asked
        ],
        "note": found.note,
    }


def _print_collected(origin: str, size: int, found: "Collected") -> None:
    print_facts({"origin": origin, "entries": size})
    for one in found.asked:
        style = "bold red" if one.contradicts else "blue" if one.outcome == "cosigned" else "yellow"
        console.print(Text.assemble((f"{one.outcome:<12}", style), one.witness))
        console.print(f"            {one.said}", soft_wrap=True)
    count, needed = len(found.fact.by), found.fact.needed
    verdict = "witnessed" if found.fact.witnessed else "NOT WITNESSED"
    told = f"{verdict}: {count} of {len(found.asked)} cosigned, {needed} needed"
    console.print(told, style="blue" if found.fact.witnessed else "bold red")
    if found.contradicted:
        errors.print(
            "A witness has seen another history of this ledger than the one it is shown now. It keeps both signed checkpoints; "
            "`traceai ledger witness show` prints them there.",
            style="bold red", soft_wrap=True,
        )  # fmt: skip


def timestamp(
    ca: Annotated[Path, typer.Option(help="PEM file with the certificates that vouch for the authority.")],
    tsa: Annotated[
        str | None, typer.Option(help="URL of an RFC 3161 timestamp authority; without it, nobody is asked.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds to wait for the authority.")] = 30.0,
    json: JsonOption = False,
) -> None:
    """Have the ledger stamped by an RFC 3161 authority; without --tsa, verify every stamp that was kept, offline.

    Exit 1 when a stamp does not hold. One that does not hold is never kept.
    """
    from traceai.ledger.note import split_note  # noqa: PLC0415
    from traceai.ledger.signing import timestamping  # noqa: PLC0415
    from traceai.ledger.signing.checkpoints import CheckpointStore  # noqa: PLC0415
    from traceai.settings import Settings  # noqa: PLC0415

    authorities = timestamping.load_certificates(ca)
    if tsa is None:
        rows = _verified(CheckpointStore(Settings.from_environment().absolute_home / "checkpoints.db"), authorities)
    else:
        with opened() as trace:
            stored = trace.signer.sign()
            text = split_note(stored.note)[0].encode()
            found = timestamping.request_timestamp(text, tsa, authorities, timeout)
            trace.signer.store.add_timestamp(stored.origin, stored.size, tsa, found.response)
        rows = [_row(stored.origin, stored.size, tsa) | {"at": found.at}]
    if json:
        print_json(rows)
    elif not rows:
        console.print("No checkpoint was stamped yet; name an authority with --tsa.")
    else:
        shown = table("", ">entries", "existed at (UTC)", "authority", "~", spare=("authority",))
        for row in rows:
            mark = Text("holds", style="blue") if row["holds"] else Text("FAILS", style="bold red")
            shown.add_row(mark, str(row["size"]), moment(row["at"]) if row["at"] else "-", row["tsa"], row["said"])
        console.print(shown)
    if not all(row["holds"] for row in rows):
        raise typer.Exit(1)


def _verified(store: "CheckpointStore", authorities: "Sequence[Certificate]") -> list[dict[str, Any]]:
    """Every stamp that was kept, held against the checkpoint it is of. Neither database nor network is asked."""
    from traceai.ledger.note import split_note  # noqa: PLC0415
    from traceai.ledger.signing import timestamping  # noqa: PLC0415

    rows: list[dict[str, Any]] = []
    for origin in store.origins():
        for size in store.stamped(origin):
            stored = store.at(origin, size)
            text = split_note(stored.note)[0].encode() if stored else b""
            for stamp in store.timestamps(origin, size):
                row = _row(origin, size, stamp.tsa)
                try:
                    row["at"] = timestamping.verify_timestamp(stamp.token, text, authorities).at
                except TimestampError as error:
                    row |= {"holds": False, "said": error.message}
                rows.append(row)
    return rows


def _row(origin: str, size: int, tsa: str) -> dict[str, Any]:
    return {"origin": origin, "size": size, "holds": True, "at": None, "tsa": tsa, "said": ""}
