"""A binomial proportion and its interval: the form in which every rate leaves this package."""

import math
import operator
from dataclasses import dataclass, replace
from typing import SupportsIndex

from scipy.special import betaincinv, ndtri

from traceai.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """A share between 0 and 1 with its interval, or the reason why there is none.

    Attributes:
        estimate: The point estimate; `None` when it cannot be estimated, and then `reason` says why.
        low, high: Two-sided limits at `confidence`; `None` exactly when `estimate` is.
        se: Standard error of the estimate; `None` where none is meaningful (a weighted estimate at 0 or 1).
        x, n: The counts behind it. For a weighted estimate they are the verified parts, and x / n is not the estimate.
        method: Name of the interval.
        confidence: Coverage the interval aims at.
        weighted: Whether the estimate is something other than x / n.
        reason: Empty, or one clause saying why the share is not estimable.
    """

    estimate: float | None
    low: float | None
    high: float | None
    se: float | None
    x: int
    n: int
    method: str
    confidence: float
    weighted: bool = False
    reason: str = ""

    @property
    def estimable(self) -> bool:
        return self.estimate is not None

    def complement(self, x: int) -> "Proportion":
        """1 minus this share; `x` is the count behind the complement."""
        if self.estimate is None or self.low is None or self.high is None:
            return replace(self, x=x)
        return replace(self, estimate=1 - self.estimate, low=1 - self.high, high=1 - self.low, x=x)


def not_estimable(reason: str, *, x: int = 0, n: int = 0, method: str, confidence: float) -> Proportion:
    """A share for which the data say nothing. Its estimate is `None`, never 0."""
    return Proportion(
        estimate=None, low=None, high=None, se=None, x=x, n=n, method=method, confidence=confidence, reason=reason
    )


def whole(name: str, value: SupportsIndex) -> int:
    """`value` as an int that is not negative.

    Raises:
        InputError: It is negative or not a whole number.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number, and {value!r} is not.") from None
    if number < 0:
        raise InputError(f"{name} must not be negative, and it is {number}.")
    return number


def checked_confidence(confidence: float) -> float:
    """Raises InputError unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise InputError(f"The confidence must lie between 0 and 1, for instance 0.95, and it is {confidence!r}.")
    return float(confidence)


def two_sided_z(confidence: float) -> float:
    """The standard normal quantile at (1 + confidence) / 2."""
    return float(ndtri((1 + checked_confidence(confidence)) / 2))


def wilson_limits(p: float, n: float, confidence: float) -> tuple[float, float]:
    """Wilson's score limits for a share `p` seen in `n` parts; `n` may be an effective, fractional size above 0."""
    z2 = two_sided_z(confidence) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return (0.0 if p == 0 else max(0.0, centre - half)), (1.0 if p == 1 else min(1.0, centre + half))


def _counts(x: SupportsIndex, n: SupportsIndex) -> tuple[int, int]:
    x, n = whole("x", x), whole("n", n)
    if x > n:
        raise InputError(f"x counts parts out of n, so it cannot be larger, and it is {x} of {n}.")
    return x, n


def wilson(x: SupportsIndex, n: SupportsIndex, confidence: float = 0.95) -> Proportion:
    """The share x / n with Wilson's score interval (Wilson 1927).

    Both limits exist and differ at x = 0 and x = n, where the textbook (Wald) interval collapses to a point.
    With n = 0 the share is not estimable.

    Raises:
        InputError: Counts that are not whole, negative, or x > n; a confidence outside (0, 1).
    """
    x, n = _counts(x, n)
    confidence = checked_confidence(confidence)
    if n == 0:
        return not_estimable("nothing was observed", method="wilson", confidence=confidence)
    p = x / n
    low, high = wilson_limits(p, n, confidence)
    se = math.sqrt(p * (1 - p) / n)
    return Proportion(estimate=p, low=low, high=high, se=se, x=x, n=n, method="wilson", confidence=confidence)


def clopper_pearson(x: SupportsIndex, n: SupportsIndex, confidence: float = 0.95) -> Proportion:
    """The share x / n with the exact interval of Clopper & Pearson (1934): coverage never below `confidence`.

    With n = 0 the share is not estimable.

    Raises:
        InputError: Counts that are not whole, negative, or x > n; a confidence outside (0, 1).
    """
    x, n = _counts(x, n)
    confidence = checked_confidence(confidence)
    if n == 0:
        return not_estimable("nothing was observed", method="clopper-pearson", confidence=confidence)
    p, tail = x / n, (1 - confidence) / 2
    low = 0.0 if x == 0 else float(betaincinv(x, n - x + 1, tail))
    high = 1.0 if x == n else float(betaincinv(x + 1, n - x, 1 - tail))
    se = math.sqrt(p * (1 - p) / n)
    return Proportion(estimate=p, low=low, high=high, se=se, x=x, n=n, method="clopper-pearson", confidence=confidence)


def zero_failure_n(rate: float, confidence: float = 0.95) -> int:
    """How many parts must be verified without one failure to show that the failure rate is below `rate`.

    The smallest n with (1 - rate)^n <= 1 - confidence (success-run theorem): 299 for 1 % at 95 %.

    Raises:
        InputError: `rate` or `confidence` outside (0, 1).
    """
    if not 0 < rate < 1:
        raise InputError(f"The rate must lie between 0 and 1, for instance 0.01, and it is {rate!r}.")
    exact = math.log1p(-checked_confidence(confidence)) / math.log1p(-rate)
    # A quotient that is a whole number up to rounding must not be rounded up to the next one: 0.9 at rate 0.9 is 1.
    nearest = round(exact)
    return nearest if nearest > 0 and math.isclose(exact, nearest, rel_tol=1e-12) else math.ceil(exact)


def percent(share: float) -> str:
    """A share as a percentage that never rounds to 0 % or 100 % unless it is exactly that."""
    edge = min(share, 1 - share)
    decimals = 0 if edge <= 0 else 1 if edge >= 0.01 else 2 if edge >= 0.001 else min(6, math.ceil(-math.log10(edge)))
    return f"{100 * share:.{decimals}f} %"


def describe(proportion: Proportion) -> str:
    """One line for a person: `2.1 % (95 % interval 0.9 % to 4.8 %; 5 of 240)`, or `not estimable: ...`."""
    if proportion.estimate is None or proportion.low is None or proportion.high is None:
        return f"not estimable: {proportion.reason}"
    counts = f"{proportion.x} of {proportion.n}"
    if proportion.weighted:
        counts = f"weighted, from {counts} verified"
    return (
        f"{percent(proportion.estimate)} ({100 * proportion.confidence:g} % interval "
        f"{percent(proportion.low)} to {percent(proportion.high)}; {counts})"
    )
