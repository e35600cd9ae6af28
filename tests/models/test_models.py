"""Models: fit, file, fingerprint, and what is refused."""

import hashlib
import json
import re
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from click.testing import CliRunner

from placerec.cli.models import weights as weights_command
from placerec.errors import ModelMismatch, NotFound, UnsafeWeights, UsageError
from placerec.models.model_file import (
    load_model,
    model_bytes,
    model_from_bytes,
    read_settings,
    save_model,
)
from placerec.models.photo_source import fit_on_folder
from placerec.models.resolve import generic_model, model_facts, resolve
from placerec.runtime import Runtime
from placerec.settings import METHODS, Settings
from placerec.trunks.efficientnet_lite import shipped_onnx
from placerec.trunks.external import OnnxTrunk

SMALL = Settings(image_size=(160, 224), pca_dim=16)


@pytest.fixture(scope="module")
def fitted(many_photos):
    return fit_on_folder(many_photos, settings=SMALL, runtime=Runtime(threads=2))[0]


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
    again, _ = fit_on_folder(many_photos, settings=SMALL, runtime=Runtime(threads=3))
    assert again.fingerprint == fitted.fingerprint


def test_descriptors_are_unit_vectors_of_the_stated_shapes(fitted):
    features = fitted.describe(np.random.default_rng(1).integers(0, 255, (60, 90, 3), np.uint8))
    assert np.linalg.norm(features.global_descriptor) == pytest.approx(1.0, abs=1e-5)
    for patches, size in zip(features.patches, SMALL.patch_sizes, strict=True):
        assert patches.grid.size == size
        assert patches.descriptors.shape == (len(patches.grid), 16)
        assert np.allclose(np.linalg.norm(patches.descriptors, axis=1), 1.0, atol=1e-5)


def test_the_papers_patches_can_be_fitted(many_photos):
    settings = METHODS["patch-netvlad"].replace(
        image_size=(160, 224), clusters=8, k_patch=8, pca_dim=12
    )
    model, _ = fit_on_folder(many_photos, settings=settings)
    features = model.describe(np.random.default_rng(2).integers(0, 255, (60, 90, 3), np.uint8))
    assert [p.grid.size for p in features.patches] == [(2, 2), (5, 5), (8, 8)]
    assert all(p.descriptors.shape[1] == 12 for p in features.patches)


def test_the_generic_model_is_small_and_names_its_training_data():
    model = generic_model()
    assert len(model_bytes(model)) < 2_000_000
    assert "gsv_cambridge_train" in model.training_data


def test_the_shipped_file_says_where_it_comes_from_and_is_the_recorded_one():
    facts = model_facts("generic")
    assert all(facts.values())
    assert "MIT" in facts["licence"]
    assert "Apache-2.0" in facts["licence"]
    assert "placerec fit gsv_cambridge_train/photos" in facts["provenance"]
    weights = files("placerec.models") / "weights"
    recorded = (weights / "README.md").read_text(encoding="utf-8")
    file = (weights / "generic.safetensors").read_bytes()
    assert f"`{hashlib.sha256(file).hexdigest()}`" in recorded
    assert f"`{facts['sha256']}`" in recorded
    assert facts["trunk_sha256"] == generic_model().trunk.sha256


def test_a_model_file_shows_what_it_says_of_itself(fitted, tmp_path):
    save_model(fitted, tmp_path / "m.safetensors")
    facts = model_facts(str(tmp_path / "m.safetensors"))
    assert facts["name"] == fitted.name
    assert facts["licence"] == fitted.licence
    assert facts["provenance"] == fitted.provenance
    assert all(facts.values())
    told = CliRunner().invoke(weights_command, ["info", str(tmp_path / "m.safetensors")])
    assert [line.partition(": ")[0] for line in told.stdout.splitlines()] == list(facts)
    told = CliRunner().invoke(weights_command, ["info", "generic", "--json"])
    assert json.loads(told.stdout)["settings"]["clusters"] == 64


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
    other = OnnxTrunk(shipped_onnx(), name="net.onnx")
    with pytest.raises(UnsafeWeights, match=r"net\.onnx .*; use the trunk that it was made with"):
        model_from_bytes(data, tmp_path / "m.safetensors", other)


def test_a_model_of_another_version_says_so_and_what_to_do(fitted, tmp_path):
    path, old = tmp_path / "m.safetensors", "0" * 64
    path.write_bytes(model_bytes(fitted).replace(fitted.trunk.sha256.encode(), old.encode()))
    new = fitted.trunk.sha256[:12]
    with pytest.raises(ModelMismatch) as refused:
        load_model(path)
    assert str(refused.value) == (
        f"{path}: made by another version of placerec, with the trunk efficientnet-lite0 "
        f"{old[:12]}, but asked for efficientnet-lite0 {new}, the trunk of this version; fit it "
        f"again: placerec fit PHOTOS"
    )


def with_header(data, **changes):
    """The model file ``data`` with other metadata, its tensors untouched."""
    from safetensors.numpy import load, save

    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    return save(load(data), {**header, **changes})


def settings_with(**changes):
    return json.dumps({**json.loads(SMALL.to_json()), **changes})


@pytest.mark.parametrize(
    "settings",
    [
        "", "{", "[]", "null", "7", '"text"', "{}", "[" * 5000,
        settings_with(surprise=1), settings_with(clusters="64"), settings_with(clusters=64.0),
        settings_with(stride=1.5), settings_with(image_size=5), settings_with(image_size=[1.5, 2]),
        settings_with(patch_sizes=[[2]]), settings_with(patch_sizes=[2]),
        settings_with(patch_sizes=None), settings_with(form="no"),
        settings_with(scorer=["ransac"]), settings_with(scale_weights=["a"]),
        settings_with(trunk=None), settings_with(image_centring="x"),
    ],
)  # fmt: skip
def test_settings_that_are_malformed_are_refused_and_name_the_file(fitted, tmp_path, settings):
    path = tmp_path / "m.safetensors"
    path.write_bytes(with_header(model_bytes(fitted), settings=settings))
    for read in (load_model, read_settings):
        with pytest.raises(UnsafeWeights, match=r"m\.safetensors.*settings cannot be read"):
            read(path)


@pytest.mark.parametrize("header", [b"[]", b"7", b'{"__metadata__": null}', b"[" * 5000, b"\xff"])
def test_a_header_that_is_none_is_refused(tmp_path, header):
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    for read in (load_model, read_settings):
        with pytest.raises(UnsafeWeights, match=r"m\.safetensors"):
            read(path)


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02pickle"])
def test_a_checkpoint_in_place_of_a_model_file_says_how_to_import_it(tmp_path, start):
    path = tmp_path / "mapillary.pth.tar"
    path.write_bytes(start + bytes(100))
    told = rf"placerec weights import {re.escape(str(path))} MODEL\.safetensors"
    with pytest.raises(UnsafeWeights, match=told):
        load_model(path)
    with pytest.raises(UsageError, match=told):
        resolve(str(path))


def test_names_that_are_no_model_are_refused():
    with pytest.raises(UsageError, match="choose auto, generic"):
        resolve("resnet")
    with pytest.raises(NotFound, match="placerec fit"):
        resolve("nowhere.safetensors")


def test_a_model_file_of_a_trunk_from_outside_says_what_to_give_instead(fitted, tmp_path):
    outside = OnnxTrunk(shipped_onnx(), name="net.onnx")
    save_model(replace(fitted, trunk=outside), tmp_path / "m.safetensors")
    with pytest.raises(UsageError, match=r"fitted with the trunk net\.onnx, .*give that file as"):
        load_model(tmp_path / "m.safetensors")
