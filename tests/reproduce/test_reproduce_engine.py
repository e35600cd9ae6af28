"""The engine of ``reproduce``: stored matches give the same ranking as re-ranking."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from placerec.engine.shortlist import Engine
from placerec.errors import Damaged
from placerec.method.fusion import PUBLISHED_WEIGHTS
from placerec.method.ranking import rerank
from placerec.method.scores import match_candidates, score_matches
from placerec.models.fit import fit_model
from placerec.models.model import on_device
from placerec.reproduce.grid import _rank, _weights
from placerec.reproduce.matches import Matches, describe, with_patches
from placerec.reproduce.robustness import DISTURBANCES
from placerec.reproduce.speed import _published_times
from placerec.reproduce.table import MULTI, SINGLE, best, cell, highest, lowest, verdict
from placerec.reproduce.timing import query_times
from placerec.runtime import Runtime
from placerec.settings import METHODS

DIM = 12


class Trunk:
    name, sha256, channels, stride = "none", "0" * 64, 24, 16


@pytest.fixture(scope="module")
def maps():
    """Eight maps of 12 x 14 cells: windows of one scene, so that they match, and noise."""
    rng = np.random.default_rng(0)
    scene = rng.standard_normal((16, 20, 24))
    windows = []
    for number in range(8):
        window = scene[number % 4 : number % 4 + 12, number % 3 : number % 3 + 14]
        windows.append((window + 0.5 * rng.standard_normal(window.shape)).astype(np.float32))
    return windows


@pytest.fixture(scope="module")
def model(maps):
    settings = METHODS["paper-speed"].replace(clusters=4, global_dim=DIM)
    return fit_model(Trunk(), settings, maps, name="m", training_data="random")


LISTS = [np.array([5, 2, 7, 3]), np.array([2, 3, 4, 6])]


@pytest.fixture(scope="module")
def stored(maps, model, tmp_path_factory):
    matches = Matches(tmp_path_factory.mktemp("matches"), LISTS)
    kinds = [(size, dim) for size in MULTI for dim in (5, DIM)]
    matches.compute(model, maps[:2], maps, kinds)
    return matches


def test_leading_columns_are_the_smaller_pca(maps, model):
    kinds = [(SINGLE[0], dim) for dim in (5, DIM)]
    described = describe(model, maps[0], kinds, 1)
    for size, dim in kinds:
        expected = with_patches(model, SINGLE, dim).describe_map(maps[0]).patches[0].descriptors
        np.testing.assert_allclose(described[size, dim].descriptors, expected, atol=2e-6)
        assert described[size, dim].descriptors.dtype == np.float32


@pytest.mark.parametrize("scorer", ["spatial", "ransac", "displacement"])
@pytest.mark.parametrize(("sizes", "dim"), [(SINGLE, 5), (MULTI, DIM)])
def test_stored_matches_rank_as_rerank_does(maps, model, stored, scorer, sizes, dim):
    pytest.importorskip("cv2")
    model = with_patches(model, sizes, dim)
    settings = model.settings.replace(scorer=scorer, fusion="z-score")
    orders = stored.orders(sizes, dim, scorer)
    for number, rows in enumerate(LISTS):
        query = model.describe_map(maps[number], 1).patches
        candidates = [model.describe_map(maps[row]).patches for row in rows]
        scores, _ = score_matches(match_candidates(query, candidates), settings)
        assert orders[number].tolist() == [rows[n] for n in rerank(scores, len(rows))[0]]


def test_matches_and_times_of_a_gpu_are_those_of_the_engine(
    gpu, monkeypatch, maps, model, stored, tmp_path
):
    pytest.importorskip("cv2")
    runtime, used = Runtime(threads=1, device="cuda"), []
    match = Engine.match
    monkeypatch.setattr(Engine, "match", lambda *a: (used.append(1), match(*a))[1])
    kind = (SINGLE[0], DIM)
    matches = Matches(tmp_path / "matches", LISTS, runtime)
    matches.compute(on_device(model, runtime), maps[:2], maps, [kind])
    assert len(used) == 8
    for ours, wanted in zip(matches.of(kind), stored.of(kind), strict=True):
        for one, other in zip(ours, wanted, strict=True):
            assert np.array_equal(one.pairs, other.pairs)
            assert np.allclose(one.similarity, other.similarity, atol=1e-5)
            assert np.allclose(one.best, other.best, atol=1e-5)
    used.clear()
    study = SimpleNamespace(runtime=runtime, query_maps=maps[:1], database_maps=maps)
    (times,) = query_times(study, model, LISTS[0], [(SINGLE, DIM, "ransac")])
    assert used
    assert times.keys() == {"describe_ms", "match_ms", "verify_ms"}
    assert min(times.values()) > 0


def test_matches_store_no_descriptor(stored):
    matches = stored.of((SINGLE[0], 5))
    assert len(matches[0][0].query) == 8 * 10
    assert not hasattr(matches[0][0].query, "descriptors")
    assert [len(candidates) for candidates in matches] == [4, 4]


def test_a_damaged_file_of_matches_is_named(stored, tmp_path):
    copy = Matches(shutil.copytree(stored.folder, tmp_path / "copy"), LISTS)
    (copy.folder / "5x5-5" / "000002.npz").write_bytes(b"")
    with pytest.raises(Damaged, match=r"000002\.npz"):
        copy.of((SINGLE[0], 5))


def test_another_table_adds_sizes_and_computes_none_again(maps, model, stored):
    files = sorted(stored.folder.rglob("*.npz"))
    before, matches = [file.stat().st_mtime_ns for file in files], stored.of((SINGLE[0], 5))
    stored.compute(model, maps[:2], maps, [(SINGLE[0], 5), ((3, 4), 5)])
    assert [file.stat().st_mtime_ns for file in files] == before
    assert len(stored.of(((3, 4), 5))) == 2
    assert np.array_equal(stored.of((SINGLE[0], 5))[0][0].pairs, matches[0][0].pairs)


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
    sentence = verdict("x above y", rows, cell(kind="x"), cell(kind="y"))
    assert sentence == "x above y: holds on a and d, a tie on b, not on c."
    assert best()(rows) == highest(best(kind="x"), best(kind="y"))(rows) == 0.9
    assert lowest(best(kind="x"), best(kind="y"))(rows) == 0.4


def test_matching_time_is_scaled_to_100_candidates_on_2_threads():
    row = {
        "set": "s", "dim": "512", "sizes": "5", "scorer": "spatial", "candidates": "20",
        "threads": "1", "match_ms": "200", "verify_ms": "50",
    }  # fmt: skip
    line, _ = _published_times([row, {**row, "dim": "96"}])
    assert "0.50 s to match and 0.12 s to verify 100 candidates on 2 threads" in line
    assert line.endswith("not slower.")
    slower, _ = _published_times([{**row, "threads": "2"}])
    assert slower.endswith(": slower.")


def test_disturbances_move_the_pixels_as_they_say():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[20, 30] = 200
    change = {kind: disturbance.change for kind, disturbance in DISTURBANCES.items()}
    assert np.array_equal(change["none"](pixels, level=0.0), pixels)
    shifted = change["shift"](pixels, 0.1)
    assert shifted[20, 36].max() == 200
    assert (shifted[:, :6] == 127).all()
    assert change["brightness"](pixels, 0.3)[20, 30, 0] == 60
    ramp = np.indices((40, 60), np.uint8)[1][..., None].repeat(3, axis=2)
    zoomed = change["scale"](ramp, 1.5)
    assert abs(int(zoomed[20, 45, 0]) - 40) <= 1
    line = np.zeros((41, 41, 3), np.uint8)
    line[20] = 255
    assert change["rotation"](line, 45.0)[10, 10, 0] > 100  # clockwise
    first, again = (change["noise"](pixels, 10.0) for _ in range(2))
    assert np.array_equal(first, again)
