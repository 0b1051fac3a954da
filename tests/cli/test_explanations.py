"""`model evaluate --explanations`: measured, recorded with the version, shown, and what an approval asks of it."""

from pathlib import Path

import pytest
from sqlalchemy import select

from tests.cli.conftest import Run
from tests.conftest import register_tiny
from traceai.data import store
from traceai.data.synth import Scene, write_dataset
from traceai.db.tables import ModelEvent
from traceai.explain.quality import Curve, ExplanationQuality
from traceai.explain.randomising import LayerRandomisation, Randomisation
from traceai.ledger import log, records
from traceai.models import registry
from traceai.sdk import Trace


@pytest.fixture
def data(here: Trace, run: Run, classes: Path) -> str:
    assert run("data", "import", classes, "--name", "parts").code == 0
    return "parts"


def record(trace: Trace, reference: str, left: float | None) -> None:
    """Enter that `left` of the maps is left with random weights."""
    verdict = "not-judged" if left is None else "survive" if left >= 0.5 else "gone"
    layers = (LayerRandomisation("classifier.1", 0.2, 0.2), LayerRandomisation("resnet.embedder", 0.4, left))
    found = ExplanationQuality(
        9, 4, 0, Randomisation(layers, left, 0.1, verdict), -0.5, -0.8, Curve(0.2, 0.5, 0.6), Curve(0.8, 0.5, 0.4), 0, None, None,
        None, None, 0.1, 0.0,
    )  # fmt: skip
    with trace.database.session() as session:
        snapshot = store.snapshot(session, trace.blobs, store.find(session, "parts"))
        row = registry.find(session, reference)
        registry.record_explanations(
            session, row, found, method="grad-cam/1", snapshot=snapshot, images="all of them", actor="erin"
        )


def test_what_is_measured_is_recorded_and_shown(run: Run, here: Trace, data: str) -> None:
    register_tiny(here, approved=False)
    measured = run("model", "evaluate", "tiles@1", "--data", data, "--explanations", "--as", "erin", "--json")
    assert measured.code == 0
    explained = measured.json["explanations"]
    assert explained["images"].startswith("all images of parts, ")
    assert explained["measures"]["defects"] > 0
    assert explained["measures"]["randomisation"][0]["layer"] == "classifier.1"

    shown = run("model", "show", "tiles@1", "--json").json["explanations"]
    assert shown["measures"] == explained["measures"]
    assert (shown["actor"], shown["method"], shown["layer"]) == ("erin", "grad-cam/1", "resnet.encoder")
    text = run("model", "show", "tiles@1").out
    assert "change under 2 % noise" in text
    assert "resnet.embedder.embedder.convolution" in text
    assert run("ledger", "verify").code == 0


def test_a_version_whose_explanations_survive_needs_a_signed_reason(run: Run, here: Trace, data: str) -> None:
    register_tiny(here, approved=False)
    record(here, "tiles@1", left=0.61)
    refused = run("model", "approve", "tiles@1", "--reason", "Good on lot 7.", "--as", "ada")
    assert refused.code == 2
    assert "do not show what it learnt" in refused.err
    assert registry_state(here) == "registered"

    assert run(
        "model", "approve", "tiles@1", "--reason", "Good on lot 7.", "--as", "ada",
        "--despite-explanations", "Only used to sort; a person looks at every part.",
    ).code == 0  # fmt: skip
    with here.database.session() as session:
        steps = [(event.action, event.actor, event.reason) for event in session.execute(select(ModelEvent)).scalars()]
    assert steps == [
        ("waive", "ada", "Only used to sort; a person looks at every part."),
        ("approve", "ada", "Good on lot 7."),
    ]
    assert "waive" in run("model", "show", "tiles@1").out


def test_measuring_again_does_not_take_back_that_they_survive(run: Run, here: Trace, data: str) -> None:
    register_tiny(here, approved=False)
    record(here, "tiles@1", left=0.61)
    record(here, "tiles@1", left=0.12)
    assert run("model", "approve", "tiles@1", "--reason", "Good on lot 7.", "--as", "ada").code == 2


def test_what_could_not_be_judged_needs_a_reason_until_it_is(run: Run, here: Trace, data: str) -> None:
    register_tiny(here, approved=False)
    record(here, "tiles@1", left=None)
    command = ("model", "approve", "tiles@1", "--reason", "Good on lot 7.", "--as", "ada")
    assert "could not be judged" in run(*command).err
    record(here, "tiles@1", left=0.12)
    assert run(*command).code == 0


def test_what_is_measured_after_the_approval_is_answered_for_at_the_activation(
    run: Run, here: Trace, data: str
) -> None:
    register_tiny(here, approved=False)
    assert run("model", "approve", "tiles@1", "--reason", "Good on lot 7.", "--as", "ada").code == 0
    record(here, "tiles@1", left=0.61)
    refused = run("model", "activate", "tiles@1", "--as", "ada")
    assert refused.code == 2
    assert "--despite-explanations" in refused.err
    by_its_maker = ("--as", "erin", "--despite-explanations", "I made it.")
    assert "cannot waive" in run("model", "activate", "tiles@1", *by_its_maker).err
    assert run("model", "activate", "tiles@1", "--as", "ada", "--despite-explanations", "For lot 7 only.").code == 0
    assert registry_state(here) == "active"


@pytest.mark.parametrize(
    "measures",
    [
        {}, {"images": 1, "defects": 1}, {"randomisation": [{"layer": {"a": 1}, "alone": "0.1", "cascading": "0.1"}]},
        {"sensitivity": "1e400"}, {"pointing": "x", "pointing_chance": "y"}, {"deletion": []}, {"randomisation": None},
    ],
)  # fmt: skip
def test_measures_that_something_else_wrote_are_told_and_nothing_breaks(
    run: Run, here: Trace, data: str, measures: dict[str, object]
) -> None:
    register_tiny(here, approved=False)
    record(here, "tiles@1", left=0.12)
    with here.database.session() as session:
        row = registry.find(session, "tiles@1")
        known = registry.explanations(session, "tiles", 1).measures
        entry = {
            "model": registry.reference_of(row), "method": "grad-cam/1", "layer": "x", "snapshot_name": "parts",
            "snapshot_digest": "5" * 64, "images": "some", "randomisation": "gone", "actor": "erin",
            "measures": {**known, **measures} if measures else {},
        }  # fmt: skip
        log.append(session, [records.ExplanationQuality(**entry)])
    shown = run("model", "show", "tiles@1")
    assert shown.code == 0
    if measures.keys() != {"images", "defects"}:
        assert "cannot be read" in shown.out


def test_there_is_nothing_to_waive_where_nothing_survives(run: Run, here: Trace, data: str) -> None:
    register_tiny(here, approved=False)
    command = ("model", "approve", "tiles@1", "--reason", "Good.", "--as", "ada", "--despite-explanations", "Why not.")
    assert "nothing to waive" in run(*command).err
    record(here, "tiles@1", left=0.12)
    assert "nothing to waive" in run(*command).err
    assert registry_state(here) == "registered"


def test_an_approval_of_what_was_never_measured_says_so(run: Run, here: Trace) -> None:
    register_tiny(here, approved=False)
    found = run("model", "approve", "tiles@1", "--reason", "Good.", "--as", "ada")
    assert found.code == 0
    assert "model evaluate tiles@1 --explanations" in found.out


def registry_state(trace: Trace) -> str:
    with trace.database.session() as session:
        return registry.state(session, "tiles", 1)


@pytest.mark.slow
def test_a_transformer_is_trained_and_explained_where_it_is_asked_to(run: Run, here: Trace, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "drawn", count=60, seed=3, defect_rate=0.5, scene=Scene(size=64), workers=1)
    assert run("data", "import", folder, "--name", "drawn").code == 0
    command = ("model", "train", "drawn", "--data", "drawn", "--family", "vit", "--steps", 2, "--as", "erin")
    refused = run(*command, "--layer", "encoder.7")
    assert refused.code == 2
    assert "backbone.layers.0.layernorm_before" in refused.err
    trained = run(*command, "--layer", "backbone.layers.2.layernorm_before", "--json")
    assert trained.code == 0
    assert trained.json["layer"] == "backbone.layers.2.layernorm_before"
    assert trained.json["architecture"].startswith("vit (96x3, 4 heads, patches of 16), mean pooling")
    measured = run("model", "evaluate", "drawn@1", "--explanations", "--json").json["explanations"]
    assert measured["images"] == "the images held out of training of drawn, none of them seen in training"
    layers = [one["layer"] for one in measured["measures"]["randomisation"]]
    assert {"backbone.layers.0", "backbone.embeddings.position_embeddings"} < set(layers)
    assert "backbone.embeddings.cls_token" in layers
