"""`traceai decision replay` and `decision explain --method`, on recorded decisions."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.cli.conftest import Run
from tests.explain.networks import PlainNet
from traceai.explain.catalogue import METHODS
from traceai.images.preprocess import Preprocessing
from traceai.inspection.decision import Decision
from traceai.sdk import Trace


@pytest.fixture
def decisions(here: Trace, tiny: str, images: list[Path], tmp_path: Path) -> list[Decision]:
    """Three decisions, and one inspection that failed."""
    here.add_station("press-4")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    return list(here.inspector(tiny, "press-4").inspect_many([*images[:3], tmp_path / "broken.png"]))


@pytest.fixture
def other(here: Trace, tiny: str, decisions: list[Decision], images: list[Path]) -> Decision:
    """A decision that the registered network does not make."""
    inspector = here.inspector(tiny, "press-4")
    with torch.no_grad():
        inspector.engine.model.split.linear.bias.add_(torch.tensor([0.0, 9.0, 0.0]))
    return inspector.inspect(images[3])


def stored(trace: Trace, decision: Decision) -> Path:
    digest = trace.replay(decision.id).record.image.sha256
    assert digest is not None
    return Path(trace.settings.blobs_url) / trace.blobs.path(digest)


def test_decisions_are_replayed(run: Run, decisions: list[Decision]) -> None:
    result = run("decision", "replay", *[decision.id for decision in decisions[:3]])
    assert (result.code, result.err) == (0, "")
    assert result.out.count("agrees") == 3
    assert "runtime batch was 3 and is 1." in result.out
    found = run("decision", "replay", decisions[0].id, "--json")
    assert [(one["id"], one["agrees"], one["error"]) for one in found.json] == [(decisions[0].id, True, None)]


def test_one_that_does_not_agree_exits_1_and_says_what_differs(
    run: Run, decisions: list[Decision], other: Decision
) -> None:
    result = run("decision", "replay", decisions[0].id, other.id)
    assert result.code == 1
    assert "DOES NOT AGREE" in result.out
    assert f"{other.id}: the verdict was reject and is pass." in result.out
    found = run("decision", "replay", decisions[0].id, other.id, "--json")
    assert (found.code, [one["agrees"] for one in found.json]) == (1, [True, False])


def test_one_that_cannot_be_replayed_is_named_and_the_rest_go_on(
    run: Run, here: Trace, decisions: list[Decision]
) -> None:
    result = run("decision", "replay", decisions[3].id, decisions[0].id)
    assert result.code == 2
    assert "NOT REPLAYED [conflict]" in result.out
    assert "agrees" in result.out
    assert "so there is nothing to replay. [conflict]" in result.err
    found = run("decision", "replay", "nonsense", decisions[0].id, "--json").json
    assert [(one["agrees"], (one["error"] or {}).get("code")) for one in found] == [
        (None, "decision-not-found"),
        (True, None),
    ]
    alone = run("decision", "replay", decisions[3].id)
    assert (alone.code, alone.out) == (2, "")
    assert alone.err.startswith("traceai: Inspection ")


def test_an_altered_image_is_a_failed_verification(run: Run, here: Trace, decisions: list[Decision]) -> None:
    path = stored(here, decisions[0])
    path.chmod(0o600)
    path.write_bytes(b"another")
    for ids in ([decisions[0].id], [decisions[1].id, decisions[0].id]):
        result = run("decision", "replay", *ids)
        assert result.code == 1
        assert "[blob-tampered]" in result.err
    path.unlink()
    result = run("decision", "replay", decisions[0].id)
    assert (result.code, "[blob-missing]" in result.err) == (2, True)


def test_a_network_of_the_users_own_is_for_python(run: Run, here: Trace, images: list[Path], tmp_path: Path) -> None:
    reference = here.register_model(
        "mine",
        PlainNet(),
        classes=("good", "dent", "scratch"),
        preprocessing=Preprocessing(height=32, width=32, channels=1, mean=("0.5",), std=("0.25",)),
        split="body",
    )
    here.add_station("press-4")
    decision = here.inspector(reference, "press-4").inspect(images[0])
    for command in (["replay"], ["explain", "-o", tmp_path / "x.png", "--method", "saliency"]):
        result = run("decision", command[0], decision.id, *command[1:])
        assert result.code == 2
        assert (
            "tests.explain.networks.PlainNet, whose code is not kept here; in Python, pass it as module=" in result.err
        )


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"attention-rollout"}))
def test_a_decision_is_explained_afterwards_by_each_method_that_fits(
    run: Run, decisions: list[Decision], tmp_path: Path, method: str
) -> None:
    out, recorded = tmp_path / "now.png", tmp_path / "then.png"
    result = run("decision", "explain", decisions[0].id, "--method", method, "-o", out)
    assert (result.code, result.err) == (0, "")
    assert f"made afterwards by {method}; it is not the recorded explanation." in result.out
    assert run("decision", "explain", decisions[0].id, "-o", recorded).code == 0
    with Image.open(out) as now, Image.open(recorded) as then:
        assert now.height > then.height
        # The notice across the top.
        assert now.getpixel((2, 2)) == (28, 28, 30)
        assert then.getpixel((2, 2)) == (255, 255, 255)


def test_json_says_which_explanation_is_the_recorded_one(run: Run, decisions: list[Decision], tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    now = run("decision", "explain", decisions[0].id, "--method", "grad_cam", "-o", out, "--json")
    assert (now.json["made_afterwards"], now.json["method"], now.json["out"]) == (True, "grad-cam", str(out))
    layer = run(
        "decision",
        "explain",
        decisions[0].id,
        "--method",
        "grad-cam",
        "--layer",
        "resnet.embedder",
        "-o",
        out,
        "--json",
    )
    assert (layer.json["settings"], layer.json["shape"]) == ({"layer": "resnet.embedder"}, [8, 8])
    then = run("decision", "explain", decisions[0].id, "-o", out, "--json")
    assert (then.json["made_afterwards"], then.json["method"]) == (False, "grad-cam/1")


def test_another_decision_is_not_explained(run: Run, other: Decision, tmp_path: Path) -> None:
    result = run("decision", "explain", other.id, "--method", "occlusion", "-o", tmp_path / "x.png")
    assert result.code == 1
    assert "was replayed and the verdict was reject and is pass" in result.err
    assert "[replay-differs]" in result.err
    assert not (tmp_path / "x.png").exists()


def test_what_does_not_fit_the_network_writes_nothing(run: Run, decisions: list[Decision], tmp_path: Path) -> None:
    for arguments in (
        ["attention-rollout"],
        ["grad-cam", "--layer", "nowhere"],
        ["occlusion", "--layer", "resnet.embedder"],
    ):
        result = run("decision", "explain", decisions[0].id, "-o", tmp_path / "x.png", "--method", *arguments)
        assert (result.code, result.err.count("\n")) == (2, 1)
    assert not (tmp_path / "x.png").exists()
