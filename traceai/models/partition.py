"""Which images a network is fitted to, which set its operating point, which judge it. No group serves two of them."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from traceai.data.snapshot import Snapshot, SnapshotItem
from traceai.errors import DatasetError

_CALIBRATION_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Partition:
    """Three disjoint sets of images, and in `rule` one sentence on how they came about."""

    fit: tuple[SnapshotItem, ...]
    calibrate: tuple[SnapshotItem, ...]
    evaluate: tuple[SnapshotItem, ...]
    rule: str


def acquaintance(training: Snapshot, items: Sequence[SnapshotItem]) -> str:
    """How a network that `training` made knows these images, by their pixels: for the evaluation on them to say."""
    parts = partition(training)
    fitted, calibrated = ({item.pixel_sha256 for item in part} for part in (parts.fit, parts.calibrate))
    seen = sum(item.pixel_sha256 in fitted for item in items)
    judged = sum(item.pixel_sha256 in calibrated for item in items)
    if not seen and not judged:
        return "none of them seen in training"
    return f"NOT HELD OUT: the network was fitted to {seen} of them, and the thresholds were chosen on {judged}"


def partition(snapshot: Snapshot) -> Partition:
    """The three sets of a snapshot.

    With validation and test images: fitted to train, calibrated on val, evaluated on test. With only one of the two,
    that one evaluates, and about 15 % of train's groups calibrate. They are taken from every stratum of classes a
    group shows, in the order of the SHA-256 of the group id, so the choice depends on nothing but the groups.

    Raises:
        DatasetError: no train images, neither val nor test images, or one group in two of the sets.
    """
    by_split: defaultdict[str, list[SnapshotItem]] = defaultdict(list)
    for item in snapshot.items:
        by_split[item.split].append(item)
    train, val, test = by_split["train"], by_split["val"], by_split["test"]
    if not train or not (val or test):
        raise DatasetError(
            f"{snapshot.name!r} needs images to train on and images of split val or test to evaluate on; it has "
            f"{len(train)} train, {len(val)} val and {len(test)} test"
        )
    if val and test:
        found = Partition(
            tuple(train), tuple(val), tuple(test), "fitted to train, calibrated on val, evaluated on test"
        )
    else:
        chosen = _calibration_groups(train)
        found = Partition(
            tuple(item for item in train if item.group_id not in chosen),
            tuple(item for item in train if item.group_id in chosen),
            tuple(val or test),
            f"fitted to train, calibrated on {len(chosen)} groups held out of train, evaluated on "
            f"{'val' if val else 'test'}",
        )
    _refuse_shared_groups(found)
    return found


def _calibration_groups(items: Sequence[SnapshotItem]) -> set[str]:
    shown: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        shown[item.group_id].add(item.class_name)
    strata: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for group, classes in shown.items():
        strata[tuple(sorted(classes))].append(group)
    chosen: set[str] = set()
    for groups in strata.values():
        groups.sort(key=lambda group: hashlib.sha256(group.encode()).digest())
        # A stratum of a single group stays in the fit: what was never learnt cannot be calibrated.
        chosen.update(groups[: math.ceil(_CALIBRATION_SHARE * len(groups)) if len(groups) > 1 else 0])
    return chosen


def _refuse_shared_groups(found: Partition) -> None:
    sets = [{item.group_id for item in part} for part in (found.fit, found.calibrate, found.evaluate)]
    shared = (sets[0] & sets[1]) | (sets[0] & sets[2]) | (sets[1] & sets[2])
    if shared:
        raise DatasetError(
            f"group {min(shared)!r} is in more than one split, so the evaluation would be of images like those learnt; "
            "correct the splits"
        )
