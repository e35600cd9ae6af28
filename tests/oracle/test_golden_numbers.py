"""Numbers of the published program: matching, scoring, fusion, alpha and PCA.

They are in ``tests/golden`` (its README gives the provenance). No photos or weights are needed.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from recipe import seeded_weights

from placerec.method.fusion import fuse
from placerec.method.matching import Matched, mutual_nearest
from placerec.method.pca import fit_pca
from placerec.method.ransac import ransac_score
from placerec.method.spatial import spatial_score
from placerec.method.vlad import Vocabulary, assignment_sharpness, normalise
from placerec.records import Grid, PatchSet

GOLDEN = Path(__file__).parent.parent / "golden"
NUMBERS = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))
SIZES = tuple(NUMBERS["grids"])
each_pair = pytest.mark.parametrize("pair", NUMBERS["pairs"])
each_size = pytest.mark.parametrize("size", SIZES)
each_query = pytest.mark.parametrize("query", NUMBERS["fused"])


def array(name):
    with np.load(GOLDEN / "golden.npz") as file:
        return file[name]


def matched(pair, size):
    """Return the published matches of a pair as a record; similarities do not matter here."""
    rows, columns = NUMBERS["grids"][size]
    grid = Grid((int(size),) * 2, rows, columns, 1)
    pairs = array(f"{pair}-p{size}").astype(np.int64)
    return Matched(grid, grid, pairs, np.ones(len(pairs)), np.ones(rows * columns))


def scores_of(query, scorer):
    """Return the scores of a query's candidates, (candidates, sizes)."""
    return np.array([
        [scorer(matched(f"{query}-{name}", size)).score for size in SIZES]
        for name in NUMBERS["candidates"]
    ])  # fmt: skip


def assert_fused_as_published(scores, expected):
    for fusion, values, order in (
        ("raw", "raw_fused", "raw_order_best_first"),
        ("z-score", "z_scored_fused", "order_best_first"),
    ):
        fused = fuse(scores, tuple(NUMBERS["weights"]), fusion)
        assert fused == pytest.approx(-np.array(expected[values]), rel=1e-6)
        best_first = np.argsort(-fused, kind="stable")
        assert [NUMBERS["candidates"][i] for i in best_first] == expected[order]


def test_the_golden_files_stay_small():
    assert sum(path.stat().st_size for path in GOLDEN.glob("golden.*")) < 100_000


def test_mutual_matches_are_those_of_a_plain_float64_loop():
    query, database = (
        PatchSet(Grid((5, 5), 6, 10, 1), array(f"subset_{name}")) for name in ("q1", "db2")
    )
    expected = array("subset_matches").tolist()
    assert len(expected) > 10
    assert mutual_nearest(query, database).pairs.tolist() == expected


@each_pair
@each_size
def test_published_matches_are_mutual_and_in_ascending_database_order(pair, size):
    pairs = array(f"{pair}-p{size}")
    assert (np.diff(pairs[:, 1]) > 0).all()
    assert len(set(pairs[:, 0].tolist())) == len(pairs)


@each_pair
@each_size
@pytest.mark.parametrize("form", ["program", "paper", "paper-absolute"])
def test_a_pair_has_the_published_spatial_score(pair, size, form):
    negative = NUMBERS["pairs"][pair][size]["spatial"][form]
    assert spatial_score(matched(pair, size), form).score == pytest.approx(-negative, rel=1e-6)


@each_pair
@each_size
def test_a_pair_has_the_inliers_of_its_opencv_group_or_of_the_recorded_range(pair, size):
    cv2 = pytest.importorskip("cv2")
    expected = NUMBERS["pairs"][pair][size]
    inliers = ransac_score(matched(pair, size)).inliers
    if cv2.__version__.startswith("5.0"):
        assert inliers == expected["inliers"]
    else:
        low, high = expected["inliers_range"]
        assert low <= inliers <= high


@each_query
def test_spatial_scores_are_fused_and_ordered_as_published(query):
    assert_fused_as_published(scores_of(query, spatial_score), NUMBERS["fused"][query]["spatial"])


@each_query
def test_ransac_scores_are_fused_and_ordered_as_published(query):
    """The recorded inliers are used, so that the test passes with any version of OpenCV."""
    scores = np.array([
        [NUMBERS["pairs"][f"{query}-{name}"][size]["inliers"] / np.prod(NUMBERS["grids"][size])
         for size in SIZES] for name in NUMBERS["candidates"]
    ])  # fmt: skip
    assert_fused_as_published(scores, NUMBERS["fused"][query]["ransac"])


def test_alpha_and_the_first_weights_follow_the_published_initialisation():
    expected = NUMBERS["training_bits"]["alpha_init"]
    draw = np.random.RandomState(7).standard_normal
    centres, features = draw((16, 512)), draw((1000, 512))
    centres = (0.8 * normalise(centres)).astype(np.float32)
    alpha = assignment_sharpness(normalise(features).astype(np.float32), centres)
    assert alpha == pytest.approx(expected["alpha"], rel=1e-5)
    vocabulary = Vocabulary(centres, (alpha * normalise(centres)).astype(np.float32))
    assert np.allclose(vocabulary.weights[0, :3], expected["conv_weight_first3"], rtol=1e-4)
    assert np.allclose(centres[0, :3], expected["centroid_first3"])


@pytest.mark.parametrize(("form", "seed", "points"), [("pca_primal", 8, 300), ("pca_dual", 9, 40)])
def test_pca_gives_the_published_projections_with_many_points_and_with_few(form, seed, points):
    expected = NUMBERS["training_bits"][form]
    samples = np.random.RandomState(seed).standard_normal((points, 64))
    samples = samples * np.linspace(3, 0.2, 64) + np.linspace(-1, 1, 64)
    projected = np.abs(fit_pca(samples, expected["num_pcs"])(samples[:3]))
    assert np.allclose(projected, expected["abs_projection_first3_rows_before_l2"], atol=1e-4)
    assert np.allclose(normalise(projected), expected["abs_projection_first3_rows_after_l2"],
                       atol=1e-5)  # fmt: skip


def test_the_recipe_gives_the_seeded_weights_of_the_golden_numbers():
    expected = NUMBERS["weights_check"]
    state, vocabulary, pca = seeded_weights()
    layers = [value for key, value in state.items() if key.endswith("weight")]
    tensors = {f"conv{number:02d}": value for number, value in enumerate(layers)}
    tensors |= {"centroids": vocabulary.centres, "assign": vocabulary.weights,
                "pca_weight": pca.weight, "pca_bias": pca.bias}  # fmt: skip
    for name, tensor in tensors.items():
        total = float(np.abs(tensor, dtype=np.float64).sum())
        assert total == pytest.approx(expected[name]["sum_abs"], rel=1e-9), name
        assert tensor.ravel()[:3].tolist() == pytest.approx(expected[name]["first3"]), name
