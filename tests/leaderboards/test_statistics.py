"""Intervals cover what they claim, and p-values are those of the exact test, against hand-worked cases and scipy."""

import math

import numpy as np
import pytest
from codecbench.leaderboards.statistics import across_seeds, bootstrap_mean, paired_difference, sign_flip_p
from scipy import stats


def test_equal_items_have_an_interval_of_no_width():
    assert bootstrap_mean([0.7, 0.7, 0.7]) == (0.7, 0.7, 0.7)
    assert paired_difference([0.9, 0.5, 0.8], [0.9, 0.5, 0.8]) == (0.0, 0.0, 0.0, 1.0)


def test_an_interval_that_cannot_be_known_is_nan():
    assert bootstrap_mean([0.7])[0] == 0.7
    assert np.isnan(bootstrap_mean([0.7])[1:]).all()
    assert np.isnan(bootstrap_mean([])).all()
    assert np.isnan(bootstrap_mean([math.nan])).all()
    assert np.isnan(bootstrap_mean([1.0, math.inf])[1:]).all()


def test_nan_items_are_left_out():
    assert bootstrap_mean([0.1, math.nan, 0.4, 0.5]) == bootstrap_mean([0.1, 0.4, 0.5])
    assert paired_difference([1, math.nan, 3, 4], [0, 0, math.nan, 1]) == paired_difference([1, 4], [0, 1])


def test_one_seed_gives_one_interval():
    items = np.random.default_rng(0).normal(size=40)
    assert bootstrap_mean(items, seed=3) == bootstrap_mean(items, seed=3)
    assert bootstrap_mean(items, seed=3) != bootstrap_mean(items, seed=4)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_is_that_of_scipy_where_items_are_many(confidence):
    items = np.random.default_rng(1).exponential(size=400)  # skewed: percentiles alone would be off-centre
    reference = stats.bootstrap((items,), np.mean, n_resamples=20_000, confidence_level=confidence, method="BCa", rng=2)
    mean, low, high = bootstrap_mean(items, confidence, resamples=20_000)
    width = reference.confidence_interval.high - reference.confidence_interval.low
    assert mean == items.mean()
    assert low == pytest.approx(reference.confidence_interval.low, abs=0.03 * width)
    assert high == pytest.approx(reference.confidence_interval.high, abs=0.03 * width)
    assert high - mean > mean - low


@pytest.mark.parametrize("items", [10, 40])
def test_95_percent_intervals_cover_the_mean_of_a_normal_95_times_in_100(items):
    rng = np.random.default_rng(5)
    sets = rng.normal(3.0, 2.0, size=(600, items))
    bounds = np.array([bootstrap_mean(values, resamples=800, seed=i)[1:] for i, values in enumerate(sets)])
    covered = ((bounds[:, 0] <= 3.0) & (bounds[:, 1] >= 3.0)).mean()
    assert 0.92 <= covered <= 0.975  # three standard errors of 600 draws are 0.027


def test_sign_flips_by_hand():
    # sums of +-1 +-2 +-3 reach 6 in absolute value in 2 of 8 cases; of +-1 +-1 +-1, 3 in 2 of 8, 1 in all
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == 0.25
    assert sign_flip_p(np.array([1.0, 1.0, -1.0])) == 1.0
    # +-1 +-2 +-3 +-6 reach 1 + 2 - 3 + 6 = 6 in 10 of 16 cases, 4 of them ties that rounding must not break
    assert sign_flip_p(np.array([0.1, 0.2, -0.3, 0.6])) == 10 / 16
    assert paired_difference([1, 2, 3], [0, 0, 0])[3] == 0.25


def test_the_p_value_is_that_of_scipy():
    rng = np.random.default_rng(7)
    for n in (8, 60):
        a, b = rng.normal(0.3, 1.0, size=(2, n))
        a += 0.25
        reference = stats.permutation_test(
            (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=20_000, rng=1
        )
        assert paired_difference(a, b, resamples=20_000)[3] == pytest.approx(
            reference.pvalue, abs=1e-12 if n == 8 else 0.015
        )


def test_p_values_are_uniform_where_nothing_differs():
    rng = np.random.default_rng(9)
    values = [sign_flip_p(rng.normal(size=20), resamples=500, seed=i) for i in range(400)]
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_pairing_sees_what_separate_intervals_do_not():
    rng = np.random.default_rng(2)
    easy = rng.uniform(0.4, 0.9, size=50)  # how hard an item is matters more than the codec
    worse = easy - 0.01 + 0.005 * rng.normal(size=50)
    mean, low, high, p = paired_difference(easy, worse)
    assert 0.008 < low < mean < high < 0.012 and p < 0.001
    assert bootstrap_mean(easy)[1] < bootstrap_mean(worse)[2]  # they overlap all the same


def test_pairs_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="equally long"):
        paired_difference([[1, 2]], [[1, 2]])


def test_memory_is_bounded_and_parts_do_not_matter(monkeypatch):
    items = np.random.default_rng(3).normal(size=100)
    whole = bootstrap_mean(items, resamples=1000)
    monkeypatch.setattr("codecbench.leaderboards.statistics.CHUNK", 1700)
    assert bootstrap_mean(items, resamples=1000) == whole


def test_one_seed_keeps_its_interval_and_more_add_theirs():
    assert across_seeds([0.7], [0.68], [0.73]) == (0.7, 0.68, 0.73)
    # equal seeds add nothing, and do not make the items more
    assert across_seeds([0.7, 0.7], [0.68, 0.68], [0.73, 0.73]) == pytest.approx((0.7, 0.68, 0.73))
    # by hand: means 0.6 and 0.8, deviation 0.1414, t(1) = 12.706 -> 1.2706, with 0.02 and 0.03 in squares
    mean, low, high = across_seeds([0.6, 0.8], [0.58, 0.78], [0.63, 0.83])
    assert (mean, low, high) == pytest.approx(
        (0.7, 0.7 - math.hypot(1.27062, 0.02), 0.7 + math.hypot(1.27062, 0.03)), abs=1e-4
    )
    assert np.isnan(across_seeds([0.6, 0.8], [math.nan, 0.7], [math.nan, 0.9])[1:]).all()


def test_intervals_over_seeds_and_items_cover_the_truth():
    rng = np.random.default_rng(11)
    covered = []
    for i in range(250):
        items, seeds, both = rng.normal(size=30), rng.normal(0, 0.15, size=3), rng.normal(0, 0.3, size=(3, 30))
        parts = [
            bootstrap_mean(items + seed + noise, resamples=400, seed=i) for seed, noise in zip(seeds, both, strict=True)
        ]
        _, low, high = across_seeds(*zip(*parts, strict=True))
        covered.append(low <= 0 <= high)
    assert 0.92 <= np.mean(covered) <= 0.995
