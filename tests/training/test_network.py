"""The torch network computes the numbers of the NumPy method; frozen features keep their bits."""

import numpy as np
import pytest
import torch
from training_support import SIZE, draw_photo, random_trunk

from placerec.errors import NotFound, UsageError
from placerec.files import cache_folder
from placerec.method.vlad import Vocabulary, fit_vocabulary, normalise, vlad
from placerec.photos.decode import decode
from placerec.photos.prepare import prepare
from placerec.runtime import Runtime
from placerec.training.network import FrozenFeatures, NetVLAD, Network, conv5, trained_state
from placerec.trunks.vgg16 import state_shapes

TWO = Runtime(threads=2)


def local_features(seed, depth=32):
    return np.random.default_rng(seed).standard_normal((2, depth, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("with_bias", [False, True])
def test_the_layer_has_the_numbers_of_the_method(with_bias):
    features = local_features(0)
    rows = normalise(np.moveaxis(features, 1, 3).reshape(2, -1, 32))
    fitted = fit_vocabulary(rows[0], 6)
    bias = np.linspace(-1, 1, 6, dtype=np.float32) if with_bias else None
    vocabulary = Vocabulary(fitted.centres, fitted.weights, bias)
    layer = NetVLAD(vocabulary)
    vectors = layer(torch.from_numpy(features)).detach().numpy()
    for vector, features_of_photo in zip(vectors, rows, strict=True):
        assert np.abs(vector - vlad(features_of_photo, vocabulary)).max() < 2e-6
    learned = layer.vocabulary()
    assert np.array_equal(learned.weights, vocabulary.weights)
    assert (learned.bias is None) == (not with_bias)


def test_the_network_on_frozen_features_is_the_whole_trunk_and_the_method(tmp_path):
    trunk = random_trunk()
    draw_photo(tmp_path / "a.png", 1, 0)
    features = FrozenFeatures(trunk, SIZE, cached=False)
    frozen = features.batch([tmp_path / "a.png"])
    pixels = decode(tmp_path / "a.png").pixels
    features_of_trunk = trunk(prepare(pixels, trunk.preprocessing(SIZE)))
    rows = normalise(features_of_trunk.reshape(512, -1).T)
    vocabulary = fit_vocabulary(rows, 3)
    network = Network(conv5(trunk.state), vocabulary)
    vector = network(torch.from_numpy(frozen).permute(0, 3, 1, 2)).detach().numpy()[0]
    assert np.abs(vector - vlad(rows, vocabulary)).max() < 1e-4


def test_conv5_and_the_layer_are_trained_and_nothing_else():
    network = Network(conv5(random_trunk().state), fit_vocabulary(np.eye(512, dtype="f4"), 3))
    assert [name for name, _ in network.named_parameters()] == [
        *(f"encoder.{n}.{part}" for n in (24, 26, 28) for part in ("weight", "bias")),
        "pool.centroids", "pool.conv.weight",
    ]  # fmt: skip
    with torch.no_grad():
        network.encoder[2].bias.fill_(7.0)
    state = trained_state(random_trunk().state, network)
    assert list(state) == list(state_shapes())
    assert (state["encoder.26.bias"] == 7.0).all()
    assert np.array_equal(state["encoder.21.weight"], random_trunk().state["encoder.21.weight"])


def test_bf16_comes_near_float32_and_its_descriptors_stay_float32():
    vocabulary = fit_vocabulary(normalise(np.random.default_rng(1).random((50, 512), "f4")), 3)
    frozen = torch.from_numpy(np.random.default_rng(2).random((2, 512, 3, 4), "f4"))
    exact, rough = (
        Network(conv5(random_trunk().state), vocabulary, precision)(frozen).detach()
        for precision in ("float32", "bf16")
    )
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert (exact * rough).sum(dim=1).min() > 0.99


def test_features_are_cached_by_trunk_size_and_photo_and_read_with_the_same_bits(tmp_path):
    trunk = random_trunk()
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for n, path in enumerate(paths):
        draw_photo(path, n, 0)
    computed = FrozenFeatures(trunk, SIZE, cached=False, runtime=TWO).batch(paths)
    assert computed.shape == (3, 3, 4, 512)
    assert computed.dtype == np.float32
    assert np.array_equal(FrozenFeatures(trunk, SIZE, runtime=TWO).batch(paths), computed)
    folder = cache_folder() / "features" / f"{trunk.sha256[:16]}-48x64-frozen"
    file = folder / f"{decode(paths[1]).sha256}.npy"
    assert np.array_equal(np.load(file), computed[1])
    file.write_bytes(file.read_bytes()[:1000])  # truncated: the file is written again
    assert np.array_equal(FrozenFeatures(trunk, SIZE).batch(paths), computed)
    assert np.array_equal(np.load(file), computed[1])
    assert not list(folder.glob("*.partial"))


def test_a_missing_photo_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"gone\.jpg"):
        FrozenFeatures(random_trunk(), SIZE).batch([tmp_path / "gone.jpg"])


def test_a_cache_that_does_not_fit_the_disk_is_refused():
    with pytest.raises(UsageError, match=r"cached.*PLACEREC_CACHE"):
        FrozenFeatures(random_trunk(), SIZE).check_space(10**12)
    FrozenFeatures(random_trunk(), SIZE, cached=False).check_space(10**12)
