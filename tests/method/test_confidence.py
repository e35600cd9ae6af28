"""The confidence of an answer: evidence, the conformal test, radii, and its text form."""

import csv
import json
import math
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from placerec.method.confidence import (
    FALSE_ALARMS,
    NEARER,
    USUAL_ODDS,
    WEIGHTS,
    Calibration,
    evidence,
    map_odds,
    radii,
)
from placerec.method.where import fused_position
from placerec.records import Position


def by_place(*places):
    """``elsewhere`` for candidates that show these places."""
    return lambda one, two: places[one] != places[two]


def test_the_margin_is_over_the_best_candidate_of_another_place():
    values = evidence(np.array([0.2, 0.19, 0.05]), by_place(1, 1, 2))
    assert values[:, 0] == pytest.approx(np.log([0.201, 0.191, 0.051]))
    assert values[:, 1] == pytest.approx(np.log([0.201 / 0.051, 0.191 / 0.051, 0.051 / 0.201]))


def test_without_a_rival_the_margin_is_over_nothing():
    values = evidence(np.array([0.2]), by_place(1))
    assert values[0, 1] == pytest.approx(math.log(0.201 / 0.021))


def test_of_two_places_that_look_alike_neither_is_sure():
    values = evidence(np.array([0.5, 0.5, 0.02]), by_place(1, 2, 3))
    first, second, third = Calibration().confidence(values)
    assert first == second == pytest.approx(0.5, abs=1e-3)
    assert third < 0.01
    alone = evidence(np.array([0.5, 0.02]), by_place(1, 2))
    assert Calibration().confidence(alone)[0] > 0.99


@pytest.mark.parametrize("column", range(2))
def test_more_evidence_is_never_less_confidence(column):
    values = np.tile(np.array([-2.5, 0.4]), (50, 1))
    values[:, column] += np.linspace(-2, 2, 50)
    assert (np.diff(Calibration().confidence(values)) >= 0).all()


def test_the_share_of_false_alarms_holds_for_queries_like_the_foreign_ones():
    generator = np.random.default_rng(0)
    alarms = []
    for _ in range(300):
        odds = generator.normal(5, 1, 41)  # above those of the fit
        calibration = Calibration(tuple(sorted(odds[:40].tolist())))
        score = (odds[40] - WEIGHTS.offset) / WEIGHTS.score
        alarms.append(calibration.in_map(np.array([score, 0.0]), 0.1))
    assert 0.05 < np.mean(alarms) < 0.15


def test_a_share_too_small_for_the_foreign_photos_calls_nothing_in_the_map():
    calibration = Calibration(tuple(np.linspace(-5, -1, 40).tolist()))
    strong = np.array([0.0, 5.0])
    assert calibration.in_map(strong, 0.05)
    assert not calibration.in_map(strong, 0.01)
    assert not calibration.in_map(np.array([-9.0, 0.0]), 0.999)


def test_the_numbers_are_those_that_the_fit_has_written():
    file = Path(__file__).parent.parent.parent / "results" / "confidence_weights.csv"
    (row,) = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    values = [float(value) for value in row.values()]
    assert values == [*astuple(WEIGHTS), *USUAL_ODDS, *NEARER]
    assert [float(name.rpartition("_")[2]) for name in list(row)[4:-2]] == list(FALSE_ALARMS)


@pytest.mark.parametrize(("margin", "counted"), [(-1.0, 0.0), (0.5, 0.5), (1.0, 1.0), (9.0, 1.0)])
def test_the_odds_are_linear_up_to_a_margin_that_says_enough(margin, counted):
    assert map_odds(np.array([1.0, margin])) == pytest.approx(
        WEIGHTS.score + counted * WEIGHTS.distinct + WEIGHTS.offset
    )


def test_radii_hold_their_shares_and_grow_with_doubt():
    generator = np.random.default_rng(1)
    confidences = generator.uniform(0, 1, 400)
    metres = generator.exponential(10 / (0.1 + confidences))
    rows = radii(confidences, metres)
    assert len(rows) == 4
    assert rows[0][0] == 0.0
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert all(one[1:] >= two[1:] for one, two in pairwise(rows))
    calibration = Calibration(radii=rows)
    held = [
        m * NEARER[0] <= calibration.radius(c)[0] for c, m in zip(confidences, metres, strict=True)
    ]
    assert 0.66 < np.mean(held) < 0.75
    assert radii(confidences[:19], metres[:19]) == ()
    assert Calibration().radius(0.9) is None


def test_a_calibration_survives_its_text():
    calibration = Calibration((-3.0, -1.5), ((0.0, 20.0, 90.0), (0.8, 5.0, 12.0)), 300)
    assert Calibration.from_json(calibration.to_json()) == calibration
    earlier = json.loads(calibration.to_json())
    earlier["weights"]["cosine"] = 21.361  # a number that earlier versions had
    assert Calibration.from_json(json.dumps(earlier)) == calibration
    for part, value in (
        ("photos", math.inf), ("radii", [[0.0, 1.0]]), ("radii", [[0.0, 1.0, math.nan]]),
        ("foreign", [math.nan]), ("weights", {**earlier["weights"], "score": 1e308}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="not a calibration"):
            Calibration.from_json(json.dumps({**earlier, part: value}))
    for text in ("{}", "[]", "nonsense", '{"foreign": 3}', calibration.to_json()[:-1]):
        with pytest.raises(ValueError):
            Calibration.from_json(text)


def test_candidates_near_the_best_one_move_the_position_and_others_do_not():
    at = [Position(45.0, 30.0), Position(45.0002, 30.0), Position(45.5, 31.0), None]
    fused = fused_position(at, np.array([0.2, 0.2, 0.9, 0.9]))
    assert fused.latitude == pytest.approx(45.0001)
    assert fused.longitude == pytest.approx(30.0)
    assert fused_position([None, at[0]], np.array([1.0, 0.5])) is None
    assert fused_position([], np.array([])) is None
    assert fused_position(at[:1], np.array([0.0])) == Position(45.0, 30.0)


def test_positions_beside_the_date_line_are_fused_there():
    at = [Position(0.0, 179.9999), Position(0.0, -179.9999)]
    assert abs(fused_position(at, np.array([0.5, 0.5])).longitude) == pytest.approx(180.0)
