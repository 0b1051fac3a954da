"""Rates of a test whose verdicts were only partly verified.

Rejected parts are verified more often than passed ones, so counting among verified parts alone flatters or slanders the
test (verification bias). Here each verdict's verified share is expanded to all parts with that verdict.

Intervals recover the variance of each ingredient from its own Wilson limits (MOVER: Zou & Donner 2008; Donner & Zou
2012), so they stay sensible at zero counts. They are about the process that made the parts: no finite-population
correction is applied, and the split of the parts between the verdicts counts as random. What coverage was simulated, and
where it falls below its nominal value as Wilson's own does, stands in `docs/statistics.md`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import SupportsIndex

from traceai.errors import InputError
from traceai.stats.proportions import (
    Proportion,
    checked_confidence,
    not_estimable,
    whole,
    wilson,
    wilson_limits,
)

METHOD = "mover-wilson"


@dataclass(frozen=True)
class Limits:
    """A share, its two limits and its variance; an ingredient of a rate."""

    estimate: float
    low: float
    high: float
    variance: float

    def complement(self) -> "Limits":
        return Limits(1 - self.estimate, 1 - self.high, 1 - self.low, self.variance)


def stratified(parts: Iterable[tuple[int, int, int]], confidence: float) -> Limits:
    """The share over strata given as (size N, verified n > 0, defective among verified x).

    Each stratum counts with its size, sum N x/n / sum N; limits by MOVER from the strata's Wilson limits (Yan & Su
    2010). A single stratum gives exactly its Wilson interval. Kish's effective n is not used: it assumes equal rates in
    all strata and undercovers when the stratum with the higher rate is the one verified more thinly.
    """
    strata = [(size, n, x / n, *wilson_limits(x / n, n, confidence)) for size, n, x in parts]
    total = sum(size for size, *_ in strata)
    estimate = sum(size * p for size, _, p, _, _ in strata) / total
    below = math.sqrt(sum((size * (p - low)) ** 2 for size, _, p, low, _ in strata)) / total
    above = math.sqrt(sum((size * (high - p)) ** 2 for size, _, p, _, high in strata)) / total
    variance = sum(size**2 * p * (1 - p) / n for size, n, p, _, _ in strata) / total**2
    return Limits(estimate, max(0.0, estimate - below), min(1.0, estimate + above), variance)


def share_of_two(a: Limits, size_a: int, b: Limits, size_b: int, confidence: float) -> Limits:
    """The share A / (A + B) of two expanded counts A = size_a * a and B = size_b * b, not both zero.

    Its log odds are log(size_a / size_b) + log a - log b. MOVER combines the three from their Wilson limits, so that
    exchanging the sides gives the complement. The variance is that of the log odds by the delta method (Zhou 1993), or
    NaN where a count is zero.

    Where A is zero it has no logarithm. Wilson's upper limit u of no event in n verified parts has the odds u / (1 - u) =
    z^2 / n, and each verified part stands for size_a / n. So A is below size_a * u / (1 - u): with all parts verified
    that is z^2, Wilson's limit of a count of zero, whatever size_a happened to be. The limit size_a * u would take
    size_a, which may be a single part, to be known. B stands below it as in the ratio of Donner & Zou (2012).
    """
    n, ratio = size_a + size_b, size_a / size_b
    if a.estimate == 0:
        odds = ratio * a.high / (1 - a.high) / math.sqrt(b.low * (2 * b.estimate - b.low))
        return Limits(0.0, 0.0, odds / (1 + odds), math.nan)
    if b.estimate == 0:
        return share_of_two(b, size_b, a, size_a, confidence).complement()
    # A share that is not 0 has a lower limit above 0, stratified or not, so every logarithm below is finite.
    low, high = wilson_limits(size_a / n, n, confidence)
    down = (math.log(ratio * (1 - low) / low), math.log(a.estimate / a.low), math.log(b.high / b.estimate))
    up = (math.log(high / (1 - high) / ratio), math.log(a.high / a.estimate), math.log(b.estimate / b.low))
    odds = ratio * a.estimate / b.estimate
    log_variance = 1 / size_a + 1 / size_b + a.variance / a.estimate**2 + b.variance / b.estimate**2
    estimate = odds / (1 + odds)
    return Limits(
        estimate,
        1 / (1 + math.exp(math.hypot(*down)) / odds),
        1 / (1 + math.exp(-math.hypot(*up)) / odds),
        (estimate * (1 - estimate)) ** 2 * log_variance,
    )


def weighted_proportion(limits: Limits, x: int, n: int, confidence: float) -> Proportion:
    """An expanded share as a `Proportion`; `x` of `n` are the verified counts behind it."""
    inside = 0 < limits.estimate < 1 and math.isfinite(limits.variance)
    return Proportion(
        estimate=limits.estimate,
        low=min(limits.low, limits.estimate),
        high=max(limits.high, limits.estimate),
        se=math.sqrt(limits.variance) if inside else None,
        x=x,
        n=n,
        method=METHOD,
        confidence=confidence,
        weighted=True,
    )


@dataclass(frozen=True)
class Expanded:
    """All parts of one verdict: their number, and strata as (size, verified > 0, defective among verified)."""

    name: str
    size: int
    strata: tuple[tuple[int, int, int], ...]
    reason: str = ""

    @property
    def verified(self) -> int:
        return sum(n for _, n, _ in self.strata)

    def count(self, truth: str) -> int:
        defective = sum(x for _, _, x in self.strata)
        return defective if truth == "defective" else self.verified - defective

    def unknown(self) -> str:
        """Empty, or why nothing can be said about the truth behind this verdict."""
        if self.reason:
            return self.reason
        if self.size and not self.verified:
            return f"none of the {self.size} {self.name} parts was verified"
        return ""

    def limits(self, truth: str, confidence: float) -> Limits:
        share = stratified(((size, n, x) for size, n, x in self.strata if n), confidence)
        return share if truth == "defective" else share.complement()


def conditional_share(a: Expanded, b: Expanded, truth: str, census: bool, confidence: float) -> Proportion:
    """P(verdict is a | truth) among the parts with verdict a or b; `truth` is "defective" or "good".

    `census` says that every part was verified; the rate is then a plain binomial share.
    """
    x, n = a.count(truth), a.count(truth) + b.count(truth)

    def refuse(reason: str) -> Proportion:
        return not_estimable(reason, x=x, n=n, method=METHOD, confidence=confidence)

    if a.size + b.size == 0:
        return refuse(f"no part was {a.name} or {b.name}")
    if reason := a.unknown() or b.unknown():
        return refuse(reason)
    if n == 0:
        return refuse(f"no verified part was {truth}")
    # With no part at all on one side there is nothing to expand: the verified parts of the other are the sample.
    if census or a.size == 0 or b.size == 0:
        return wilson(x, n, confidence)
    limits = share_of_two(a.limits(truth, confidence), a.size, b.limits(truth, confidence), b.size, confidence)
    return weighted_proportion(limits, x, n, confidence)


@dataclass(frozen=True)
class BeggGreenes:
    """Sensitivity P(positive | defective) and specificity P(negative | good) of a partly verified test."""

    sensitivity: Proportion
    specificity: Proportion


def begg_greenes(
    s1: SupportsIndex,
    r1: SupportsIndex,
    s0: SupportsIndex,
    r0: SupportsIndex,
    n1: SupportsIndex,
    n0: SupportsIndex,
    confidence: float = 0.95,
) -> BeggGreenes:
    """Sensitivity and specificity corrected for partial verification (Begg & Greenes 1983, in Zhou's notation).

    Valid when, within a verdict, what is verified does not depend on the truth: that is what a random audit draw buys.

    Args:
        s1, r1: Defective and good among the verified test-positive (rejected) parts.
        s0, r0: Defective and good among the verified test-negative (passed) parts.
        n1, n0: All test-positive and all test-negative parts, verified or not.
        confidence: Coverage of the intervals. They are Wilson's when everything was verified, MOVER otherwise.

    Raises:
        InputError: Counts that are not whole or negative, or more verified parts than parts.
    """
    s1, r1, s0, r0 = whole("s1", s1), whole("r1", r1), whole("s0", s0), whole("r0", r0)
    n1, n0 = whole("n1", n1), whole("n0", n0)
    confidence = checked_confidence(confidence)
    for verified, total, name in ((s1 + r1, n1, "1"), (s0 + r0, n0, "0")):
        if verified > total:
            raise InputError(f"s{name} + r{name} is {verified}, more than the n{name} = {total} parts there were.")
    census = s1 + r1 == n1 and s0 + r0 == n0
    positive = Expanded("test-positive", n1, ((n1, s1 + r1, s1),))
    negative = Expanded("test-negative", n0, ((n0, s0 + r0, s0),))
    return BeggGreenes(
        sensitivity=conditional_share(positive, negative, "defective", census, confidence),
        specificity=conditional_share(negative, positive, "good", census, confidence),
    )


def miss_rate(
    s1: SupportsIndex,
    r1: SupportsIndex,
    s0: SupportsIndex,
    r0: SupportsIndex,
    n1: SupportsIndex,
    n0: SupportsIndex,
    confidence: float = 0.95,
) -> Proportion:
    """The share of defective parts that were passed: 1 minus `begg_greenes(...).sensitivity`, same arguments.

    Not estimable, and said so, when no passed part was verified.
    """
    return begg_greenes(s1, r1, s0, r0, n1, n0, confidence).sensitivity.complement(whole("s0", s0))
