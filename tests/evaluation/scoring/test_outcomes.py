"""Outcomes and scores: every query is present, counts by hand agree, and errors are reported."""

import json
from dataclasses import replace

import numpy as np
import pytest
from score_support import data_set, photos, predictions, town

from placerec.errors import UsageError
from placerec.evaluation.predictions import Prediction
from placerec.evaluation.scoring.metrics import RankingResult
from placerec.evaluation.scoring.outcomes import outcomes
from placerec.evaluation.scoring.scores import scores


def scored(data, predicted):
    return scores(data, outcomes(data, predicted))


def test_an_outcome_has_the_ranks_of_the_positives_before_and_after_re_ranking():
    data = data_set(town([{2, 3}]))
    predicted = predictions(data, [0, 2, 1, 3], reranked=[[3, 0]])
    (outcome,) = outcomes(data, predicted)
    assert (outcome.search, outcome.query, outcome.positives, outcome.error) == (
        "town",
        "q0.jpg",
        2,
        "",
    )
    assert outcome.retrieved == RankingResult(4, (2, 4), 0.9)
    assert outcome.reranked == RankingResult(2, (1,), 0.9)
    assert outcome.final is outcome.reranked


def test_a_query_without_a_prediction_or_with_an_error_is_counted_as_not_found():
    data = data_set(town([{0}, {0}, {0}, {0}]))
    predicted = predictions(data, [0], [0], None, [])
    predicted["town", "q3.jpg"] = replace(predicted["town", "q3.jpg"], error="not a photo")
    result = outcomes(data, predicted)
    assert [outcome.error for outcome in result] == ["", "", "no prediction", "not a photo"]
    group = scores(data, result).pooled
    assert (group.queries, group.with_positive, group.unanswered) == (4, 4, 2)
    assert group.retrieved["recall@1"].value == 0.5
    assert group.reranked is None


def test_a_failed_query_of_a_re_ranking_run_is_missed_by_both_rankings():
    data = data_set(town([{0}, {0}]))
    predicted = predictions(data, [1, 0], None, reranked=[[0, 1], None])
    group = scored(data, predicted).pooled
    assert group.retrieved["recall@1"].value == 0.0
    assert group.reranked["recall@1"].value == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: replace(p, retrieved=(("x.jpg", 1.0),)), r"x\.jpg: .*q0\.jpg.*town"),
        (lambda p: replace(p, retrieved=p.retrieved * 2), r"d0\.jpg: is twice .*q0\.jpg"),
        (lambda p: replace(p, reranked=None), "q0.jpg: has no re-ranked list"),
    ],
)
def test_an_invalid_prediction_is_a_named_error(change, message):
    data = data_set(town([{0}, {0}]))
    predicted = predictions(data, [0], [0], reranked=[[0], [0]])
    predicted["town", "q0.jpg"] = change(predicted["town", "q0.jpg"])
    with pytest.raises(UsageError, match=message):
        outcomes(data, predicted)


def test_a_prediction_for_a_query_of_another_set_is_a_named_error():
    data = data_set(town([{0}]))
    predicted = {("town", "q7.jpg"): Prediction("town", "q7.jpg", ())}
    with pytest.raises(UsageError, match=r"q7\.jpg \(town\): .*toy"):
        outcomes(data, predicted)


def test_a_distractor_is_never_correct_and_has_no_distance():
    shown = photos((f"d{n}.jpg" for n in range(3)), positions=np.zeros((3, 3)))
    queries = photos(["q0.jpg"], positions=np.zeros((1, 3)))
    data = data_set(town([{1, 2}], queries=queries, shown=shown, distractors=1))
    (outcome,) = outcomes(data, predictions(data, [2, 1]))
    assert (outcome.positives, outcome.retrieved.ranks, outcome.retrieved.metres) == (1, (2,), None)
    (outcome,) = outcomes(data, predictions(data, [1, 2]))
    assert (outcome.retrieved.ranks, outcome.retrieved.metres) == ((1,), 0.0)


def test_metres_and_degrees_come_from_positions_and_headings():
    queries = photos(
        ["q0.jpg", "q1.jpg"], positions=np.array([[0.0, 0, 0], [np.nan] * 3]),
        headings=np.array([350.0, np.nan]),
    )  # fmt: skip
    shown = photos(["d0.jpg"], positions=np.array([[3.0, 4, 0]]), headings=np.array([20.0]))
    data = data_set(town([{0}, {0}], queries=queries, shown=shown))
    first, second = outcomes(data, predictions(data, [0], [0]))
    assert (first.retrieved.metres, first.retrieved.degrees) == (5.0, 30.0)
    assert (second.retrieved.metres, second.retrieved.degrees) == (None, None)


def turned(degrees, x=0.0):
    angle, pose = np.radians(degrees), np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[0, 3] = x
    return pose


def test_pose_thresholds_count_queries_with_a_pose_and_miss_answers_without_one():
    unknown = np.full((4, 4), np.nan)
    asked, there = [turned(0), turned(0), unknown], [turned(1.5, 0.2), unknown]
    queries = photos(["q0.jpg", "q1.jpg", "q2.jpg"], poses=np.array(asked))
    shown = photos(["d0.jpg", "d1.jpg"], poses=np.array(there))
    data = data_set(town([set()] * 3, queries=queries, shown=shown), poses=True)
    result = outcomes(data, predictions(data, [0], [1, 0], [0]))
    assert [outcome.posed for outcome in result] == [True, True, False]
    assert result[0].retrieved.metres == pytest.approx(0.2)
    assert result[0].retrieved.degrees == pytest.approx(1.5)
    assert result[1].retrieved.metres is None
    group = scores(data, result).pooled
    assert group.retrieved["within_0.25m_2deg"].value == 0.5
    assert group.retrieved["recall@1"].value is None


def test_poses_that_the_protocol_uses_change_the_hash():
    def known_by(queries, shown, judged=True):
        queries, shown = (
            photos([f"{side}0.jpg"], poses=np.array([turned(degrees)]))
            for side, degrees in (("q", queries), ("d", shown))
        )
        return data_set(town([set()], queries=queries, shown=shown), poses=judged).hash

    assert known_by(10, 20) == known_by(10, 20)
    assert len({known_by(10, 20), known_by(11, 20), known_by(10, 21)}) == 3
    assert known_by(10, 20, judged=False) == known_by(11, 20, judged=False)


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 90.0, 179.9, 180.0])
def test_the_angle_of_two_poses_is_exact_for_small_and_large_turns(degrees):
    queries = photos(["q0.jpg"], poses=np.array([turned(10)]))
    shown = photos(["d0.jpg"], poses=np.array([turned(10 + degrees)]))
    data = data_set(town([set()], queries=queries, shown=shown), poses=True)
    (outcome,) = outcomes(data, predictions(data, [0]))
    assert outcome.retrieved.degrees == pytest.approx(degrees, abs=1e-5, rel=1e-4)


def test_without_the_pose_protocol_there_are_no_pose_measures():
    queries = photos(["q0.jpg"], poses=np.array([turned(0)]))
    data = data_set(town([{0}], queries=queries))
    group = scored(data, predictions(data, [0])).pooled
    assert not any(name.startswith("within") for name in group.retrieved)


def test_cities_and_conditions_are_scored_separately_and_pooled_over_queries():
    city = town([{0}, {0}, {0}], queries=photos(
        ["q0.jpg", "q1.jpg", "q2.jpg"], conditions=("day", "night", "day")))  # fmt: skip
    other = town([{0}], name="village")
    data = data_set(city, other)
    result = scored(data, predictions(data, [0], [1], [0], [1]))
    recall = {name: group.retrieved["recall@1"].value for name, group in result.searches.items()}
    assert recall == {"town": 2 / 3, "village": 0.0}
    recall = {name: group.retrieved["recall@1"].value for name, group in result.conditions.items()}
    assert recall == {"day": 1.0, "night": 0.0, "": 0.0}
    assert result.pooled.retrieved["recall@1"].value == 0.5
    single = scored(data_set(town([{0}])), {})
    assert (single.searches, single.conditions) == ({}, {})


def test_queries_of_one_place_are_resampled_together_but_not_across_cities():
    queries = photos(["q0.jpg", "q1.jpg", "q2.jpg"], place_labels=("a", "a", ""))
    data = data_set(town([{0}] * 3, queries=queries), town([{0}] * 3, name="b", queries=queries))
    assert scored(data, {}).pooled.places == 4


def test_a_measure_beyond_the_end_of_all_lists_has_no_value():
    data = data_set(town([{0}, {7}], database=30))
    result = scored(data, predictions(data, [0, 1, 2, 3, 4], [0])).pooled.retrieved
    assert result["recall@5"].value == 0.5
    assert result["recall@10"].value is None
    assert result["mAP@10"].doubt == "the lists end at 5"
    assert result["pr_auc"].value is not None


def test_a_list_of_the_whole_database_or_of_every_panorama_has_all_measures():
    for database, panorama in ((4, 1), (48, 12)):
        data = data_set(town([{0}], database=database), photos_a_panorama=panorama)
        result = scored(data, predictions(data, [0, 1, 2, 3])).pooled.retrieved
        assert result["recall@100"].value == 1.0


def test_a_hidden_ground_truth_gives_counts_and_no_measures():
    data = data_set(town([set(), set()]), hidden=True)
    group = scored(data, predictions(data, [0], [1])).pooled
    assert (group.queries, group.with_positive, group.without_positive) == (2, None, None)
    assert group.unanswered == 0
    assert {estimate.value for estimate in group.retrieved.values()} == {None}
    assert {estimate.doubt for estimate in group.retrieved.values()} == {
        "the owner keeps the truth"
    }
    open_data = data_set(town([set(), set()]))
    result = scored(open_data, predictions(open_data, [0], [1])).pooled
    assert result.without_positive == 2
    assert result.retrieved["recall_of_all@1"].value == 0.0


def test_scores_are_plain_json_with_values_and_intervals():
    data = data_set(town([{n % 3} for n in range(20)]))
    predicted = predictions(data, *[[0, 1, 2]] * 20, scores=[n / 20 for n in range(20)])
    predicted = {
        key: replace(prediction, milliseconds={"encode": 3.0, "search": 1.0})
        for key, prediction in predicted.items()
    }
    result = json.loads(json.dumps(scored(data, predicted).as_json(), allow_nan=False))
    assert (result["protocol"], result["hash"]) == ("toy", data.hash)
    recall = result["pooled"]["retrieved"]["recall@1"]
    assert recall["value"] == 0.35
    assert 0 < recall["low"] < 0.35 < recall["high"] < 1
    assert result["pooled"]["milliseconds"] == {"encode": 3.0, "search": 1.0}
    assert result["pooled"]["reranked"] is None
    curve = np.array(result["curves"]["retrieved"])
    assert curve.shape == (20, 3)
    assert curve[-1].tolist() == [0.0, 0.35, 0.35]


def test_a_long_curve_is_reduced_to_some_of_its_points_with_both_ends():
    data = data_set(town([{0}] * 500))
    predicted = predictions(
        data, *[[n % 2] for n in range(500)], scores=list(np.linspace(1, 2, 500))
    )
    result = scored(data, predicted)
    points = result.as_json()["curves"]["retrieved"]
    assert len(points) == 200
    assert points[0][0] == 2.0
    assert points[-1][2] == pytest.approx(0.5)
