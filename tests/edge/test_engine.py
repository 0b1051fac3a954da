"""ONNX Runtime and torch come to the same decisions, on drawn parts and on real images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from tests.edge.conftest import model
from traceai.data.synth.dataset import write_dataset
from traceai.edge.engine import EdgeEngine
from traceai.edge.exporting import grid_tolerance
from traceai.edge.file import opened
from traceai.edge.writing import write
from traceai.errors import ModelError
from traceai.images.decode import DecodedImage, decode
from traceai.inspection.engine import Engine
from traceai.inspection.judging import Answer, Judgement, judgements
from traceai.models.artifact import LoadedModel
from traceai.models.operating_point import OperatingPoint
from traceai.models.scores import class_scores


def agree(
    side: int, channels: int, pictures: Sequence[DecodedImage], pooling: Literal["class", "mean"] | None = None
) -> None:
    """Both judge alike; the operating point is put where all three verdicts occur."""
    first = model(side, channels, pooling=pooling)
    torch_engine = Engine(first)
    scores = sorted(
        float(one.defect_score or 0)
        for picture in pictures
        for one in torch_engine.judge([torch_engine.prepare(picture)])
        if isinstance(one, Judgement)
    )
    low, high = (f"{(scores[place] + scores[place - 1]) / 2:.7f}" for place in (len(scores) // 3, 2 * len(scores) // 3))
    found = model(side, channels, (low, high), pooling=pooling)
    torch_engine, edge = Engine(found), EdgeEngine(opened(write(found), found.digest, threads=1))
    verdicts = set()
    for picture in pictures:
        (ours,) = torch_engine.judge([torch_engine.prepare(picture)])
        (theirs,) = edge.judge([edge.prepare(picture)])
        assert isinstance(ours, Judgement)
        assert isinstance(theirs, Judgement)
        verdicts.add(ours.verdict)
        assert (theirs.verdict, theirs.predicted, theirs.summary.target) == (
            ours.verdict,
            ours.predicted,
            ours.summary.target,
        )
        assert max(abs(float(theirs.logits[name]) - float(ours.logits[name])) for name in ours.logits) < 1e-4
        assert float(np.abs(theirs.heat_map - ours.heat_map).max()) <= grid_tolerance(ours.heat_map)
        assert (theirs.summary.residual is None) == (ours.summary.residual is None) == (pooling == "class")
        assert abs(theirs.summary.residual or 0) < 1e-2 * max(1.0, float(np.abs(ours.heat_map).max()))
        assert (theirs.summary.layer, theirs.summary.bias) == (ours.summary.layer, ours.summary.bias)
    assert verdicts == {"pass", "undecided", "reject"}


@pytest.mark.parametrize("pooling", [None, "mean", "class"])
def test_on_drawn_parts(tmp_path: Path, pooling: Literal["class", "mean"] | None) -> None:
    write_dataset(tmp_path / "parts", count=50, seed=3, workers=1)
    agree(
        96, 1, [decode(path.read_bytes()) for path in sorted((tmp_path / "parts" / "images").rglob("*.png"))], pooling
    )


@pytest.mark.parametrize(("name", "channels"), [("magnetic_tile", 1), ("xsdd_steel", 3)])
def test_on_real_images(test_data: Path, name: str, channels: int) -> None:
    paths = sorted((test_data / name / "images").rglob("*.jpg"))
    if not paths:
        pytest.skip(f"{name} is not in {test_data}")
    agree(224, channels, [decode(path.read_bytes()) for path in paths[:: max(1, len(paths) // 40)]])


def test_the_same_numbers_give_the_same_judgement_whatever_made_them() -> None:
    noise = np.random.default_rng(2)
    answer = Answer(
        noise.normal(0, 4, (5, 3)).astype(np.float32), np.array([1, 2, 1, 2, 1]),
        noise.normal(0, 1, (5, 4, 4)).astype(np.float32), noise.normal(0, 1, 5).astype(np.float32),
    )  # fmt: skip
    point = OperatingPoint(pass_below="0.3", reject_at="0.6")
    one = judgements(answer, classes=("good", "dent", "scratch"), layer="x", operating_point=point)
    for row in range(5):
        alone = Answer(*(part[row : row + 1] for part in (answer.logits, answer.target, answer.grid, answer.bias)))
        (again,) = judgements(alone, classes=("good", "dent", "scratch"), layer="x", operating_point=point)
        assert vars(again) == vars(one[row])


def test_softmax_is_torchs_to_the_last_digits() -> None:
    import torch

    logits = np.random.default_rng(5).normal(0, 30, (200, 7)).astype(np.float32)
    expected = torch.from_numpy(logits).double().softmax(dim=1).numpy()
    np.testing.assert_allclose(class_scores(logits), expected, rtol=1e-13, atol=0)


def test_an_answer_that_is_no_number_is_an_error_and_never_a_pass(loaded: LoadedModel) -> None:
    answer = Answer(
        np.array([[np.nan, 0, 0], [np.inf, 0, 0]], np.float32), np.array([1, 1]), np.zeros((2, 2, 2), np.float32), None
    )
    found = judgements(answer, classes=loaded.manifest.classes, layer="x", operating_point=None)
    assert [type(one) for one in found] == [ModelError, ModelError]


def test_the_environment_says_which_file_ran_in_what(engines: tuple[Engine, EdgeEngine], written: bytes) -> None:
    import hashlib

    import onnxruntime

    found = engines[1].environment(32)
    assert found["export"] == hashlib.sha256(written).hexdigest()
    assert found["onnxruntime"] == onnxruntime.__version__
    assert (found["provider"], found["threads"], found["batch"]) == ("CPUExecutionProvider", 1, 1)
    assert "torch" not in found
