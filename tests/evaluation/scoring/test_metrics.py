"""Measures equal counts by hand, and equal slow, plain versions on random lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placerec.evaluation.scoring.metrics import (
    CUTS,
    Measures,
    RankingResult,
    average_precision,
    recalls,
)

nan = np.nan


def measured(results, positives, posed=None, weights=None):
    posed = np.zeros(len(results), bool) if posed is None else np.array(posed)
    measures = Measures(results, np.array(positives), posed)
    values = measures.weighted(np.ones((1, len(results))) if weights is None else weights)
    return dict(zip(measures.names, values[0], strict=True))


def curve_of(results, positives):
    return Measures(results, positives, np.zeros(len(results), bool)).curve()


def test_the_published_recalls_stay_as_they_are():
    ranked = {"a": ["x", "y"], "b": ["y", "z", "x"], "c": ["x"]}
    positives = {"a": frozenset("x"), "b": frozenset("x"), "c": frozenset()}
    assert recalls(ranked, positives) == {"recall@1": 0.5, "recall@5": 1.0, "recall@10": 1.0}


def test_every_measure_of_three_queries_by_hand():
    results = [
        RankingResult(6, (1, 3), 0.9),
        RankingResult(6, (6,), 0.8),
        RankingResult(6, (), 0.7),
    ]
    values = measured(results, [2, 4, 0])
    assert values["recall@1"] == 1 / 2  # the third query has no positive
    assert values["recall@5"] == 1 / 2
    assert values["recall@10"] == 1.0
    assert values["recall_of_all@1"] == 1 / 3
    assert values["recall_of_all@10"] == 2 / 3
    assert values["precision@5"] == pytest.approx((2 / 5 + 0) / 2)
    assert values["precision@10"] == pytest.approx((2 / 10 + 1 / 10) / 2)
    assert values["positives_found@1"] == pytest.approx((1 / 2 + 0) / 2)
    assert values["positives_found@100"] == pytest.approx((1 + 1 / 4) / 2)
    assert values["mAP@1"] == pytest.approx((1 + 0) / 2)
    assert values["mAP@5"] == pytest.approx(((1 + 2 / 3) / 2 + 0) / 2)
    assert values["mAP@10"] == pytest.approx(((1 + 2 / 3) / 2 + (1 / 6) / 4) / 2)


def test_a_list_of_positives_only_has_average_precision_one_for_any_number_of_them():
    assert average_precision(range(1, 6), 142, 5) == 1.0
    assert average_precision((1, 2), 2, 100) == 1.0


def test_pose_thresholds_need_metres_and_degrees_and_count_only_posed_queries():
    results = [
        RankingResult(1, (), 0.9, 0.25, 2.0),
        RankingResult(1, (), 0.9, 0.4, 2.1),
        RankingResult(1, (), 0.9, 0.1, 11.0),
        RankingResult(),
        RankingResult(1, (), 0.9, 0.0, 0.0),
    ]
    values = measured(results, [0] * 5, [True, True, True, True, False])
    assert values["within_0.25m_2deg"] == 1 / 4
    assert values["within_0.5m_5deg"] == 2 / 4
    assert values["within_5m_10deg"] == 2 / 4
    assert np.isnan(values["recall@1"])
    assert "within_5m_10deg" not in measured(results, [0] * 5)


def test_a_query_without_a_positive_can_only_be_a_false_answer():
    results = [RankingResult(1, (), 0.9), RankingResult(1, (1,), 0.8)]
    curve = curve_of(results, np.array([0, 1]))
    assert curve.score.tolist() == [0.9, 0.8]
    assert curve.precision.tolist() == [0.0, 0.5]
    assert curve.recall.tolist() == [0.0, 1.0]
    values = measured(results, [0, 1])
    assert values["pr_auc"] == 0.5
    assert values["recall_at_full_precision"] == 0.0


def test_equal_scores_are_accepted_together():
    results = [
        RankingResult(1, (1,), 0.9),
        RankingResult(1, (1,), 0.8),
        RankingResult(1, (), 0.8),
        RankingResult(1, (1,), 0.1),
    ]
    curve = curve_of(results, np.array([1, 1, 1, 1]))
    assert curve.score.tolist() == [0.9, 0.8, 0.1]
    assert curve.precision.tolist() == [1.0, 2 / 3, 3 / 4]
    assert curve.recall.tolist() == [0.25, 0.5, 0.75]
    values = measured(results, [1] * 4)
    assert values["recall_at_full_precision"] == 0.25
    assert values["pr_auc"] == pytest.approx(0.25 + 0.25 * 2 / 3 + 0.25 * 3 / 4)


def test_an_unanswered_query_lowers_the_recall_of_the_curve_only():
    curve = curve_of([RankingResult(1, (1,), 0.9), RankingResult()], np.array([1, 1]))
    assert (curve.precision.tolist(), curve.recall.tolist()) == ([1.0], [0.5])


def test_answers_without_score_have_no_curve_but_all_other_measures():
    values = measured([RankingResult(1, (1,)), RankingResult(1, (1,), 0.5)], [1, 1])
    assert np.isnan(values["pr_auc"])
    assert values["recall@1"] == 1.0
    assert curve_of([RankingResult(1, (1,))], np.array([1])) is None


def test_nothing_answered_is_zero_and_nothing_answerable_is_undefined():
    values = measured([RankingResult(), RankingResult()], [1, 2])
    assert set(values.values()) == {0.0}
    values = measured([RankingResult(1, (), 0.3)], [0])
    assert values.pop("recall_of_all@1") == 0.0
    assert np.isnan(values["recall@1"])
    assert np.isnan(values["pr_auc"])


def test_a_weight_of_two_is_the_query_twice():
    results = [
        RankingResult(4, (1, 4), 0.9),
        RankingResult(4, (2,), 0.8),
        RankingResult(4, (), 0.85),
        RankingResult(4, (1,), 0.1),
    ]
    positives, times = [3, 1, 0, 2], [2, 0, 3, 1]
    rows = np.repeat(np.arange(4), times)
    repeated = measured([results[n] for n in rows], [positives[n] for n in rows])
    weighted = measured(results, positives, weights=np.array([times]))
    assert weighted == pytest.approx(repeated, nan_ok=True)


@st.composite
def answered(draw):
    """A ranking of 12 photos cut at some length, its positives, and a coarse score."""
    order = draw(st.permutations(range(12)))[: draw(st.integers(0, 12))]
    positives = draw(st.frozensets(st.integers(0, 11), max_size=5))
    return order, positives, draw(st.integers(0, 4)) / 4


@settings(derandomize=True, max_examples=60)
@given(st.lists(answered(), min_size=1, max_size=12))
def test_all_measures_equal_their_plain_versions(queries):
    results = [
        RankingResult(
            len(order),
            tuple(rank for rank, n in enumerate(order, 1) if n in positives),
            score if order else None,
        )
        for order, positives, score in queries
    ]
    values = measured(results, [len(positives) for _, positives, _ in queries])
    for n in CUTS:
        assert values[f"recall@{n}"] == pytest.approx(plain_recall(queries, n), nan_ok=True)
        assert values[f"mAP@{n}"] == pytest.approx(plain_map(queries, n), nan_ok=True)
    area, full = plain_curve(queries)
    assert values["pr_auc"] == pytest.approx(area, nan_ok=True)
    assert values["recall_at_full_precision"] == pytest.approx(full, nan_ok=True)


def plain_recall(queries, n):
    asked = [(order, positives) for order, positives, _ in queries if positives]
    right = [any(photo in positives for photo in order[:n]) for order, positives in asked]
    return sum(right) / len(asked) if asked else nan


def plain_map(queries, n):
    precisions = []
    for order, positives, _ in queries:
        if positives:
            total = 0.0
            for place in range(min(n, len(order))):
                if order[place] in positives:
                    first = order[: place + 1]
                    total += sum(photo in positives for photo in first) / len(first)
            precisions.append(total / min(len(positives), n))
    return sum(precisions) / len(precisions) if precisions else nan


def plain_curve(queries):
    total = sum(bool(positives) for _, positives, _ in queries)
    if not total:
        return nan, nan
    area, full, before = 0.0, 0.0, 0.0
    for threshold in (1.0, 0.75, 0.5, 0.25, 0.0):
        accepted = [(order[0] in positives) for order, positives, score in queries
                    if order and score >= threshold]  # fmt: skip
        if accepted:
            precision, recall = sum(accepted) / len(accepted), sum(accepted) / total
            area += (recall - before) * precision
            full = max(full, recall) if all(accepted) else full
            before = recall
    return area, full
