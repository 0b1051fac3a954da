"""Agreement beyond chance, between two raters or many."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from traceai.errors import InputError
from traceai.stats.proportions import checked_confidence, two_sided_z


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """A kappa with its interval, or the reason why there is none.

    Attributes:
        estimate: kappa, 1 for perfect agreement, 0 for what chance gives; `None` when chance agreement is already 1.
        low, high, se: Large-sample limits, cut at -1 and 1, and standard error, not under the null hypothesis.
        observed, expected: The agreement seen and the agreement that chance gives.
        n: Parts rated.
        method, confidence: Name of the statistic; coverage the interval aims at.
        reason: Empty, or one clause saying why kappa is not estimable.
    """

    estimate: float | None
    low: float | None
    high: float | None
    se: float | None
    observed: float | None
    expected: float | None
    n: int
    method: str
    confidence: float
    reason: str = ""


def cohen_kappa(
    table: ArrayLike, weights: Literal["linear", "quadratic"] | None = None, confidence: float = 0.95
) -> Agreement:
    """Cohen's kappa between two raters (Cohen 1960, 1968), standard error by Fleiss, Cohen & Everitt (1969).

    Args:
        table: (K, K) counts; row: what the first rater said, column: the second.
        weights: `None` for plain agreement; "linear" or "quadratic" when the categories are ordered and a near miss
            counts for something.
        confidence: Coverage of the interval.

    Raises:
        InputError: A table that is not square, or entries that are not counts.
    """
    confidence = checked_confidence(confidence)
    counts = _counts(table, "The table of two raters")
    if counts.shape[0] != counts.shape[1] or counts.shape[0] < 2:
        raise InputError(f"The table of two raters must be square, two categories or more, and it is {counts.shape}.")
    schemes: dict[str | None, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        None: lambda distance: np.asarray(distance == 0, dtype=np.float64),
        "linear": lambda distance: 1 - distance,
        "quadratic": lambda distance: 1 - distance**2,
    }
    if weights not in schemes:
        raise InputError(f"Weights are None, 'linear' or 'quadratic', and they are {weights!r}.")
    n, k = int(counts.sum()), counts.shape[0]
    method = f"cohen-{weights}" if weights else "cohen"
    if n == 0:
        return _no_agreement("nothing was rated", 0, method, confidence)
    position = np.arange(k, dtype=np.float64)
    weight = schemes[weights](np.abs(position[:, None] - position[None, :]) / (k - 1))
    p = counts / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    observed, expected = float((weight * p).sum()), float((weight * np.outer(rows, columns)).sum())
    if math.isclose(expected, 1.0):
        return _no_agreement("both raters used a single category", n, method, confidence)
    kappa = (observed - expected) / (1 - expected)
    row_weight, column_weight = weight @ columns, rows @ weight
    spread = (weight - (row_weight[:, None] + column_weight[None, :]) * (1 - kappa)) ** 2
    variance = (float((p * spread).sum()) - (kappa - expected * (1 - kappa)) ** 2) / (n * (1 - expected) ** 2)
    se = math.sqrt(max(0.0, variance))
    return _agreement(
        kappa=kappa,
        se=se,
        quantile=two_sided_z(confidence),
        observed=observed,
        expected=expected,
        n=n,
        method=method,
        confidence=confidence,
    )


def fleiss_kappa(counts: ArrayLike, confidence: float = 0.95) -> Agreement:
    """Fleiss' kappa among many raters (Fleiss 1971), standard error and t interval by Gwet (2021).

    Args:
        counts: (N, K) how many raters put part i into category k; every part has the same number of raters, 2 or more.
        confidence: Coverage of the interval.

    Raises:
        InputError: Entries that are not counts, fewer than two raters, or rows with different numbers of raters.
    """
    confidence = checked_confidence(confidence)
    table = _counts(counts, "The table of ratings")
    n = table.shape[0]
    if n == 0 or table.shape[1] == 0:
        return _no_agreement("nothing was rated", n, "fleiss", confidence)
    raters = float(table[0].sum())
    if raters < 2 or not (table.sum(axis=1) == raters).all():
        raise InputError("Every part must be rated by the same number of raters, two or more.")
    shares = table.mean(axis=0) / raters
    by_part = (table * (table - 1)).sum(axis=1) / (raters * (raters - 1))
    observed, expected = float(by_part.mean()), float((shares**2).sum())
    if math.isclose(expected, 1.0):
        return _no_agreement("all raters used a single category", n, "fleiss", confidence)
    kappa = (observed - expected) / (1 - expected)
    if n < 2:
        return _no_agreement("a single part was rated", n, "fleiss", confidence)
    chance_by_part = table @ shares / raters
    linearized = (by_part - expected - 2 * (1 - kappa) * (chance_by_part - expected)) / (1 - expected)
    se = math.sqrt(float(((linearized - kappa) ** 2).sum()) / (n * (n - 1)))
    t = float(stdtrit(n - 1, (1 + confidence) / 2))
    return _agreement(
        kappa=kappa,
        se=se,
        quantile=t,
        observed=observed,
        expected=expected,
        n=n,
        method="fleiss",
        confidence=confidence,
    )


def _counts(table: ArrayLike, name: str) -> NDArray[np.float64]:
    counts = np.asarray(table, dtype=np.float64)
    if counts.ndim != 2 or not np.isfinite(counts).all() or (counts < 0).any() or (counts != np.floor(counts)).any():
        raise InputError(f"{name} must be a matrix of counts, whole and not negative.")
    return counts


def _agreement(
    *,
    kappa: float,
    se: float,
    quantile: float,
    observed: float,
    expected: float,
    n: int,
    method: str,
    confidence: float,
) -> Agreement:
    return Agreement(
        estimate=kappa,
        low=max(-1.0, kappa - quantile * se),
        high=min(1.0, kappa + quantile * se),
        se=se,
        observed=observed,
        expected=expected,
        n=n,
        method=method,
        confidence=confidence,
    )


def _no_agreement(reason: str, n: int, method: str, confidence: float) -> Agreement:
    return Agreement(
        estimate=None,
        low=None,
        high=None,
        se=None,
        observed=None,
        expected=None,
        n=n,
        method=method,
        confidence=confidence,
        reason=reason,
    )
