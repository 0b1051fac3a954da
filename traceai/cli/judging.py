"""A version judged on labelled images, for the commands that do so: which images, what was found, how it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from traceai.cli.terminal import console, print_facts, progress, table
from traceai.data import store
from traceai.data.snapshot import Snapshot, SnapshotItem
from traceai.db.tables import ModelVersion
from traceai.errors import ModelError
from traceai.explain import wording
from traceai.models import registry
from traceai.sdk import Trace

if TYPE_CHECKING:  # torch takes seconds to import, and `model list` needs none
    from traceai.models.artifact import LoadedModel
    from traceai.models.evaluation import Evaluation

NO_GOOD_CLASS = (
    "This model has no good class: it was shown only defects. It can say which defect a part resembles, and why, but not "
    "that a part is good, so it has no defect score and every verdict is 'undecided': a person decides."
)


def stored_snapshot(trace: Trace, reference: str) -> Snapshot:
    """A data set by `NAME` or `NAME@DIGEST`, as it was imported."""
    with trace.database.session() as session:
        row = store.find(session, reference)
        return store.snapshot(session, trace.blobs, row)


@dataclass(frozen=True)
class Judged:
    """The images that a version is judged on, and in words which they are and whether the network knows them."""

    snapshot: Snapshot
    items: tuple[SnapshotItem, ...]
    which: str
    known: str


def judged_on(trace: Trace, row: ModelVersion, data: str | None = None, split: str | None = None) -> Judged:
    """What was held out of the version's training, or `split` of it, or of another data set.

    Raises:
        ModelError: no `data`, for a version that names no training data.
    """
    from traceai.models.partition import acquaintance, partition  # noqa: PLC0415

    trained_on = None
    if row.snapshot_digest is not None:
        trained_on = stored_snapshot(trace, f"{row.snapshot_name}@{row.snapshot_digest.hex()}")
    snapshot = stored_snapshot(trace, data) if data else trained_on
    if snapshot is None:
        raise ModelError(f"{row.name}@{row.version} does not name its training data; choose a data set with --data.")
    if split is not None:
        items, which = tuple(item for item in snapshot.items if item.split == split), f"all {split} images of"
    elif data:
        items, which = snapshot.items, "all images of"
    else:
        items, which = partition(snapshot).evaluate, "the images held out of training of"
    known = acquaintance(trained_on, items) if trained_on else "what the network was trained on is not on record"
    return Judged(snapshot, items, f"{which} {snapshot.name}", known)


def measure_and_record(trace: Trace, row: ModelVersion, actor: str) -> dict[str, Any]:
    """Measure a version's explanations on the images held out of its training, and enter what is found; returns it as recorded."""
    model = registry.load(trace.database, trace.blobs, registry.reference_of(row), actor=actor)
    return measured(trace, row, model, judged_on(trace, row), actor)


def measured(trace: Trace, row: ModelVersion, model: "LoadedModel", judged: Judged, actor: str) -> dict[str, Any]:
    """Measure a loaded version's explanations on `judged`, and enter what is found; returns it as recorded."""
    from traceai.explain.summary import METHOD  # noqa: PLC0415
    from traceai.models.explained import measure_explanations  # noqa: PLC0415

    with progress("measuring explanations", unit="steps") as advance:
        found = measure_explanations(model, judged.items, judged.snapshot.files, advance)
    images = f"{judged.which}, {judged.known}"
    with trace.database.session() as session:
        registry.record_explanations(
            session, row, found, method=METHOD, snapshot=judged.snapshot, images=images, actor=actor
        )
    return {"images": images, "randomisation": found.randomisation.verdict, "measures": found.to_record()}


def print_explanations(measures: Mapping[str, Any], verdict: str) -> None:
    """What was measured, each beside its control, and what random weights leave of the maps, layer by layer."""
    try:
        words, found, layers = wording.told(verdict, measures)
    except ValueError as problem:
        console.print(f"Explanations: {problem}; run `traceai ledger verify`.", style="red", markup=False)
        return
    print_facts({"gone with random weights": words, **dict(found)}, "Explanations")
    shown = table("random", ">alone", ">in turn", title="Left of the maps with random weights, from the output down")
    for layer, alone, cascading in layers:
        shown.add_row(Text(layer), alone, cascading)
    console.print(shown)


def print_evaluation(found: "Evaluation", known: str = "none of them seen in training") -> None:
    """AUROC, the confusion table at the operating point, types, and where the explanations point."""
    facts: dict[str, Any] = {"images": f"{found.images} ({found.goods} good, {found.defects} defective), {known}"}
    if found.auroc is not None and found.average_precision is not None:
        facts |= {"AUROC": f"{found.auroc:.3f}", "average precision": f"{found.average_precision:.3f}"}
    else:
        facts["AUROC"] = f"not defined: {found.undefined}"
    if found.type_accuracy is not None and found.type_recall is not None:
        facts["defect type"] = (
            f"right for {found.type_accuracy:.1%} of the defects; mean recall over types {found.type_recall:.1%}"
        )
    if found.pointing is not None and found.pointing_chance is not None:
        facts["explanation"] = (
            f"peak on the defect for {found.pointing:.1%} (a random cell: {found.pointing_chance:.1%})"
        )
    print_facts(facts, title="Evaluation")
    shown = table("truth", ">pass", ">undecided", ">reject", title="Confusion at the operating point")
    for truth in ("good", "defect"):
        shown.add_row(truth, *(str(found.verdicts[truth][verdict]) for verdict in ("pass", "undecided", "reject")))
    for name, counts in found.detection.items():
        shown.add_row(
            Text(f"  {name}", style="dim"), *(str(counts[verdict]) for verdict in ("pass", "undecided", "reject"))
        )
    console.print(shown)
    if found.undefined and "no good class" in found.undefined:
        console.print(NO_GOOD_CLASS, style="yellow")
