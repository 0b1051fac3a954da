"""Training from scratch on little data: crops, then whole images, with the explanation supervised by the masks."""

import time
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from torch import nn

from traceai.data.snapshot import Snapshot
from traceai.errors import DatasetError, ModelError
from traceai.images.preprocess import Preprocessing
from traceai.models import operating_point
from traceai.models.architectures import Architecture, build
from traceai.models.artifact import TrainingProvenance
from traceai.models.fitting import Fit, Progress
from traceai.models.operating_point import OperatingPoint
from traceai.models.partition import Partition, partition
from traceai.models.pixels import is_grey, read, statistics
from traceai.models.prediction import predict
from traceai.models.scores import GOOD, defect_scores
from traceai.models.training_settings import TrainingSettings

__all__ = ["Progress", "TrainingResult", "TrainingSettings", "train"]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A trained network and everything its manifest needs.

    `module` is in evaluation mode. `operating_point` is None where the snapshot has no good class, or where the
    calibration images lack either good or defective parts; `operating_point_note` then says why.
    """

    module: nn.Module
    architecture: Architecture
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    operating_point: OperatingPoint | None
    operating_point_note: str
    partition: Partition
    provenance: TrainingProvenance
    seconds: float


def train(
    snapshot: Snapshot, settings: TrainingSettings | None = None, progress: Progress | None = None
) -> TrainingResult:
    """Train a network on a snapshot and choose its operating point on images it was not fitted to.

    Args:
        snapshot: its files are read again and must have their recorded digests.
        settings: the defaults take a few minutes on two cores.
        progress: called after every step with steps done, steps in all, and the loss.

    Raises:
        DatasetError: fewer than two classes, nothing to fit or evaluate, or a group in two splits.
        DatasetChangedError: a file is not the one the snapshot was taken of.
    """
    settings = settings or TrainingSettings()
    classes = snapshot.classes()
    if len(classes) < 2:
        raise DatasetError(f"{snapshot.name!r} shows {len(classes)} class; a network needs at least two to tell apart")
    parts = partition(snapshot)
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads or before)
    try:
        return _train(snapshot, settings, classes, parts, progress or (lambda done, total, loss: None))
    finally:
        torch.set_num_threads(before)


def _train(
    snapshot: Snapshot, settings: TrainingSettings, classes: tuple[str, ...], parts: Partition, progress: Progress
) -> TrainingResult:
    channels = settings.channels or (1 if is_grey(parts.fit, snapshot.files) else 3)
    preprocessing = Preprocessing(
        height=settings.height, width=settings.width, channels=channels, mean=("0",) * channels, std=("1",) * channels
    )
    pixels = read(parts.fit, snapshot.files, preprocessing, classes)
    mean, std = statistics(pixels.images)
    preprocessing = preprocessing.model_copy(update={"mean": mean, "std": std})
    architecture = settings.architecture(channels)
    started = time.monotonic()
    fresh = build(architecture, classes, seed=settings.seed)
    module, steps = Fit(settings, fresh, pixels, preprocessing, classes).run(progress)
    seconds = time.monotonic() - started
    point, note = _calibrate(module, snapshot, parts, preprocessing=preprocessing, classes=classes, settings=settings)
    return TrainingResult(
        module=module,
        architecture=architecture,
        preprocessing=preprocessing,
        classes=classes,
        operating_point=point,
        operating_point_note=note,
        partition=parts,
        provenance=TrainingProvenance(
            snapshot=snapshot.digest,
            seed=settings.seed,
            steps=steps,
            settings=settings.flat(),
            code_version=version("traceai"),
            torch_version=str(torch.__version__),
        ),
        seconds=seconds,
    )


def _calibrate(
    module: nn.Module,
    snapshot: Snapshot,
    parts: Partition,
    *,
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
    settings: TrainingSettings,
) -> tuple[OperatingPoint | None, str]:
    if GOOD not in classes:
        return None, "no operating point: the snapshot has no good parts, so nothing can be told from a defect"
    is_defect = [item.label == "defect" for item in parts.calibrate]
    if all(is_defect) or not any(is_defect):
        return None, "no operating point: the calibration images lack either good or defective parts"
    found = predict(module, read(parts.calibrate, snapshot.files, preprocessing, classes), preprocessing)
    scores = defect_scores(found.logits, classes)
    if scores is None or not np.isfinite(scores).all():
        raise ModelError("the training diverged: the network's output is not a number; lower the learning rate")
    point = operating_point.choose(
        scores.tolist(),
        is_defect,
        max_miss_rate=settings.max_miss_rate,
        max_false_alarm_rate=settings.max_false_alarm_rate,
    )
    return point, f"chosen on {len(is_defect) - sum(is_defect)} good and {sum(is_defect)} defective calibration images"
