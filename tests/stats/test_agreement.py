import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from statsmodels.stats import inter_rater

from traceai.errors import InputError
from traceai.stats import cohen_kappa, fleiss_kappa

TABLES = st.integers(2, 5).flatmap(lambda k: arrays(np.int64, (k, k), elements=st.integers(0, 50)))


@settings(deadline=None, max_examples=100)
@given(TABLES, st.sampled_from([None, "linear", "quadratic"]))
def test_cohen_agrees_with_statsmodels(table, weights):
    assume(np.count_nonzero(table.sum(axis=0)) > 1 and np.count_nonzero(table.sum(axis=1)) > 1)
    with np.errstate(invalid="ignore", divide="ignore"):  # their z-value of a kappa without spread
        theirs = inter_rater.cohens_kappa(table, wt=weights)
    ours = cohen_kappa(table, weights)
    assert ours.estimate == pytest.approx(theirs.kappa, abs=1e-12)
    if theirs.var_kappa < 1e-12:  # perfect or constant ratings: rounding noise, which they take a root of all the same
        assert ours.se == pytest.approx(0, abs=1e-6)
        return
    assert ours.se == pytest.approx(theirs.std_kappa)
    assert ours.low == pytest.approx(max(-1, theirs.kappa_low), abs=1e-9)
    assert ours.high == pytest.approx(min(1, theirs.kappa_upp), abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 6), st.integers(2, 4), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_fleiss_agrees_with_statsmodels(raters, categories, parts, seed):
    counts = np.random.default_rng(seed).multinomial(raters, np.ones(categories) / categories, size=parts)
    assume(np.count_nonzero(counts.sum(axis=0)) > 1)
    assert fleiss_kappa(counts).estimate == pytest.approx(inter_rater.fleiss_kappa(counts), abs=1e-12)


def test_fleiss_on_the_published_example():
    """Ten parts, fourteen raters, five categories: kappa 0.210."""
    counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    result = fleiss_kappa(counts)
    assert result.estimate == pytest.approx(0.210, abs=5e-4)
    assert (result.observed, result.expected) == pytest.approx((0.378, 0.213), abs=5e-4)


def test_fleiss_standard_error_is_the_spread_over_repeated_samples():
    rng = np.random.default_rng(3)
    estimates, errors = [], []
    for _ in range(400):
        defective = rng.random(80) < 0.3
        counts = rng.binomial(4, np.where(defective, 0.85, 0.1))
        result = fleiss_kappa(np.column_stack([counts, 4 - counts]))
        estimates.append(result.estimate)
        errors.append(result.se)
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.1)


def test_perfect_agreement_is_one():
    assert cohen_kappa([[30, 0], [0, 12]]).estimate == pytest.approx(1.0)
    assert fleiss_kappa([[3, 0], [0, 3], [3, 0]]).estimate == pytest.approx(1.0)


def test_one_category_only_says_nothing_about_agreement():
    assert cohen_kappa([[30, 0], [0, 0]]).reason == "both raters used a single category"
    assert fleiss_kappa([[3, 0], [3, 0]]).reason == "all raters used a single category"
    assert cohen_kappa([[0, 0], [0, 0]]).estimate is None


@pytest.mark.parametrize("table", [[[1, 2, 3], [4, 5, 6]], [[1]], [[1, -1], [0, 2]], [[0.5, 1], [1, 1]], [1, 2]])
def test_a_table_that_is_none_is_refused(table):
    with pytest.raises(InputError):
        cohen_kappa(table)


def test_unknown_weights_are_refused():
    with pytest.raises(InputError, match="quadratic"):
        cohen_kappa([[1, 0], [0, 1]], "cubic")


@pytest.mark.parametrize("counts", [[[1, 0], [0, 1]], [[3, 0], [1, 1]], [[-1, 4], [3, 0]]])
def test_ratings_by_uneven_panels_are_refused(counts):
    with pytest.raises(InputError):
        fleiss_kappa(counts)
