"""From logits to the numbers a decision is made of. In numpy: whatever ran the network, the same logits give the same numbers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

GOOD = "good"


def class_scores(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Softmax in double precision, (N, C) -> (N, C). Of a row that is not finite, NaN."""
    exact = np.asarray(logits, np.float64)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        powers = np.exp(exact - exact.max(axis=1, keepdims=True))
        scores: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return scores


def defect_scores(logits: npt.ArrayLike, classes: Sequence[str]) -> npt.NDArray[np.float64] | None:
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
