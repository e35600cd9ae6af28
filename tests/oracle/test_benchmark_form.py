"""What benchmarks/speed.py calls the published form gives the numbers of the package."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("cv2")
from placerec.method.matching import mutual_nearest  # noqa: E402
from placerec.method.patches import patch_vlad  # noqa: E402
from placerec.method.pca import Projection  # noqa: E402
from placerec.method.ransac import ransac_score  # noqa: E402
from placerec.method.spatial import spatial_score  # noqa: E402
from placerec.method.vlad import Vocabulary, normalise, vlad  # noqa: E402
from placerec.records import Grid, PatchSet  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import published_form  # noqa: E402
from speed_place import another  # noqa: E402


def patch_sets(size, seed):
    """A query and a photo of the same place, 32 values a patch."""
    rng = np.random.default_rng(seed)
    grid = published_form.grid(size)
    query = normalise(rng.standard_normal((grid[0] * grid[1], 32))).astype(np.float32)
    photo = another(query, grid, rng, right=True)
    return [PatchSet(Grid((size, size), *grid, 1), rows) for rows in (query, photo)]


@pytest.mark.parametrize("size", published_form.SIZES)
def test_matches_and_scores_are_equal(size):
    query, photo = patch_sets(size, size)
    matched = mutual_nearest(query, photo)
    pairs = published_form.mutual(*(torch.from_numpy(s.descriptors) for s in (query, photo)))
    assert len(pairs) > 300
    assert pairs.tolist() == matched.pairs.tolist()
    assert published_form.spatial(pairs, size) == pytest.approx(spatial_score(matched).score)
    score = ransac_score(matched).score
    assert published_form.ransac(pairs, size) == score > 0.2


def test_few_matches_have_no_score():
    none = np.empty((0, 2), np.int64)
    assert published_form.ransac(none, 5) == published_form.spatial(none, 5) == 0.0


def test_descriptors_are_equal(monkeypatch):
    monkeypatch.setattr(published_form.VGG16, "from_cache", lambda _: type("V", (), {"state": {}}))
    monkeypatch.setattr(published_form, "vgg16_module", lambda _: None)
    monkeypatch.setattr(published_form, "SIZES", (5,))
    describer = published_form.Describer(16, 1)
    features = np.random.default_rng(0).standard_normal((30, 40, 512)).astype(np.float32)
    whole, (patches,) = describer.describe(torch.from_numpy(features).permute(2, 0, 1))
    vocabulary = Vocabulary(describer.centres.numpy(), describer.assignment.numpy())
    projection = Projection(describer.pca.numpy(), np.zeros(16, np.float32))
    units = normalise(features)
    ours = patch_vlad(units, vocabulary, projection, (5, 5))
    assert np.abs(patches.numpy() - ours.descriptors).max() < 1e-4
    rows = vlad(units.reshape(-1, 512), vocabulary)
    expected = normalise((describer.pca.numpy() @ rows.reshape(-1))[None])[0]
    assert np.abs(whole.numpy() - expected).max() < 1e-5


def test_the_final_score_is_a_weighted_sum_of_z_scores():
    scores = np.array([[1.0, 5.0], [3.0, 5.0]])  # a constant column does not count
    assert published_form.fused(scores, (0.25, 0.75)).tolist() == [-0.25, 0.25]
