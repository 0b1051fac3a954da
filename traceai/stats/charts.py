"""Shewhart control charts for attributes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from traceai.errors import InputError
from traceai.stats.proportions import Proportion, whole, wilson


@dataclass(frozen=True, kw_only=True)
class PChart:
    """A p chart: subgroup shares around the process average, with limits that follow the subgroup sizes.

    Attributes:
        centre: The process average over all subgroups, with its Wilson interval.
        shares: (G,) defective share of each subgroup.
        lower, upper: (G,) control limits, cut at 0 and 1.
        outside: (G,) bool: the subgroup lies outside its limits.
        sigmas: Distance of the limits from the centre, in standard errors.
    """

    centre: Proportion
    shares: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    outside: NDArray[np.bool_]
    sigmas: float


def p_chart(
    defects: Sequence[SupportsIndex], sizes: Sequence[SupportsIndex], confidence: float = 0.95, *, sigmas: float = 3.0
) -> PChart:
    """A p chart with varying subgroup sizes (ISO 7870-2).

    Args:
        defects: (G,) defective parts in each subgroup.
        sizes: (G,) parts in each subgroup, each above 0.
        confidence: Coverage of the interval around the centre; the control limits do not depend on it.
        sigmas: Distance of the control limits from the centre, in standard errors.

    Raises:
        InputError: No subgroups, different lengths, an empty subgroup, or more defects than parts.
    """
    if not sizes or len(defects) != len(sizes):
        raise InputError(
            f"A p chart needs one size per subgroup, and has {len(defects)} counts and {len(sizes)} sizes."
        )
    if sigmas <= 0:
        raise InputError(f"The control limits must lie some standard errors from the centre, and sigmas is {sigmas}.")
    x = np.array([whole("defects", value) for value in defects], dtype=np.float64)
    n = np.array([whole("sizes", value) for value in sizes], dtype=np.float64)
    if (n == 0).any() or (x > n).any():
        raise InputError("Every subgroup of a p chart must have parts, and no more defects than parts.")
    centre = wilson(int(x.sum()), int(n.sum()), confidence)
    average = float(x.sum() / n.sum())
    half = sigmas * np.sqrt(average * (1 - average) / n)
    lower, upper = np.maximum(average - half, 0.0), np.minimum(average + half, 1.0)
    shares = x / n
    # A subgroup exactly on its limit is inside; the slack is for rounding only.
    outside = (shares < lower - 1e-12) | (shares > upper + 1e-12)
    return PChart(centre=centre, shares=shares, lower=lower, upper=upper, outside=outside, sigmas=sigmas)
