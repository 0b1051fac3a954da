import numpy as np
import pytest

from traceai.errors import InputError
from traceai.stats import p_chart, wilson


def test_limits_follow_the_subgroup_sizes():
    chart = p_chart([4, 10, 2], [100, 400, 50])
    average = 16 / 550
    half = 3 * np.sqrt(average * (1 - average) / np.array([100, 400, 50]))
    assert chart.centre == wilson(16, 550)
    np.testing.assert_allclose(chart.upper, average + half)
    np.testing.assert_allclose(chart.lower, np.maximum(0, average - half))
    assert not chart.outside.any()


def test_a_subgroup_far_from_the_rest_is_outside():
    chart = p_chart([2] * 20 + [15], [100] * 21)
    assert chart.outside.tolist() == [False] * 20 + [True]


def test_narrower_limits_catch_more():
    assert p_chart([2] * 20 + [8], [100] * 21, sigmas=2).outside[-1]
    assert not p_chart([2] * 20 + [8], [100] * 21, sigmas=5).outside[-1]


@pytest.mark.parametrize(
    ("defects", "sizes", "sigmas"),
    [([], [], 3), ([1], [1, 2], 3), ([1], [0], 3), ([3], [2], 3), ([-1], [5], 3), ([1], [5], 0)],
)
def test_impossible_subgroups_are_refused(defects, sizes, sigmas):
    with pytest.raises(InputError):
        p_chart(defects, sizes, sigmas=sigmas)
