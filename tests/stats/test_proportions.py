import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from traceai.errors import InputError
from traceai.stats import Proportion, clopper_pearson, describe, percent, wilson, zero_failure_n

COUNTS = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
CONFIDENCE = st.sampled_from([0.8, 0.9, 0.95, 0.99, 0.999])


@settings(deadline=None, max_examples=200)
@given(COUNTS, CONFIDENCE)
def test_wilson_agrees_with_statsmodels(counts, confidence):
    x, n = counts
    low, high = proportion_confint(x, n, alpha=1 - confidence, method="wilson")
    result = wilson(x, n, confidence)
    assert (result.low, result.high) == pytest.approx((low, high), abs=1e-12)
    assert result.estimate == x / n


@settings(deadline=None, max_examples=200)
@given(COUNTS, CONFIDENCE)
def test_clopper_pearson_agrees_with_statsmodels(counts, confidence):
    x, n = counts
    low, high = proportion_confint(x, n, alpha=1 - confidence, method="beta")
    result = clopper_pearson(x, n, confidence)
    assert (result.low, result.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(COUNTS, CONFIDENCE, st.sampled_from([wilson, clopper_pearson]))
def test_the_interval_holds_the_estimate_and_is_never_a_point(counts, confidence, interval):
    result = interval(*counts, confidence)
    assert 0 <= result.low <= result.estimate <= result.high <= 1
    assert result.high - result.low > 1e-5


@settings(deadline=None, max_examples=100)
@given(COUNTS, st.sampled_from([wilson, clopper_pearson]))
def test_counting_the_other_way_round_mirrors_the_interval(counts, interval):
    x, n = counts
    there, back = interval(x, n), interval(n - x, n).complement(x)
    assert (there.low, there.high) == pytest.approx((back.low, back.high), abs=1e-12)
    assert there.x == back.x


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
def test_all_or_none_reaches_the_end_exactly(interval):
    assert interval(0, 12).low == 0.0
    assert interval(12, 12).high == 1.0


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
def test_without_observations_there_is_no_estimate(interval):
    result = interval(0, 0)
    assert (result.estimate, result.low, result.high, result.se) == (None, None, None, None)
    assert describe(result) == "not estimable: nothing was observed"


@pytest.mark.parametrize(("x", "n"), [(-1, 5), (6, 5), (1.0, 5), (1, "5"), (1, -1)])
@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
def test_impossible_counts_are_refused(interval, x, n):
    with pytest.raises(InputError):
        interval(x, n)


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.5, math.nan])
def test_a_confidence_outside_its_range_is_refused(confidence):
    with pytest.raises(InputError, match="confidence"):
        wilson(1, 2, confidence)


@pytest.mark.parametrize(
    ("rate", "confidence", "n"),
    [(0.01, 0.95, 299), (0.05, 0.95, 59), (0.1, 0.9, 22), (0.001, 0.95, 2995), (0.5, 0.75, 2)],
)
def test_zero_failure_sizes_from_the_tables(rate, confidence, n):
    assert zero_failure_n(rate, confidence) == n


@settings(deadline=None, max_examples=200)
@given(st.floats(1e-4, 0.9), st.floats(0.5, 0.999))
def test_zero_failure_n_is_the_smallest_that_suffices(rate, confidence):
    n = zero_failure_n(rate, confidence)
    assert (1 - rate) ** n <= (1 - confidence) * (1 + 1e-9)
    assert (1 - rate) ** (n - 1) > (1 - confidence) * (1 - 1e-9)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 2])
def test_a_zero_failure_rate_outside_its_range_is_refused(rate):
    with pytest.raises(InputError, match="rate"):
        zero_failure_n(rate)


def test_describe_gives_interval_and_counts():
    assert describe(wilson(5, 240)) == "2.1 % (95 % interval 0.89 % to 4.8 %; 5 of 240)"


def test_describe_says_that_a_weighted_share_is_not_a_plain_count():
    share = Proportion(estimate=0.25, low=0.1, high=0.5, se=None, x=3, n=40, method="m", confidence=0.9, weighted=True)
    assert describe(share) == "25.0 % (90 % interval 10.0 % to 50.0 %; weighted, from 3 of 40 verified)"


@settings(deadline=None, max_examples=200)
@given(st.floats(1e-7, 1 - 1e-7))
def test_a_percentage_never_rounds_to_nothing_or_everything(share):
    assert 0 < float(percent(share).removesuffix(" %")) < 100


def test_exact_ends_are_printed_plainly():
    assert (percent(0.0), percent(1.0)) == ("0 %", "100 %")
