"""Population means from samples drawn with unequal, recorded probabilities."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from traceai.errors import InputError
from traceai.stats.proportions import checked_confidence, two_sided_z, whole, wilson_limits

METHOD = "horvitz-thompson"


@dataclass(frozen=True, kw_only=True)
class PopulationMean:
    """A population mean from a sample with known inclusion probabilities.

    Attributes:
        estimate, low, high: The mean (for 0/1 values, the share) and its limits; `None` when it is not estimable.
        se: Standard error of the mean; `None` also when a stratum has a single sampled unit.
        total: The estimate times the population size.
        n: Units sampled.
        n_effective: Size of the simple random sample that would be as precise, Kish's (sum w)^2 / sum w^2 at most.
        method, confidence: Name of the estimator; coverage the interval aims at.
        reason: Empty, or one clause saying why the mean is not estimable.
    """

    estimate: float | None
    low: float | None
    high: float | None
    se: float | None
    total: float | None
    n: int
    n_effective: float | None
    confidence: float
    method: str = METHOD
    reason: str = ""


def horvitz_thompson(
    y: ArrayLike,
    pi: ArrayLike,
    strata: Sequence[Hashable],
    population: Mapping[Hashable, int],
    confidence: float = 0.95,
) -> PopulationMean:
    """The population mean by Horvitz & Thompson (1952): (1 / N) * sum y / pi, with the variance taken within strata.

    For 0/1 values the interval is Wilson's at the effective sample size, so it does not collapse at 0, and an estimate
    above 1 (possible when a stratum was over-drawn) is reported as 1; for other values it is the normal one. As
    elsewhere in this package, no finite-population correction is applied.

    Args:
        y: (n,) observed values, one per sampled unit; 0/1 for a share.
        pi: (n,) the inclusion probability recorded for each unit when it was drawn, in (0, 1].
        strata: (n,) the stratum of each unit.
        population: Size of every stratum, sampled or not. A stratum with units of which none was sampled makes the mean
            not estimable: it would otherwise count as all zeros.
        confidence: Coverage of the interval.

    Raises:
        InputError: Arrays of different lengths, values that are not finite, probabilities outside (0, 1], a stratum
            without a size, or more sampled units than its size.
    """
    confidence = checked_confidence(confidence)
    values, probability = np.asarray(y, dtype=np.float64), np.asarray(pi, dtype=np.float64)
    _check_sample(values, probability, len(strata))
    sizes, rows = _by_stratum(strata, population)
    if reason := _missing(sizes, rows):
        return PopulationMean(
            estimate=None,
            low=None,
            high=None,
            se=None,
            total=None,
            n=values.size,
            n_effective=None,
            confidence=confidence,
            reason=reason,
        )
    total_size = sum(sizes.values())
    weights = 1 / probability
    expanded = values * weights
    mean = float(expanded.sum()) / total_size
    kish = float(weights.sum() ** 2 / np.square(weights).sum())
    se = None
    if all(len(members) > 1 for members in rows.values()):
        spread = sum(len(members) * float(np.var(expanded[members], ddof=1)) for members in rows.values())
        se = math.sqrt(spread) / total_size
    if bool(((values == 0) | (values == 1)).all()):
        mean = min(mean, 1.0)
        size = min(kish, mean * (1 - mean) / se**2) if se and 0 < mean < 1 else kish
        low, high = wilson_limits(mean, size, confidence)
    else:
        size = kish
        half = two_sided_z(confidence) * se if se is not None else math.inf
        low, high = mean - half, mean + half
    return PopulationMean(
        estimate=mean,
        low=low,
        high=high,
        se=se,
        total=mean * total_size,
        n=values.size,
        n_effective=size,
        confidence=confidence,
    )


def _check_sample(values: np.ndarray, probability: np.ndarray, labels: int) -> None:
    if values.ndim != 1 or values.shape != probability.shape or labels != values.size:
        raise InputError(
            f"y, pi and strata must have one entry per sampled unit, and they have {values.size}, "
            f"{probability.size} and {labels}."
        )
    if not np.isfinite(values).all():
        raise InputError("Every value in y must be a finite number.")
    if not ((probability > 0) & (probability <= 1)).all():
        raise InputError("Every inclusion probability must be above 0 and at most 1.")


def _by_stratum(
    strata: Sequence[Hashable], population: Mapping[Hashable, int]
) -> tuple[dict[Hashable, int], dict[Hashable, list[int]]]:
    """Sizes and sampled rows of every stratum that has units."""
    sizes = {label: whole(f"The population of stratum {label!r}", size) for label, size in population.items()}
    sizes = {label: size for label, size in sizes.items() if size}
    rows: dict[Hashable, list[int]] = {label: [] for label in sizes}
    for row, label in enumerate(strata):
        if label not in rows:
            raise InputError(f"Stratum {label!r} has sampled units, and its population size is missing or 0.")
        rows[label].append(row)
    for label, members in rows.items():
        if len(members) > sizes[label]:
            raise InputError(f"Stratum {label!r} has {len(members)} sampled units but only {sizes[label]} in all.")
    return sizes, rows


def _missing(sizes: Mapping[Hashable, int], rows: Mapping[Hashable, Sequence[int]]) -> str:
    if not sizes:
        return "the population is empty"
    for label, members in rows.items():
        if not members:
            return f"none of the {sizes[label]} units of stratum {label!r} was sampled"
    return ""
