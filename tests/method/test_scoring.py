"""Matching, scorers and fusion: comparison with plain loops, limits, and special cases."""

import numpy as np
import pytest

from placerec.errors import UsageError
from placerec.method.displacement import (
    SCALES,
    TOGETHER,
    Background,
    displacement_scores,
    votes,
    with_global,
)
from placerec.method.fusion import default_weights, fuse
from placerec.method.matching import Matched, mutual_nearest
from placerec.method.ransac import patch_centres, ransac_score
from placerec.method.scores import match_candidates, score_matches
from placerec.method.spatial import spatial_score
from placerec.method.vlad import normalise
from placerec.records import Grid, PatchSet
from placerec.settings import Settings


def displacement_score(matched, *given, **options):
    """Return the result of a lone candidate."""
    (match,) = displacement_scores([matched], *given, **options)
    return match


SCORERS = {
    "displacement": displacement_score,
    "spatial": spatial_score,
    "ransac": ransac_score,
}


def patches(rng, rows=5, columns=7, depth=16, size=(2, 2), stride=1):
    descriptors = normalise(rng.standard_normal((rows * columns, depth))).astype(np.float32)
    return PatchSet(Grid(size, rows, columns, stride), descriptors)


def shifted(original, rng, down, right):
    """Return the patches moved on the grid; patches that leave it are lost, gaps are noise."""
    grid = original.descriptors.reshape(original.grid.rows, original.grid.columns, -1)
    noise = patches(rng, original.grid.rows, original.grid.columns, grid.shape[2]).descriptors
    moved = noise.reshape(grid.shape).copy()
    rows, columns = original.grid.rows, original.grid.columns
    moved[max(down, 0) : rows + min(down, 0), max(right, 0) : columns + min(right, 0)] = grid[
        max(-down, 0) : rows - max(down, 0), max(-right, 0) : columns - max(right, 0)
    ]
    return PatchSet(
        Grid(original.grid.size, rows, columns, 1), moved.reshape(original.descriptors.shape)
    )


def plain_mutual(query, database):
    similarity = query.descriptors.astype(np.float64) @ database.descriptors.astype(np.float64).T
    pairs = []
    for j in range(similarity.shape[1]):
        i = int(similarity[:, j].argmax())
        if int(similarity[i].argmax()) == j:
            pairs.append((i, j))
    return pairs


@pytest.mark.parametrize("seed", range(10))
def test_mutual_matches_equal_the_plain_loop(seed):
    rng = np.random.default_rng(seed)
    query, database = patches(rng, *rng.integers(1, 8, 2)), patches(rng, *rng.integers(1, 8, 2))
    matched = mutual_nearest(query, database)
    assert [tuple(pair) for pair in matched.pairs] == plain_mutual(query, database)
    rows = (query.descriptors[matched.pairs[:, 0]], database.descriptors[matched.pairs[:, 1]])
    assert np.allclose(matched.similarity, np.einsum("md,md->m", *rows), atol=1e-6)


def test_equal_patches_match_once_each():
    same = PatchSet(Grid((1, 1), 2, 3, 1), np.tile(np.float32([1, 0]), (6, 1)))
    assert mutual_nearest(same, same).pairs.tolist() == [[0, 0]]


@pytest.mark.parametrize("name", SCORERS)
def test_a_photo_matches_itself_at_least_as_well_as_any_other(name):
    rng = np.random.default_rng(1)
    query = patches(rng, 10, 12)
    itself = SCORERS[name](mutual_nearest(query, query)).score
    candidates = [shifted(query, rng, *move) for move in ((0, 1), (2, 3), (-1, 4))]
    candidates += [patches(rng, 10, 12) for _ in range(20)]
    for candidate in candidates:
        assert SCORERS[name](mutual_nearest(query, candidate)).score <= itself + 1e-9


@pytest.mark.parametrize("name", SCORERS)
def test_blank_photos_have_a_low_defined_score(name):
    rng = np.random.default_rng(2)
    query = patches(rng, 10, 12)
    itself = SCORERS[name](mutual_nearest(query, query)).score
    for blank in (np.zeros((120, 16), np.float32), np.tile(np.float32([1] + [0] * 15), (120, 1))):
        empty = PatchSet(Grid((2, 2), 10, 12, 1), blank)
        score = SCORERS[name](mutual_nearest(empty, empty)).score
        assert 0.0 <= score < 0.1 * itself


@pytest.mark.parametrize("name", SCORERS)
def test_no_match_scores_zero(name):
    rng = np.random.default_rng(3)
    grid, empty = patches(rng).grid, np.empty(0, np.float32)
    nothing = Matched(grid, grid, np.empty((0, 2), np.int64), empty, np.zeros(35, np.float32))
    assert SCORERS[name](nothing).score == 0.0
    assert SCORERS[name](nothing).inliers == 0


@pytest.mark.parametrize("move", [(0, 0), (2, 3), (-1, -4)])
def test_displacement_finds_the_step_and_the_matches_that_share_it(move):
    rng = np.random.default_rng(4)
    query = patches(rng, 12, 14)
    match = displacement_score(
        mutual_nearest(query, shifted(query, rng, *move)), box=1, scales=(1.0,)
    )
    rows = np.divmod(match.pairs[:, 1], 14)
    start = np.divmod(match.pairs[:, 0], 14)
    assert match.inliers == (12 - abs(move[0])) * (14 - abs(move[1]))
    assert set(zip(rows[0] - start[0], rows[1] - start[1], strict=True)) == {move}
    assert match.score == pytest.approx(match.inliers / (12 * 14), rel=1e-5)


@pytest.mark.parametrize("box", [1, 3, 5, 7])
@pytest.mark.parametrize("seed", range(5))
def test_displacement_equals_the_plain_vote(box, seed):
    rng = np.random.default_rng(seed)
    matched = mutual_nearest(patches(rng, 6, 9), patches(rng, 6, 9))
    steps = [tuple(step) for step in matched.displacements()]
    best = 0.0
    for x in range(-12, 13):
        for y in range(-12, 13):
            near = [
                max(float(cosine), 0.0)
                for (dx, dy), cosine in zip(steps, matched.similarity, strict=True)
                if abs(dx - x) <= box // 2 and abs(dy - y) <= box // 2
            ]
            best = max(best, sum(near))
    assert displacement_score(matched, box, scales=(1.0,)).score == pytest.approx(best / 54)


def plain_votes(matched, background, ceiling, box):
    """Return score and voting matches of one candidate: every window of every scale, in loops."""
    query, database = matched.query, matched.database
    reach = np.maximum(query.reach, database.reach)
    vote = votes(np.clip(matched.similarity.astype(float), 0, 1), background[matched.pairs[:, 0]])
    best, inside = -1.0, []
    for scale in SCALES:
        start = query.corners(matched.pairs[:, 0])
        zoomed = (scale - 1) * (start - query.reach / 2)
        steps = np.floor(database.corners(matched.pairs[:, 1]) - start - zoomed + 0.5)
        for y in range(-reach[1], reach[1] + 1):
            for x in range(-reach[0], reach[0] + 1):
                near = (np.abs(steps - (x, y)) <= box // 2) & (np.abs(steps) <= reach)
                near = near.all(axis=1) & (vote > 0)
                if vote[near].sum() > best + 1e-12:
                    best, inside = vote[near].sum(), matched.pairs[near]
    return best / ceiling / min(len(query), len(database) - matched.blank), inside


@pytest.mark.parametrize("box", [1, 3, 7])
def test_many_candidates_of_several_grids_have_the_plain_scores(box):
    rng = np.random.default_rng(10)
    query = patches(rng, 6, 9)
    candidates = [shifted(query, rng, 1, 2) for _ in range(TOGETHER + 2)]
    candidates += [patches(rng, 4, 3, stride=2), shifted(query, rng, -1, 0)]
    matched = [mutual_nearest(query, candidate) for candidate in candidates]
    background = Background.of(matched)
    for number, match in enumerate(displacement_scores(matched, box)):
        similarity = background.similarity[number]
        score, inside = plain_votes(matched[number], similarity, background.ceiling, box)
        assert match.score == pytest.approx(score, rel=1e-9)
        assert match.pairs.tolist() == inside.tolist()


@pytest.mark.parametrize("similarity", [0.0, 0.9, 1 - 1e-6])
def test_a_copy_has_the_score_1_however_alike_the_other_candidates_are(similarity):
    grid = Grid((1, 1), 6, 9, 1)
    pairs = np.stack((np.arange(54), np.arange(54)), axis=1)
    copy = Matched(grid, grid, pairs, np.ones(54, np.float32), np.ones(54, np.float32))
    alike = np.full((1, 54), similarity)
    match = displacement_score(copy, 7, Background(alike, float(votes(1.0, alike).mean())))
    assert match.score == pytest.approx(1.0)
    assert match.inliers == 54


def test_of_equal_windows_the_first_one_counts():
    grid = Grid((1, 1), 5, 9, 1)
    pairs = np.array([(44, 0), (26, 0), (2, 36 + 4), (1, 36 + 4)])  # (-8, -4), (-8, -2), then below
    matched = Matched(grid, grid, pairs, np.ones(4, np.float32), np.ones(45, np.float32))
    match = displacement_score(matched, 3, scales=(1.0,))
    assert match.pairs.tolist() == pairs[:2].tolist()


def test_a_patch_that_is_similar_in_every_photo_does_not_vote():
    rng = np.random.default_rng(8)
    query = patches(rng, 12, 14)
    matched = mutual_nearest(query, shifted(query, rng, 0, 1))
    nowhere, half, everywhere = (
        displacement_score(matched, 1, Background(np.full((1, 168), share), 1.0)).score
        for share in (0.0, 0.5, 1.0)
    )
    assert half == pytest.approx((1 - 0.8 * 0.5) * 0.5**3 * nowhere, rel=1e-4)
    assert everywhere == 0.0
    assert nowhere == displacement_score(matched, 1).score


def test_a_candidate_does_not_count_in_its_own_background():
    grid, no_pairs = Grid((1, 1), 1, 2, 1), np.empty((0, 2), np.int64)
    best = np.float32([[0.2, 0.9], [0.4, 0.5], [0.6, 0.1]])
    matched = [Matched(grid, grid, no_pairs, np.empty(0, np.float32), row) for row in best]
    background = Background.of(matched)
    assert background.similarity[0].tolist() == pytest.approx([0.5, 0.3])
    assert 0 < background.ceiling < 1
    assert Background.of(matched[:1]).similarity.tolist() == [[0.0, 0.0]]
    assert Background.of(matched[:1]).ceiling == 1.0


def test_scores_with_a_background_are_between_0_and_1():
    rng = np.random.default_rng(9)
    query = patches(rng, 12, 14)
    candidates = [query, shifted(query, rng, 1, 1), patches(rng, 12, 14)]
    matched = [mutual_nearest(query, candidate) for candidate in candidates]
    scores = [match.score for match in displacement_scores(matched)]
    assert 0 <= min(scores) <= max(scores) <= 1
    assert max(scores) == scores[0] > max(scores[1:])


def matched_at(query_cells, database_cells, rows=6, columns=8):
    grid = Grid((1, 1), rows, columns, 1)
    pairs = np.array([
        (q[0] * columns + q[1], d[0] * columns + d[1])
        for q, d in zip(query_cells, database_cells, strict=True)
    ])  # fmt: skip
    return Matched(grid, grid, pairs, *[np.ones(len(pairs), np.float32)] * 2)


def test_a_displacement_score_is_1_for_mean_patches_and_more_for_distinctive_ones():
    query, database = Grid((1, 1), 4, 4, 1), Grid((1, 1), 2, 2, 2)
    pairs = np.array([(0, 0), (2, 1), (8, 2), (10, 3)])  # none of them moves
    matched = Matched(query, database, pairs, np.ones(4, np.float32), np.ones(16, np.float32))
    nothing_alike = np.zeros(16)
    alike = np.where(np.isin(np.arange(16), pairs[:, 0]), 0.0, 1.0)  # all but those that match
    for similarity, expected in ((nothing_alike, 1.0), (alike, len(query) / len(database))):
        votes_of_all = votes(np.ones(16), similarity)
        background = Background(similarity[None], float(votes_of_all.mean()))
        assert displacement_score(matched, 7, background).score == pytest.approx(expected)


def test_a_score_is_the_geometric_mean_of_patches_and_cosine():
    weighed = with_global(np.array([[0.34], [0.34], [0.0]]), np.array([1.0, 0.5, 0.0]))
    assert weighed == pytest.approx(
        np.array([[0.6], [0.6 * np.exp(-1.25)], [np.sqrt(0.02) * np.exp(-2.5)]])
    )
    rng = np.random.default_rng(0)
    scores, cosines = np.sort(rng.uniform(0, 4, 50)), np.sort(rng.uniform(-1, 1, 50))
    assert (np.diff(with_global(scores[:, None], np.full(50, 0.3))[:, 0]) > 0).all()
    assert (np.diff(with_global(np.full((50, 1), 0.2), cosines)[:, 0]) > 0).all()


@pytest.mark.parametrize("fusion", ["raw", "z-score"])
def test_only_the_displacement_score_is_weighed_by_the_cosine(fusion):
    rng = np.random.default_rng(1)
    query = patches(rng)
    matched = match_candidates((query,), [(shifted(query, rng, 1, 0),), (patches(rng),)])
    cosines = np.array([0.2, 0.9])
    for scorer in ("displacement", "spatial"):
        settings = Settings(scorer=scorer, fusion=fusion)
        alone, matches = score_matches(matched, settings)
        weighed, same_matches = score_matches(matched, settings, cosines=cosines)
        assert [m[0].score for m in matches] == [m[0].score for m in same_matches]
        if scorer == "spatial":
            assert weighed.tolist() == alone.tolist()
        else:
            each = np.array([[m[0].score] for m in matches])
            assert weighed.tolist() == fuse(with_global(each, cosines), (1.0,), fusion).tolist()
            assert weighed.tolist() != alone.tolist()


def test_spatial_score_by_hand_in_its_three_forms():
    matched = matched_at([(0, 0), (1, 1)], [(0, 2), (1, 5)])  # dx 2 and 4, dy 0; mean dx 3
    assert spatial_score(matched).score == pytest.approx(2 * ((7 - 1) ** 2 + 5**2) / 48)
    assert spatial_score(matched, "paper").score == pytest.approx(2 * (4 - 1) ** 2 / 48)
    back = matched_at([(0, 2), (1, 5)], [(0, 0), (1, 1)])  # dx -2 and -4
    assert spatial_score(back, "paper").score == pytest.approx(2 * (2 - 1) ** 2 / 48)
    assert spatial_score(back, "paper-absolute").score == pytest.approx(2 * (4 - 1) ** 2 / 48)


def test_a_self_match_is_best_in_the_programs_form_and_zero_in_the_papers():
    rng = np.random.default_rng(5)
    query = patches(rng, 6, 8)
    itself = mutual_nearest(query, query)
    assert spatial_score(itself).score == pytest.approx(7**2 + 5**2)
    assert spatial_score(itself, "paper").score == 0.0


def test_ransac_counts_the_patches_of_one_homography():
    rng = np.random.default_rng(6)
    query = patches(rng, 12, 14)
    match = ransac_score(mutual_nearest(query, shifted(query, rng, 1, 2)))
    assert match.inliers >= 11 * 12
    assert match.score == match.inliers / (12 * 14)


@pytest.mark.parametrize(
    ("size", "first", "last"),
    [(2, (15, 15), (623, 463)), (5, (39, 39), (599, 439)), (8, (63, 63), (575, 415))],
)
def test_patch_centres_are_the_published_pixels(size, first, last):
    rows, columns = 31 - size, 41 - size
    grid = Grid((size, size), rows, columns, 1)
    centres = patch_centres(grid)
    assert tuple(centres[0]) == first
    assert tuple(centres[-1]) == last


def test_default_weights_are_the_published_ones_for_exactly_2_5_8():
    assert default_weights(((2, 2), (5, 5), (8, 8))) == (0.45, 0.15, 0.4)
    assert default_weights(((2, 2), (5, 5))) == (0.5, 0.5)


def test_raw_fusion_is_the_weighted_sum():
    assert fuse(np.array([[1, 2], [3, 4]]), (0.25, 0.75)).tolist() == [1.75, 3.75]


def test_z_score_fusion_is_defined_for_one_candidate_and_for_ties():
    assert fuse(np.array([[3.0, 4.0]]), (0.5, 0.5), "z-score").tolist() == [0.0]
    fused = fuse(np.array([[1.0, 5.0], [1.0, 7.0]]), (0.5, 0.5), "z-score")
    assert fused.tolist() == [-0.5, 0.5]


def test_scores_that_differ_only_by_rounding_are_equal():
    total = sum(np.float64([0.1, 0.2, 0.3]))
    rounded = np.float64([total, 0.6, 0.6])
    assert len({*rounded}) == 2
    fused = fuse(np.stack((rounded, [3.0, 1.0, 2.0]), axis=1), (0.5, 0.5), "z-score")
    alone = fuse(np.array([[3.0], [1.0], [2.0]]), (0.5,), "z-score")
    assert fused.tolist() == alone.tolist()
    near = fuse(np.array([[0.6], [0.6 + 1e-9]]), (1.0,), "z-score")
    assert near.tolist() == pytest.approx([-1.0, 1.0])  # a small but real difference
    assert fuse(np.zeros((2, 1)), (1.0,), "z-score").tolist() == [0.0, 0.0]


def test_an_unknown_fusion_or_form_is_a_usage_error():
    with pytest.raises(UsageError, match="fusion"):
        fuse(np.zeros((1, 1)), (1.0,), "mean")
    with pytest.raises(UsageError, match="form"):
        spatial_score(matched_at([(0, 0)], [(0, 0)]), "program2")
