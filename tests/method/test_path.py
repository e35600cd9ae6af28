"""The path through ordered answers: what one frame says, and what the others change."""

import numpy as np
import pytest

from placerec.method import track
from placerec.method.track import look, smooth

PHOTOS = 100
NEAR_GAIN = 20.0  # within reach is a twentieth of the map


def alone(one):
    """The probability of each state of a single frame."""
    return smooth([one], [], PHOTOS)[0]


def seen(confidence, chance=0.95):
    """The look of a frame with two candidates, at A and at B; the first one has a confidence."""
    return look(np.array([confidence, 0.1]), np.array([True, False]), chance, PHOTOS)


def step(*near):
    """The gains of a step: ``near[i][j]`` says whether j is within reach of i."""
    return np.stack([NEAR_GAIN * np.array(near)] * 2).astype(float)


STAY = step((1, 0), (0, 1))
CHANGED = step((0, 1), (1, 0))  # the first candidate of one frame is near the second of the other


@pytest.mark.parametrize("chance", [0.05, 0.3, 0.5, 0.9, 0.98])
def test_a_frame_alone_is_off_the_map_with_its_own_probability(chance):
    assert alone(seen(0.04, chance))[-1] == pytest.approx(1 - chance)


@pytest.mark.parametrize(
    ("confidences", "expected"),
    [((0.9, 0.1), (0.9, 0.05)), ((0.6, 0.6), (0.6, 0.35)), ((0.3, 0.1), (0.7125, 0.2375))],
)
def test_a_frame_alone_has_the_confidences_of_its_candidates(confidences, expected):
    states = alone(look(np.array(confidences), np.array([True, False]), 0.95, PHOTOS))
    assert states == pytest.approx([*expected, 0.05])


@pytest.mark.parametrize("chance", [0.0, 1.0])
@pytest.mark.parametrize("confidence", [0.0, 1e-200, 1.0])
def test_no_look_is_certain(chance, confidence):
    states = alone(look(np.array([confidence] * 3), np.ones(3, bool), chance, PHOTOS))
    assert np.isfinite(states).all()
    assert 0.005 < states[-1] < 0.995


def test_candidates_of_one_place_share_its_confidence():
    same = np.array([True, True, False])
    states = alone(look(np.array([0.8, 0.8, 0.2]), same, 0.95, PHOTOS))
    assert states[0] == states[1]
    assert states[:2].sum() == pytest.approx(0.8)


def test_one_frame_that_contradicts_a_walk_is_mended():
    looks = [seen(0.9)] * 3 + [seen(0.5)] + [seen(0.9)] * 3
    gains = [STAY] * 2 + [CHANGED] * 2 + [STAY] * 2
    states = smooth(looks, gains, PHOTOS)
    assert alone(looks[3]).argmax() == 0
    assert [state.argmax() for state in states] == [0, 0, 0, 1, 0, 0, 0]


def test_frames_that_jump_keep_their_own_place():
    nowhere_near = step((0, 0), (0, 0))
    gains = [CHANGED if n % 5 == 0 else nowhere_near for n in range(29)]  # by chance, B is near
    states = smooth([seen(0.6)] * 30, gains, PHOTOS)
    assert all(state.argmax() == 0 for state in states)


def test_how_often_frames_jump_is_learned(monkeypatch):
    nowhere_near = step((0, 0), (0, 0))
    gains = [CHANGED if n % 5 == 0 else nowhere_near for n in range(29)]
    monkeypatch.setattr(track, "FROM_PLACE", (0.6, 0.34, 0.01, 0.05))
    monkeypatch.setattr(track, "MOST_ROUNDS", 1)
    fixed = smooth([seen(0.6)] * 30, gains, PHOTOS)
    monkeypatch.setattr(track, "MOST_ROUNDS", 20)
    learned = smooth([seen(0.6)] * 30, gains, PHOTOS)
    assert sum(state.argmax() == 0 for state in fixed) < 30
    assert all(state.argmax() == 0 for state in learned)


def test_a_stretch_off_the_map_stays_off_it_even_where_one_frame_looks_like_it():
    off, unsure = seen(0.01, 0.05), seen(0.3, 0.55)
    looks = [seen(0.9)] * 4 + [off, off, unsure, off, off] + [seen(0.9)] * 4
    lost = step((0, 0), (0, 0))
    gains = [STAY] * 3 + [lost] * 6 + [STAY] * 3
    states = smooth(looks, gains, PHOTOS)
    assert alone(unsure)[-1] < 0.5
    assert [int(state[-1] > 0.5) for state in states] == [0] * 4 + [1] * 5 + [0] * 4


def test_the_weights_of_a_long_track_do_not_vanish():
    states = smooth([seen(0.9)] * 1000, [STAY] * 999, PHOTOS)
    assert np.isfinite(states).all()
    assert (np.argmax(states, axis=1) == 0).all()
