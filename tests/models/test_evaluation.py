"""Rates are what they say, on answers made by hand."""

import json

import pytest
import torch

from traceai.errors import ModelError
from traceai.models.evaluation import judge
from traceai.models.operating_point import OperatingPoint
from traceai.models.pixels import Pixels
from traceai.models.prediction import Predictions

CLASSES = ("good", "dent", "scratch")
POINT = OperatingPoint(pass_below="0.2", reject_at="0.8")


def _answers(scores: list[list[float]], labels: list[int]) -> tuple[Predictions, Pixels]:
    """Logits whose softmax are `scores`; grids that peak at (0, 0), masks that cover the upper left quarter."""
    count, classes = len(labels), len(scores[0])
    grids = torch.zeros(count, classes, 2, 2)
    grids[:, :, 0, 0] = 1.0
    masks = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    masks[torch.tensor(labels) != 0, :, :4, :4] = 255
    pixels = Pixels(
        images=torch.zeros(count, 1, 8, 8, dtype=torch.uint8),
        masks=masks,
        labels=torch.tensor(labels),
        located=torch.ones(count, dtype=torch.bool),
    )
    return Predictions(torch.tensor(scores).log(), grids), pixels


SCORES = [[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.15, 0.1, 0.75], [0.85, 0.1, 0.05], [0.4, 0.5, 0.1]]
LABELS = [0, 0, 1, 2, 1, 2]


def test_every_rate_is_the_one_counted_by_hand() -> None:
    found = judge(*_answers(SCORES, LABELS), CLASSES, POINT)
    assert (found.images, found.goods, found.defects) == (6, 2, 4)
    assert found.auroc == pytest.approx(7 / 8)  # of 2 x 4 pairs, only 0.15 against 0.5 is the wrong way round
    assert found.verdicts == {
        "good": {"pass": 1, "undecided": 1, "reject": 0},
        "defect": {"pass": 1, "undecided": 1, "reject": 2},
    }
    assert found.detection["dent"] == {"total": 2, "pass": 1, "undecided": 0, "reject": 1}
    assert found.types == ("dent", "scratch")
    assert found.type_confusion == ((2, 0), (1, 1))
    assert found.type_accuracy == pytest.approx(0.75)
    assert found.type_recall == pytest.approx(0.75)
    assert (found.pointing, found.pointing_chance) == (1.0, 0.25)


def test_average_precision_is_that_of_the_ranking() -> None:
    found = judge(*_answers(SCORES, LABELS), CLASSES, POINT)
    assert found.average_precision == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)


def test_a_peak_beside_the_mask_misses() -> None:
    predictions, pixels = _answers(SCORES, LABELS)
    grids = predictions.grids.flip(2, 3)
    found = judge(Predictions(predictions.logits, grids), pixels, CLASSES, POINT)
    assert found.pointing == 0.0


def test_defects_without_a_mask_are_not_pointed_at() -> None:
    predictions, pixels = _answers(SCORES, LABELS)
    blind = Pixels(pixels.images, pixels.masks, pixels.labels, torch.zeros_like(pixels.located))
    assert judge(predictions, blind, CLASSES, POINT).pointing is None


@pytest.mark.parametrize(("labels", "kind"), [([0] * 6, "good"), ([1] * 6, "defective")])
def test_a_ranking_needs_both_kinds(labels: list[int], kind: str) -> None:
    found = judge(*_answers(SCORES, labels), CLASSES, POINT)
    assert (found.auroc, found.average_precision) == (None, None)
    assert found.undefined == f"the images are all {kind}"


def test_without_an_operating_point_nothing_is_decided() -> None:
    found = judge(*_answers(SCORES, LABELS), CLASSES, None)
    assert found.verdicts["good"] == {"pass": 0, "undecided": 2, "reject": 0}


def test_a_network_without_a_good_class_still_sees_good_parts_as_good() -> None:
    found = judge(*_answers([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], [0, 1, 2]), ("dent", "scratch"), None)
    assert (found.goods, found.defects) == (1, 2)
    assert found.type_confusion == ((1, 0), (0, 1))
    assert found.auroc is None


def test_json_holds_rates_as_decimal_strings() -> None:
    record = json.loads(judge(*_answers(SCORES, LABELS), CLASSES, POINT).to_json())
    assert record["auroc"] == "0.875000"
    assert record["undefined"] is None
    assert record["type_confusion"] == [[2, 0], [1, 1]]
    assert record["verdicts"]["good"]["pass"] == 1


def test_an_output_that_is_no_number_is_refused() -> None:
    predictions, pixels = _answers(SCORES, LABELS)
    predictions.logits[0, 0] = float("nan")
    with pytest.raises(ModelError, match="finite"):
        judge(predictions, pixels, CLASSES, POINT)
