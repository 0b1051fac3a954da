"""From logits to the numbers a decision is made of."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

GOOD = "good"


def class_scores(logits: Tensor) -> npt.NDArray[np.float64]:
    """Softmax in double precision, (N, C) -> (N, C)."""
    return cast("npt.NDArray[np.float64]", logits.detach().double().softmax(dim=1).cpu().numpy())


def defect_scores(logits: Tensor, classes: Sequence[str]) -> npt.NDArray[np.float64] | None:
    """One minus the score of "good", (N,) in 0..1; None where there is no such class.

    Summed over the defect classes rather than subtracted from one: near zero, a difference would lose its digits.
    """
    if GOOD not in classes:
        return None
    total = class_scores(logits)[:, defect_classes(classes)].sum(axis=1)
    return np.asarray(np.minimum(total, 1.0), dtype=np.float64)


def defect_classes(classes: Sequence[str]) -> list[int]:
    """The class numbers that are defect types: the candidates for what an explanation explains."""
    return [number for number, name in enumerate(classes) if name != GOOD]
