"""The estimator behind `traceai rates`: error rates of the inspection from what the audit draw verified.

Positive means defective. A false negative is a defective part that was passed, a false positive a good part that was
rejected; undecided parts are neither and are reported apart.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from traceai.errors import InputError
from traceai.stats.proportions import Proportion, checked_confidence, not_estimable, whole, wilson, wilson_limits
from traceai.stats.verification import (
    METHOD,
    Expanded,
    Limits,
    conditional_share,
    weighted_proportion,
)

Verdict = Literal["pass", "reject", "undecided"]

# Up to this share of a verdict's parts may lie in audit cells without a verified part (small cells from which chance
# drew nobody); they are then taken to be like the others, and a caveat says so. Above it the rate is refused.
MAX_UNREPRESENTED = 0.05

_NAMES: dict[Verdict, str] = {"pass": "passed", "reject": "rejected", "undecided": "undecided"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Decisions that share a verdict and a recorded probability of being drawn for audit.

    Attributes:
        verdict: What the inspection said.
        probability: The inclusion probability recorded with each decision of the cell, in [0, 1].
        decisions: All decisions of the cell.
        verified_good, verified_defective: Drawn for audit and reviewed, by the truth that was found.
        targeted_good, targeted_defective: Reviewed without having been drawn. They were picked for a reason, so they
            are reported and never enter an estimate.
    """

    verdict: Verdict
    probability: float
    decisions: int
    verified_good: int
    verified_defective: int
    targeted_good: int = 0
    targeted_defective: int = 0

    def __post_init__(self) -> None:
        if self.verdict not in _NAMES:
            raise InputError(f"A verdict is pass, reject or undecided, and this cell has {self.verdict!r}.")
        if not 0 <= self.probability <= 1:
            raise InputError(f"An audit probability lies between 0 and 1, and this cell has {self.probability!r}.")
        for name in ("decisions", "verified_good", "verified_defective", "targeted_good", "targeted_defective"):
            whole(f"A cell's {name}", getattr(self, name))
        reviewed = self.verified + self.targeted_good + self.targeted_defective
        if reviewed > self.decisions:
            raise InputError(
                f"A {self.verdict} cell has {reviewed} reviewed parts but only {self.decisions} decisions."
            )
        if self.probability == 0 and self.verified:
            raise InputError(f"A {self.verdict} cell has {self.verified} drawn parts at audit probability 0.")

    @property
    def verified(self) -> int:
        return self.verified_good + self.verified_defective


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The counts of one verdict. `unrepresented` decisions lie in audit cells in which nothing was verified."""

    verdict: Verdict
    decisions: int
    verified_good: int
    verified_defective: int
    targeted_good: int
    targeted_defective: int
    unrepresented: int

    @property
    def verified(self) -> int:
        return self.verified_good + self.verified_defective


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Error rates with the counts behind each.

    Attributes:
        false_negative_rate: P(pass | defective) among decided parts: the share of defects that escape.
        false_positive_rate: P(reject | good) among decided parts: the share of good parts that are scrapped.
        escape_rate: P(defective | pass): what a customer sees.
        overkill_rate: P(good | reject), also called false discovery rate.
        defect_prevalence: P(defective) among decided parts.
        undecided_share: Undecided decisions among all.
        passed, rejected, undecided: Counts by verdict.
        caveats: Sentences that must stand wherever the rates do; empty when there is nothing to add.
        confidence: Coverage of every interval.
    """

    false_negative_rate: Proportion
    false_positive_rate: Proportion
    escape_rate: Proportion
    overkill_rate: Proportion
    defect_prevalence: Proportion
    undecided_share: Proportion
    passed: Tally
    rejected: Tally
    undecided: Tally
    caveats: tuple[str, ...]
    confidence: float

    @property
    def census(self) -> bool:
        """Whether every passed and every rejected part was drawn and verified."""
        return all(tally.verified == tally.decisions for tally in (self.passed, self.rejected))


def estimate_rates(cells: Iterable[Cell], confidence: float = 0.95) -> Rates:
    """Error rates of an inspection whose verdicts were verified by an audit draw.

    Cells with the same verdict and probability are merged; each merged cell is a stratum, expanded from its verified
    parts to all its decisions (the saturated Horvitz-Thompson estimator; with one cell per verdict it is Begg &
    Greenes 1983). When every passed and rejected part was verified the rates are plain counts with Wilson intervals.

    Raises:
        InputError: A confidence outside (0, 1).
    """
    confidence = checked_confidence(confidence)
    merged = _merge(cells)
    tallies = {verdict: _tally(verdict, merged) for verdict in _NAMES}
    passed, rejected = _expanded("pass", merged, tallies["pass"]), _expanded("reject", merged, tallies["reject"])
    census = passed.size == passed.verified and rejected.size == rejected.verified
    decisions = sum(tally.decisions for tally in tallies.values())
    return Rates(
        false_negative_rate=conditional_share(passed, rejected, "defective", census, confidence),
        false_positive_rate=conditional_share(rejected, passed, "good", census, confidence),
        escape_rate=_within(passed, "defective", confidence),
        overkill_rate=_within(rejected, "good", confidence),
        defect_prevalence=_prevalence(passed, rejected, census, confidence),
        undecided_share=wilson(tallies["undecided"].decisions, decisions, confidence),
        passed=tallies["pass"],
        rejected=tallies["reject"],
        undecided=tallies["undecided"],
        caveats=tuple(_caveats(merged, tallies)),
        confidence=confidence,
    )


def _merge(cells: Iterable[Cell]) -> list[Cell]:
    groups: dict[tuple[Verdict, float], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.verdict, cell.probability), []).append(cell)
    return [
        Cell(
            verdict=verdict,
            probability=probability,
            decisions=sum(c.decisions for c in group),
            verified_good=sum(c.verified_good for c in group),
            verified_defective=sum(c.verified_defective for c in group),
            targeted_good=sum(c.targeted_good for c in group),
            targeted_defective=sum(c.targeted_defective for c in group),
        )
        for (verdict, probability), group in sorted(groups.items())
    ]


def _tally(verdict: Verdict, cells: list[Cell]) -> Tally:
    own = [cell for cell in cells if cell.verdict == verdict]
    return Tally(
        verdict=verdict,
        decisions=sum(c.decisions for c in own),
        verified_good=sum(c.verified_good for c in own),
        verified_defective=sum(c.verified_defective for c in own),
        targeted_good=sum(c.targeted_good for c in own),
        targeted_defective=sum(c.targeted_defective for c in own),
        unrepresented=sum(c.decisions for c in own if not c.verified),
    )


def _expanded(verdict: Verdict, cells: list[Cell], tally: Tally) -> Expanded:
    reason = ""
    if tally.verified and tally.unrepresented > MAX_UNREPRESENTED * tally.decisions:
        reason = (
            f"{tally.unrepresented} of the {tally.decisions} {_NAMES[verdict]} parts "
            "lie in audit cells in which none was verified"
        )
    return Expanded(
        name=_NAMES[verdict],
        size=tally.decisions,
        strata=tuple(
            (c.decisions, c.verified, c.verified_defective) for c in cells if c.verdict == verdict and c.verified
        ),
        reason=reason,
    )


def _within(parts: Expanded, truth: str, confidence: float) -> Proportion:
    """P(truth | verdict)."""
    x, n = parts.count(truth), parts.verified
    if reason := parts.unknown() or ("" if parts.size else f"no part was {parts.name}"):
        return not_estimable(reason, x=x, n=n, method=METHOD, confidence=confidence)
    if len(parts.strata) == 1 or n == parts.size:
        return wilson(x, n, confidence)
    return weighted_proportion(parts.limits(truth, confidence), x, n, confidence)


def _prevalence(passed: Expanded, rejected: Expanded, census: bool, confidence: float) -> Proportion:
    """P(defective) among decided parts, the split between the verdicts counted as random."""
    x, n = passed.count("defective") + rejected.count("defective"), passed.verified + rejected.verified
    reason = passed.unknown() or rejected.unknown()
    if reason or not passed.size + rejected.size:
        reason = reason or "no part was passed or rejected"
        return not_estimable(reason, x=x, n=n, method=METHOD, confidence=confidence)
    if census:
        return wilson(x, n, confidence)
    if not passed.size or not rejected.size:
        return _within(passed if passed.size else rejected, "defective", confidence)
    total = passed.size + rejected.size
    q, r = passed.limits("defective", confidence), rejected.limits("defective", confidence)
    # Each share counts with all decisions of its verdict, as in every other rate: those in cells without a verified part
    # are taken to be like the rest of their verdict, and never like the rest of the line.
    share = passed.size / total
    estimate = (passed.size * q.estimate + rejected.size * r.estimate) / total
    low, high = wilson_limits(share, total, confidence)
    gap = r.estimate - q.estimate
    # More passes mean fewer defects where rejects are worse (gap > 0), and the reverse otherwise.
    down, up = (high - share, share - low) if gap > 0 else (share - low, high - share)
    below = math.hypot(share * (q.estimate - q.low), (1 - share) * (r.estimate - r.low), gap * down)
    above = math.hypot(share * (q.high - q.estimate), (1 - share) * (r.high - r.estimate), gap * up)
    variance = share**2 * q.variance + (1 - share) ** 2 * r.variance + gap**2 * share * (1 - share) / total
    limits = Limits(estimate, max(0.0, estimate - below), min(1.0, estimate + above), variance)
    return weighted_proportion(limits, x, n, confidence)


def _caveats(cells: list[Cell], tallies: dict[Verdict, Tally]) -> Iterable[str]:
    for verdict, name in _NAMES.items():
        tally = tallies[verdict]
        targeted = tally.targeted_good + tally.targeted_defective
        if targeted:
            yield f"{targeted} {name} parts were reviewed without having been drawn; no rate uses them."
        if verdict == "undecided" or not tally.verified:
            continue  # No error rate rests on such parts.
        if 0 < tally.unrepresented <= MAX_UNREPRESENTED * tally.decisions:
            yield (
                f"{tally.unrepresented} of the {tally.decisions} {name} parts lie in audit cells in which none was "
                f"verified; the rates take them to be like the other {name} parts."
            )
        own = [cell for cell in cells if cell.verdict == verdict]
        expected = sum(c.decisions * c.probability for c in own)
        deviation = math.sqrt(sum(c.decisions * c.probability * (1 - c.probability) for c in own))
        # Four standard deviations below the draw's expectation is not chance: reviews are outstanding.
        if tally.verified < expected - max(4 * deviation, 0.5):
            yield (
                f"{tally.verified} {name} parts were verified where about {expected:.0f} were to be drawn; the rates "
                "take those still outstanding to be like those reviewed."
            )
