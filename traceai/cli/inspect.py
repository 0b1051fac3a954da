"""`traceai inspect`: files and folders, decided and recorded."""

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer

from traceai.cli.ledger import sign_off
from traceai.cli.terminal import (
    ActorOption,
    JsonOption,
    actor_or_operator,
    console,
    errors,
    opened,
    print_json,
    progress,
    table,
    verdict_text,
)
from traceai.errors import InputError, UsageError
from traceai.inspection import watching
from traceai.inspection.decision import Decision
from traceai.inspection.inspector import Inspector
from traceai.inspection.reading import Item
from traceai.inspection.recording.draft import Spooled
from traceai.ledger.log import Receipt
from traceai.sdk import Trace

PatternOption = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="What a file's name says, as named groups: (?P<serial>.+)_(?P<trigger>[0-9]+); also lot, view, product.",
    ),
]
ModelOption = Annotated[str | None, typer.Option(metavar="NAME[@V]", help="The active version of NAME, or version V.")]
OnnxOption = Annotated[
    Path | None, typer.Option(help="A file of `traceai model export` instead; it runs without torch.")
]
# More lines than this scroll past unread; `traceai decision list` pages through them.
SHOWN = 20


def inspect(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, or folders of images.")],
    station: Annotated[str, typer.Option(help="Where on the line; see `traceai station add`.")],
    model: ModelOption = None,
    onnx: OnnxOption = None,
    product: Annotated[str | None, typer.Option(help="Product of every part.")] = None,
    serial: Annotated[str | None, typer.Option(help="Serial number; for a single image.")] = None,
    lot: Annotated[str | None, typer.Option(help="Lot of every part.")] = None,
    view: Annotated[str | None, typer.Option(help="Which camera saw the part.")] = None,
    pattern: PatternOption = None,
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Inspect images and record every decision. What cannot be inspected is recorded too, and the rest go on.

    While the database is away, decisions are kept in the spool of this machine and recorded when it is back; see `traceai spool`.
    Exit 2 when any image could not be inspected. Interrupted, it ends with the batch at hand, and shows what was recorded.
    """
    given = {"product": product, "serial": serial, "lot": lot, "view": view}
    require_one_of(model, onnx)
    read = watching.named(pattern)
    files = collect(paths)
    if serial is not None and len(files) > 1:
        raise InputError(
            f"One serial number cannot belong to {len(files)} images; inspect them one by one, or leave --serial out."
        )
    items = [watching.item(file, given, read) for file in files]
    with opened() as trace:
        inspector = inspector_of(trace, model, onnx, station, actor)
        decisions: list[Decision] = []
        try:
            try:
                _inspect(inspector, items, decisions)
            finally:
                _tell(trace, decisions, json)
        except BaseException:
            # Whatever ended it: who inspects the rest has to know where it begins, or parts are recorded twice.
            done, rest = len(decisions), files[len(decisions) :]
            errors.print(
                f"{done} of {len(items)} recorded" + (f"; the next is {rest[0]}." if rest else "."), soft_wrap=True
            )
            raise
    if any(decision.failure is not None for decision in decisions):
        raise typer.Exit(2)


def require_one_of(model: str | None, onnx: Path | None) -> None:
    """Raises:
    UsageError: neither is given, or both.
    """
    if (model is None) == (onnx is None):
        raise UsageError("Inspect with --model NAME or with --onnx FILE, one of the two.")


def inspector_of(trace: Trace, model: str | None, onnx: Path | None, station: str, actor: str | None) -> Inspector:
    """Of the version, or of the exported file; see `require_one_of`."""
    if onnx is not None:
        return trace.edge_inspector(onnx, station)
    assert model is not None  # noqa: S101  # one of the two
    return trace.inspector(model, station, actor=actor_or_operator(actor))


def _inspect(inspector: Inspector, items: Sequence[Item], decisions: list[Decision]) -> None:
    """Inspect `items`, and append every decision to `decisions` once it is recorded.

    Raises:
        KeyboardInterrupt: interrupted, after the batch at hand was recorded; or at once when interrupted again.
    """
    with interruptible() as interrupted, progress("inspecting", unit="images") as advance:
        for decision in inspector.inspect_many(items, until=interrupted):
            decisions.append(decision)
            advance(len(decisions), len(items))
        if interrupted.is_set() and len(decisions) < len(items):
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Event]:
    """Within the block the first interrupt (Ctrl-C, SIGTERM) sets the flag that is yielded; the next one interrupts."""
    asked = Event()

    def ask(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number in handled:
            signal.signal(number, before[number])


def _tell(trace: Trace, decisions: list[Decision], json: bool) -> None:
    """Sign what was recorded, then show it: the signature depends on no terminal."""
    try:
        if any(isinstance(decision.receipt, Receipt) for decision in decisions):
            sign_off(trace)
    finally:
        if json:
            print_json([as_json(decision) for decision in decisions])
        elif decisions:
            print_decisions(decisions)
        if waiting := sum(isinstance(decision.receipt, Spooled) for decision in decisions):
            errors.print(
                f"The database does not answer: {waiting} of them wait in the spool of this machine, and are recorded when it is "
                "back; see `traceai spool status`.",
                style="yellow", soft_wrap=True,
            )  # fmt: skip


def collect(paths: list[Path]) -> list[Path]:
    """The images that `paths` name, folders read through in name order. A named file counts whatever its suffix.

    Raises:
        InputError: a path that does not exist, or nothing to inspect.
    """
    found: list[Path] = []
    for path in paths:
        try:
            known, folder = path.exists(), path.is_dir()
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); check the path and its permissions."
            ) from error
        if folder:
            inside = sorted(_images(path))
            if not inside:
                raise InputError(
                    f"There are no images in {path}; traceai reads {', '.join(sorted(watching.SUFFIXES))}."
                )
            found += inside
        elif known:
            found.append(path)
        else:
            raise InputError(f"There is no file or folder {path}; check the path.")
    return found


def _images(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}); its images would go uninspected."
        ) from error

    for inside, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if watching.is_image(Path(name)):
                yield Path(inside, name)


def as_json(decision: Decision) -> dict[str, Any]:
    failure = decision.failure
    return {
        "source": decision.source,
        "id": decision.id,
        "index": decision.receipt.index,
        "leaf_hash": decision.receipt.leaf_hash,
        "recorded_at": decision.receipt.recorded_at,
        "spooled_at": decision.receipt.spooled_at if isinstance(decision.receipt, Spooled) else None,
        "station_seq": decision.station_seq,
        "verdict": decision.verdict,
        "predicted": decision.predicted,
        "defect_score": decision.defect_score,
        "failure": {"code": failure.code, "message": failure.message} if failure else None,
    }


def print_decisions(decisions: list[Decision]) -> None:
    failed = [decision for decision in decisions if decision.failure is not None]
    shown = table(">index", "id", "verdict", ">score", "evidence for", "image", spare=("evidence for", "score", "id"))
    for decision in decisions[:SHOWN]:
        shown.add_row(
            "spooled" if decision.receipt.index is None else str(decision.receipt.index),
            decision.id,
            verdict_text(decision.verdict),
            "" if decision.defect_score is None else f"{decision.defect_score:.4f}",
            decision.explanation.target if decision.explanation else "",
            decision.source,
        )
    console.print(shown)
    if len(decisions) > SHOWN:
        console.print(f"... and {len(decisions) - SHOWN} more; see `traceai decision list`.", style="dim")
    counts = Counter(str(decision.verdict or "failed") for decision in decisions)
    console.print(
        f"{len(decisions)} recorded: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()) + "."
    )
    for decision in failed[:SHOWN]:
        if decision.failure is not None:
            console.print(
                f"failed: {decision.source}: {decision.failure.message} [{decision.failure.code}]",
                style="red", markup=False, soft_wrap=True,
            )  # fmt: skip
