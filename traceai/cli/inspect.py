"""`traceai inspect`: files and folders, decided and recorded."""

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
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
from traceai.errors import InputError
from traceai.inspection.decision import Decision
from traceai.inspection.inspector import Inspector
from traceai.inspection.reading import Item
from traceai.sdk import Trace

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
# More lines than this scroll past unread; `traceai decision list` pages through them.
SHOWN = 20


def inspect(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, or folders of images.")],
    model: Annotated[str, typer.Option(metavar="NAME[@V]", help="The active version of NAME, or version V.")],
    station: Annotated[str, typer.Option(help="Where on the line; see `traceai station add`.")],
    product: Annotated[str | None, typer.Option(help="Product of every part.")] = None,
    serial: Annotated[str | None, typer.Option(help="Serial number; for a single image.")] = None,
    lot: Annotated[str | None, typer.Option(help="Lot of every part.")] = None,
    view: Annotated[str | None, typer.Option(help="Which camera saw the part.")] = None,
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Inspect images and record every decision. What cannot be inspected is recorded too, and the rest go on.

    Exit 2 when any image could not be inspected. Interrupted, it ends with the batch at hand, and shows what was recorded.
    """
    files = collect(paths)
    if serial is not None and len(files) > 1:
        raise InputError(
            f"One serial number cannot belong to {len(files)} images; inspect them one by one, or leave --serial out."
        )
    items = [Item(file, product=product, serial=serial, lot=lot, view=view) for file in files]
    with opened() as trace:
        inspector = trace.inspector(model, station, actor=actor_or_operator(actor))
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


def _inspect(inspector: Inspector, items: Sequence[Item], decisions: list[Decision]) -> None:
    """Inspect `items`, and append every decision to `decisions` once it is recorded.

    Raises:
        KeyboardInterrupt: interrupted, after the batch at hand was recorded; or at once when interrupted again.
    """
    with interruptible() as interrupted, progress("inspecting", unit="images") as advance:
        for decision in inspector.inspect_many(takewhile(lambda _: not interrupted.is_set(), items)):
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
        if decisions:
            sign_off(trace)
    finally:
        if json:
            print_json([as_json(decision) for decision in decisions])
        elif decisions:
            print_decisions(decisions)


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
                raise InputError(f"There are no images in {path}; traceai reads {', '.join(sorted(SUFFIXES))}.")
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
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(inside, name)


def as_json(decision: Decision) -> dict[str, Any]:
    failure = decision.failure
    return {
        "source": decision.source,
        "id": decision.id,
        "index": decision.receipt.index,
        "leaf_hash": decision.receipt.leaf_hash,
        "recorded_at": decision.receipt.recorded_at,
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
            str(decision.receipt.index),
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
