"""RANSAC's compiled samples: the inliers are those of OpenCV's own RANSAC."""

import sys

import cv2
import numpy as np
import pytest

from placerec.method import ransac
from placerec.method.consensus import TRIALS, enough_trials, solve
from placerec.method.ransac import TOLERANCE_PIXELS, homography_inliers

GRID = np.stack(np.meshgrid(np.arange(36), np.arange(26)), axis=-1).reshape(-1, 2)


def drawn_matches(rng, count, agreeing, noise):
    """Positions in pixels: a share of the matches moves alike, up to ``noise`` cells; all others
    end anywhere."""
    source = GRID[rng.choice(len(GRID), count, replace=False)]
    target = source + rng.integers(-3, 4, 2) + rng.integers(-noise, noise + 1, source.shape)
    elsewhere = rng.random(count) >= agreeing
    target[elsewhere] = GRID[rng.choice(len(GRID), int(elsewhere.sum()))]
    return 16 * source + 39, 16 * target + 39


def of_opencv(source, target):
    mask = cv2.findHomography(source, target, cv2.RANSAC, TOLERANCE_PIXELS)[1]
    return np.zeros(len(source), bool) if mask is None else mask.ravel().astype(bool)


@pytest.mark.parametrize("noise", [0, 1])
@pytest.mark.parametrize("agreeing", [0.0, 0.1, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("count", [4, 5, 7, 12, 40, 150, 400])
def test_the_inliers_are_those_of_opencv(count, agreeing, noise):
    rng = np.random.default_rng(count)
    for _ in range(5):
        source, target = drawn_matches(rng, count, agreeing, noise)
        found = homography_inliers(source, target)
        assert found.tolist() == of_opencv(source, target).tolist()


@pytest.mark.parametrize("size", [2, 8])
def test_perspective_is_found_as_by_opencv(size):
    rng = np.random.default_rng(size)
    source = 16 * GRID[rng.choice(len(GRID), 200, replace=False)]
    matrix = np.array([[0.9, 0.1, 20.0], [-0.05, 1.1, 5.0], [2e-4, -1e-4, 1.0]])
    target = cv2.perspectiveTransform(source[None].astype(float), matrix)[0].round().astype(int)
    target[: 60 + 10 * size] = 16 * GRID[rng.choice(len(GRID), 60 + 10 * size)]
    found = homography_inliers(source, target)
    assert found[60 + 10 * size :].all()
    assert found.tolist() == of_opencv(source, target).tolist()


@pytest.mark.parametrize("count", [4, 5, 30])
def test_matches_on_a_line_give_what_opencv_gives(count):
    line = np.stack((16 * np.arange(count), np.full(count, 39)), axis=1)
    assert homography_inliers(line, line).tolist() == of_opencv(line, line).tolist()
    assert homography_inliers(line, line[::-1]).tolist() == of_opencv(line, line[::-1]).tolist()
    same = np.full((count, 2), 39)
    assert homography_inliers(same, same).tolist() == of_opencv(same, same).tolist()


def test_without_numba_opencv_does_all(monkeypatch):
    ransac._compiled_module.cache_clear()
    monkeypatch.setitem(sys.modules, "placerec.method.consensus", None)
    try:
        assert ransac._compiled_module() is None
        source, target = drawn_matches(np.random.default_rng(1), 60, 0.4, 1)
        found = homography_inliers(source, target)
        assert found.tolist() == of_opencv(source, target).tolist()
    finally:
        ransac._compiled_module.cache_clear()


@pytest.mark.parametrize("problem", [EOFError("Ran out of input"), OSError(27, "File too large")])
def test_where_numba_does_not_work_opencv_does_all(monkeypatch, problem):
    """Numba reads and stores its code at the first call, and raises what it meets."""

    def fail(*_):
        raise problem

    ransac._compiled_module.cache_clear()
    monkeypatch.setattr("placerec.method.consensus.consensus", fail)
    try:
        source, target = drawn_matches(np.random.default_rng(2), 60, 0.4, 1)
        found = homography_inliers(source, target)
        assert found.tolist() == of_opencv(source, target).tolist()
    finally:
        ransac._compiled_module.cache_clear()


@pytest.mark.parametrize("seed", range(5))
def test_the_closed_form_takes_four_points_to_their_targets(seed):
    rng = np.random.default_rng(seed)
    source, target = rng.random((2, 4, 2)) * 640
    homography = np.zeros(9)
    assert solve(homography, np.arange(4), source, target)
    expected = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
    assert np.allclose(homography.reshape(3, 3), expected, rtol=1e-3, atol=1e-4)
    x, y, w = homography.reshape(3, 3) @ np.column_stack((source, np.ones(4))).T
    assert np.allclose(np.stack((x / w, y / w), axis=1), target)


def test_three_points_on_a_line_have_many_homographies_so_the_sample_is_left_out():
    """OpenCV takes one of them; so on maps of a few rows the inliers may differ."""
    source = np.array([[0.0, 0.0], [16.0, 0.0], [32.0, 0.0], [5.0, 9.0]])
    assert not solve(np.zeros(9), np.arange(4), source, source)


def test_fewer_outliers_need_fewer_trials():
    """Hartley and Zisserman, algorithm 4.5: log(1 - p) / log(1 - (1 - outliers)^4)."""
    assert enough_trials(0.0, TRIALS) == 0
    assert enough_trials(0.5, TRIALS) == round(np.log(0.005) / np.log(1 - 0.5**4)) == 82
    assert enough_trials(1.0, TRIALS) == enough_trials(0.9, TRIALS) == TRIALS
    assert enough_trials(0.5, 10) == 10
