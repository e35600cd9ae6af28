"""SuperPoint with SuperGlue, on a small seeded model: the published one is not free.

The seeded detector and matcher are sharpened so that a photo matches itself; their scores mean
nothing beyond that.
"""

import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest

from placerec.baselines.superglue import THRESHOLD, SuperGlue, superpoint_superglue
from placerec.demo import demo_pose, render
from placerec.errors import NotFound, UnsafeWeights, UsageError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZE = (96, 128)
OPTIONS = {"keypoints": 60, "longer_side": SIZE[1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A seeded model, saved as the package saves the published one."""
    torch.manual_seed(0)
    detector = transformers.SuperPointConfig(
        encoder_hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16, descriptor_decoder_dim=16,
        keypoint_threshold=0.0,
    )  # fmt: skip
    model = transformers.SuperGlueForKeypointMatching(transformers.SuperGlueConfig(
        keypoint_detector_config=detector.to_dict(), hidden_size=16, keypoint_encoder_sizes=[8, 16],
        gnn_layers_types=["self", "cross"], num_attention_heads=2, sinkhorn_iterations=20,
    ))  # fmt: skip
    with torch.no_grad():
        for parameter in model.keypoint_detector.parameters():
            parameter.copy_(torch.randn_like(parameter) * 1.3 / max(1, parameter[0].numel()) ** 0.5)
        model.final_projection.final_proj.weight.copy_(200 * torch.eye(16))
        model.bin_score.fill_(0)
    model.config.placerec_seeded = True
    transformers.utils.logging.disable_progress_bar()
    path = tmp_path_factory.mktemp("superglue")
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def reranker(folder):
    return superpoint_superglue(weights=folder, **OPTIONS)


@pytest.fixture(scope="module")
def photos():
    return [render(5, demo_pose(5, place, False), size=SIZE) for place in range(3)]


@pytest.fixture
def copy(folder, tmp_path):
    """Return a copy of the folder with changes of its config."""

    def make(name="copy", **changes):
        path = shutil.copytree(folder, tmp_path / name)
        config = json.loads((path / "config.json").read_text("utf-8"))
        (path / "config.json").write_text(json.dumps({**config, **changes}), "utf-8")
        return path

    return make


def test_seeded_weights_are_not_real_and_the_licence_is_stated(reranker, copy):
    assert reranker.provenance.real is False
    assert "non-commercial" in reranker.provenance.licence
    assert SuperGlue(copy(placerec_seeded=False)).real is True


def test_the_record_has_all_options_and_the_sha256_of_the_weights(reranker, folder):
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert reranker.record == {**OPTIONS, "weights": {"model.safetensors": digest}}


def test_a_photo_matches_itself_and_a_blank_one_nothing(reranker, photos):
    seen = [reranker.describe(photo) for photo in photos]
    blank = reranker.describe(np.full((*SIZE, 3), 40, np.uint8))
    assert {key: value.dtype.name for key, value in seen[0].items()} == {
        "keypoints": "float32", "scores": "float32", "descriptors": "float16", "size": "int32",
    }  # fmt: skip
    assert 20 < len(seen[0]["keypoints"]) <= OPTIONS["keypoints"]
    assert len(blank["keypoints"]) == 0
    itself, nothing, *_ = reranker.score(seen[0], [seen[0], blank, *seen[1:]])
    assert itself.score > 20
    assert np.allclose(itself.points[:, :2], itself.points[:, 2:])
    assert nothing.score == 0


def test_matches_are_those_of_the_whole_model_run_on_both_photos(reranker, folder, photos):
    """Features kept apart and put together again, against the package's own forward pass."""
    two = photos[0], np.roll(photos[0], 8, axis=1)
    seen = [reranker.describe(photo) for photo in two]
    model = transformers.SuperGlueForKeypointMatching.from_pretrained(folder).eval()
    model.keypoint_detector.keypoint_decoder.max_keypoints = OPTIONS["keypoints"]
    grey = np.array([0.299, 0.587, 0.114], np.float32)
    pair = torch.from_numpy(np.stack(two) / np.float32(255) @ grey)
    with torch.inference_mode():
        output = model(pair[None, :, None].expand(-1, -1, 3, -1, -1))
        own = SuperGlue(folder).match(*seen)
    matched, score = output.matches[0, 0].numpy(), output.matching_scores[0, 0].numpy()
    rows = np.flatnonzero((matched >= 0) & (score > THRESHOLD))
    positions = output.keypoints[0].numpy() * SIZE[::-1]
    expected = {
        (*positions[0, row].round().astype(int), *positions[1, matched[row]].round().astype(int))
        for row in rows
    }
    pairs = np.concatenate([seen[0]["keypoints"][own[:, 0]], seen[1]["keypoints"][own[:, 1]]], 1)
    matches = {tuple(row) for row in pairs.round().astype(int)}
    assert len(expected) > 5
    assert len(matches & expected) >= 0.9 * len(
        matches | expected
    )  # descriptors are kept in float16


def test_photos_of_two_shapes_match_whichever_is_the_query(reranker, photos):
    wide, high = photos[0], np.ascontiguousarray(photos[0][:, 30:90])
    wide_local, high_local = reranker.describe(wide), reranker.describe(high)
    assert not np.array_equal(wide_local["size"], high_local["size"])
    for first, second in ((wide_local, high_local), (high_local, wide_local)):
        points = reranker.score(first, [second])[0].points
        assert ((points >= 0) & (points <= 1)).all()


def test_order_and_repetition_change_nothing(reranker, photos):
    seen = [reranker.describe(photo) for photo in photos]
    forward = reranker.score(seen[0], seen)
    backward = reranker.score(seen[0], seen[::-1])[::-1]
    assert [verified.score for verified in forward] == [verified.score for verified in backward]
    assert superpoint_superglue.__kwdefaults__ == {"weights": None}


def test_without_a_folder_it_says_what_to_give(tmp_path):
    with pytest.raises(UsageError, match=r"weights.*folder"):
        superpoint_superglue()
    with pytest.raises(NotFound, match="no such weights folder"):
        superpoint_superglue(weights=tmp_path / "none")
    with pytest.raises(UnsafeWeights, match=r"no config\.json"):
        superpoint_superglue(weights=tmp_path)


def test_pickled_weights_code_and_other_models_are_refused(copy, tmp_path):
    pickled = copy("pickled")
    (pickled / "model.safetensors").unlink()
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UnsafeWeights, match=r"no model\.safetensors"):
        SuperGlue(pickled)
    detector = json.loads((copy("plain") / "config.json").read_text())["keypoint_detector_config"]
    for name, changes in {
        "other": {"model_type": "lightglue"},
        "code": {"auto_map": {"AutoModel": "evil.Model"}},
        "detector": {"keypoint_detector_config": {**detector, "model_type": "disk"}},
        "inside": {"keypoint_detector_config": {**detector, "auto_map": {"a": "evil.Model"}}},
    }.items():
        with pytest.raises(UnsafeWeights, match="not of SuperPoint with SuperGlue"):
            SuperGlue(copy(name, **changes))


def test_damaged_and_misfitting_weights_are_refused(copy):
    cut = copy("cut")
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnsafeWeights, match="cut: "):
        SuperGlue(cut)
    with pytest.raises(UnsafeWeights, match=r"deeper: .*tensor"):
        SuperGlue(copy("deeper", gnn_layers_types=["self", "cross", "self", "cross"]))
