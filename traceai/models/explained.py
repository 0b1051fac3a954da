"""The explanations of a model version, measured on the images of a data set."""

from collections.abc import Sequence

import torch

from traceai.data.snapshot import Files, SnapshotItem
from traceai.errors import ModelError
from traceai.explain.quality import ExplanationQuality, Images, Progress, measure
from traceai.models.artifact import LoadedModel
from traceai.models.pixels import read
from traceai.models.prediction import normalised
from traceai.models.scores import GOOD, defect_classes


def measure_explanations(
    model: LoadedModel, items: Sequence[SnapshotItem], files: Files, progress: Progress = lambda done, total: None
) -> ExplanationQuality:
    """What `explain.quality.measure` finds on `items`, prepared as the version declares.

    Raises:
        ModelError: no images, no defective ones, or a class the network does not know.
        DatasetChangedError: a file has other bytes than when the snapshot was taken.
    """
    classes = model.manifest.classes
    unknown = sorted({item.class_name for item in items} - set(classes) - {GOOD})
    if not items or unknown:
        reason = f"the network has no class {unknown[0]!r}" if unknown else "there are no images"
        raise ModelError(f"explanations cannot be measured: {reason}; choose another data set or split")
    known = [*classes] if GOOD in classes else [*classes, GOOD]
    preprocessing = model.manifest.preprocessing
    pixels = read(items, files, preprocessing, known)
    images = Images(
        batch=normalised(pixels.images.float() / 255, preprocessing),
        black_to_white=1 / torch.tensor([float(value) for value in preprocessing.std]),
        defective=pixels.labels != known.index(GOOD),
        masks=pixels.masks[:, 0].float() / 255,
        located=pixels.located,
    )
    return measure(
        model.split,
        images,
        defects=defect_classes(classes),
        good=classes.index(GOOD) if GOOD in classes else None,
        names=model.module,
        progress=progress,
    )
