"""Numbers of the published program on six photos with seeded weights.

They are next to the checkout (``../shared/golden``, with the recipe); without them these tests are
skipped. The tests that need no photos and weights are in ``test_golden_numbers.py``.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from patch_sums import exact_vlad
from recipe import SIZES, seeded_weights

from placerec.index.build import build_index
from placerec.method.matching import mutual_nearest
from placerec.method.patches import patch_vlad
from placerec.method.ransac import ransac_score
from placerec.method.spatial import spatial_score
from placerec.method.vlad import Vocabulary, assignment_sharpness, normalise, vlad
from placerec.models.checkpoints import export_checkpoint
from placerec.models.model import Fitted, Model
from placerec.models.model_file import save_model
from placerec.recognise import PlaceRecognizer
from placerec.records import Grid, PatchSet
from placerec.settings import METHODS
from placerec.trunks.vgg16 import VGG16, state_sha256

GOLDEN = Path(__file__).parent.parent.parent.parent / "shared" / "golden"
pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="needs the golden data next to the checkout"
)
RESULTS = Path(__file__).parent.parent.parent / "results"
PHOTOS = ("q1", "q2", "db1", "db2", "db3", "db4")
PAIRS = [*(f"{query}-db{n}" for query in ("q1", "q2") for n in (1, 2, 3, 4)), "q1-q1"]
OPENCV = "5.0.0.93"
INTEGRAL_TOLERANCE = {2: 2e-5, 5: 5e-6, 8: 5e-6}  # of the published float32 integral image


def load(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def report_of(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def _each_photo_once():
    """The encoder sees each photo once: a test of its own compares what it gives."""
    seen, compute = {}, VGG16.__call__

    def remembered(trunk, image):
        key = trunk.sha256, image.tobytes()
        if key not in seen:
            seen[key] = compute(trunk, image)
        return seen[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VGG16, "__call__", remembered)
        yield


@pytest.fixture(scope="module")
def q1_features():
    """Return the recorded output of the encoder for photo q1 (30, 40, 512) float32."""
    return np.ascontiguousarray(load("q1")["encoder"].transpose(1, 2, 0))


@pytest.fixture(scope="module")
def model():
    """Return the seeded weights of the recipe as a model with the published settings."""
    state, vocabulary, pca = seeded_weights()
    settings = METHODS["paper-storage"].replace(patch_sizes=tuple((p, p) for p in SIZES))
    fitted = Fitted.shared(vocabulary, pca)
    return Model("seeded", VGG16(state, state_sha256(state)), fitted, settings)


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


@pytest.mark.parametrize("size", SIZES)
def test_integral_sums_give_the_patches_of_the_program(q1_features, size):
    expected = load("q1")
    _, vocabulary, pca = seeded_weights()
    unit, window = normalise(q1_features), (size, size)
    ours = patch_vlad(unit, vocabulary, pca, window, sums="integral").descriptors
    assert np.abs(ours - expected[f"patch{size}_pca"].T).max() < INTEGRAL_TOLERANCE[size]
    plain = patch_vlad(unit, vocabulary, None, window, sums="integral").descriptors
    plain = plain[expected[f"patch{size}_vlad_cols"]]
    assert np.abs(plain - expected[f"patch{size}_vlad"].T).max() < INTEGRAL_TOLERANCE[size]


def test_a_sharp_assignment_ruins_integral_sums_as_recorded_and_leaves_direct_ones_exact(
    q1_features,
):
    report = report_of("precision_report")["sharper_assignment_q1"]["assignment_scale_300"]["p2"]
    _, vocabulary, _ = seeded_weights(300.0)
    exact = exact_vlad(q1_features, vocabulary, 2)

    def noise(sums):
        patches = patch_vlad(normalise(q1_features), vocabulary, None, (2, 2), sums=sums)
        return 1.0 - np.einsum("pd,pd->p", normalise(patches.descriptors.astype(float)), exact)

    assert noise("direct").max() < 1e-11
    integral = noise("integral")
    assert integral.max() == pytest.approx(report["vlad_1_minus_cos_max"], rel=0.1)
    assert np.median(integral) == pytest.approx(report["vlad_1_minus_cos_median"], rel=0.1)


def stored(name, size):
    patches = load(name)[f"patch{size}_pca"].T.copy()
    return PatchSet(Grid((size, size), 31 - size, 41 - size, 1), patches)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("size", SIZES)
def test_a_pair_is_matched_and_scored_as_published(pair, size):
    import cv2

    query, database = pair.split("-")
    matched = mutual_nearest(stored(query, size), stored(database, size))
    with np.load(GOLDEN / "mutual_matches_all_pairs.npz") as file:
        expected = {tuple(row) for row in file[f"{pair}-p{size}"].tolist()}
    scores = report_of("matches_and_scores")["pairs"][pair]["per_patch_size"][str(size)]
    doubtful = {tuple(row[:2]) for row in scores["ambiguous_matches_gap_below_2e_6"]}
    assert {tuple(row) for row in matched.pairs.tolist()} ^ expected <= doubtful
    assert spatial_score(matched).score == pytest.approx(-scores["spatial_score"], rel=1e-3)
    readings = scores["spatial_paper_readings"]
    for form, reading in (("paper", "abs_of_max"), ("paper-absolute", "max_of_abs")):
        ours = spatial_score(matched, form).score
        assert ours == pytest.approx(-readings[reading], rel=1e-3, abs=1e-9)
    if cv2.__version__.startswith("5.0") and not doubtful:
        assert ransac_score(matched).inliers == scores["ransac"][OPENCV]["inliers"]


@pytest.fixture(scope="module")
def index(model, tmp_path_factory):
    """Return an index of the four database photos, made with a model file."""
    folder = tmp_path_factory.mktemp("golden")
    save_model(model, folder / "m.safetensors")
    path = folder / "golden.placerec"
    names = [f"db{n}.png" for n in (1, 2, 3, 4)]
    build_index(path, GOLDEN / "photos", names=names, model=str(folder / "m.safetensors"))
    return path


@pytest.fixture(scope="module")
def query_features(model):
    """Return the features of the two query photos."""
    return {
        name: model.describe(model.read(GOLDEN / "photos" / f"{name}.png").pixels, stride=1)
        for name in ("q1", "q2")
    }


@pytest.mark.parametrize("query", ["q1", "q2"])
@pytest.mark.parametrize(("scorer", "group"), [("spatial", None), ("ransac", OPENCV)])
def test_an_index_orders_the_photos_as_published(index, query_features, query, scorer, group):
    import cv2

    published = report_of("matches_and_scores")["reranking"][query]
    fused = published[scorer] if group is None else published[scorer][group]
    if group and not cv2.__version__.startswith("5.0"):
        pytest.skip("inliers depend on OpenCV, and these were recorded with 5.0")
    for fusion, order, scores in (
        ("raw", "raw_order_best_first", "raw_fused"),
        ("z-score", "order_best_first", "z_scored_fused"),
    ):
        with PlaceRecognizer.open(
            index, scorer=scorer, fusion=fusion, scale_weights=(0.45, 0.15, 0.4)
        ) as recognizer:
            places = recognizer.answer(query, query_features[query], 4).places
        names = [place.path.removesuffix(".png") for place in places]
        assert names == fused[order]
        expected = dict(zip(published["candidates"], fused[scores], strict=True))
        negative = [-expected[name] for name in names]
        assert [place.score for place in places] == pytest.approx(negative, rel=1e-3)


def test_the_first_values_of_netvlad_follow_the_published_initialisation(q1_features):
    expected = report_of("training_bits")["alpha_init"]["netvlad_of_q1_encoder_first8"]
    draw = np.random.RandomState(7).standard_normal
    centres, features = draw((16, 512)), draw((1000, 512))
    centres = (0.8 * normalise(centres)).astype(np.float32)
    alpha = assignment_sharpness(normalise(features).astype(np.float32), centres)
    vocabulary = Vocabulary(centres, (alpha * normalise(centres)).astype(np.float32))
    ours = vlad(normalise(q1_features.reshape(-1, 512)), vocabulary)
    assert np.abs(ours[:8] - expected).max() < 1e-6


def test_the_table_of_patch_sums_agrees_with_the_recorded_report():
    with (RESULTS / "patch_sums.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    report = report_of("precision_report")["sharper_assignment_q1"]
    for row in rows:
        recorded, size = report[f"assignment_scale_{row['assignment_scale']}"], row["patch_size"]
        assert int(row["exact_matches"]) == recorded["matches"][f"q1-db2-p{size}"]["exact_mutual"]
        if row["sums"] == "integral":
            assert float(row["worst"]) == pytest.approx(
                recorded[f"p{size}"]["vlad_1_minus_cos_max"], rel=0.1
            )
        else:
            assert float(row["worst"]) < 1e-11
            assert row["in_common"] == row["exact_matches"]


def test_the_commands_from_checkpoint_to_arrays_give_the_published_numbers(
    command, model, tmp_path
):
    checkpoint, file, out = (tmp_path / name for name in ("c.pth.tar", "m.safetensors", "f.npz"))
    export_checkpoint(model, checkpoint)
    photo = GOLDEN / "photos" / "q1.png"
    for words in (
        ("weights", "import", checkpoint, file),
        ("features", photo, "--weights", file, "--out", out),
    ):
        assert command(*words)[0] == 0
    expected = load("q1")
    with np.load(out) as arrays:
        assert np.abs(arrays["encoder"] - expected["encoder"]).max() < 2e-5
        assert np.abs(arrays["global_vlad"] - expected["global_vlad"]).max() < 1e-7
        assert np.abs(arrays["global_pca"] - expected["global_pca"]).max() < 2e-6
        for size in SIZES:
            exact = expected[f"patch{size}_pca_exact"]
            assert np.abs(arrays[f"patch{size}_pca"] - exact).max() < 2e-6
