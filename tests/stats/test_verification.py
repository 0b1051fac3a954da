import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceai.errors import InputError
from traceai.stats import begg_greenes, horvitz_thompson, miss_rate, wilson

VERIFIED = st.integers(1, 60)


@st.composite
def partial(draw):
    s1, r1, s0, r0 = (draw(VERIFIED) for _ in range(4))
    return s1, r1, s0, r0, s1 + r1 + draw(st.integers(0, 300)), s0 + r0 + draw(st.integers(1, 5000))


@settings(deadline=None, max_examples=150)
@given(partial())
def test_point_estimates_and_errors_are_those_published(counts):
    """Begg & Greenes 1983; variances as in Zhou, Obuchowski & McClish 2011, section 10.3."""
    s1, r1, s0, r0, n1, n0 = counts
    n = n1 + n0
    sensitivity = n1 * s1 / (s1 + r1) / (n1 * s1 / (s1 + r1) + n0 * s0 / (s0 + r0))
    specificity = n0 * r0 / (s0 + r0) / (n1 * r1 / (s1 + r1) + n0 * r0 / (s0 + r0))
    result = begg_greenes(*counts)
    assert result.sensitivity.estimate == pytest.approx(sensitivity)
    assert result.specificity.estimate == pytest.approx(specificity)
    spread = math.sqrt(n / (n0 * n1) + r1 / (s1 * (s1 + r1)) + r0 / (s0 * (s0 + r0)))
    assert result.sensitivity.se == pytest.approx(sensitivity * (1 - sensitivity) * spread)
    spread = math.sqrt(n / (n0 * n1) + s1 / (r1 * (s1 + r1)) + s0 / (r0 * (s0 + r0)))
    assert result.specificity.se == pytest.approx(specificity * (1 - specificity) * spread)


@settings(deadline=None, max_examples=150)
@given(partial())
def test_intervals_hold_the_estimate_and_are_never_a_point(counts):
    result = begg_greenes(*counts)
    for share in (result.sensitivity, result.specificity, miss_rate(*counts)):
        assert 0 <= share.low < share.estimate < share.high <= 1


@settings(deadline=None, max_examples=100)
@given(VERIFIED, VERIFIED, VERIFIED, VERIFIED)
def test_full_verification_is_a_plain_count_with_a_wilson_interval(s1, r1, s0, r0):
    result = begg_greenes(s1, r1, s0, r0, s1 + r1, s0 + r0)
    assert result.sensitivity == wilson(s1, s1 + s0)
    assert result.specificity == wilson(r0, r0 + r1)


@settings(deadline=None, max_examples=100)
@given(partial())
def test_begg_greenes_is_the_saturated_case_of_horvitz_thompson(counts):
    s1, r1, s0, r0, n1, n0 = counts
    positive, negative = s1 + r1, s0 + r0
    pi = [positive / n1] * positive + [negative / n0] * negative
    strata = ["positive"] * positive + ["negative"] * negative
    population = {"positive": n1, "negative": n0}
    defective = np.array([1] * s1 + [0] * r1 + [1] * s0 + [0] * r0)
    rejected = np.array([1] * positive + [0] * negative)
    both = horvitz_thompson(defective * rejected, pi, strata, population).total
    every = horvitz_thompson(defective, pi, strata, population).total
    assert begg_greenes(*counts).sensitivity.estimate == pytest.approx(both / every)


@settings(deadline=None, max_examples=100)
@given(partial())
def test_the_miss_rate_completes_the_sensitivity(counts):
    miss, sensitivity = miss_rate(*counts), begg_greenes(*counts).sensitivity
    assert miss.estimate == pytest.approx(1 - sensitivity.estimate)
    assert (miss.low, miss.high) == pytest.approx((1 - sensitivity.high, 1 - sensitivity.low))
    assert miss.x == counts[2]


def test_no_missed_part_still_leaves_room_for_misses():
    share = miss_rate(40, 10, 0, 100, 50, 5000)
    assert (share.estimate, share.low, share.se) == (0.0, 0.0, None)
    assert 0.5 < share.high < 1  # 100 of 5,000 passes say little: up to about 185 of them may be defective


def test_a_test_that_never_finds_a_defect_has_sensitivity_zero_with_an_upper_limit():
    share = begg_greenes(0, 10, 5, 95, 10, 1000).sensitivity
    assert (share.estimate, share.low) == (0.0, 0.0)
    assert 0 < share.high < 1


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((5, 5, 0, 0, 10, 90), "none of the 90 test-negative parts was verified"),
        ((0, 0, 5, 5, 10, 90), "none of the 10 test-positive parts was verified"),
        ((0, 10, 0, 10, 10, 90), "no verified part was defective"),
        ((0, 0, 0, 0, 0, 0), "no part was test-negative or test-positive"),
    ],
)
def test_what_cannot_be_known_is_not_estimable(counts, reason):
    share = miss_rate(*counts)
    assert (share.estimate, share.low, share.high) == (None, None, None)
    assert sorted(share.reason.split()) == sorted(reason.split())


@pytest.mark.parametrize(
    "counts", [(6, 5, 0, 0, 10, 90), (1, 1, 50, 50, 10, 90), (-1, 1, 1, 1, 10, 90), (1, 1, 1, 0.5, 9, 9)]
)
def test_impossible_counts_are_refused(counts):
    with pytest.raises(InputError):
        begg_greenes(*counts)


def test_horvitz_thompson_is_unbiased_under_unequal_draws():
    rng = np.random.default_rng(11)
    truth = rng.random(4000) < np.repeat([0.02, 0.4], [3600, 400])
    pi = np.repeat([0.05, 0.5], [3600, 400])
    strata = np.repeat(["pass", "reject"], [3600, 400])
    population = {"pass": 3600, "reject": 400}
    estimates = []
    for _ in range(300):
        drawn = rng.random(4000) < pi
        estimates.append(horvitz_thompson(truth[drawn], pi[drawn], list(strata[drawn]), population).estimate)
    assert np.mean(estimates) == pytest.approx(truth.mean(), abs=4 * np.std(estimates) / math.sqrt(300))


def test_horvitz_thompson_of_equal_draws_is_the_sample_mean_with_its_wilson_interval():
    result = horvitz_thompson([0] * 50, [0.1] * 50, ["a"] * 50, {"a": 500})
    plain = wilson(0, 50)
    assert (result.estimate, result.low, result.high) == pytest.approx((0.0, 0.0, plain.high))
    assert result.n_effective == pytest.approx(50)


def test_horvitz_thompson_of_measurements_matches_the_stratified_textbook_formula():
    y, strata = [2.0, 4.0, 9.0, 10.0, 14.0], ["a", "a", "b", "b", "b"]
    result = horvitz_thompson(y, [0.2, 0.2, 0.1, 0.1, 0.1], strata, {"a": 10, "b": 30})
    assert result.total == pytest.approx(10 * 3 + 30 * 11)
    assert result.estimate == pytest.approx(360 / 40)
    assert result.se == pytest.approx(math.sqrt(10**2 * 2 / 2 + 30**2 * 7 / 3) / 40)
    assert result.low < result.estimate < result.high


def test_a_stratum_nobody_was_drawn_from_is_not_taken_for_zero():
    result = horvitz_thompson([1, 0], [0.5, 0.5], ["a", "a"], {"a": 4, "b": 96})
    assert (result.estimate, result.total) == (None, None)
    assert result.reason == "none of the 96 units of stratum 'b' was sampled"


@pytest.mark.parametrize(
    ("y", "pi", "strata", "population"),
    [
        ([1], [0.5, 0.5], ["a"], {"a": 4}),
        ([1], [0.0], ["a"], {"a": 4}),
        ([1], [1.5], ["a"], {"a": 4}),
        ([math.nan], [0.5], ["a"], {"a": 4}),
        ([1], [0.5], ["z"], {"a": 4}),
        ([1, 1], [0.5, 0.5], ["a", "a"], {"a": 1}),
    ],
)
def test_an_impossible_sample_is_refused(y, pi, strata, population):
    with pytest.raises(InputError):
        horvitz_thompson(y, pi, strata, population)
