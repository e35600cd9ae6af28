"""The published program's own numbers, on six photos with seeded weights.

They lie beside the checkout (``../shared/golden``, with the recipe); without them these tests skip.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from placerec.method.fusion import fuse
from placerec.method.matching import mutual_nearest
from placerec.method.pca import Projection, fit_pca
from placerec.method.ransac import ransac_score
from placerec.method.spatial import spatial_score
from placerec.method.vlad import Vocabulary, assignment_sharpness, fit_vocabulary, normalise, vlad
from placerec.models.model import Fitted, Model
from placerec.records import PatchSet
from placerec.settings import NETVLAD
from placerec.trunks.convert import VGG16_LAYERS
from placerec.trunks.vgg16 import VGG16

GOLDEN = Path(__file__).parent.parent.parent.parent / "shared" / "golden"
pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="needs the golden data beside the checkout"
)
PHOTOS = ("q1", "q2", "db1", "db2", "db3", "db4")
SIZES = {2: (29, 39), 5: (26, 36), 8: (23, 33)}
WEIGHTS = (0.45, 0.15, 0.4)
OPENCV = "5.0.0.93"
CHANNELS = ((3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256),
            (256, 512), *[(512, 512)] * 5)  # fmt: skip


def load(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def told(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model():
    """The seeded weights of the recipe as a model with the published settings."""
    draw = np.random.RandomState(20210301).standard_normal
    state = {}
    for number, (inputs, outputs) in zip(VGG16_LAYERS, CHANNELS, strict=True):
        w = draw((outputs, inputs, 3, 3))
        w = (w - w.mean(axis=(1, 2, 3), keepdims=True)) * np.sqrt(2 / (9 * inputs))
        state[f"encoder.{number}.weight"] = w.astype(np.float32)
        state[f"encoder.{number}.bias"] = (0.05 * draw(outputs)).astype(np.float32)
    check = told("weights_check")["conv00"]
    first = float(np.abs(state["encoder.0.weight"].astype(np.float64)).sum())
    assert first == pytest.approx(check["sum_abs"])
    unit = draw((16, 512))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    vocabulary = Vocabulary((0.8 * unit).astype(np.float32), (10 * unit).astype(np.float32))
    weight = (draw((128, 8192)) / np.sqrt(8192)).astype(np.float32)
    pca = Projection(weight, (0.01 * draw(128)).astype(np.float32))
    settings = NETVLAD.replace(
        clusters=16, k_patch=16, global_dim=128, pca_dim=128,
        patch_sizes=tuple((size, size) for size in SIZES),
    )  # fmt: skip
    return Model(
        "seeded", VGG16(state, "seeded"), Fitted(None, vocabulary, pca, vocabulary, pca), settings
    )


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_is_described_as_published(model, name):
    expected = load(name)
    features = model.feature_map(model.read(GOLDEN / "photos" / f"{name}.png").pixels)
    first = expected.get("encoder", expected["encoder_first16"])
    assert np.abs(features.transpose(2, 0, 1)[: len(first)] - first).max() < 2e-5
    plain = vlad(normalise(features.reshape(-1, 512)), model.fitted.vocabulary)
    assert np.abs(plain - expected["global_vlad"]).max() < 1e-7
    described = model.describe_map(features)
    assert np.abs(described.global_descriptor - expected["global_pca"]).max() < 2e-6
    for patches, size in zip(described.patches, SIZES, strict=True):
        exact = expected[f"patch{size}_pca_exact"].T
        assert np.abs(patches.descriptors - exact).max() < 2e-6


def stored(name, size):
    rows, columns = SIZES[size]
    return PatchSet((size, size), rows, columns, 1, load(name)[f"patch{size}_pca"].T.copy())


@pytest.mark.parametrize("pair", ["q1-db1", "q1-db2", "q1-db3", "q1-db4", "q2-db3", "q1-q1"])
@pytest.mark.parametrize("size", SIZES)
def test_a_pair_is_matched_and_scored_as_published(pair, size):
    import cv2

    query, database = pair.split("-")
    matched = mutual_nearest(stored(query, size), stored(database, size))
    with np.load(GOLDEN / "mutual_matches_all_pairs.npz") as file:
        expected = {tuple(row) for row in file[f"{pair}-p{size}"].tolist()}
    scores = told("matches_and_scores")["pairs"][pair]["per_patch_size"][str(size)]
    doubtful = {tuple(row[:2]) for row in scores["ambiguous_matches_gap_below_2e_6"]}
    assert {tuple(row) for row in matched.pairs.tolist()} ^ expected <= doubtful
    assert spatial_score(matched).score == pytest.approx(-scores["spatial_score"], rel=1e-3)
    readings = scores["spatial_paper_readings"]
    for form, reading in (("paper", "abs_of_max"), ("paper-absolute", "max_of_abs")):
        ours = spatial_score(matched, form).score
        assert ours == pytest.approx(-readings[reading], rel=1e-3, abs=1e-9)
    if cv2.__version__.startswith("5.") and not doubtful:
        assert ransac_score(matched).inliers == scores["ransac"][OPENCV]["inliers"]


@pytest.mark.parametrize("query", ["q1", "q2"])
def test_candidates_are_fused_and_ordered_as_published(query):
    golden = told("matches_and_scores")
    known = golden["reranking"][query]
    candidates = known["candidates"]
    raw = np.array([
        [-golden["pairs"][f"{query}-{name}"]["per_patch_size"][str(size)]["spatial_score"]
         for size in SIZES] for name in candidates
    ])  # fmt: skip
    assert np.allclose(fuse(raw, WEIGHTS), -np.array(known["spatial"]["raw_fused"]))
    fused = fuse(raw, WEIGHTS, "z-score")
    assert np.allclose(fused, -np.array(known["spatial"]["z_scored_fused"]))
    order = [candidates[i] for i in np.argsort(-fused, kind="stable")]
    assert order == known["spatial"]["order_best_first"]


def test_alpha_and_the_first_values_follow_the_published_initialisation():
    known = told("training_bits")["alpha_init"]
    draw = np.random.RandomState(7).standard_normal
    centres, features = draw((16, 512)), draw((1000, 512))
    centres = (0.8 * normalise(centres)).astype(np.float32)
    features = normalise(features).astype(np.float32)
    alpha = assignment_sharpness(features, centres)
    assert alpha == pytest.approx(known["alpha"], rel=1e-5)
    vocabulary = Vocabulary(centres, (alpha * normalise(centres)).astype(np.float32))
    assert np.allclose(vocabulary.weights[0, :3], known["conv_weight_first3"], rtol=1e-4)
    assert np.allclose(centres[0, :3], known["centroid_first3"])
    encoder = load("q1")["encoder"]
    ours = vlad(normalise(encoder.reshape(512, -1).T), vocabulary)
    assert np.abs(ours[:8] - known["netvlad_of_q1_encoder_first8"]).max() < 1e-6
    assert len(fit_vocabulary(features, 4)) == 4


def test_pca_gives_the_published_projections():
    known = told("training_bits")["pca_primal"]
    samples = np.random.RandomState(8).standard_normal((300, 64))
    samples = samples * np.linspace(3, 0.2, 64) + np.linspace(-1, 1, 64)
    ours = fit_pca(samples, known["num_pcs"])
    expected = np.array(known["abs_projection_first3_rows_before_l2"])
    assert np.allclose(np.abs(ours(samples[:3])), expected, rtol=1e-3, atol=1e-4)
