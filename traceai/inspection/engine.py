"""From decoded images to judgements: one forward pass gives logits and Grad-CAM, the operating point gives the verdict.

Pure but for the clock: no database, no files. An `Engine` holds no state that a call changes, so threads may share it.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import torch

from traceai.errors import ModelError
from traceai.explain.summary import ExplanationSummary, decode_grid, encode_grid, summarise
from traceai.images.decode import DecodedImage
from traceai.ledger import records
from traceai.ledger.canonical import decimal
from traceai.ledger.records import Verdict
from traceai.models.artifact import LoadedModel
from traceai.models.operating_point import decimal_score
from traceai.models.scores import class_scores, defect_classes, defect_scores


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


class Engine:
    """One model version, ready to judge."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.classes: tuple[str, ...] = tuple(model.manifest.classes)
        self._defects = defect_classes(self.classes)

    def prepare(self, image: DecodedImage) -> npt.NDArray[np.float32]:
        """What the network sees of `image`: float32 (channels, height, width)."""
        return self.model.manifest.preprocessing.apply(image.pixels)

    def judge(self, inputs: Sequence[npt.NDArray[np.float32]]) -> list[Judgement | ModelError]:
        """Judge a batch of what `prepare` made in one forward pass.

        An image on which the network returns no finite number yields the error.

        The explained class is the defect class with the highest logit, whatever the verdict: it is what the threshold
        judged.
        """
        result = self.model.split.explain(torch.from_numpy(np.stack(inputs)), among=self._defects)
        probabilities = class_scores(result.logits)
        defect_score = defect_scores(result.logits, self.classes)
        found: list[Judgement | ModelError] = []
        for row in range(len(inputs)):
            logits = result.logits[row]
            if not bool(torch.isfinite(logits).all()):
                found.append(ModelError("The network's output on this image is not a finite number; check the model."))
                continue
            target = int(result.target[row])
            grid = encode_grid(result.grid[row].numpy())
            summary = summarise(
                grid,
                (int(result.grid.shape[1]), int(result.grid.shape[2])),
                layer=self.model.split.layer,
                target=self.classes[target],
                bias=None if result.bias is None else float(result.bias[row]),
                logit=None if result.bias is None else float(logits[target]),
            )
            score, verdict = self._decide(None if defect_score is None else float(defect_score[row]))
            found.append(
                Judgement(
                    logits={name: decimal(float(value)) for name, value in zip(self.classes, logits, strict=True)},
                    scores={
                        name: decimal(float(value))
                        for name, value in zip(self.classes, probabilities[row], strict=True)
                    },
                    defect_score=score,
                    verdict=verdict,
                    predicted=self.classes[int(logits.argmax())],
                    grid=grid,
                    summary=summary,
                )
            )
        return found

    def _decide(self, defect_score: float | None) -> tuple[str | None, Verdict]:
        """Without a good class, nothing the network says can pass a part or condemn it: a person decides."""
        if defect_score is None:
            return None, "undecided"
        score = decimal_score(defect_score)
        point = self.model.manifest.operating_point
        return score, "undecided" if point is None else point.verdict(score)

    def environment(self, batch: int) -> dict[str, Any]:
        """What a judgement's last digits may depend on; recorded once, under its digest."""
        return {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "machine": platform.machine(),
            "system": platform.system(),
            "device": "cpu",
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "batch": batch,
        }
