"""The engine of a GPU, run by PyTorch on a CPU, against the NumPy code that it replaces."""

import warnings
import weakref

import numpy as np
import pytest
import torch

from placerec.device import send
from placerec.engine import engine_for, matching, shortlist
from placerec.engine.shortlist import Engine
from placerec.errors import UsageError
from placerec.method.scores import match_candidates, score_matches
from placerec.method.vlad import normalise
from placerec.records import Grid, PatchSet
from placerec.runtime import Runtime
from placerec.settings import Settings

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SIZES = ((2, 2), (5, 5), (8, 8))
DEPTH = 12


def photo(rng, rows, columns, depth=DEPTH):
    """The patches of a drawn photo of so many cells, of three sizes, one cell apart."""
    cells = rng.standard_normal((rows, columns, depth))
    return described(cells)


def described(cells, stride=1):
    patches = []
    for size in SIZES:
        rows, columns = cells.shape[0] - size[0] + 1, cells.shape[1] - size[1] + 1
        means = [
            cells[y : y + size[0], x : x + size[1]].mean(axis=(0, 1))
            for y in range(0, rows, stride) for x in range(0, columns, stride)
        ]  # fmt: skip
        grid = Grid(size, len(range(0, rows, stride)), len(range(0, columns, stride)), stride)
        patches.append(PatchSet(grid, normalise(np.array(means)).astype(np.float32)))
    return tuple(patches)


@pytest.fixture(scope="module")
def town():
    """A query, and candidates that show it moved, partly, with a blank part, or not at all."""
    rng = np.random.default_rng(3)
    scene = rng.standard_normal((24, 28, DEPTH))
    query = described(scene[4:18, 5:21])
    shown = [scene[y : y + 14, x : x + 16].copy() for y, x in ((4, 6), (5, 3), (9, 9), (0, 0))]
    shown[1] += 0.3 * rng.standard_normal(shown[1].shape)
    shown[2][:7] = 0
    others = [rng.standard_normal((14, 16, DEPTH)) for _ in range(3)]
    candidates = [described(cells, stride=2) for cells in (*shown, *others)]
    candidates.insert(2, photo(rng, 11, 13))  # of another image size, and of stride 1
    return query, candidates


def settings_of(scorer, **changes):
    return Settings(patch_sizes=SIZES, scorer=scorer, **changes)


def by_engine(query, candidates, settings, cosines=None, precision="float32"):
    engine = Engine("cpu", precision)
    return engine.score(query, map(engine.put, candidates), settings, cosines)


@pytest.mark.parametrize("settings", [
    settings_of("displacement"),
    settings_of("displacement", box=3, fusion="z-score", scale_weights=(0.2, 0.3, 0.5)),
    settings_of("spatial", fusion="z-score"),
    settings_of("spatial", spatial_form="paper"),
    settings_of("spatial", spatial_form="paper-absolute"),
], ids=lambda settings: f"{settings.scorer}-{settings.spatial_form}-{settings.box}")  # fmt: skip
def test_scores_and_inliers_equal_those_of_numpy(town, settings):
    query, candidates = town
    cosines = np.linspace(0.9, 0.1, len(candidates))
    scores, matches = by_engine(query, candidates, settings, cosines)
    wanted, wanted_matches = score_matches(
        match_candidates(query, candidates), settings, 1, cosines
    )
    assert np.allclose(scores, wanted, rtol=1e-6, atol=1e-6)
    assert [len(sizes) for sizes in matches] == [3] * len(candidates)
    for sizes, wanted_sizes in zip(matches, wanted_matches, strict=True):
        for one, other in zip(sizes, wanted_sizes, strict=True):
            assert np.array_equal(one.pairs, other.pairs)
            assert (one.query_grid, one.database_grid) == (other.query_grid, other.database_grid)
            assert one.score == pytest.approx(other.score, rel=1e-6, abs=1e-9)
            assert one.pairs.dtype == np.int64
    assert scores.argmax() == 0 or settings.spatial_form != "program"
    assert sum(match.inliers for match in matches[0]) > 50


def test_mutual_matches_equal_those_of_numpy(town):
    query, candidates = town
    engine = Engine("cpu")
    ours = engine.match(query, map(engine.put, candidates)).on_host()
    for sizes, wanted_sizes in zip(ours, match_candidates(query, candidates), strict=True):
        for one, other in zip(sizes, wanted_sizes, strict=True):
            assert np.array_equal(one.pairs, other.pairs)
            assert np.allclose(one.similarity, other.similarity, atol=1e-6)
            assert np.allclose(one.best, other.best, atol=1e-6)
            assert one.displacements().tolist() == other.displacements().tolist()


def test_of_equally_near_patches_the_lowest_number_counts():
    rng = np.random.default_rng(0)
    for _ in range(20):
        # Few different patches of whole numbers: their products are exact, and many are equal.
        kinds = np.float32([[1, 0, 0], [0, 1, 0], [0, 0, -1], [0, 0, 0]])
        query, *candidates = (
            (PatchSet(Grid((2, 2), 3, 4, 1), kinds[rng.integers(0, 4, 12)]),) for _ in range(4)
        )
        engine = Engine("cpu")
        ours = engine.match(query, map(engine.put, candidates)).on_host()
        for (one,), (other,) in zip(ours, match_candidates(query, candidates), strict=True):
            assert one.pairs.tolist() == other.pairs.tolist()


def test_blocks_change_nothing(town, monkeypatch):
    query, candidates = town
    settings, counts = settings_of("displacement"), []
    mutual = matching.mutual
    monkeypatch.setattr(
        shortlist, "mutual", lambda *a: (counts.append(len(a[1].descriptors)), mutual(*a))[1]
    )
    whole, whole_matches = by_engine(query, candidates, settings)
    assert counts == [2, 2, 2, 1, 1, 1, 5, 5, 5]
    counts.clear()
    monkeypatch.setattr(shortlist, "WORK_BYTES", 1)
    blocks, block_matches = by_engine(query, candidates, settings)
    assert counts == [1] * 24
    assert blocks.tolist() == whole.tolist()
    assert block_matches == whole_matches


def test_float16_changes_scores_by_a_thousandth_and_no_order(town):
    query, candidates = town
    for settings in (settings_of("displacement"), settings_of("spatial")):
        wanted, _ = score_matches(match_candidates(query, candidates), settings)
        scores, _ = by_engine(query, candidates, settings, precision="float16")
        scale = np.abs(wanted).max()
        assert 0 < np.abs(scores - wanted).max() < 1e-3 * scale
        assert scores.argsort().tolist() == wanted.argsort().tolist()


def test_a_candidate_alone_blank_photos_and_no_candidate(town):
    query, candidates = town
    settings = settings_of("displacement")
    blank = tuple(PatchSet(p.grid, np.zeros_like(p.descriptors)) for p in candidates[0])
    for shown in ([candidates[0]], [blank], [blank, candidates[0]]):
        scores, matches = by_engine(query, shown, settings)
        wanted, wanted_matches = score_matches(match_candidates(query, shown), settings)
        assert np.allclose(scores, wanted, atol=1e-9)
        assert [[m.inliers for m in sizes] for sizes in matches] == [
            [m.inliers for m in sizes] for sizes in wanted_matches
        ]
    for scorer in ("spatial", "ransac"):
        scores, matches = by_engine(query, [blank], settings_of(scorer))
        assert scores.tolist() == [0.0]
        assert [match.inliers for match in matches[0]] == [0, 0, 0]
    scores, matches = by_engine(query, [], settings)
    assert (scores.tolist(), matches) == ([], [])


def test_descriptors_of_an_exact_index_are_read_only_and_taken(town):
    query, _ = town
    stored = np.frombuffer(query[0].descriptors.tobytes(), np.float32).reshape(-1, DEPTH)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.set_warn_always(True)  # else PyTorch warns of such arrays once in a process
        try:
            (there,) = Engine("cpu").put((PatchSet(query[0].grid, stored),))
        finally:
            torch.set_warn_always(False)
    assert np.array_equal(there.descriptors.numpy(), query[0].descriptors)


def test_photos_used_last_stay_on_the_device():
    engine, rng = Engine("cpu"), np.random.default_rng(0)
    photos = [photo(rng, 9, 9, 4) for _ in range(4)]
    size = sum(patches.descriptors.nbytes for patches in photos[0])
    engine._resident._most, reads = 2 * size, []

    def read(rows):
        reads.append(rows)
        return (photos[row] for row in rows)

    def ask(*rows):
        shown = [tuple(p.descriptors.numpy() for p in one) for one in engine.resident(rows, read)]
        wanted = [tuple(p.descriptors for p in photos[row]) for row in rows]
        assert all(
            np.array_equal(a, b) for one, other in zip(shown, wanted, strict=True)
            for a, b in zip(one, other, strict=True)
        )  # fmt: skip
        return reads.pop()

    assert ask(0, 1) == [0, 1]
    assert ask(1, 0) == []
    assert ask(2, 0) == [2]  # 1 was used least recently
    assert ask(0, 2, 1, 3) == [1, 3]  # 0 and 2 are used although they are dropped on the way
    assert len(engine._resident) == 2
    assert ask(1, 3) == []
    engine.forget()
    assert ask(3) == [3]


def test_only_a_gpu_has_an_engine_and_a_missing_one_is_refused():
    assert engine_for(Runtime()) is None
    for device in ("cuda", "cuda:7", "mps"):
        with pytest.raises(UsageError, match=f"device {device}: PyTorch finds no such device"):
            engine_for(Runtime(device=device))


def test_arrays_of_several_shapes_are_not_sent():
    rows = np.ones((2, 3), np.float32)
    assert send([rows[::-1], rows], torch.device("cpu")).shape == (2, 2, 3)
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(1, 3\)"):
        send([rows, rows[:1]], torch.device("cpu"))


def test_blocks_are_dropped_once_they_are_matched(town, monkeypatch):
    query, candidates = town
    monkeypatch.setattr(shortlist, "WORK_BYTES", 1)
    engine, alive = Engine("cpu"), []

    def one_by_one():
        for candidate in candidates:
            photo = engine.put(candidate)
            alive.append(weakref.ref(photo[0].descriptors))
            assert sum(one() is not None for one in alive) <= 3
            yield photo

    engine.score(query, one_by_one(), settings_of("spatial"))
    assert len(alive) == len(candidates) > 4
