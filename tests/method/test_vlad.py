"""NetVLAD: comparison with a plain loop, and its limits."""

import numpy as np
import pytest

from placerec.errors import UsageError
from placerec.method.patches import box_sum, patch_grid, patch_vlad, pooled_patches
from placerec.method.pca import Projection, fit_pca
from placerec.method.vlad import (
    Vocabulary,
    assignment_sharpness,
    fit_vocabulary,
    kmeans,
    normalise,
    soft_assign,
    vlad,
)


def random_vocabulary(rng, clusters=5, depth=7, sharpness=6.0):
    centres = normalise(rng.standard_normal((clusters, depth))).astype(np.float32)
    return Vocabulary(0.8 * centres, np.float32(sharpness) * centres)


def random_features(rng, height=6, width=8, depth=7):
    return normalise(rng.standard_normal((height, width, depth))).astype(np.float32)


def plain_vlad(features, vocabulary, area=1):
    """Equations 1-4 of NetVLAD, one feature and one cluster at a time, in float64.

    The floor applies to the mean over the ``area`` cells of a patch, and to the sum of a photo.
    """
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    sums = np.zeros(vocabulary.centres.shape)
    for x in rows:
        logits = vocabulary.weights.astype(np.float64) @ x
        share = np.exp(logits - logits.max())
        share /= share.sum()
        for k, centre in enumerate(vocabulary.centres):
            sums[k] += share[k] * (x - centre)
    for k, row in enumerate(sums):
        sums[k] = row / max(np.linalg.norm(row), 1e-12 * area)
    return (sums / np.linalg.norm(sums)).reshape(-1)


@pytest.mark.parametrize("seed", range(5))
def test_global_descriptor_equals_the_plain_loop(seed):
    rng = np.random.default_rng(seed)
    features, vocabulary = random_features(rng), random_vocabulary(rng)
    ours = vlad(features.reshape(-1, 7), vocabulary)
    assert np.allclose(ours, plain_vlad(features, vocabulary), atol=1e-7)


def test_soft_assignment_with_large_alpha_is_hard_assignment():
    rng = np.random.default_rng(0)
    features, vocabulary = (
        random_features(rng).reshape(-1, 7),
        random_vocabulary(rng, sharpness=1e4),
    )
    label = (features @ vocabulary.weights.T).argmax(axis=1)
    hard = np.stack([
        (features[label == k] - vocabulary.centres[k]).sum(axis=0) for k in range(5)
    ])  # fmt: skip
    expected = normalise(normalise(hard).reshape(-1))
    assert np.allclose(vlad(features, vocabulary), expected, atol=1e-6)


def test_assignments_sum_to_one_even_for_huge_logits():
    rng = np.random.default_rng(0)
    assignment = soft_assign(
        random_features(rng).reshape(-1, 7), random_vocabulary(rng, sharpness=1e6)
    )
    assert np.allclose(assignment.sum(axis=1), 1.0)
    assert np.isfinite(assignment).all()


def test_bias_is_added_to_the_logits():
    rng = np.random.default_rng(0)
    features, plain = random_features(rng).reshape(-1, 7), random_vocabulary(rng)
    favoured = Vocabulary(plain.centres, plain.weights, np.array([0, 0, 50, 0, 0], np.float32))
    assert soft_assign(features, favoured)[:, 2].min() > 0.99


def test_alpha_gives_the_best_cluster_100_times_the_second_on_average_gap():
    features = np.array([[1, 0], [0, 1]], np.float32)
    centres = np.array([[2, 0], [1, 1]], np.float32)  # unit: (1, 0), (.7071, .7071)
    gap = np.mean([1 - 0.5**0.5, 0.5**0.5])
    assert assignment_sharpness(features, centres) == pytest.approx(np.log(100) / gap, rel=1e-6)


def test_kmeans_finds_separated_clusters_and_is_seeded():
    rng = np.random.default_rng(1)
    middles = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    samples = np.repeat(middles, 30, axis=0) + rng.normal(0, 0.1, (90, 2)).astype(np.float32)
    centres = kmeans(samples, 3, seed=5)
    assert sorted(map(tuple, np.rint(centres).astype(int))) == [(0, 0), (0, 10), (10, 0)]
    assert np.array_equal(centres, kmeans(samples, 3, seed=5))


def test_kmeans_of_equal_samples_is_finite():
    centres = kmeans(np.ones((20, 3), np.float32), 4)
    assert np.isfinite(centres).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (6, 8)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_box_sum_equals_the_plain_sum(size, stride):
    rng = np.random.default_rng(2)
    volume = rng.standard_normal((6, 8, 3))
    rows, columns = patch_grid((6, 8), size, stride)
    ours = box_sum(volume, size, stride)
    assert ours.shape == (rows, columns, 3)
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            window = volume[top : top + size[0], left : left + size[1]]
            assert np.allclose(ours[row, column], window.sum(axis=(0, 1)))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 4), (5, 3)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sharpness", [3.0, 300.0])
def test_patch_descriptors_equal_the_vlad_of_each_window(size, stride, sharpness):
    rng = np.random.default_rng(3)
    features, vocabulary = random_features(rng), random_vocabulary(rng, sharpness=sharpness)
    projection = Projection(
        rng.standard_normal((4, 35)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    )
    plain = patch_vlad(features, vocabulary, None, size, stride)
    projected = patch_vlad(features, vocabulary, projection, size, stride)
    for number in range(len(plain.grid)):
        row, column = divmod(number, plain.grid.columns)
        top, left = row * stride, column * stride
        window = features[top : top + size[0], left : left + size[1]]
        expected = plain_vlad(window, vocabulary, size[0] * size[1])
        assert np.allclose(plain.descriptors[number], expected, atol=1e-5)
        assert np.allclose(
            projected.descriptors[number], normalise(projection(expected)), atol=1e-4
        )


def test_the_whole_map_as_one_patch_is_the_global_descriptor():
    rng = np.random.default_rng(4)
    features, vocabulary = random_features(rng), random_vocabulary(rng)
    single = patch_vlad(features, vocabulary, None, (6, 8))
    assert np.allclose(single.descriptors[0], vlad(features.reshape(-1, 7), vocabulary), atol=1e-6)


def test_the_sum_of_1x1_patches_is_the_patch_before_normalisation():
    rng = np.random.default_rng(5)
    features, vocabulary = random_features(rng), random_vocabulary(rng)
    assignment = soft_assign(features.reshape(-1, 7), vocabulary).reshape(6, 8, 5)
    residuals = assignment[..., None] * (features[:, :, None] - vocabulary.centres)
    patch = residuals[1:3, 2:4].sum(axis=(0, 1))
    expected = normalise(normalise(patch).reshape(-1))
    second = patch_vlad(features, vocabulary, None, (2, 2))
    assert np.allclose(second.descriptors[1 * second.grid.columns + 2], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 5)])
def test_one_cluster_is_pooling_of_centred_features(size):
    rng = np.random.default_rng(6)
    features = random_features(rng)
    vocabulary = fit_vocabulary(features.reshape(-1, 7), 1)
    projection = Projection(rng.standard_normal((3, 7)).astype(np.float32), np.zeros(3, np.float32))
    cells = projection((features - vocabulary.centres[0]).reshape(-1, 7)).reshape(6, 8, 3)
    pooled = pooled_patches(cells, size)
    by_vlad = patch_vlad(features, vocabulary, projection, size)
    assert np.allclose(pooled.descriptors, by_vlad.descriptors, atol=1e-5)


def test_a_blank_map_gives_finite_descriptors():
    vocabulary = random_vocabulary(np.random.default_rng(7))
    blank = np.zeros((6, 8, 7), np.float32)
    assert np.isfinite(vlad(blank.reshape(-1, 7), vocabulary)).all()
    assert np.isfinite(patch_vlad(blank, vocabulary, None, (2, 2)).descriptors).all()
    assert not pooled_patches(blank, (2, 2)).descriptors.any()


@pytest.mark.parametrize(("size", "stride"), [((7, 1), 1), ((1, 9), 1), ((0, 1), 1), ((1, 1), 0)])
def test_a_patch_that_does_not_fit_is_a_usage_error(size, stride):
    with pytest.raises(UsageError, match="does not fit"):
        patch_grid((6, 8), size, stride)


@pytest.mark.parametrize("shape", [(40, 6), (8, 30)])
@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_pca_equals_the_plain_eigenvectors_in_both_forms(shape, whitening):
    samples = np.random.default_rng(8).standard_normal(shape) * np.linspace(1, 3, shape[1])
    projection = fit_pca(samples, 5, whitening)
    values, vectors = np.linalg.eigh(np.cov(samples.T))
    order = np.argsort(-values)[:5]
    expected = (samples - samples.mean(axis=0)) @ vectors[:, order]
    expected /= (np.maximum(values[order], 0) + 1e-9) ** (whitening / 2)
    assert np.allclose(np.abs(projection(samples)), np.abs(expected), rtol=1e-3, atol=1e-4)


def test_pca_with_too_few_samples_says_so():
    with pytest.raises(UsageError, match="needs more than 5 samples"):
        fit_pca(np.zeros((5, 10)), 5)
