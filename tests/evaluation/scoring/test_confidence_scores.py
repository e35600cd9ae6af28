"""Measures of confidence by hand: calibration, right against wrong, coverage, foreign photos."""

import numpy as np
import pytest

from placerec.evaluation.scoring.confidence import (
    AT_COVERAGE,
    OpenSetMeasures,
    OwnMeasures,
    auc,
    bins,
    calibration_error,
)

# Two answers of about .95, one of them wrong; two of .55, both right; the last has no confidence.
CONFIDENCE = np.array([0.95, 0.97, 0.55, 0.55, np.nan])
RIGHT = np.array([True, False, True, True, True])
IN_MAP = np.array([True, True, True, False, False])


def own(weights):
    measures = OwnMeasures(CONFIDENCE, RIGHT, IN_MAP)
    return dict(zip(measures.names, measures.weighted(np.array([weights], float))[0], strict=True))


def test_bins_have_share_mean_confidence_and_precision():
    rows = bins(np.array([0.0, 0.1, 0.19, 1.0]), np.array([False, True, False, True]))
    assert np.allclose(rows, [(0, 0.25, 0, 0), (0.1, 0.5, 0.145, 0.5), (0.9, 0.25, 1, 1)])


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    assert calibration_error(CONFIDENCE[:4], RIGHT[:4]) == pytest.approx((0.46 + 0.45) / 2)
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0.0


def test_the_auc_counts_pairs_and_an_equal_pair_one_half():
    assert auc(np.array([0.9, 0.5, 0.5]), np.array([True, True, False])) == 0.75
    assert np.isnan(auc(np.array([0.9, 0.5]), np.array([True, True])))


def test_own_answers_by_hand():
    values = own([1, 1, 1, 1, 1])
    assert values["calibration_error"] == pytest.approx(0.455)
    assert values["auc_right_wrong"] == 0.0
    assert values["right_refused"] == pytest.approx(1 / 3)  # the answer without one does not count
    # The first .5 of 4 answers are .97 and .95; the first .75 have half of each of the equal ones.
    at = [values[name] for name in AT_COVERAGE]
    assert at == pytest.approx([3 / 4, 2.8 / 3.8, 2.6 / 3.6, 2 / 3, 1 / 2])
    assert AT_COVERAGE[1] == "precision_at_coverage_0.95"


def test_a_weight_counts_as_so_many_answers():
    confidence, right, in_map = (
        np.repeat(column, [2, 0, 1, 3, 1]) for column in (CONFIDENCE, RIGHT, IN_MAP)
    )
    repeated = OwnMeasures(confidence, right, in_map)
    values = repeated.weighted(np.ones((1, len(right))))[0]
    assert list(own([2, 0, 1, 3, 1]).values()) == pytest.approx(values.tolist(), nan_ok=True)


def test_what_no_answer_counts_for_is_not_defined():
    assert all(np.isnan(value) for value in own([0, 0, 0, 0, 1]).values())
    nothing = OwnMeasures(CONFIDENCE[4:], RIGHT[4:], IN_MAP[4:])
    assert np.isnan(nothing.weighted(np.ones((1, 1)))).all()
    assert not nothing.counted("right_refused").any()


def test_foreign_photos_by_hand():
    foreign = np.array([False, False, True, True, True])
    right = RIGHT & ~foreign
    measures = OpenSetMeasures(CONFIDENCE, right, IN_MAP, foreign)
    values = dict(zip(measures.names, measures.weighted(np.ones((1, 5)))[0], strict=True))
    assert values["foreign_in_map"] == 0.5
    assert values["auc_right_foreign"] == 1.0  # the wrong answer with .97 takes no part
    assert values["calibration_error_with_foreign"] == pytest.approx((0.46 + 0.55) / 2)
    counted = {name: measures.counted(name).tolist() for name in measures.names}
    assert counted["foreign_in_map"] == [False, False, True, True, False]
    assert counted["auc_right_foreign"] == [True, False, True, True, False]
