"""How good a version is on images it was not fitted to, by its scores, its verdicts and its explanations."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

from traceai.data.snapshot import Files, SnapshotItem
from traceai.errors import ModelError
from traceai.explain.splitting import Split
from traceai.images.preprocess import Preprocessing
from traceai.models.operating_point import OperatingPoint, Verdict, decimal_score
from traceai.models.pixels import Pixels, read
from traceai.models.prediction import Predictions, predict
from traceai.models.scores import GOOD, defect_classes, defect_scores

_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Rates and counts on one set of images; a rate that these images cannot give is None.

    Attributes:
        images, goods, defects: how many.
        auroc, average_precision: of the defect score, defect being positive; `undefined` says why they are None.
        verdicts: truth ("good", "defect") -> verdict -> count, at the operating point.
        detection: defect type -> "total" and each verdict -> count.
        types: the defect types, in the order of the confusion matrix.
        type_confusion: rows are true types, columns the defect class with the highest logit; defective images only.
        type_accuracy: the share on the diagonal.
        type_recall: its mean over the types that occur, every type counting the same.
        pointing: of the defective images with a mask, the share whose explanation has its peak in a cell that touches
            the mask (the pointing game, Zhang et al., IJCV 2018).
        pointing_chance: what a peak at random would reach: the mean share of such cells.
    """

    images: int
    goods: int
    defects: int
    auroc: float | None
    average_precision: float | None
    undefined: str | None
    verdicts: Mapping[str, Mapping[str, int]]
    detection: Mapping[str, Mapping[str, int]]
    types: tuple[str, ...]
    type_confusion: tuple[tuple[int, ...], ...]
    type_accuracy: float | None
    type_recall: float | None
    pointing: float | None
    pointing_chance: float | None

    def to_record(self) -> dict[str, object]:
        """As it enters records: rates as decimal strings of six digits."""
        found: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float):
                value = f"{value:.6f}"
            elif isinstance(value, tuple):
                value = [list(part) if isinstance(part, tuple) else part for part in value]
            elif isinstance(value, Mapping):
                value = {key: dict(inner) for key, inner in value.items()}
            found[field.name] = value
        return found

    def to_json(self) -> str:
        """`to_record` as JSON, keys in order."""
        return json.dumps(self.to_record(), sort_keys=True, ensure_ascii=False)


def evaluate(
    module: nn.Module | Split,
    items: Sequence[SnapshotItem],
    files: Files,
    *,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    operating_point: OperatingPoint | None,
) -> Evaluation:
    """Run the network on `items` of a snapshot and judge the answers.

    Raises:
        ModelError: no images, an image of a class the network does not have, or an output that is not a number.
        DatasetChangedError, ImageError: a file is not the one the snapshot was taken of.
    """
    if not items:
        raise ModelError("an evaluation needs images; the chosen split has none")
    unknown = sorted({item.class_name for item in items} - set(classes) - {GOOD})
    if unknown:
        raise ModelError(f"the network has no class {unknown[0]!r}; evaluate it on images of the classes it knows")
    known = [*classes] if GOOD in classes else [*classes, GOOD]
    pixels = read(items, files, preprocessing, known)
    return judge(predict(module, pixels, preprocessing), pixels, classes, operating_point)


def judge(
    predictions: Predictions, pixels: Pixels, classes: Sequence[str], operating_point: OperatingPoint | None
) -> Evaluation:
    """The evaluation of answers at hand; a label beyond `classes` is a good part that the network has no class for.

    Raises:
        ModelError: an output that is not a number.
    """
    if not bool(torch.isfinite(predictions.logits).all()):
        raise ModelError("the network's output on some image is not a finite number; it cannot be evaluated")
    labels = pixels.labels.numpy()
    good = classes.index(GOOD) if GOOD in classes else len(classes)
    is_defect = labels != good
    scores = defect_scores(predictions.logits, classes)
    auroc, precision, undefined = _ranking(scores, is_defect)

    verdicts: list[Verdict] = ["undecided"] * len(labels)
    if scores is not None and operating_point is not None:
        verdicts = [operating_point.verdict(decimal_score(float(score))) for score in scores]
    types = defect_classes(classes)
    names = [classes[number] for number in types]
    guessed = predictions.logits[:, types].argmax(dim=1).numpy()
    confusion = np.zeros((len(types), len(types)), int)
    for truth, guess in zip(labels[is_defect], guessed[is_defect], strict=True):
        confusion[types.index(int(truth)), guess] += 1
    occurring = confusion.sum(axis=1) > 0
    pointing, chance = _pointing(predictions, pixels, is_defect, np.asarray(types)[guessed])
    return Evaluation(
        images=len(labels),
        goods=int((~is_defect).sum()),
        defects=int(is_defect.sum()),
        auroc=auroc,
        average_precision=precision,
        undefined=undefined,
        verdicts={"good": _tally(verdicts, ~is_defect), "defect": _tally(verdicts, is_defect)},
        detection={
            name: {"total": int((labels == number).sum()), **_tally(verdicts, labels == number)}
            for number, name in zip(types, names, strict=True)
        },
        types=tuple(names),
        type_confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        type_accuracy=float(confusion.trace() / confusion.sum()) if occurring.any() else None,
        type_recall=float(np.mean(confusion.diagonal()[occurring] / confusion.sum(axis=1)[occurring]))
        if occurring.any()
        else None,
        pointing=pointing,
        pointing_chance=chance,
    )


def _ranking(
    scores: npt.NDArray[np.float64] | None, is_defect: npt.NDArray[np.bool_]
) -> tuple[float | None, float | None, str | None]:
    if scores is None:
        return None, None, "the network has no good class, and so no defect score"
    if is_defect.all() or not is_defect.any():
        return None, None, f"the images are all {'defective' if is_defect.any() else 'good'}"
    return float(roc_auc_score(is_defect, scores)), float(average_precision_score(is_defect, scores)), None


def _tally(verdicts: Sequence[Verdict], where: npt.NDArray[np.bool_]) -> dict[str, int]:
    counts = Counter(verdict for verdict, counted in zip(verdicts, where, strict=True) if counted)
    return {verdict: counts[verdict] for verdict in _VERDICTS}


def _pointing(
    predictions: Predictions, pixels: Pixels, is_defect: npt.NDArray[np.bool_], target: npt.NDArray[np.intp]
) -> tuple[float | None, float | None]:
    """The pointing game over the defective images with a mask; `target` (N,) is the best defect class, as recorded."""
    shape = (predictions.grids.shape[2], predictions.grids.shape[3])
    touched = (F.adaptive_max_pool2d(pixels.masks.float(), shape) > 127).flatten(1)
    rows = [row for row in np.flatnonzero(is_defect).tolist() if pixels.located[row]]
    if not rows:
        return None, None
    peaks = predictions.grids[range(len(target)), target].flatten(1).argmax(dim=1)
    hits = [bool(touched[row, peaks[row]]) for row in rows]
    return float(np.mean(hits)), float(touched[rows].float().mean())
