"""Published checkpoints: read safely or refused by name, and back again without a changed bit."""

import json
import shutil
import subprocess
from collections import OrderedDict

import numpy as np
import pytest
import torch

from placerec.errors import NotFound, UnsafeWeights, UsageError
from placerec.index import IndexReader
from placerec.index.build import build_index, refit_index
from placerec.method.pca import Projection
from placerec.models.checkpoints import export_checkpoint, import_checkpoint
from placerec.models.model import published_features
from placerec.models.model_file import load_model, model_bytes, save_model
from placerec.models.photo_source import fit_on_folder
from placerec.models.resolve import settings_for
from placerec.settings import METHODS
from placerec.trunks.vgg16 import state_shapes

CLUSTERS, DIMENSIONS, SMALL = 24, 40, (96, 128)


@pytest.fixture
def run(command):
    return lambda *words: subprocess.CompletedProcess(words, *command(*words))


@pytest.fixture(scope="module")
def some_photos(many_photos, tmp_path_factory):
    """A folder with 24 of the small photos."""
    folder = tmp_path_factory.mktemp("some")
    for path in sorted(many_photos.iterdir())[:24]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def state():
    """A state dictionary of the published keys and shapes, seeded."""
    draw = np.random.default_rng(5).standard_normal
    tensors = OrderedDict()
    for key, shape in state_shapes().items():
        scale = np.sqrt(2 / (9 * shape[1])) if len(shape) == 4 else 0.05
        tensors[key] = torch.from_numpy((scale * draw(shape, np.float32)).astype(np.float32))
    centres = draw((CLUSTERS, 512))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    weight = draw((DIMENSIONS, CLUSTERS * 512)) / np.sqrt(CLUSTERS * 512)
    tensors["pool.centroids"] = torch.from_numpy(centres.astype(np.float32))
    tensors["pool.conv.weight"] = torch.from_numpy((60 * centres)[:, :, None, None]).float()
    tensors["WPCA.0.weight"] = torch.from_numpy(weight[:, :, None, None])  # float64, as published
    tensors["WPCA.0.bias"] = torch.from_numpy(0.01 * draw(DIMENSIONS))
    return tensors


@pytest.fixture
def write(state, tmp_path):
    """Save the state with changes (None removes a key), return the path."""

    def save(path="mapillary.pth.tar", rename=lambda key: key, extra=(), **changes):
        merged = {**state, **{key.replace("__", "."): value for key, value in changes.items()}}
        kept = OrderedDict((rename(k), v) for k, v in merged.items() if v is not None)
        target = tmp_path / path
        torch.save({"num_pcs": DIMENSIONS, "state_dict": kept, **dict(extra)}, target)
        return target

    return save


@pytest.fixture(scope="module")
def model(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "seeded_WPCA40.pth.tar"
    torch.save({"num_pcs": DIMENSIONS, "state_dict": state}, path)
    return import_checkpoint(path, training_data="random numbers", licence="MIT")


def same(first, second):
    return first.fingerprint == second.fingerprint and first.settings == second.settings


def test_tensors_arrive_as_float32_with_k_and_d_read_from_them(model, state):
    vocabulary, projection = model.fitted.vocabulary, model.fitted.projection
    assert np.array_equal(vocabulary.centres, state["pool.centroids"].numpy())
    assert np.array_equal(vocabulary.weights, state["pool.conv.weight"][:, :, 0, 0].numpy())
    assert vocabulary.bias is None
    assert np.array_equal(projection.weight, state["WPCA.0.weight"][:, :, 0, 0].float().numpy())
    assert {t.dtype for t in (projection.weight, projection.bias, *model.trunk.state.values())} == {
        np.dtype(np.float32)
    }
    settings = model.settings
    assert (settings.clusters, settings.k_patch) == (CLUSTERS, CLUSTERS)
    assert (settings.global_dim, settings.pca_dim) == (DIMENSIONS, DIMENSIONS)
    assert model.name == "seeded_WPCA40"
    assert "seeded_WPCA40.pth.tar, sha256" in model.provenance


def test_a_model_file_keeps_every_bit_and_says_what_it_is(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(model, path)
    loaded = load_model(path)
    assert same(loaded, model)
    assert (loaded.training_data, loaded.licence) == ("random numbers", "MIT")
    assert loaded.provenance == model.provenance
    for key, tensor in model.trunk.state.items():
        assert np.array_equal(loaded.trunk.state[key], tensor)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_model_file_with_changed_numbers_is_refused(model, tmp_path):
    data = bytearray(model_bytes(model))
    data[-5000] ^= 1  # still a finite number
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(UnsafeWeights, match=r"sha256|trunk"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("biased", [False, True])
def test_export_gives_the_published_keys_and_comes_back_the_same(model, write, tmp_path, biased):
    if biased:
        bias = torch.linspace(-1, 1, CLUSTERS)
        model = import_checkpoint(write(pool__conv__bias=bias))
        assert np.array_equal(model.fitted.vocabulary.bias, bias.numpy())
    export_checkpoint(model, tmp_path / "out.pth.tar")
    content = torch.load(tmp_path / "out.pth.tar", weights_only=True)
    shapes = {key: tuple(tensor.shape) for key, tensor in content["state_dict"].items()}
    assert content["num_pcs"] == DIMENSIONS
    assert shapes["pool.conv.weight"] == (CLUSTERS, 512, 1, 1)
    assert shapes["WPCA.0.weight"] == (DIMENSIONS, CLUSTERS * 512, 1, 1)
    assert ("pool.conv.bias" in shapes) == biased
    assert same(import_checkpoint(tmp_path / "out.pth.tar"), model)


@pytest.mark.parametrize("rename", [
    lambda key: key.replace("encoder.", "encoder.module.").replace("pool.", "pool.module."),
    lambda key: "module." + key,
])  # fmt: skip
def test_data_parallel_prefixes_do_not_matter(model, write, rename):
    assert same(import_checkpoint(write(rename=rename)), model)


def test_a_training_checkpoint_without_pca_is_a_model_that_retrieves(write, tmp_path):
    recalls = {1: np.float64(0.5), 5: np.float64(0.7)}
    path = write(
        WPCA__0__weight=None, WPCA__0__bias=None,
        extra={"num_pcs": None, "epoch": 3, "recalls": recalls, "best_score": np.float64(0.7),
               "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "parallel": False},
    )  # fmt: skip
    model = import_checkpoint(str(path))
    assert model.fitted.projection is None
    assert not model.settings.reranks
    export_checkpoint(model, str(tmp_path / "again.pth.tar"))
    assert same(import_checkpoint(tmp_path / "again.pth.tar"), model)


def test_a_model_without_pca_gets_one_by_a_fit_and_keeps_its_vocabulary(
    write, tmp_path, some_photos
):
    file = tmp_path / "trained.safetensors"
    save_model(import_checkpoint(write(WPCA__0__weight=None, WPCA__0__bias=None,
                                       extra={"num_pcs": None})), file)  # fmt: skip
    settings = settings_for(str(file), "paper-speed", pca_dim=20, image_size=SMALL)
    fitted, skipped = fit_on_folder(some_photos, model=str(file), settings=settings)
    assert not skipped
    before = load_model(file)
    assert np.array_equal(fitted.fitted.vocabulary.weights, before.fitted.vocabulary.weights)
    assert fitted.trunk.sha256 == before.trunk.sha256
    assert fitted.fitted.patch_projection.dimensions == 20
    assert fitted.provenance.startswith(f"{before.provenance}; the PCA: fitted by placerec ")
    assert fitted.licence.startswith(before.licence)
    assert "the PCA: 24 photos" in fitted.training_data
    save_model(fitted, tmp_path / "whole.safetensors")
    assert same(load_model(tmp_path / "whole.safetensors"), fitted)


@pytest.mark.parametrize(("key", "change"), [
    ("encoder.28.weight", lambda t: t[:, :256]),
    ("encoder.0.bias", None),
    ("pool.centroids", lambda t: t[:, :256]),
    ("pool.conv.weight", lambda t: t[:-1]),
    ("pool.conv.weight", None),
    ("WPCA.0.weight", lambda t: t[:, :-512]),
    ("WPCA.0.bias", None),
    ("encoder.14.weight", lambda t: torch.full_like(t, float("nan"))),
    ("pool.centroids", lambda t: t.to(torch.int32)),
    ("encoder.30.weight", lambda _: torch.zeros(3)),
])  # fmt: skip
def test_a_wrong_tensor_is_refused_by_its_key(write, state, key, change):
    value = change(state.get(key)) if change else None
    with pytest.raises(UnsafeWeights, match=key.replace(".", r"\.")):
        import_checkpoint(write(**{key.replace(".", "__"): value}))


@pytest.mark.parametrize(("key", "tensor"), [
    ("pool.centroids", torch.tensor(1.0)),
    ("pool.centroids", torch.zeros(0, 512)),
    ("pool.centroids", torch.zeros(CLUSTERS, 0)),
    ("pool.conv.bias", torch.tensor(1.0)),
    ("WPCA.0.bias", torch.tensor(1.0)),
    ("WPCA.0.bias", torch.zeros(0)),
    ("WPCA.0.bias", torch.zeros(DIMENSIONS).to_sparse()),
    ("pool.centroids", torch.zeros(CLUSTERS, 512, device="meta")),
    ("pool.centroids", torch.zeros(1, 1).expand(CLUSTERS, 512)),
    ("pool.centroids", torch.zeros(1, 1).expand(10**9, 512)),
    ("surprise", torch.zeros(1).expand(10**12)),
])  # fmt: skip
def test_a_tensor_that_is_not_what_it_claims_is_refused_by_its_key(write, key, tensor):
    with pytest.raises(UnsafeWeights, match=key.replace(".", r"\.")):
        import_checkpoint(write(**{key.replace(".", "__"): tensor}))


def test_a_name_that_comes_twice_is_refused_with_both_names(write, state):
    path = write(module__pool__centroids=2 * state["pool.centroids"])
    with pytest.raises(UnsafeWeights, match=r"pool\.centroids and module\.pool\.centroids"):
        import_checkpoint(path)


def test_another_number_of_dimensions_than_stated_is_refused(write):
    with pytest.raises(UnsafeWeights, match="num_pcs is 512"):
        import_checkpoint(write(extra={"num_pcs": 512}))
    path = write(WPCA__0__weight=None, WPCA__0__bias=None)
    with pytest.raises(UnsafeWeights, match=r"num_pcs is 40, but WPCA\.0\.weight .* missing"):
        import_checkpoint(path)


@pytest.mark.parametrize(
    "told", ["abc", "40", [1], float("nan"), float("inf"), 40.5, torch.zeros(2), {"a": 1}], ids=str
)
def test_a_number_of_dimensions_that_is_none_is_refused(write, told):
    with pytest.raises(UnsafeWeights, match="num_pcs is not a whole number"):
        import_checkpoint(write(extra={"num_pcs": told}))


@pytest.mark.parametrize("told", [40.0, np.int64(40), np.float64(40), torch.tensor(40)], ids=type)
def test_a_number_of_dimensions_of_any_type_is_read(model, write, told):
    assert same(import_checkpoint(write(extra={"num_pcs": told})), model)


def test_a_missing_checkpoint_and_a_wrong_model_name_say_so(run, write, tmp_path):
    with pytest.raises(NotFound, match="no such checkpoint"):
        import_checkpoint(tmp_path / "nowhere.pth.tar")
    result = run("weights", "import", write(), tmp_path / "out.model")
    assert (result.returncode, ".safetensors" in result.stderr) == (2, True)


def test_the_commands_go_round_and_features_have_the_published_shapes(
    run, write, tmp_path, many_photos
):
    photo = sorted(many_photos.glob("*"))[0]
    checkpoint, file, arrays = write(), tmp_path / "m.safetensors", tmp_path / "f.npz"
    told = run("weights", "import", checkpoint, file, "--licence", "MIT")
    assert told.stdout.endswith(f"m.safetensors: mapillary, K = {CLUSTERS}, PCA {DIMENSIONS}\n")
    assert run("weights", "export", file, tmp_path / "again.pth.tar").returncode == 0
    told = run("features", photo, "--weights", file, "--out", arrays)
    assert told.returncode == 0, told.stderr
    with np.load(arrays) as found:
        shapes = {name: found[name].shape for name in found.files}
        assert {found[name].dtype for name in found.files} == {np.dtype(np.float32)}
        lengths = np.linalg.norm(found["patch5_pca"], axis=0)
    assert shapes == {
        "encoder": (512, 30, 40), "global_vlad": (CLUSTERS * 512,), "global_pca": (DIMENSIONS,),
        "patch2_pca": (DIMENSIONS, 1131), "patch5_pca": (DIMENSIONS, 936),
        "patch8_pca": (DIMENSIONS, 759),
    }  # fmt: skip
    assert np.allclose(lengths, 1, atol=1e-5)


def test_an_imported_model_builds_an_index_that_answers(run, model, tmp_path, some_photos):
    file, index = tmp_path / "m.safetensors", tmp_path / "town.placerec"
    save_model(model, file)
    options = ("--image-size", "96,128", "--patch-sizes", "2,3")
    told = run("index", "build", index, some_photos, "--model", file, *options)
    assert told.returncode == 0, told.stderr
    photo = sorted(some_photos.glob("*"))[3]
    for more in ((), ("--model", file)):
        told = run("query", index, photo, "--json", *more)
        assert json.loads(told.stdout)[0]["places"][0]["path"] == photo.name
    told = run("query", index, photo, "--model", "generic")
    assert (told.returncode, "made by seeded_WPCA40" in told.stderr) == (4, True)


def test_a_refit_leaves_imported_weights_as_they_are_and_says_so(model, tmp_path, many_photos):
    file, index = tmp_path / "m.safetensors", tmp_path / "town.placerec"
    save_model(model, file)
    settings = settings_for(str(file), image_size=(96, 128), patch_sizes=((2, 2),))
    names = [path.name for path in sorted(many_photos.iterdir())[:2]]
    build_index(index, many_photos, names=names, model=str(file), settings=settings)
    with IndexReader.open(index) as reader:
        before = reader.info.fingerprint
    report = refit_index(index)
    assert [(notice.kind, notice.names) for notice in report.notices] == [
        ("given_model", (model.name,))
    ]
    with IndexReader.open(index) as reader:
        assert (reader.info.fingerprint, reader.info.photos) == (before, 2)


def test_a_preset_takes_from_an_imported_model_what_it_needs(model, tmp_path):
    file = tmp_path / "m.safetensors"
    save_model(model, file)
    assert settings_for(str(file)) == model.settings
    assert settings_for(str(file), "netvlad").patch_sizes == ()
    storage = settings_for(str(file), "paper-storage", pca_dim=32)
    assert model.with_settings(storage).fitted.patch_projection.dimensions == 32
    with pytest.raises(UsageError, match=r"pca_dim 512: .* has only 40.*placerec fit"):
        model.with_settings(settings_for(str(file), "paper-speed"))
    with pytest.raises(
        UsageError, match=r"k_patch 64: model seeded_WPCA40 .* 24; .*placerec train"
    ):
        model.with_settings(settings_for(str(file), k_patch=64))
    with pytest.raises(UsageError, match="choose one of"):
        settings_for(str(file), "default")


def test_the_presets_are_the_published_ones():
    rows = {
        name: (s.global_dim, s.pca_dim, [a for a, _ in s.patch_sizes], s.stride, s.scorer,
               s.scale_weights, s.fusion, s.candidates, s.image_size, s.trunk, s.whitening)
        for name, s in METHODS.items() if name.startswith("paper-")
    }  # fmt: skip
    common = ("z-score", 100, (480, 640), "vgg16", 1.0)
    assert rows == {
        "paper-performance": (4096, 4096, [2, 5, 8], 1, "ransac", (0.45, 0.15, 0.4), *common),
        "paper-speed": (512, 512, [5], 1, "spatial", None, *common),
        "paper-storage": (128, 128, [5], 1, "spatial", None, *common),
    }


def test_paper_performance_without_a_model_names_the_command(tmp_path, many_photos):
    with pytest.raises(UsageError, match=r"4096 dimensions.*placerec fit"):
        build_index(tmp_path / "i", many_photos, settings=METHODS["paper-performance"])
    assert not any(tmp_path.iterdir())


def test_a_pca_without_photos_enough_and_a_patch_too_large_are_refused(model, many_photos):
    from placerec.models.fit import fit_model

    maps = [np.random.default_rng(n).standard_normal((6, 8, 512), np.float32) for n in range(2)]
    settings = METHODS["paper-storage"].replace(image_size=SMALL)
    with pytest.raises(UsageError, match=r"PCA to 128 dimensions: 2 photos .* allow at most 103"):
        fit_model(model.trunk, settings, maps, name="x", training_data="")
    fitted = fit_model(
        model.trunk, settings.replace(pca_dim=8), maps, name="x", training_data="two"
    )
    assert fitted.training_data.startswith("two, 10 windows of their feature maps")
    with pytest.raises(UsageError, match=r"patch size 8x8 .* does not fit"):
        fitted.with_settings(fitted.settings.replace(patch_sizes=((8, 8),))).describe_map(maps[0])


def test_only_the_published_form_gives_features_or_a_checkpoint(tmp_path, model):
    from placerec.models.resolve import generic_model

    with pytest.raises(UsageError, match="does not have the published form"):
        export_checkpoint(generic_model(), tmp_path / "x.pth.tar")
    with pytest.raises(UsageError, match="does not have the published form"):
        published_features(generic_model(), np.zeros((96, 128, 3), np.uint8))
    assert not any(tmp_path.iterdir())


def test_a_bias_changes_the_assignment(model):
    bias = np.full(CLUSTERS, -50, np.float32)
    bias[3] = 50
    from dataclasses import replace

    from placerec.models.model import Fitted, global_descriptor

    features = np.random.default_rng(1).standard_normal((6, 8, 512), np.float32)
    vocabulary = replace(model.fitted.vocabulary, bias=bias)
    eye = Projection(np.eye(CLUSTERS * 512, dtype=np.float32), np.zeros(CLUSTERS * 512, np.float32))
    found = global_descriptor(features, Fitted.shared(vocabulary, eye), model.settings)
    assert np.linalg.norm(found.reshape(CLUSTERS, 512)[3]) > 0.99
