"""`traceai decision replay`, and explanations that are made afterwards."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from traceai.cli.files import write_file
from traceai.cli.terminal import JsonOption, console, errors, opened, print_json, table
from traceai.clock import now
from traceai.errors import TraceaiError, UnavailableError, VerificationError

if TYPE_CHECKING:
    from traceai.inspection.replay import Replay


def replay(
    references: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of decisions, or ledger indices.")],
    json: JsonOption = False,
) -> None:
    """Make past decisions again from the stored image and model, and compare. Exit 1 where one does not agree with its record."""
    found: list[tuple[str, Replay | TraceaiError]] = []
    with opened() as trace:
        for reference in references:
            try:
                found.append((reference, trace.replay(reference)))
            except UnavailableError:
                raise
            except TraceaiError as error:
                if len(references) == 1:
                    raise
                found.append((reference, error))
    if json:
        print_json([_json(reference, outcome) for reference, outcome in found])
    else:
        _print(found)
    failed = [outcome for _, outcome in found if isinstance(outcome, TraceaiError)]
    if any(isinstance(error, VerificationError) for error in failed) or any(
        not outcome.agrees for _, outcome in found if not isinstance(outcome, TraceaiError)
    ):
        raise typer.Exit(1)
    if failed:
        raise typer.Exit(2)


def explain_now(reference: str, out: Path, method: str, layer: str | None, *, json: bool) -> None:
    """Replay a decision and write what `method` says of it."""
    from traceai.inspection.picture import afterwards_png  # noqa: PLC0415  # Pillow and numpy

    with opened() as trace:
        found = trace.replay(reference).explain(method, layer=layer, on=now().date())
    write_file(out, afterwards_png(found))
    if json:
        print_json({**found.to_json(), "out": str(out)})
        return
    record = found.replay.record
    about = f"the evidence for {record.explanation.target}" if found.method.signed else "attention, of no class"
    console.print(
        f"{out}: {about}, made afterwards by {found.method.name}; it is not the recorded explanation.",
        markup=False,
        soft_wrap=True,
    )


def _json(reference: str, outcome: "Replay | TraceaiError") -> dict[str, Any]:
    if isinstance(outcome, TraceaiError):
        return {"reference": reference, "agrees": None, "error": {"code": outcome.code, "message": outcome.message}}
    return {"reference": reference, **outcome.to_json(), "error": None}


def _print(found: "list[tuple[str, Replay | TraceaiError]]") -> None:
    shown = table("decision", "model", "verdict", "replayed", ">logits within", "heat map", "result", spare=("model",))
    for reference, outcome in found:
        if isinstance(outcome, TraceaiError):
            shown.add_row(reference, "", "", "", "", "", Text(f"NOT REPLAYED [{outcome.code}]", style="bold red"))
            continue
        record = outcome.record
        shown.add_row(
            record.id,
            f"{record.model.name}@{record.model.version}",
            record.verdict,
            outcome.judgement.verdict,
            f"{outcome.logit_error:.1e}",
            _heat_map(outcome),
            Text("agrees", style="blue") if outcome.agrees else Text("DOES NOT AGREE", style="bold red"),
        )
    console.print(shown)
    for reference, outcome in found:
        if isinstance(outcome, TraceaiError):
            errors.print(f"{reference}: {outcome.message} [{outcome.code}]", soft_wrap=True)
            continue
        for difference in outcome.differences:
            console.print(f"{outcome.record.id}: {difference}.", soft_wrap=True)
        if outcome.recorded_runtime is None:
            console.print(f"{outcome.record.id}: its runtime is not on record.", soft_wrap=True)
        for name in outcome.runtime_differs:
            then, now = (
                (runtime or {}).get(name, "not named") for runtime in (outcome.recorded_runtime, outcome.runtime)
            )
            console.print(f"{outcome.record.id}: runtime {name} was {then} and is {now}.", soft_wrap=True)


def _heat_map(replayed: "Replay") -> str:
    if replayed.identical:
        return "the same, bit for bit"
    if replayed.grid_error is None:
        return "of another shape"
    return f"within {replayed.grid_error:.1e}" + (" (its extremes; purged)" if replayed.purged else "")
