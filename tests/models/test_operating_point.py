"""The laws of the two thresholds."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from traceai.errors import ModelError
from traceai.models.operating_point import OperatingPoint, choose, decimal_score

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=40)
# Coarse values make ties likely, and ties are where thresholds go wrong.
COARSE = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.500001, 0.9, 1.0]), min_size=1, max_size=40)
RATES = st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.34, 0.9])


def _choose(defects: list[float], goods: list[float], miss: float, alarm: float) -> OperatingPoint:
    labels = [True] * len(defects) + [False] * len(goods)
    return choose(defects + goods, labels, max_miss_rate=miss, max_false_alarm_rate=alarm)


@given(defects=SCORES | COARSE, goods=SCORES | COARSE, miss=RATES, alarm=RATES)
@settings(deadline=None, max_examples=150)
def test_both_rates_are_kept(defects: list[float], goods: list[float], miss: float, alarm: float) -> None:
    point = _choose(defects, goods, miss, alarm)
    missed = sum(point.verdict(score) == "pass" for score in defects)
    rejected = sum(point.verdict(score) == "reject" for score in goods)
    assert missed <= Decimal(str(miss)) * len(defects)
    assert rejected <= Decimal(str(alarm)) * len(goods)


@given(defects=SCORES | COARSE, goods=SCORES | COARSE, miss=RATES, alarm=RATES)
@settings(deadline=None, max_examples=150)
def test_a_middle_band_is_as_narrow_as_the_rates_allow(
    defects: list[float], goods: list[float], miss: float, alarm: float
) -> None:
    point = _choose(defects, goods, miss, alarm)
    if point.pass_below == point.reject_at:
        return
    step = Decimal("0.000001")
    higher = Decimal(point.pass_below) + step
    lower = Decimal(point.reject_at) - step
    assert sum(Decimal(decimal_score(s)) < higher for s in defects) > Decimal(str(miss)) * len(defects)
    assert sum(Decimal(decimal_score(s)) >= lower for s in goods) > Decimal(str(alarm)) * len(goods)


def test_classes_that_do_not_overlap_need_no_middle_band() -> None:
    point = choose([0.1, 0.2, 0.8, 0.9], [False, False, True, True])
    assert point == OperatingPoint(pass_below="0.500000", reject_at="0.500000")


def test_classes_that_overlap_leave_a_middle_band() -> None:
    point = choose([0.1, 0.6, 0.4, 0.9], [False, False, True, True], max_miss_rate=0, max_false_alarm_rate=0)
    assert point == OperatingPoint(pass_below="0.400000", reject_at="0.600001")
    assert [point.verdict(s) for s in (0.399999, 0.4, 0.6, 0.600001)] == ["pass", "undecided", "undecided", "reject"]


def test_a_rate_allows_its_share_exactly() -> None:
    """0.05 of 20 is one, though 0.05 is no binary fraction."""
    defects = [i / 100 for i in range(20)]
    assert _choose(defects, [0.0] * 2 + [0.9], 0.05, 0.05).pass_below == "0.010000"


def test_when_good_parts_score_one_nothing_is_rejected() -> None:
    point = _choose([1.0, 0.0], [1.0], 0.0, 0.0)
    assert point.reject_at == "1.000001"
    assert point.verdict(1.0) == "undecided"


def test_verdicts_compare_recorded_decimals_not_floats() -> None:
    point = OperatingPoint(pass_below="0.3", reject_at="0.3")
    assert point.verdict(0.1 + 0.2) == "reject"
    assert point.verdict(0.2999999) == "reject"  # recorded as 0.300000
    assert point.verdict("0.2999999") == "pass"  # recorded so by someone else
    assert point.verdict("0.30") == "reject"


@given(score=st.floats(0, 1))
@settings(deadline=None, max_examples=100)
def test_a_float_is_judged_as_it_is_recorded(score: float) -> None:
    point = OperatingPoint(pass_below="0.250000", reject_at="0.750000")
    assert point.verdict(score) == point.verdict(decimal_score(score))


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), float("inf"), "NaN", "-0.1", "1.5", "Infinity"])
def test_what_is_no_score_gets_no_verdict(score: float | str) -> None:
    with pytest.raises(ModelError):
        OperatingPoint(pass_below="0.1", reject_at="0.2").verdict(score)


@pytest.mark.parametrize(("low", "high"), [("0.5", "0.4"), ("-0.1", "0.4"), ("1e-3", "0.4"), ("0.1", ""), (0.1, 0.2)])
def test_impossible_thresholds_are_refused(low: object, high: object) -> None:
    with pytest.raises(ValidationError):
        OperatingPoint.model_validate({"pass_below": low, "reject_at": high})


@pytest.mark.parametrize(
    ("scores", "labels"),
    [([0.1], [True]), ([0.1], [False]), ([], []), ([0.1, 0.2], [True]), ([2.0, 0.1], [True, False])],
)
def test_scores_that_cannot_set_a_threshold_are_refused(scores: list[float], labels: list[bool]) -> None:
    with pytest.raises(ModelError):
        choose(scores, labels)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ModelError):
        choose([0.1, 0.2], [True, False], max_miss_rate=rate)
