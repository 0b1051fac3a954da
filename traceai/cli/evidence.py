"""`traceai ledger prove` and `traceai verify`: a decision that leaves the house, and whoever checks it there."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from traceai.cli.files import published
from traceai.cli.terminal import JsonOption, console, errors, opened, print_facts, print_json, table
from traceai.errors import BlobMissingError, InputError
from traceai.ledger import verify as offline
from traceai.ledger.verify import Outcome


def prove(
    reference: Annotated[str, typer.Argument(metavar="ID", help="The decision's id, or its ledger index.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the evidence file.")],
    image: Annotated[Path | None, typer.Option(help="Write the image there, too, as it arrived.")] = None,
    heat_map: Annotated[Path | None, typer.Option(help="Write the stored grid there, too.")] = None,
) -> None:
    """Write one decision with everything that proves it: `traceai verify` checks the file without this ledger."""
    from traceai.inspection import history  # noqa: PLC0415  # `traceai verify` opens no database
    from traceai.ledger.evidence import proving  # noqa: PLC0415

    with opened() as trace:
        data = proving.prove(trace.signer, reference).data
        with trace.database.session() as session:
            decision = history.find(session, reference)
            grid = history.dossier(session, decision).grid
        files = {out: data}
        if image is not None:
            if decision.image_sha256 is None:
                raise BlobMissingError(f"Inspection {decision.id} failed before an image was read, so there is none.")
            files[image] = trace.blobs.get(decision.image_sha256.hex())
        if heat_map is not None:
            if grid is None:
                raise BlobMissingError(f"Inspection {decision.id} has no heat map, or it was purged.")
            files[heat_map] = grid
    _write(files, 1 + (image is not None) + (heat_map is not None))
    outcome = offline.verify(data)
    console.print(f"{out}", soft_wrap=True)
    for fact in outcome.facts:
        if fact.name in {"entry", "signed", "witnessed"} or fact.holds is False:
            console.print(fact.sentence, style="red" if fact.holds is False else "dim", soft_wrap=True)


def _write(files: Mapping[Path, bytes], wanted: int) -> None:
    """Write all of them, or none.

    Raises:
        InputError: two of the files that were `wanted` are one, or one cannot be written.
    """
    if len({path.absolute() for path in files}) < wanted:
        raise InputError("One file cannot hold two things; give each a name of its own.")
    for path in files:
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file.")
    with ExitStack() as stack:  # each takes its place when all have been written
        for path, data in files.items():
            stack.enter_context(published(path)).write_bytes(data)


def verify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An evidence file, of `traceai ledger prove` or the API.")
    ],
    key: Annotated[list[str] | None, typer.Option(help="Key of a log that you trust; may be repeated.")] = None,
    witness: Annotated[list[str] | None, typer.Option(help="Key of a witness that you trust; may be repeated.")] = None,
    threshold: Annotated[int | None, typer.Option(help="How many of these must have cosigned. Default: all.")] = None,
    tsa: Annotated[list[Path] | None, typer.Option(help="Certificate (PEM) of a timestamp authority.")] = None,
    image: Annotated[Path | None, typer.Option(help="The image, to compare with the recorded digest.")] = None,
    heat_map: Annotated[Path | None, typer.Option(help="The stored grid, to compare likewise.")] = None,
    json: JsonOption = False,
) -> None:
    """Verify an evidence file, offline: no database, no network. Exit 1 when it does not verify."""
    outcome = offline.verify(
        offline.read_evidence(file),
        offline.trust_of(key or (), witness or (), threshold, tsa or ()),
        image=offline.read(image) if image else None,
        heat_map=offline.read(heat_map) if heat_map else None,
    )
    if json:
        print_json(outcome.to_json())
    else:
        print_outcome(outcome)
    if not outcome.holds:
        raise typer.Exit(1)


def print_outcome(outcome: Outcome) -> None:
    shown = table("", "fact", "~what was found")
    styles = {True: "blue", False: "bold red", None: "yellow"}
    for fact in outcome.facts:
        shown.add_row(Text(offline.MARKS[fact.holds], style=styles[fact.holds]), fact.name, Text(fact.sentence))
    console.print(shown)
    if outcome.checkpoint is not None:
        point = outcome.checkpoint
        print_facts({"log": point.origin, "entries": point.size, "root": point.root.hex()})
    said = console if outcome.holds else errors
    style = "bold red" if not outcome.holds else "blue" if outcome.trusted else "yellow"
    said.print(Text(outcome.conclusion, style=style), soft_wrap=True)
