"""Schedule, loss and mining: published numbers, the violation test, and the chosen photos."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from training_support import TINY

from placerec.errors import PlacerecError, UsageError
from placerec.evaluation.dataset import Photos
from placerec.evaluation.geometry import on_the_map
from placerec.schedule import PRESETS, Schedule
from placerec.training.datasets import TrainingSet
from placerec.training.mining import Miner, portions, violates
from placerec.training.model import check_amounts
from placerec.training.network import triplet_loss
from placerec.training.validation import check_descriptors, check_loss

MARGIN = math.sqrt(0.1)


def photos(side, east, headings=None):
    east = np.asarray(east, float)
    headings = None if headings is None else np.asarray(headings, float)
    paths = tuple(Path(f"{side}/{n}.jpg") for n in range(len(east)))
    names = tuple(path.name for path in paths)
    return Photos(names, paths, on_the_map(east, np.zeros(len(east))), headings)


def described(vectors):
    """Return a function that returns descriptors by path, as ``Miner.mine`` needs it."""
    return lambda paths: np.stack([vectors[path] for path in paths]).astype(np.float32)


def direction(degrees):
    return np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


def test_the_preset_is_the_published_schedule():
    schedule = PRESETS["mapillary"]
    assert (schedule.clusters, schedule.negatives, schedule.batch) == (16, 5, 4)
    assert (schedule.learning_rate, schedule.momentum, schedule.weight_decay) == (1e-4, 0.9, 1e-3)
    assert (schedule.positive_metres, schedule.negative_metres) == (10.0, 25.0)
    assert (schedule.portion, schedule.pool, schedule.epochs) == (1000, 1000, 30)
    assert (schedule.patience, schedule.seed, schedule.best_by) == (10, 123, 5)
    assert schedule.margin**2 == pytest.approx(0.1)
    assert [schedule.learning_rate_at(e) for e in (0, 4, 5, 10)] == [1e-4, 1e-4, 5e-5, 2.5e-5]
    assert (PRESETS["pittsburgh"].clusters, PRESETS["pittsburgh"].negatives) == (64, 10)


def test_invalid_numbers_are_refused_by_name():
    for wrong in ({"clusters": 1}, {"mining": "both"}, {"best_by": 2}, {"learning_rate": 0.0},
                  {"positive_metres": 30.0}):  # fmt: skip
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Schedule(**wrong)
    with pytest.raises(UsageError, match="learning"):
        TINY.replace(learning=1)
    with pytest.raises(UsageError, match=r"pca_dim 10: .* at most 9"):
        check_amounts(TINY.replace(pca_dim=10), photos=10)


def test_the_loss_is_the_sum_over_triplets_of_the_euclidean_hinge():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, 4, 8))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    expected = 0.0
    for query, positive, *negatives in rows:
        for negative in negatives:
            gap = np.linalg.norm(query - positive) - np.linalg.norm(query - negative)
            expected += max(0.0, gap + MARGIN)
    loss = triplet_loss(torch.from_numpy(rows.reshape(8, 8)), 2, MARGIN)
    assert expected > 0
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_positives_are_near_look_the_same_way_and_are_another_photo():
    east = [0, 8, 8, 8, 12, 30]
    both_sides = photos("side", east, [0, 39, 320, 41, 0, 0])
    miner = Miner(TrainingSet("set", both_sides, both_sides), TINY)
    assert miner.positives[0].tolist() == [1, 2]  # turned by 39 and 40 degrees, not by 41
    assert miner.near[0].tolist() == [0, 1, 2, 3, 4]  # at 12 m: neither positive nor negative
    assert miner.usable.tolist() == [0, 1, 2, 3, 4]  # no photo is near photo 5


def test_a_set_without_any_positive_is_refused():
    far_apart = photos("side", [0, 100, 200])
    with pytest.raises(UsageError, match="no query has a positive within 10 m"):
        Miner(TrainingSet("set", far_apart, far_apart), TINY)


def test_published_mining_mixes_signs_and_ours_does_not():
    similarity = np.array([0.95, 0.7, 0.5, 0.1, -0.5])
    ours = violates(0.8, similarity, MARGIN, "ours")
    published = violates(0.8, similarity, MARGIN, "published")
    assert ours.tolist() == [True, True, True, False, False]  # above 0.8 - 0.316
    assert published.tolist() == [True] * 5  # even a negative of opposite direction
    # The published test omits a negative that is far more similar than the positive.
    assert violates(0.2, np.array([0.9]), MARGIN, "published").tolist() == [False]
    assert violates(0.2, np.array([0.9]), MARGIN, "ours").tolist() == [True]


@pytest.mark.parametrize(("mining", "used"), [("ours", [1]), ("published", [0])])
def test_ours_uses_the_hard_query_and_the_published_test_the_easy_one(mining, used):
    queries, database = photos("q", [0, 1000]), photos("d", [4, 1004, 5000, 5100, 5200])
    vectors = {queries.paths[0]: direction(0), database.paths[0]: direction(5)}  # easy
    vectors |= {queries.paths[1]: direction(90), database.paths[1]: direction(140)}  # hard
    vectors |= {path: direction(100 + n) for n, path in enumerate(database.paths[2:])}
    data = TrainingSet("set", queries, database)
    schedule = TINY.replace(mining=mining, margin=MARGIN, negatives=2)
    rows = Miner(data, schedule).mine(
        np.array([0, 1]), np.random.default_rng(0), described(vectors)
    )
    assert rows[:, 0].tolist() == used


def test_a_query_takes_its_closest_positive_and_its_most_similar_negatives_in_order():
    queries = photos("q", [0])
    database = photos("d", [4, 6, 20, 500, 600, 700, 800])
    angles = [40, 20, 1, 60, 25, 45, 90]  # number 2 is the most similar, but 20 m away
    vectors = {path: direction(a) for path, a in zip(database.paths, angles, strict=True)}
    data = TrainingSet("set", queries, database)
    schedule = TINY.replace(margin=1.0, negatives=2)
    vectors[queries.paths[0]] = direction(0)
    rows = Miner(data, schedule).mine(np.array([0]), np.random.default_rng(0), described(vectors))
    assert rows.tolist() == [[0, 1, 4, 5]]


def test_the_published_pool_holds_no_photo_near_any_query_of_the_portion():
    queries, database = photos("q", [0, 1000]), photos("d", [4, 20, 1004, *range(2000, 3000, 100)])
    data = TrainingSet("set", queries, database)
    schedule = TINY.replace(avoid="portion", pool=13)
    miner, rng = Miner(data, schedule), np.random.default_rng(0)
    both = miner.draw_pool(np.array([0, 1]), rng)
    first = miner.draw_pool(np.array([0]), rng)
    assert both.tolist() == list(range(3, 13))
    assert first.tolist() == list(range(2, 13))
    with pytest.raises(UsageError, match="preset photos"):
        Miner(data, schedule.replace(negatives=10)).draw_pool(np.array([0, 1]), rng)


def test_too_few_negatives_are_refused_before_any_photo_is_described():
    """The check uses the seed of the first epoch, and the remedy fits the cause."""
    queries, database = photos("q", [0, 1000]), photos("d", [4, 20, 1004, *range(2000, 2500, 100)])
    data = TrainingSet("set", queries, database)

    def check(**changes):
        schedule = TINY.replace(**{"portion": 2, "pool": 8, **changes})
        Miner(data, schedule).check_pools()

    check(avoid="query", negatives=5)
    check(avoid="portion", negatives=4)
    with pytest.raises(UsageError, match=r"only 5 .* more than 5; .*preset photos.*portion"):
        check(avoid="portion", negatives=5)
    with pytest.raises(UsageError, match=r"only 8 .* in a pool.* larger pool, or fewer neg"):
        check(avoid="query", negatives=8)
    with pytest.raises(UsageError, match=r"more than 7 .* more than 25 m.*fewer negatives"):
        check(avoid="query", negatives=7)


def test_queries_are_drawn_by_weight_or_each_once_without_weights():
    queries = photos("q", range(0, 4000, 1000))
    database = photos("d", range(4, 4004, 1000))
    rng = np.random.default_rng(0)
    weighted = TrainingSet("set", queries, database, np.array([1.0, 1.0, 1.0, 97.0]))
    drawn = Miner(weighted, TINY.replace(queries=200)).draw_queries(rng)
    assert np.count_nonzero(drawn == 3) > 180
    unweighted = TrainingSet("set", queries, database)
    once = Miner(unweighted, TINY.replace(queries=0)).draw_queries(rng)
    assert sorted(once.tolist()) == [0, 1, 2, 3]


def test_portions_have_about_the_requested_size_and_contain_every_query():
    parts = portions(np.arange(2500), 1000)
    assert [len(part) for part in parts] == [834, 833, 833]
    assert np.array_equal(np.concatenate(parts), np.arange(2500))


def test_the_error_for_a_collapse_says_what_to_check():
    check_loss([0.2] * 200, MARGIN)
    check_loss([MARGIN] * 99, MARGIN)
    with pytest.raises(PlacerecError, match=r"nan.*learning_rate"):
        check_loss([0.3, math.nan], MARGIN)
    with pytest.raises(PlacerecError, match=r"is the margin.*positions"):
        check_loss([MARGIN] * 100, MARGIN)
    check_descriptors(np.stack([direction(0), direction(2)]))
    with pytest.raises(PlacerecError, match="all equal"):
        check_descriptors(np.stack([direction(3)] * 5))
    with pytest.raises(PlacerecError, match="not finite"):
        check_descriptors(np.full((2, 2), np.nan))
