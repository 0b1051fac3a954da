"""From what a network said to a judgement: the scores, the verdict of the operating point, the explanation as it is recorded.

Whatever ran the network, torch or another runtime: the same numbers from it give the same judgement, to the last digit. Needs
no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from traceai.errors import ModelError
from traceai.explain.summary import ExplanationSummary, decode_grid, encode_grid, summarise
from traceai.images.decode import DecodedImage
from traceai.ledger import records
from traceai.ledger.canonical import decimal
from traceai.ledger.records import Verdict
from traceai.models.manifest import Manifest
from traceai.models.operating_point import OperatingPoint, decimal_score
from traceai.models.scores import class_scores, defect_scores

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What one image was found to be, and why.

    logits, scores: by class name, decimal strings; scores are the softmax of the logits.
    defect_score: 1 - score of the good class, as it is compared with the operating point; None without a good class.
    predicted: the class with the highest logit.
    grid: the stored explanation, see `explain.summary.encode_grid`.
    """

    logits: dict[str, str]
    scores: dict[str, str]
    defect_score: str | None
    verdict: Verdict
    predicted: str
    grid: bytes
    summary: ExplanationSummary

    @property
    def heat_map(self) -> npt.NDArray[np.float32]:
        """(h, w) signed evidence, from the bytes that are stored."""
        return decode_grid(self.grid, self.summary.shape)

    def explanation(self) -> records.Explanation:
        """The explanation as it is recorded."""
        s = self.summary
        return records.Explanation(
            method=s.method,
            layer=s.layer,
            target=s.target,
            height=s.shape[0],
            width=s.shape[1],
            sha256=s.sha256,
            min=decimal(s.minimum),
            max=decimal(s.maximum),
            sum=decimal(s.total),
            positive_fraction=decimal(s.positive_fraction),
            peak_row=s.peak[0],
            peak_column=s.peak[1],
            bias=None if s.bias is None else decimal(s.bias),
            residual=None if s.residual is None else decimal(s.residual),
            degenerate=s.degenerate is not None,
        )


class Judge(Protocol):
    """One model version, ready to judge; threads may share it."""

    @property
    def manifest(self) -> Manifest: ...

    def prepare(self, image: DecodedImage) -> Array:
        """What the network is given of `image`."""

    def judge(self, inputs: Sequence[Array]) -> list[Judgement | ModelError]:
        """Of each of what `prepare` made, a judgement, or why there is none."""

    def environment(self, batch: int) -> dict[str, Any]:
        """What a judgement's last digits may depend on; recorded once, under its digest."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network said of N images.

    logits: (N, C) float32. target: (N,), the classes that are explained. grid: (N, h, w) float32, signed Grad-CAM.
    bias: (N,) float32, the head's for the target; None where the head is not linear.
    """

    logits: Array
    target: Array
    grid: Array
    bias: Array | None


def judgements(
    answer: Answer, *, classes: Sequence[str], layer: str, operating_point: OperatingPoint | None
) -> list[Judgement | ModelError]:
    """A judgement of each image; an image on which the network returned no finite number yields the error."""
    probabilities = class_scores(answer.logits)
    defect_score = defect_scores(answer.logits, classes)
    found: list[Judgement | ModelError] = []
    for row, logits in enumerate(answer.logits):
        if not np.isfinite(logits).all():
            found.append(ModelError("The network's output on this image is not a finite number; check the model."))
            continue
        target = int(answer.target[row])
        grid = encode_grid(answer.grid[row])
        summary = summarise(
            grid,
            (answer.grid.shape[1], answer.grid.shape[2]),
            layer=layer,
            target=classes[target],
            bias=None if answer.bias is None else float(answer.bias[row]),
            logit=None if answer.bias is None else float(logits[target]),
        )
        score, verdict = _decide(None if defect_score is None else float(defect_score[row]), operating_point)
        found.append(
            Judgement(
                logits={name: decimal(float(value)) for name, value in zip(classes, logits, strict=True)},
                scores={name: decimal(float(value)) for name, value in zip(classes, probabilities[row], strict=True)},
                defect_score=score,
                verdict=verdict,
                predicted=classes[int(logits.argmax())],
                grid=grid,
                summary=summary,
            )
        )
    return found


def _decide(defect_score: float | None, point: OperatingPoint | None) -> tuple[str | None, Verdict]:
    """Without a good class, nothing the network says can pass a part or condemn it: a person decides."""
    if defect_score is None:
        return None, "undecided"
    score = decimal_score(defect_score)
    return score, "undecided" if point is None else point.verdict(score)
