"""RANSAC on the device: planted homographies, OpenCV's counts, determinism."""

import numpy as np
import pytest
import torch

from placerec.engine.homography import homographies
from placerec.engine.matching import Pairs
from placerec.method.matching import Matched
from placerec.method.ransac import ransac_score
from placerec.records import Grid

pytestmark = pytest.mark.usefixtures("one_torch_thread")

GRID = Grid((2, 2), 29, 39, 1)


def planted(rng, matches, share):
    """Matches of which a share follows one homography, up to rounding: Matched and which do."""
    database = np.sort(rng.choice(len(GRID), matches, replace=False))
    query = rng.choice(len(GRID), matches, replace=False)
    follows = np.zeros(matches, bool)
    corners = np.concatenate((GRID.corners(database), np.ones((matches, 1))), axis=1)
    plane = np.array([[0.95, 0.06, 1.5], [-0.04, 1.02, 0.5], [0.001, 0.0005, 1.0]])
    moved = corners @ plane.T
    x, y = np.rint(moved[:, :2] / moved[:, 2:]).astype(int).T
    inside = np.flatnonzero((x >= 0) & (x < 39) & (y >= 0) & (y < 29))
    follows[rng.choice(inside, round(share * matches), replace=False)] = True
    query[follows] = (y * 39 + x)[follows]
    pairs = np.stack((query, database), axis=1)
    empty = np.zeros(matches, np.float32)
    return Matched(GRID, GRID, pairs, empty, empty), follows


def inliers_of(candidates):
    """The inliers of candidates that are processed together, per candidate."""
    partner = torch.full((len(candidates), len(GRID)), -1)
    for row, matched in zip(partner, candidates, strict=True):
        row[torch.from_numpy(matched.pairs[:, 1])] = torch.from_numpy(matched.pairs[:, 0])
    empty = torch.zeros(partner.shape)
    inliers = homographies(Pairs(GRID, GRID, partner, empty, (0,) * len(partner))).numpy()
    return [row[matched.pairs[:, 1]] for row, matched in zip(inliers, candidates, strict=True)]


@pytest.mark.parametrize(("matches", "share"), [(200, 0.2), (60, 0.5), (40, 0.8), (12, 0.75)])
def test_a_planted_homography_has_the_inliers_of_opencv(matches, share):
    rng = np.random.default_rng(matches)
    cases = [planted(rng, matches, share) for _ in range(3)]
    together = inliers_of([matched for matched, _ in cases])
    for (matched, follows), inliers in zip(cases, together, strict=True):
        opencv = ransac_score(matched).inliers
        assert abs(inliers.sum() - opencv) <= max(2, 0.06 * opencv)
        assert inliers[follows].mean() > 0.95


def test_matches_at_random_have_as_few_inliers_as_with_opencv():
    rng = np.random.default_rng(1)
    cases = [planted(rng, 40, 0.0)[0] for _ in range(6)]
    ours = [inliers.sum() for inliers in inliers_of(cases)]
    opencv = [ransac_score(matched).inliers for matched in cases]
    assert abs(np.mean(ours) - np.mean(opencv)) <= 1.0


def test_a_result_depends_on_nothing_but_the_own_matches(monkeypatch):
    rng = np.random.default_rng(2)
    cases = [planted(rng, matches, 0.4)[0] for matches in (30, 50, 70)]
    together = inliers_of(cases)
    assert all(map(np.array_equal, together, inliers_of(cases)))
    assert all(map(np.array_equal, together[::-1], inliers_of(cases[::-1])))
    monkeypatch.setattr("placerec.engine.homography.WORK_BYTES", 1)
    assert all(map(np.array_equal, together, inliers_of(cases)))


def test_few_matches_and_matches_on_a_line_are_as_with_opencv():
    def case(query, database):
        pairs = np.stack((np.array(query), np.array(database)), axis=1)
        empty = np.zeros(len(pairs), np.float32)
        return Matched(GRID, GRID, pairs, empty, empty)

    line = list(range(12))
    cases = [
        case([0, 40, 100], [0, 40, 100]),
        case([0, 38, 400, 430], [1, 39, 401, 431]),
        case(line, line),
    ]
    assert [inliers.sum() for inliers in inliers_of(cases)] == [0, 4, 0]
    assert [ransac_score(matched).inliers for matched in cases] == [0, 4, 0]
