"""`traceai watch`: every image that a camera writes into a folder, one line a decision, until interrupted."""

import json as json_module
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from traceai.cli.inspect import (
    ModelOption,
    OnnxOption,
    PatternOption,
    as_json,
    inspector_of,
    interruptible,
    require_one_of,
)
from traceai.cli.terminal import (
    ActorOption,
    console,
    errors,
    json_default,
    moment,
    opened,
    verdict_text,
)
from traceai.clock import now
from traceai.errors import InputError, UnavailableError
from traceai.inspection import history, watching
from traceai.inspection.decision import Decision
from traceai.inspection.reading import Item
from traceai.ledger.signing.signer import Heartbeat
from traceai.sdk import Trace


def watch(
    folder: Annotated[Path, typer.Argument(help="Where the camera writes its images.")],
    station: Annotated[str, typer.Option(help="Where on the line; see `traceai station add`.")],
    model: ModelOption = None,
    onnx: OnnxOption = None,
    product: Annotated[str | None, typer.Option(help="Product of every part.")] = None,
    lot: Annotated[str | None, typer.Option(help="Lot of every part.")] = None,
    view: Annotated[str | None, typer.Option(help="Which camera saw the part.")] = None,
    pattern: PatternOption = None,
    actor: ActorOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line instead of text.")] = False,
) -> None:
    """Inspect every image in a folder and every one that appears there, until interrupted.

    Each is inspected once, also after a restart; a file that is written anew is another image. What cannot be inspected is recorded
    too. While the database is away, decisions are kept in the spool of this machine; see `traceai spool`.
    """
    require_one_of(model, onnx)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; make it, or check the path.")
    given, read = {"product": product, "lot": lot, "view": view}, watching.named(pattern)
    counts: Counter[str] = Counter()

    def make(path: Path, reference: str, data: Path | bytes) -> Item:
        try:
            return watching.item(path, given, read, data, id=reference)
        except InputError as error:
            # A name that says what no record can hold is no reason to inspect nothing more.
            errors.print(
                f"{path}: {error.message} It is inspected without what its name says.", style="yellow", soft_wrap=True
            )
            return watching.item(path, given, lambda _: {}, data, id=reference)

    with (
        opened() as trace,
        interruptible() as interrupted,
        Heartbeat(trace.checkpoint),
    ):
        inspector = inspector_of(trace, model, onnx, station, actor)
        images = watching.watch(
            folder,
            station,
            make,
            _on_record(trace),
            interrupted,
            told=_once(),
        )
        trace.recorder.start()
        errors.print(f"Watching {folder}; Ctrl-C ends it.", soft_wrap=True)
        for decision in inspector.stream(images):
            counts[str(decision.verdict or "failed")] += 1
            _tell(decision, json)
    found = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
    errors.print(f"Watched {folder}: {found}.", soft_wrap=True)


def _once() -> Callable[[str], None]:
    """Says each thing once, however often it happens."""
    said: set[str] = set()

    def tell(what: str) -> None:
        if what not in said:
            said.add(what)
            errors.print(what, style="yellow", soft_wrap=True)

    return tell


def _on_record(trace: Trace) -> Callable[[Sequence[str]], set[str]]:
    def known(references: Sequence[str]) -> set[str]:
        try:
            with trace.recorder.database.session() as session:
                return history.on_record(session, references)
        except UnavailableError:
            return set()  # then they are inspected again, and the ledger or the spool knows their ids

    return known


def _tell(decision: Decision, json: bool) -> None:
    if json:
        typer.echo(json_module.dumps(as_json(decision), default=json_default))
        return
    failure, index = decision.failure, decision.receipt.index
    line = verdict_text(decision.verdict).append(
        f"  {'' if decision.defect_score is None else f'{decision.defect_score:.4f}  '}{decision.source}"
        + (f"  {failure.message} [{failure.code}]" if failure else ""),
        style="default",
    )
    place = "spooled" if index is None else f"#{index}"
    console.print(moment(now()), f"{place:>10}", line, soft_wrap=True)
