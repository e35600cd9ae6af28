"""Models: fit, file, fingerprint, and what is refused."""

import json

import numpy as np
import pytest

from placerec.errors import NotFound, UnsafeWeights, UsageError
from placerec.index.fit import fit_on_folder
from placerec.models.files import (
    load_model,
    model_bytes,
    model_from_bytes,
    save_model,
)
from placerec.models.named import generic_model, open_named
from placerec.settings import METHODS, Settings

SMALL = Settings(image_size=(160, 224), pca_dim=16)


@pytest.fixture(scope="module")
def fitted(many_photos):
    return fit_on_folder(many_photos, settings=SMALL, threads=2)[0]


def same_features(first, second):
    sets = zip(first.patches, second.patches, strict=True)
    return np.array_equal(first.global_descriptor, second.global_descriptor) and all(
        np.array_equal(a.descriptors, b.descriptors) for a, b in sets
    )


def test_a_saved_model_describes_alike_and_keeps_its_fingerprint(fitted, tmp_path):
    path = tmp_path / "town.safetensors"
    save_model(fitted, path)
    loaded = load_model(path)
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    assert loaded.fingerprint == fitted.fingerprint
    assert same_features(loaded.describe(pixels), fitted.describe(pixels))
    assert [p.name for p in tmp_path.iterdir()] == ["town.safetensors"]


def test_a_fit_is_the_same_whatever_the_threads(many_photos, fitted):
    again, _ = fit_on_folder(many_photos, settings=SMALL, threads=3)
    assert again.fingerprint == fitted.fingerprint


def test_descriptors_are_unit_vectors_of_the_stated_shapes(fitted):
    features = fitted.describe(np.random.default_rng(1).integers(0, 255, (60, 90, 3), np.uint8))
    assert np.linalg.norm(features.global_descriptor) == pytest.approx(1.0, abs=1e-5)
    for patches, size in zip(features.patches, SMALL.patch_sizes, strict=True):
        assert patches.size == size
        assert patches.descriptors.shape == (patches.rows * patches.columns, 16)
        assert np.allclose(np.linalg.norm(patches.descriptors, axis=1), 1.0, atol=1e-5)


def test_the_papers_patches_can_be_fitted(many_photos):
    settings = METHODS["patch-netvlad"].replace(
        image_size=(160, 224), clusters=8, k_patch=8, pca_dim=12
    )
    model, _ = fit_on_folder(many_photos, settings=settings)
    features = model.describe(np.random.default_rng(2).integers(0, 255, (60, 90, 3), np.uint8))
    assert [p.size for p in features.patches] == [(2, 2), (5, 5), (8, 8)]
    assert all(p.descriptors.shape[1] == 12 for p in features.patches)


def test_the_generic_model_is_small_and_names_its_training_data():
    model = generic_model()
    assert len(model_bytes(model)) < 2_000_000
    assert "gsv_cambridge_train" in model.training_data


def test_fewer_dimensions_are_the_leading_ones():
    model = generic_model()
    settings = model.settings.replace(pca_dim=8)
    assert model.with_settings(settings).fitted.patch_projection.dimensions == 8
    with pytest.raises(UsageError, match="pca_dim 5000"):
        model.with_settings(model.settings.replace(pca_dim=5000))


def test_a_cut_or_foreign_file_is_refused(fitted, tmp_path):
    data = model_bytes(fitted)
    for wrong in (b"", data[:-1], data[:100], b"PK\x03\x04" + data, b"\x80\x04pickle"):
        path = tmp_path / "wrong.safetensors"
        path.write_bytes(wrong)
        with pytest.raises(UnsafeWeights, match="wrong"):
            load_model(path)


def test_a_safetensors_file_of_something_else_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(UnsafeWeights, match="missing: format"):
        load_model(tmp_path / "x.safetensors")


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "nan"])
def test_wrong_tensors_are_refused_by_name(fitted, tmp_path, change):
    from safetensors.numpy import load, save

    data = model_bytes(fitted)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tensors = dict(load(data))
    name = "vocabulary.centres"
    if change == "missing":
        del tensors[name]
    elif change == "extra":
        name = "surprise"
        tensors[name] = np.zeros(2, np.float32)
    elif change == "shape":
        tensors[name] = tensors[name][:, :-1].copy()
    else:
        tensors[name] = np.full_like(tensors[name], np.nan)
    with pytest.raises(UnsafeWeights, match=name):
        model_from_bytes(save(tensors, header["__metadata__"]), tmp_path / "m.safetensors")


def test_a_model_of_another_trunk_is_refused(fitted, tmp_path):
    data = model_bytes(fitted).replace(fitted.trunk.sha256.encode(), b"0" * 64)
    with pytest.raises(UnsafeWeights, match="trunk"):
        model_from_bytes(data, tmp_path / "m.safetensors")


def test_names_that_are_no_model_are_refused():
    with pytest.raises(UsageError, match="choose auto, generic"):
        open_named("resnet")
    with pytest.raises(NotFound, match="placerec fit"):
        open_named("nowhere.safetensors")
