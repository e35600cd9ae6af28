"""AP-GeM: the network, and its authors' checkpoint, read without scikit-learn or refused.

The checkpoint of these tests has the shape of the authors' file: PyTorch's old or new container,
and a pickled object that says it is scikit-learn's PCA. It is crafted here: classes of that name
are made for as long as it is written.
"""

import argparse
import os
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from placerec.baselines.ap_gem import ApGem, generalised_mean
from placerec.baselines.ap_gem_checkpoint import convert
from placerec.baselines.resnet import (
    CHANNELS,
    RESNET101,
    blocks_of,
    feature_map,
    state_shapes,
)
from placerec.baselines.weights import write_weights
from placerec.errors import NotFound, UnsafeWeights
from placerec.evaluation.methods import named_method

torch = pytest.importorskip("torch")

SMALL = (1, 1, 1, 2)  # blocks of the seeded network in the checkpoint
WIDTH, OUTPUTS = 24, 16  # of the linear layer and of the whitening
OPTIONS = {"arch": "resnet101_rmac", "out_dim": WIDTH, "pooling": "gem", "gemp": 3}


def seeded(blocks, seed=0):
    """A ResNet state whose activations stay in range."""
    draw = np.random.default_rng(seed)
    state = OrderedDict()
    for key, shape in state_shapes(blocks).items():
        if len(shape) == 4:
            values = draw.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        elif key.endswith("running_var"):
            values = draw.uniform(0.5, 2, shape)
        else:
            values = draw.normal(0, 0.1, shape) + key.endswith("weight")
        state[key] = torch.from_numpy(np.asarray(values, np.float32))
    return state


@pytest.fixture(scope="module")
def state():
    draw = np.random.default_rng(7).standard_normal
    checkpoint = seeded(SMALL)
    checkpoint["bn1.num_batches_tracked"] = torch.tensor(5)
    checkpoint["adpool.p"] = torch.tensor([2.7])
    checkpoint["fc.weight"] = torch.from_numpy(draw((WIDTH, CHANNELS), np.float32) / 40)
    checkpoint["fc.bias"] = torch.from_numpy(0.1 * draw(WIDTH, np.float32))
    return checkpoint


@pytest.fixture
def pca(monkeypatch):
    """Return objects that pickle as scikit-learn's PCA, with the old or new module name."""

    kinds = {}

    def make(module="sklearn.decomposition.pca", **changes):
        draw = np.random.default_rng(8)
        if module not in kinds:
            kinds[module] = type("PCA", (), {"__module__": module})
            for name in ("sklearn", "sklearn.decomposition", module):
                monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
            sys.modules[module].PCA = kinds[module]
        made = kinds[module]()
        vars(made).update({
            "n_components": None, "copy": True, "whiten": True, "svd_solver": "full", "tol": 0.0,
            "iterated_power": "auto", "random_state": None, "n_components_": OUTPUTS,
            "n_samples_": 100, "noise_variance_": np.float64(0.1),
            "mean_": draw.normal(0, 0.1, WIDTH).astype(np.float32),
            "components_": np.linalg.qr(draw.standard_normal((WIDTH, WIDTH)))[0][:OUTPUTS],
            "explained_variance_": np.sort(draw.uniform(0.01, 1, OUTPUTS))[::-1],
            "_sklearn_version": "0.20.3", **changes,
        })  # fmt: skip
        return made

    return make


@pytest.fixture
def write(state, tmp_path):
    """Save a checkpoint with these entries changed (None removes one); returns its path."""

    def save(name="seeded.pt", old=False, prefix="", **changes):
        named = OrderedDict((prefix + key, value) for key, value in state.items())
        checkpoint = {"model_options": OPTIONS, "state_dict": named, **changes}
        checkpoint = {key: value for key, value in checkpoint.items() if value is not None}
        torch.save(checkpoint, tmp_path / name, _use_new_zipfile_serialization=not old)
        return tmp_path / name

    return save


@pytest.fixture
def opened(tmp_path):
    """Convert a checkpoint and open the method with it."""

    def make(path, **options):
        convert(path, tmp_path / "ap-gem.safetensors", real=False)
        return ApGem(tmp_path / "ap-gem.safetensors", **options)

    return make


def photo(seed=0, size=(96, 128)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def expected(state, record, pixels):
    """Compute the descriptor of ``describe`` step by step."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = torch.from_numpy((pixels / 255 - mean) / std).float().permute(2, 0, 1)[None]
    with torch.inference_mode():
        power = float(state["adpool.p"])
        lifted = feature_map(state_only(state), image).clamp(min=1e-6) ** power
        pooled = lifted.mean((2, 3)) ** (1 / power)
        vector = torch.nn.functional.linear(pooled, state["fc.weight"], state["fc.bias"])
        vector = torch.nn.functional.normalize(vector)[0].numpy().astype(float)
    white = (vector - record.mean_) @ record.components_.T / record.explained_variance_**0.25
    return white / np.linalg.norm(white)


def state_only(state):
    return {key: value for key, value in state.items() if key in state_shapes(SMALL)}


def test_resnet_is_stages_of_bottlenecks_as_modules_compute_them():
    """The layers of the table, built of torch's modules from the same tensors."""
    nn, image = torch.nn, torch.from_numpy(photo(1).transpose(2, 0, 1)[None] / 255).float()
    state = seeded((1, 2, 1, 1))
    assert blocks_of(state) == (1, 2, 1, 1)

    def convolution(x, conv, norm, **options):
        weight = state[f"{conv}.weight"]
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], bias=False, **options)
        bn = nn.BatchNorm2d(weight.shape[0]).eval()
        layer.load_state_dict({"weight": weight})
        parts = ("weight", "bias", "running_mean", "running_var")
        bn.load_state_dict({part: state[f"{norm}.{part}"] for part in parts}, strict=False)
        return bn(layer(x))

    with torch.inference_mode():
        x = convolution(image, "conv1", "bn1", stride=2, padding=3).relu()
        x = nn.MaxPool2d(3, 2, 1)(x)
        for block, stride in (
            ("layer1.0", 1), ("layer2.0", 2), ("layer2.1", 1), ("layer3.0", 2), ("layer4.0", 2),
        ):  # fmt: skip
            y = convolution(x, f"{block}.conv1", f"{block}.bn1").relu()
            y = convolution(y, f"{block}.conv2", f"{block}.bn2", stride=stride, padding=1).relu()
            y = convolution(y, f"{block}.conv3", f"{block}.bn3")
            if f"{block}.downsample.0.weight" in state:
                x = convolution(x, f"{block}.downsample.0", f"{block}.downsample.1", stride=stride)
            x = (x + y).relu()
        assert torch.allclose(feature_map(state, image), x, rtol=1e-4, atol=1e-4)


def test_resnet_101_has_its_published_size_and_stride():
    shapes = state_shapes()
    trained = (s for k, s in shapes.items() if "running" not in k)
    assert sum(int(np.prod(shape)) for shape in trained) == 44_549_160 - 1000 * 2049
    assert blocks_of(shapes) == RESNET101
    with torch.inference_mode():
        features = feature_map(seeded(RESNET101), torch.rand(1, 3, 64, 96))
    assert features.shape == (1, CHANNELS, 2, 3)
    assert 0 < features.mean() < torch.inf


def test_generalised_mean_is_the_mean_at_power_1_and_near_the_maximum_at_power_200():
    features = np.random.default_rng(2).uniform(0, 5, (4, 3, 5)).astype(np.float32)
    assert np.allclose(generalised_mean(features, 1.0), features.mean(axis=(1, 2)))
    assert np.allclose(generalised_mean(features, 200.0), features.max(axis=(1, 2)), rtol=0.02)


@pytest.mark.parametrize("module", ["sklearn.decomposition.pca", "sklearn.decomposition._pca"])
@pytest.mark.parametrize("old", [True, False])
def test_the_authors_checkpoint_is_read_and_gives_their_descriptor(
    write, opened, pca, state, module, old
):
    record = pca(module)
    path = write(
        old=old, prefix="module.", pca={"Landmarks_clean": record, "other": pca(module)},
        epoch=np.float64(3),
    )  # fmt: skip
    if old:  # as NumPy of that time called it
        data = path.read_bytes()
        assert b"numpy._core.multiarray" in data
        path.write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    method = opened(path)
    assert (method.name, method.provenance.real) == ("ap-gem", False)
    vector = method.describe(photo())
    assert (vector.shape, vector.dtype) == ((OUTPUTS,), np.float32)
    assert np.allclose(vector, expected(state, record, photo()), atol=1e-5)
    assert np.array_equal(vector, method.describe(photo()))


def test_photos_of_any_size_and_shape_are_described_and_large_ones_are_shrunk(write, opened, pca):
    method = opened(write(pca={"Landmarks_clean": pca()}), longer_side=64)
    assert method.name == "ap-gem (64 px)"
    for size in ((480, 640), (33, 31), (1, 200)):
        assert np.isclose(np.linalg.norm(method.describe(photo(3, size))), 1, atol=1e-5)


def test_the_fingerprint_follows_weights_and_size(write, opened, pca):
    first = opened(write(pca={"Landmarks_clean": pca()}))
    again = opened(write(pca={"Landmarks_clean": pca()}, old=True))
    smaller = opened(write(pca={"Landmarks_clean": pca()}), longer_side=512)
    other = opened(write(pca={"Landmarks_clean": pca(whiten=False)}))
    assert first.fingerprint == again.fingerprint
    assert len({method.fingerprint for method in (first, smaller, other)}) == 3


def test_a_checkpoint_without_whitening_says_so(write, opened):
    method = opened(write())
    assert method.name == "ap-gem (not whitened)"
    assert method.describe(photo()).shape == (WIDTH,)


class Bomb:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return (os.mkdir, (self.folder,))


class Stranger:
    """A class that the file may not name."""


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(write, pca, tmp_path):
    bomb = Bomb(tmp_path / "went off")
    hostile = [
        write("entry.pt", pca=bomb),
        write("inside.pt", pca={"Landmarks_clean": pca(random_state=bomb)}),
        write("old.pt", old=True, pca={"Landmarks_clean": pca(mean_=bomb)}),
        write("stranger.pt", pca={"Landmarks_clean": Stranger()}),
        write("object.pt", pca={"Landmarks_clean": pca(mean_=np.array([Stranger()], object))}),
        tmp_path / "bare.pt",
    ]
    hostile[-1].write_bytes(pickle.dumps(bomb))
    before = {*tmp_path.iterdir()}
    for path in hostile:
        with pytest.raises(UnsafeWeights, match="safe reader refuses") as caught:
            convert(path, tmp_path / "out")
        assert "\n" not in str(caught.value)
    assert {*tmp_path.iterdir()} == before


def test_any_class_but_the_pca_is_refused_by_its_name(write, pca, tmp_path):
    for name, options, old in (
        ("argparse.Namespace", argparse.Namespace(lr=1e-4), False),
        ("argparse.Namespace", argparse.Namespace(lr=1e-4), True),
        ("test_ap_gem.Stranger", Stranger(), False),
        ("sklearn.decomposition.pca.Other", pca("sklearn.decomposition.pca.Other"), False),
    ):
        path = write(old=old, pca={"Landmarks_clean": pca()}, options=options)
        with pytest.raises(UnsafeWeights, match=f"safe reader refuses it: .*{name}"):
            convert(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fault", "changes"),
    [
        ("no state_dict", {"state_dict": None}),
        ("network is resnet18_rmac", {"model_options": {**OPTIONS, "arch": "resnet18_rmac"}}),
        ("network is None", {"model_options": None}),
        ("norm_features", {"model_options": {**OPTIONS, "norm_features": True}}),
        ("pooling", {"model_options": {**OPTIONS, "pooling": "max"}}),
        ("no Landmarks_clean", {"pca": {"one": 1, "two": 2}}),
        ("no Landmarks_clean", {"pca": {"Landmarks_clean": np.ones(3)}}),
        ("preprocess mean", {"preprocess": {"mean": ["a"], "std": [1.0, 1.0, 1.0]}}),
    ],
)
def test_another_checkpoint_is_refused_with_what_is_wrong(write, tmp_path, fault, changes):
    path = write(**changes)
    with pytest.raises(UnsafeWeights, match=fault):
        convert(path, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("fault", "changes"),
    [
        ("do not fit", {"components_": np.ones(OUTPUTS)}),
        ("do not fit", {"explained_variance_": np.zeros(OUTPUTS)}),
        ("mean that does not fit", {"mean_": np.ones(3)}),
        ("components_ is not an array of floats", {"components_": "text"}),
        ("whitening.weight has shape", {"components_": np.ones((OUTPUTS, 9)), "mean_": None}),
        ("not finite", {"mean_": np.full(WIDTH, np.nan)}),
    ],
)
def test_a_whitening_that_does_not_fit_is_refused(write, pca, tmp_path, fault, changes):
    path = write(pca={"Landmarks_clean": pca(**changes)})
    with pytest.raises(UnsafeWeights, match=fault):
        convert(path, tmp_path / "out")


def test_tensors_that_do_not_fit_are_refused_by_name(state, write, tmp_path):
    for key, value, fault in (
        ("layer2.0.bn1.bias", None, "layer2.0.bn1.bias is missing"),
        ("layer2.0.bn1.bias", torch.zeros(3), "layer2.0.bn1.bias has shape"),
        ("layer2.0.bn1.bias", torch.full((128,), torch.inf), "not finite"),
        ("adpool.p", torch.zeros(1), "adpool.p is not above 0"),
        ("fc.weight", torch.zeros(WIDTH, 8), "fc.weight has shape"),
        ("more.weight", torch.zeros(2), "more.weight is unknown"),
        ("fc.bias", torch.zeros(WIDTH, dtype=torch.int64), "fc.bias is not an array of floats"),
    ):
        changed = {k: v for k, v in {**state, key: value}.items() if v is not None}
        path = write(state_dict=changed)
        with pytest.raises(UnsafeWeights, match=fault):
            convert(path, tmp_path / "out")
    write_weights("ap-gem", {"fc.bias": np.zeros(3, np.float32)}, {}, tmp_path / "bad.safetensors")
    with pytest.raises(UnsafeWeights, match="is missing"):
        ApGem(tmp_path / "bad.safetensors")


def test_missing_weights_say_how_to_make_them(monkeypatch, tmp_path):
    monkeypatch.setenv("PLACEREC_CACHE", str(tmp_path))
    with pytest.raises(NotFound, match="weights convert ap-gem"):
        ApGem()
    with pytest.raises(NotFound, match=r"none\.safetensors.*weights convert ap-gem"):
        ApGem(weights=tmp_path / "none.safetensors")


def test_the_method_takes_a_weight_file_and_a_size(write, pca, monkeypatch, tmp_path):
    """As ``evaluate --method ap-gem --weights FILE --longer-side N`` asks for it."""
    monkeypatch.setenv("PLACEREC_CACHE", str(tmp_path / "empty"))
    path = write(pca={"Landmarks_clean": pca()})
    convert(path, tmp_path / "converted.safetensors", real=False)
    options = {"weights": tmp_path / "converted.safetensors", "longer_side": 96}
    method = named_method("ap-gem", baseline=options).retrieval
    assert method.name == "ap-gem (96 px)"
    assert method.describe(photo()).shape == (OUTPUTS,)
    with pytest.raises(UnsafeWeights, match="again: placerec weights convert ap-gem"):
        ApGem(weights=path)  # the authors' file itself
