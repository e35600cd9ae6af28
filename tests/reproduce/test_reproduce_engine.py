"""The engine of ``reproduce``: what is stored of matches gives what re-ranking gives."""

import numpy as np
import pytest
from placerec.recognise.rerank import rerank

from placerec.method.fusion import PUBLISHED_WEIGHTS
from placerec.models.fit import fit_model
from placerec.reproduce.claims import best, cell, highest, lowest, verdict
from placerec.reproduce.grid import _rank, _weights
from placerec.reproduce.matches import Matches, at, describe
from placerec.reproduce.robustness import DISTURBANCES, LEVELS
from placerec.reproduce.scores import MULTI, SINGLE, Scores
from placerec.reproduce.speed import _beside_the_published
from placerec.settings import METHODS

DIM = 12


class Trunk:
    name, sha256, channels, stride = "none", "0" * 64, 24, 16


@pytest.fixture(scope="module")
def maps():
    """Eight maps of 12 x 14 cells: windows of one scene, so that they match, and noise."""
    rng = np.random.default_rng(0)
    scene = rng.standard_normal((16, 20, 24))
    found = []
    for number in range(8):
        window = scene[number % 4 : number % 4 + 12, number % 3 : number % 3 + 14]
        found.append((window + 0.5 * rng.standard_normal(window.shape)).astype(np.float32))
    return found


@pytest.fixture(scope="module")
def model(maps):
    settings = METHODS["paper-speed"].replace(clusters=4, global_dim=DIM)
    return fit_model(Trunk(), settings, maps, name="m", training_data="random")


LISTS = [np.array([5, 2, 7, 3]), np.array([2, 3, 4, 6])]


@pytest.fixture(scope="module")
def stored(maps, model, tmp_path_factory):
    matches = Matches(tmp_path_factory.mktemp("matches"), LISTS)
    kinds = [(size, dim) for size in MULTI for dim in (5, DIM)]
    matches.compute(model, maps[:2], maps, kinds, 2, lambda *_: None)
    return matches


def test_leading_columns_are_the_smaller_pca(maps, model):
    found = describe(model, maps[0], SINGLE, (5, DIM), 1)
    for dim in (5, DIM):
        wanted = at(model, SINGLE, dim).describe_map(maps[0]).patches[0]
        np.testing.assert_allclose(found[SINGLE[0], dim].descriptors, wanted.descriptors, atol=2e-6)
        assert found[SINGLE[0], dim].descriptors.dtype == np.float32


@pytest.mark.parametrize("scorer", ["spatial", "ransac", "displacement"])
@pytest.mark.parametrize(("sizes", "dim"), [(SINGLE, 5), (MULTI, DIM)])
def test_stored_matches_rank_as_rerank_does(maps, model, stored, scorer, sizes, dim):
    pytest.importorskip("cv2")
    one = at(model, sizes, dim)
    settings = one.settings.replace(scorer=scorer, fusion="z-score")
    orders = Scores(stored, 1).orders(scorer, sizes, dim)
    for question, rows in enumerate(LISTS):
        query = one.describe_map(maps[question], 1).patches
        candidates = [one.describe_map(maps[row]).patches for row in rows]
        ranked = rerank(query, candidates, np.zeros(len(rows)), settings)
        assert orders[question].tolist() == [rows[r.candidate] for r in ranked]


def test_matches_keep_no_descriptor(stored):
    found = stored.of((SINGLE[0], 5))
    assert len(found[0][0].query) == 8 * 10
    assert not hasattr(found[0][0].query, "descriptors")
    assert [len(candidates) for candidates in found] == [4, 4]


def test_another_table_adds_sizes_and_computes_none_again(maps, model, stored):
    files = sorted(stored.folder.iterdir())
    before, known = [file.stat().st_mtime_ns for file in files], stored.of((SINGLE[0], 5))
    stored.compute(model, maps[:2], maps, [(SINGLE[0], 5)], 1, lambda *_: None)
    assert [file.stat().st_mtime_ns for file in files] == before
    stored.compute(model, maps[:2], maps, [((3, 4), 5)], 1, lambda *_: None)
    assert len(stored.of(((3, 4), 5))) == 2
    assert np.array_equal(stored.of((SINGLE[0], 5))[0][0].pairs, known[0][0].pairs)


def test_grid_has_the_published_weights_and_every_weight_sums_to_one():
    weights = _weights(3)
    assert np.allclose(weights.sum(axis=1), 1)
    assert (weights > 0).all()
    assert PUBLISHED_WEIGHTS in {tuple(row) for row in weights.tolist()}
    assert len(weights) == 19 * 18 // 2


def test_rank_counts_only_better_points_and_ties_share_it():
    keys = np.array([[0.5, 0.9], [0.6, 0.7], [0.5, 0.8], [0.5, 0.9]])
    assert [_rank(keys, number) for number in range(4)] == [2, 1, 4, 2]


def test_a_verdict_names_the_sets_where_a_claim_holds_is_a_tie_and_fails():
    rows = [
        {"set": name, "kind": kind, "recall@1": value}
        for name, values in {"a": ".5 .4", "b": ".4 .4", "c": ".3 .4", "d": ".9 .1"}.items()
        for kind, value in zip("xy", values.split(), strict=True)
    ]
    told = verdict("x above y", rows, cell(kind="x"), cell(kind="y"))
    assert told == "x above y: holds on a and d, a tie on b, not on c."
    assert best()(rows) == highest(best(kind="x"), best(kind="y"))(rows) == 0.9
    assert lowest(best(kind="x"), best(kind="y"))(rows) == 0.4


def test_matching_time_is_scaled_to_100_candidates_on_2_threads():
    row = {
        "set": "s", "dim": "512", "sizes": "5", "scorer": "spatial", "candidates": "20",
        "threads": "1", "match_ms": "200", "verify_ms": "50",
    }  # fmt: skip
    told, _ = _beside_the_published([row, {**row, "dim": "96"}])
    assert "0.50 s to match and 0.12 s to verify 100 candidates on 2 threads" in told
    assert told.endswith("not slower.")
    slower, _ = _beside_the_published([{**row, "threads": "2"}])
    assert slower.endswith(": slower.")


def test_disturbances_move_the_pixels_as_they_say():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[20, 30] = 200
    shifted = DISTURBANCES["shift"](pixels, 0.1)
    assert shifted[20, 36].max() == 200
    assert (shifted[:, :6] == 127).all()
    assert DISTURBANCES["brightness"](pixels, 0.3)[20, 30, 0] == 60
    ramp = np.indices((40, 60), np.uint8)[1][..., None].repeat(3, axis=2)
    zoomed = DISTURBANCES["scale"](ramp, 1.5)
    assert abs(int(zoomed[20, 45, 0]) - 40) <= 1
    line = np.zeros((41, 41, 3), np.uint8)
    line[20] = 255
    assert DISTURBANCES["rotation"](line, 45.0)[10, 10, 0] > 100  # clockwise
    first, again = (DISTURBANCES["noise"](pixels, 10.0) for _ in range(2))
    assert np.array_equal(first, again)
    assert set(LEVELS) - {"none"} == set(DISTURBANCES)
