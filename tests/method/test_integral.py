"""IntegralVLAD: the same means with a mild assignment, noise with a sharp one."""

import numpy as np
import pytest

from placerec.errors import UsageError
from placerec.method.integral import integral_image, integral_sum
from placerec.method.patches import box_sum, patch_vlad, pooled_patches
from placerec.method.vlad import Vocabulary, normalise, soft_assign

SIZES = [(2, 2), (2, 4), (5, 3), (8, 8)]
MILD, SHARP = 10.0, 300.0


def features_and_words(sharpness, seed=0, depth=256, clusters=8):
    """Return a map of 30 x 40 cells that changes slowly, as photos do, and a vocabulary."""
    rng = np.random.default_rng(seed)
    words = normalise(rng.standard_normal((clusters, depth)))
    noise = rng.standard_normal((44, 54, depth))
    features = normalise(box_sum(noise, (15, 15))).astype(np.float32)
    weights = (sharpness * words).astype(np.float32)
    return features, Vocabulary((0.8 * words).astype(np.float32), weights)


def in_float64(features, vocabulary, size):
    """Return the K * D values of every patch, from window sums in float64."""
    height, width, depth = features.shape
    flat = features.astype(np.float64).reshape(-1, depth)
    assignment = soft_assign(flat, vocabulary).reshape(height, width, -1)
    parts = []
    for k, centre in enumerate(vocabulary.centres.astype(np.float64)):
        volume = assignment[:, :, k, None] * (features - centre)
        windows = np.lib.stride_tricks.sliding_window_view(volume, size, axis=(0, 1))
        parts.append(normalise(windows.mean(axis=(3, 4)).reshape(-1, depth)))
    return normalise(np.concatenate(parts, axis=1))


def distance(descriptors, exact):
    """Return 1 - cosine of each patch to its float64 value."""
    return 1.0 - np.einsum("pd,pd->p", normalise(descriptors.astype(np.float64)), exact)


def test_an_entry_is_the_sum_of_the_cells_above_and_left_of_it():
    volume = np.random.default_rng(1).integers(-9, 10, (5, 7, 3)).astype(np.float32)
    table = integral_image(volume)
    assert table.shape == (6, 8, 3)
    assert table.dtype == np.float32
    for y in range(6):
        for x in range(8):
            assert np.array_equal(table[y, x], volume[:y, :x].sum(axis=(0, 1)))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (5, 7)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_on_whole_numbers_the_integral_sum_is_the_direct_sum(size, stride):
    volume = np.random.default_rng(2).integers(-9, 10, (5, 7, 3)).astype(np.float32)
    assert np.array_equal(integral_sum(volume, size, stride), box_sum(volume, size, stride))


def test_the_integral_sum_is_the_dilated_depthwise_convolution_that_it_replaces():
    torch = pytest.importorskip("torch")
    volume = np.random.default_rng(3).standard_normal((30, 40, 6)).astype(np.float32)
    table = torch.from_numpy(volume).permute(2, 0, 1)[None].cumsum(-1).cumsum(-2)
    table = torch.nn.functional.pad(table, (1, 0, 1, 0))
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).expand(6, 1, 2, 2)
    for p in (2, 5, 8):
        sums = torch.nn.functional.conv2d(table, signs, groups=6, dilation=p)
        published = sums[0].permute(1, 2, 0).numpy()
        rounding = 4 * np.spacing(np.float32(table.abs().max()))
        assert np.abs(integral_sum(volume, (p, p)) - published).max() <= rounding


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [1, 3])
def test_with_a_mild_assignment_integral_equals_direct(size, stride):
    features, vocabulary = features_and_words(MILD)
    direct = patch_vlad(features, vocabulary, None, size, stride)
    integral = patch_vlad(features, vocabulary, None, size, stride, sums="integral")
    assert integral.grid == direct.grid
    assert np.abs(integral.descriptors - direct.descriptors).max() < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_with_a_sharp_assignment_direct_is_exact_and_integral_is_not(size):
    features, vocabulary = features_and_words(SHARP)
    exact = in_float64(features, vocabulary, size)
    direct = patch_vlad(features, vocabulary, None, size).descriptors
    integral = patch_vlad(features, vocabulary, None, size, sums="integral").descriptors
    assert distance(direct, exact).max() < 1e-10
    assert distance(integral, exact).max() > 1e-3


def test_direct_is_the_default():
    features, vocabulary = features_and_words(SHARP)
    default = patch_vlad(features, vocabulary, None, (2, 2)).descriptors
    explicit = patch_vlad(features, vocabulary, None, (2, 2), sums="direct").descriptors
    assert np.array_equal(default, explicit)


def test_pooled_patches_take_integral_sums_too():
    features, _ = features_and_words(MILD)
    direct = pooled_patches(features, (2, 3)).descriptors
    integral = pooled_patches(features, (2, 3), sums="integral").descriptors
    assert 0.0 < np.abs(integral - direct).max() < 1e-5


def test_unknown_sums_are_a_usage_error():
    features, vocabulary = features_and_words(MILD)
    with pytest.raises(UsageError, match="patch_sums: must be direct or integral"):
        patch_vlad(features, vocabulary, None, (2, 2), sums="float16")


def test_the_integral_image_of_float64_is_float32():
    volume = np.random.default_rng(4).standard_normal((5, 7, 3))
    assert np.array_equal(integral_image(volume), integral_image(volume.astype(np.float32)))


@pytest.mark.parametrize("sums", ["direct", "integral"])
def test_features_in_float64_give_float32_descriptors(sums):
    features, vocabulary = features_and_words(MILD)
    double = patch_vlad(features.astype(np.float64), vocabulary, None, (5, 5), sums=sums)
    single = patch_vlad(features, vocabulary, None, (5, 5), sums=sums)
    assert double.descriptors.dtype == np.float32
    assert np.abs(double.descriptors - single.descriptors).max() < 1e-5


def test_a_cluster_of_almost_no_weight_has_its_floor_at_the_mean():
    """As published, the window's mean is divided by max(length, 1e-12)."""
    features = np.zeros((2, 2, 2))
    features[..., 0] = 1.0
    weights = np.array([[0.0, 0.0], [-np.log(1e12), 0.0]])  # the second gets 1e-12 of each cell
    vocabulary = Vocabulary(np.array([[0.5, 0.0], [0.5, 0.0]]), weights)
    (patch,) = patch_vlad(features, vocabulary, None, (2, 2)).descriptors
    assert patch[2] / patch[0] == pytest.approx(0.5, rel=1e-6)  # 1e-12 (1 - .5) over 1e-12
