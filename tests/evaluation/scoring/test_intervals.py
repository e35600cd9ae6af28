"""Intervals equal a plain loop, cover the truth on simulated places, and state their doubts."""

import numpy as np

from placerec.evaluation.scoring.intervals import MIN_PLACES, bootstrap, estimates, groups


def mean_of(values):
    return lambda weights: (weights @ values / weights.sum(axis=1))[:, None]


def interval(places, values, seed=0):
    rows = np.ones(len(values), bool)
    return estimates(places, mean_of(values), [rows], seed)[0]


def test_places_are_numbered_in_order_of_appearance():
    assert groups(["b", "a", "b", ("c", 1)]).tolist() == [0, 1, 0, 2]


def test_a_resample_equals_drawing_places_in_a_plain_loop():
    places = np.array([0, 0, 1, 2, 2, 2, 3])
    values = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    resampled = bootstrap(places, mean_of(values), resamples=50, seed=7)
    random = np.random.default_rng(7)
    for row, numbers in zip(resampled, random.integers(4, size=(50, 4)), strict=True):
        queries = [query for place in numbers for query in np.flatnonzero(places == place)]
        assert np.isclose(row[0], values[queries].mean())


def test_blocks_of_resamples_do_not_change_them(monkeypatch):
    places, values = np.arange(30), np.arange(30) % 3.0
    expected = bootstrap(places, mean_of(values), resamples=20)
    monkeypatch.setattr("placerec.evaluation.scoring.intervals.BLOCK", 90)
    assert np.array_equal(bootstrap(places, mean_of(values), resamples=20), expected)


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not():
    values = np.random.default_rng(1).random(40)
    assert interval(np.arange(40), values) == interval(np.arange(40), values)
    assert interval(np.arange(40), values) != interval(np.arange(40), values, seed=1)


def test_intervals_of_places_cover_the_truth_and_intervals_of_single_queries_do_not():
    """40 places of 6 queries that succeed or fail together, 7 in 10."""
    random = np.random.default_rng(3)
    places = np.repeat(np.arange(40), 6)
    covered = {"places": 0, "queries": 0}
    for seed in range(150):
        values = (random.random(40) < 0.7).astype(float)[places]
        for name, numbers in (("places", places), ("queries", np.arange(240))):
            resampled = bootstrap(numbers, mean_of(values), resamples=400, seed=seed)
            low, high = np.percentile(resampled, (2.5, 97.5))
            covered[name] += low <= 0.7 <= high
    assert covered["places"] / 150 > 0.88
    assert covered["queries"] / 150 < 0.7


def test_the_interval_of_a_recall_is_about_two_standard_errors_wide_each_way():
    values = np.repeat([1.0, 0.0], [70, 30])
    estimate = interval(np.arange(100), values)
    assert estimate.value == 0.7
    assert abs(estimate.low - 0.61) < 0.015
    assert abs(estimate.high - 0.79) < 0.015
    assert estimate.doubt == ""


def test_few_places_are_a_doubt_for_any_number_of_queries():
    places = np.repeat(np.arange(MIN_PLACES - 1), 50)
    estimate = interval(places, np.random.default_rng(0).random(len(places)))
    assert estimate.doubt == "rests on 9 independent places only"


def test_an_interval_without_width_is_a_doubt():
    estimate = interval(np.arange(30), np.ones(30))
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)
    assert "no width" in estimate.doubt


def test_an_undefined_value_is_none_and_has_a_doubt():
    (estimate,) = estimates(
        np.arange(3), lambda weights: np.full((len(weights), 1), np.nan), [np.zeros(3, bool)]
    )
    assert estimate.value is estimate.low is estimate.high is None
    assert estimate.doubt
    (estimate,) = estimates(np.array([], int), mean_of(np.array([])), [np.array([], bool)])
    assert (estimate.value, estimate.doubt) == (None, "no queries")


def test_resamples_without_a_counted_query_are_omitted():
    """One of two places counts: resampled twice the other leaves nothing to divide by."""
    values, counted = np.array([1.0, 0.0]), np.array([1.0, 0.0])

    def ratio(weights):
        with np.errstate(invalid="ignore"):
            return (weights @ values / (weights @ counted))[:, None]

    (estimate,) = estimates(np.arange(2), ratio, [counted > 0])
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)
