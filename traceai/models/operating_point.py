"""From a defect score to a verdict: two thresholds, and the middle band that is left to a human.

Scores are compared as the decimal strings that are recorded, never as binary floats, so a verdict can be recomputed
from its record by hand.
"""

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from traceai.errors import ModelError

Verdict = Literal["pass", "undecided", "reject"]
DecimalString = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?$")]

_STEP = Decimal("0.000001")


def decimal_score(value: float) -> str:
    """A score in 0..1 as it is recorded and judged: six decimals, correctly rounded.

    Raises:
        ModelError: not a number in 0..1.
    """
    if not 0.0 <= value <= 1.0:
        raise ModelError(f"a defect score lies in 0..1, not {value}; the network's output cannot be judged")
    return f"{value:.6f}"


class OperatingPoint(BaseModel):
    """`score < pass_below` passes, `score >= reject_at` rejects, between the two is undecided.

    Both are decimal strings. `reject_at` may exceed 1: then nothing is ever rejected.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    pass_below: DecimalString
    reject_at: DecimalString

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if Decimal(self.pass_below) > Decimal(self.reject_at):
            raise ValueError("pass_below may not exceed reject_at: a score cannot both pass and be rejected")
        return self

    def verdict(self, score: str | float) -> Verdict:
        """The verdict on a recorded score; a float is first written as `decimal_score` records it.

        Raises:
            ModelError: not a number in 0..1.
        """
        exact = Decimal(score if isinstance(score, str) else decimal_score(score))
        if not (exact.is_finite() and 0 <= exact <= 1):
            raise ModelError(f"a defect score lies in 0..1, not {score}")
        if exact < Decimal(self.pass_below):
            return "pass"
        return "reject" if exact >= Decimal(self.reject_at) else "undecided"


def choose(
    scores: Sequence[float],
    is_defect: Sequence[bool],
    *,
    max_miss_rate: float = 0.05,
    max_false_alarm_rate: float = 0.05,
) -> OperatingPoint:
    """The operating point with the narrowest middle band that keeps both error rates on these scores.

    `pass_below` is the highest threshold that at most `max_miss_rate` of the defects lie below; `reject_at` is the
    lowest, in steps of 0.000001, that at most `max_false_alarm_rate` of the good parts reach. Where the two cross, no
    middle band is needed: every threshold between them keeps both rates, and the one half way becomes both.

    The rates hold on the parts given, which must therefore not be the ones the network was fitted to.

    Raises:
        ModelError: no good part or no defect among the scores, or a rate outside [0, 1).
    """
    if len(scores) != len(is_defect):
        raise ModelError(f"{len(scores)} scores were given with {len(is_defect)} labels; they must correspond")
    if not (0 <= max_miss_rate < 1 and 0 <= max_false_alarm_rate < 1):
        raise ModelError("the highest acceptable miss and false-alarm rates lie between 0 and 1, 1 excluded")
    exact = [Decimal(decimal_score(score)) for score in scores]
    defects = sorted(score for score, bad in zip(exact, is_defect, strict=True) if bad)
    goods = sorted((score for score, bad in zip(exact, is_defect, strict=True) if not bad), reverse=True)
    if not defects or not goods:
        raise ModelError("an operating point needs scores of good and of defective parts; one of the two is missing")

    pass_below = defects[_allowed(max_miss_rate, len(defects))]
    reject_at = goods[_allowed(max_false_alarm_rate, len(goods))] + _STEP
    if pass_below >= reject_at:
        middle = ((pass_below + reject_at) / 2).quantize(_STEP, rounding=ROUND_HALF_EVEN)
        pass_below = reject_at = middle
    return OperatingPoint(pass_below=str(pass_below), reject_at=str(reject_at))


def _allowed(rate: float, count: int) -> int:
    """How many of `count` a rate allows; 0.05 of 20 is 1, whatever binary fraction 0.05 is."""
    return math.floor(Decimal(repr(rate)) * count)
