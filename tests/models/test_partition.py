"""Fitting, calibrating and judging never share a group."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.models.parts import take
from traceai.errors import DatasetError
from traceai.models.partition import Partition, acquaintance, partition


def _groups(found: Partition) -> list[set[str]]:
    return [{item.group_id for item in part} for part in (found.fit, found.calibrate, found.evaluate)]


def test_with_test_images_val_calibrates(tmp_path: Path) -> None:
    found = partition(take(tmp_path, test=12))
    assert [{item.split for item in part} for part in (found.fit, found.calibrate, found.evaluate)] == [
        {"train"},
        {"val"},
        {"test"},
    ]
    assert "calibrated on val" in found.rule


def test_without_test_images_groups_held_out_of_train_calibrate(tmp_path: Path) -> None:
    found = partition(take(tmp_path, train=60))
    fit, calibrate, evaluate = _groups(found)
    assert not fit & calibrate
    assert not (fit | calibrate) & evaluate
    assert {item.split for item in found.evaluate} == {"val"}
    assert 0.1 < len(found.calibrate) / 60 < 0.3
    assert {item.class_name for item in found.calibrate} == {"good", "dent", "scratch"}
    assert "held out of train" in found.rule


def test_the_partition_depends_on_the_groups_alone(tmp_path: Path) -> None:
    snapshot = take(tmp_path)
    reversed_items = replace(snapshot, items=snapshot.items[::-1])
    assert _groups(partition(snapshot)) == _groups(partition(reversed_items))


@pytest.mark.parametrize("sizes", [{"train": 0, "val": 12}, {"train": 12, "val": 0}])
def test_nothing_to_fit_or_to_judge_on_is_refused(tmp_path: Path, sizes: dict[str, int]) -> None:
    with pytest.raises(DatasetError, match="to evaluate on"):
        partition(take(tmp_path, **sizes))


def test_a_group_in_two_splits_is_refused(tmp_path: Path) -> None:
    snapshot = take(tmp_path)
    items = tuple(replace(item, group_id="same") for item in snapshot.items)
    with pytest.raises(DatasetError, match="more than one split"):
        partition(replace(snapshot, items=items))


def test_which_images_a_network_knows_is_told_by_their_pixels(tmp_path: Path) -> None:
    snapshot = take(tmp_path, test=12)
    found = partition(snapshot)
    assert acquaintance(snapshot, found.evaluate) == "none of them seen in training"
    renamed = [replace(item, path="elsewhere.png", sha256="0" * 64) for item in (found.fit[0], found.calibrate[0])]
    assert acquaintance(snapshot, [*found.evaluate, *renamed]).startswith(
        "NOT HELD OUT: the network was fitted to 1 of them, and the thresholds were chosen on 1"
    )
