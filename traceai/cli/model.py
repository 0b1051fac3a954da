"""`traceai model`: the life of a version."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from traceai.cli.files import published
from traceai.cli.judging import (
    NO_GOOD_CLASS,
    judged_on,
    measured,
    print_evaluation,
    print_explanations,
    stored_snapshot,
)
from traceai.cli.terminal import (
    ActorOption,
    JsonOption,
    actor_or_operator,
    console,
    moment,
    opened,
    print_facts,
    print_json,
    progress,
    table,
)  # fmt: skip
from traceai.db.tables import ModelVersion
from traceai.inspection.history import model_events, model_exports
from traceai.ledger.canonical import LARGEST_INTEGER
from traceai.models import registry
from traceai.sdk import Trace

if TYPE_CHECKING:  # torch takes seconds to import, and `model list` needs none
    from traceai.models.evaluation import Evaluation
    from traceai.models.training_settings import TrainingSettings

app = typer.Typer(no_args_is_help=True)
Reference = Annotated[str, typer.Argument(metavar="NAME@V", help="A version, or the active one of NAME.")]
ReasonOption = Annotated[str, typer.Option(help="A sentence that an auditor will read.")]
WaiverOption = Annotated[
    str | None, typer.Option(help="Why, although its explanations survive random weights; signed and recorded.")
]


def _share(value: float) -> float:
    if not 0 <= value < 1:
        raise typer.BadParameter(f"{value:g} is not a share from 0 to below 1.")
    return value


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="What to call the model.")],
    data: Annotated[str, typer.Option(help="The data set to train on; see `traceai data import`.")],
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_INTEGER)] = 0,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LARGEST_INTEGER,
            help="Optimiser steps; 1200, or 3000 of a transformer. The same seed and steps repeat a training.",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=1, max=1e9, help="A time budget instead of --steps; the schedule is fitted to it."),
    ] = None,
    family: Annotated[
        Literal["resnet", "vit"], typer.Option(help="A convolutional network, or a vision transformer.")
    ] = "resnet",
    layer: Annotated[
        str | None,
        typer.Option(help="The layer to explain, such as an earlier one with a finer grid; the last map without it."),
    ] = None,
    max_miss: Annotated[
        float, typer.Option(callback=_share, help="Share of calibration defects that may pass.")
    ] = 0.05,
    max_false_alarm: Annotated[
        float, typer.Option(callback=_share, help="Share of good calibration parts that may be rejected.")
    ] = 0.05,
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Train a version, evaluate it on images it never saw, and register it."""
    from traceai.models.training_settings import TrainingSettings  # noqa: PLC0415

    registry.require_name(name)  # before the training, which takes long
    settings = TrainingSettings(
        seed=seed,
        family=family,
        max_miss_rate=max_miss,
        max_false_alarm_rate=max_false_alarm,
        max_seconds=seconds,
        **({} if steps is None else {"steps": steps}),
    )
    with opened() as trace:
        row, found = train_and_register(trace, name, data, settings, actor_or_operator(actor), layer)
    if json:
        print_json({**row.model_dump(), "evaluation": found.to_record()})
        return
    print_evaluation(found)
    console.print(
        f"Registered {row.name}@{row.version}, digest {row.digest.hex()}.\n"
        f'Next: traceai model approve {row.name}@{row.version} --as SOMEBODY-ELSE --reason "..."',
        markup=False,
        soft_wrap=True,
    )


def train_and_register(
    trace: Trace, name: str, data: str, settings: "TrainingSettings", made_by: str, layer: str | None = None
) -> tuple[ModelVersion, "Evaluation"]:
    """Train on a stored snapshot, evaluate on its held-out images, register the result, to be explained at `layer`.

    Raises:
        SplitError: such a network is not cut there; known before the training.
    """
    from traceai.explain.splitting import split  # noqa: PLC0415
    from traceai.models import architectures, artifact  # noqa: PLC0415
    from traceai.models.evaluation import evaluate  # noqa: PLC0415
    from traceai.models.training import train as fit  # noqa: PLC0415

    snapshot = stored_snapshot(trace, data)
    if layer is not None:
        split(architectures.build(settings.architecture(settings.channels or 1), ("good", "defect")), layer)
    with progress("training", unit="steps") as advance:
        result = fit(snapshot, settings, lambda done, total, loss: advance(done, total, f"loss {loss:.3f}"))
    parts = split(result.module, layer)
    found = evaluate(
        parts,
        result.partition.evaluate,
        snapshot.files,
        preprocessing=result.preprocessing,
        classes=result.classes,
        operating_point=result.operating_point,
    )
    manifest, weights = artifact.pack(
        result.module,
        name=name,
        architecture=result.architecture,
        preprocessing=result.preprocessing,
        classes=result.classes,
        operating_point=result.operating_point,
        layer=parts.layer,
        training=result.provenance,
    )
    evaluation = {"evaluated_on": result.partition.rule, **found.to_record()}
    if result.operating_point_note:
        evaluation["operating_point"] = result.operating_point_note
    with trace.database.session() as session:
        row = registry.register(
            session,
            trace.blobs,
            artifact.Manifest.model_validate_json(manifest),
            weights,
            parameters=sum(parameter.numel() for parameter in result.module.parameters()),
            snapshot_name=snapshot.name,
            evaluation=evaluation,
            made_by=made_by,
        )
    return row, found


@app.command("list")
def list_versions(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None, json: JsonOption = False
) -> None:
    """Show the versions and where each stands."""
    with opened() as trace, trace.database.session() as session:
        rows = registry.versions(session, name)
        states = [registry.state(session, row.name, row.version) for row in rows]
    if json:
        print_json(
            [
                {**row.model_dump(exclude={"evaluation", "training"}), "state": state}
                for row, state in zip(rows, states, strict=True)
            ]
        )
        return
    shown = table(
        "version", "state", "digest", ">classes", ">AUROC", "data", "made by", "when (UTC)",
        spare=("classes", "made by", "when (UTC)", "data", "digest", "AUROC"),
    )  # fmt: skip
    for row, state in zip(rows, states, strict=True):
        shown.add_row(
            f"{row.name}@{row.version}",
            Text(state, style="bold blue" if state == "active" else ""),
            row.digest.hex()[:16],
            str(len(row.classes)),
            str(row.evaluation.get("auroc") or "-"),
            row.snapshot_name or "-",
            row.made_by,
            moment(row.occurred_at),
        )
    console.print(shown)


@app.command()
def show(reference: Reference, json: JsonOption = False) -> None:
    """Show one version: what it is, what it was trained on, who signed for it."""
    with opened() as trace, trace.database.session() as session:
        row = registry.find(session, reference)
        state = registry.state(session, row.name, row.version)
        events = model_events(session, row.name, row.version)
        explained = registry.explanations(session, row.name, row.version)
        exports = model_exports(session, row.name, row.version)
    if json:
        quality = None if explained is None else explained.model_dump()
        print_json(
            {
                **row.model_dump(),
                "state": state,
                "events": [event.model_dump() for event in events],
                "explanations": quality,
                "exports": [export.model_dump() for export in exports],
            }
        )
        return
    facts: dict[str, Any] = {
        "state": state,
        "digest": row.digest.hex(),
        "weights sha256": row.weights_sha256.hex(),
        "architecture": f"{row.architecture}, {row.parameters} parameters",
        "explained at": row.layer,
        "classes": ", ".join(row.classes),
        "operating point": "none: every verdict is undecided"
        if row.pass_below is None
        else f"pass below {row.pass_below}, reject from {row.reject_at}",
        "trained on": row.snapshot_name
        and f"{row.snapshot_name} {row.snapshot_digest.hex() if row.snapshot_digest else ''}",
        "made by": f"{row.made_by}, {moment(row.occurred_at)}",
        "ledger index": row.journal_index,
    }
    for event in events:
        facts[event.action] = f"{event.actor}, {moment(event.occurred_at)}" + (
            f": {event.reason}" if event.reason else ""
        )
    for exported in exports:
        facts[f"{exported.format} {exported.sha256.hex()[:16]}"] = (
            f"{exported.made_by}, {moment(exported.occurred_at)}: {exported.size} bytes, as torch on {exported.images} pictures"
        )
    print_facts(facts, title=f"{row.name}@{row.version}")
    if "good" not in row.classes:
        console.print(NO_GOOD_CLASS, style="yellow")
    print_facts(
        {name.replace("_", " "): value for name, value in row.evaluation.items() if isinstance(value, str | int)},
        title="Evaluation",
    )
    if explained is not None:
        console.print(
            f"Explanations measured by {explained.actor}, {moment(explained.occurred_at)}, on {explained.images}:",
            markup=False,
            soft_wrap=True,
        )
        print_explanations(explained.measures, explained.randomisation)


@app.command()
def evaluate(
    reference: Reference,
    data: Annotated[str | None, typer.Option(help="Another data set than the one it was trained on.")] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, val or test. Without it: what was held out of its training, or all of another data set."
        ),
    ] = None,
    explanations: Annotated[
        bool,
        typer.Option(
            "--explanations", help="Measure its explanations as well, and record what is found with the version."
        ),
    ] = False,
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Judge a version on labelled images: AUROC, confusion, types, where its explanations point."""
    from traceai.models.evaluation import evaluate as judge  # noqa: PLC0415

    with opened() as trace:
        with trace.database.session() as session:
            row = registry.find(session, reference)
        judged = judged_on(trace, row, data, split)
        model = registry.load(trace.database, trace.blobs, registry.reference_of(row), actor=actor_or_operator(actor))
        found = judge(
            model.split,
            judged.items,
            judged.snapshot.files,
            preprocessing=model.manifest.preprocessing,
            classes=model.manifest.classes,
            operating_point=model.manifest.operating_point,
        )
        known = judged.known
        explained = measured(trace, row, model, judged, actor_or_operator(actor)) if explanations else None
    if json:
        quality = {} if explained is None else {"explanations": explained}
        print_json({"evaluated_on": known, **found.to_record(), **quality})
    else:
        print_evaluation(found, known)
        if explained is not None:
            print_explanations(explained["measures"], explained["randomisation"])


@app.command()
def approve(
    reference: Reference,
    reason: ReasonOption,
    despite_explanations: WaiverOption = None,
    actor: ActorOption = None,
) -> None:
    """Sign for a version that somebody else made."""
    with opened() as trace, trace.database.session() as session:
        row = registry.find(session, reference)
        registry.approve(session, row, actor=actor_or_operator(actor), reason=reason, waiver=despite_explanations)
        measured = registry.explanations(session, row.name, row.version) is not None
    if not measured:
        console.print(
            f"Nobody has measured its explanations yet: traceai model evaluate {row.name}@{row.version} --explanations",
            markup=False,
            soft_wrap=True,
            style="yellow",
        )
    console.print(
        f"Approved {row.name}@{row.version}. Next: traceai model activate {row.name}@{row.version}", markup=False
    )


@app.command()
def activate(
    reference: Reference,
    reason: ReasonOption = "",
    despite_explanations: WaiverOption = None,
    actor: ActorOption = None,
) -> None:
    """Make an approved version the one that its name stands for."""
    with opened() as trace, trace.database.session() as session:
        row = registry.find(session, reference)
        registry.activate(session, row, actor=actor_or_operator(actor), reason=reason, waiver=despite_explanations)
    console.print(f"{row.name} now stands for {row.name}@{row.version}.", markup=False)


@app.command()
def retire(reference: Reference, reason: ReasonOption, actor: ActorOption = None) -> None:
    """Take a version out of use. Its past decisions stay as they are."""
    with opened() as trace, trace.database.session() as session:
        row = registry.find(session, reference)
        registry.retire(session, row, actor=actor_or_operator(actor), reason=reason)
    console.print(f"Retired {row.name}@{row.version}.", markup=False)


@app.command()
def export(
    reference: Reference,
    format_: Annotated[Literal["onnx"], typer.Option("--format", help="Of the file.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write it; NAME-V.onnx here where not given.")
    ] = None,
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Write a version as one ONNX file that takes an image and gives logits and explanation; see `traceai inspect --onnx`.

    Before it is registered, the file is run in ONNX Runtime beside torch on the same pictures, and has to agree.
    """
    with opened() as trace:
        with trace.database.session() as session:
            row = registry.find(session, reference)
        target = out or Path(f"{row.name}-{row.version}.{format_}")
        with published(target) as unfinished:
            data, entered = trace.export_model(f"{row.name}@{row.version}", made_by=actor_or_operator(actor))
            unfinished.write_bytes(data)
    if json:
        print_json({**entered.model_dump(), "path": target})
        return
    console.print(
        f"Wrote {target}: {row.name}@{row.version} with preparation and explanation, {entered.size} bytes, SHA-256 "
        f"{entered.sha256.hex()}.\nOn {entered.images} pictures its verdicts are those of torch; logits differ by at most "
        f"{float(entered.logit_difference):.2g}, explanations by at most {float(entered.grid_difference):.2g}. Ledger index "
        f"{entered.journal_index}.\nNext: traceai inspect PATH... --onnx {target} --station NAME",
        markup=False, soft_wrap=True,
    )  # fmt: skip
