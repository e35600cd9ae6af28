"""NetVLAD: soft assignment, residuals, and the descriptor of a whole photo.

Source: Arandjelovic et al., "NetVLAD", CVPR 2016, equations 1-4; Patch-NetVLAD, section 3.1. The
assignment weights follow the published initialisation: on average the best cluster gets 100 times
the weight of the second.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from placerec.records import Array

NORM_FLOOR = 1e-12
BEST_TO_SECOND = 100.0
KMEANS_ITERATIONS = 25


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """K cluster centres (K, D), assignment weights (K, D), optional assignment bias (K,)."""

    centres: Array = field(repr=False)
    weights: Array = field(repr=False)
    bias: Array | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.centres)


def normalise(rows: Array) -> Array:
    """Divide the last axis by its L2 length; a zero vector stays zero (floor 1e-12)."""
    length = np.sqrt(np.einsum("...d,...d->...", rows, rows))[..., None]
    unit: Array = rows / np.maximum(length, NORM_FLOOR)
    return unit


def soft_assign(features: Array, vocabulary: Vocabulary) -> Array:
    """Assignment a_k(x_i) of equation 2: (N, D) unit features to (N, K) float64, rows sum to 1."""
    logits = features.astype(np.float64) @ vocabulary.weights.astype(np.float64).T
    if vocabulary.bias is not None:
        logits += vocabulary.bias
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def vlad(features: Array, vocabulary: Vocabulary, bands: Array | None = None) -> Array:
    """Global NetVLAD vector (K * D,) float32 of unit length from (N, D) unit features.

    V_k = sum_i a_k(x_i) (x_i - c_k), each V_k to unit length (intra-normalisation), concatenated
    cluster-major, then the whole to unit length. Sums are float64. With ``bands`` (N, B) one such
    vector a band, its sums weighted by a column of ``bands``: (B * K * D,).
    """
    assignment = soft_assign(features, vocabulary)
    rows = features.astype(np.float64)
    columns = np.ones((len(rows), 1)) if bands is None else bands
    vectors = []
    for weight in columns.T:
        weighted = assignment * weight[:, None]
        sums = weighted.T @ rows - weighted.sum(axis=0)[:, None] * vocabulary.centres
        vectors.append(normalise(sums).reshape(-1))
    return normalise(np.concatenate(vectors)).astype(np.float32)


def assignment_sharpness(features: Array, centres: Array) -> float:
    """The published alpha: ln(100) over the mean gap of the two largest dot products.

    ``features`` (N, D) of unit length, ``centres`` (K, D) of any length, K >= 2; the dot products
    are taken with unit centres.
    """
    similarity = features @ normalise(centres).T
    top = np.partition(similarity, len(centres) - 2, axis=1)[:, -2:].astype(np.float64)
    gap = float(np.mean(top[:, 1] - top[:, 0]))
    return float(np.log(BEST_TO_SECOND) / max(gap, NORM_FLOOR))


def fit_vocabulary(features: Array, clusters: int, seed: int = 0) -> Vocabulary:
    """Vocabulary of K clusters from (N, D) unit features, N >= K.

    Centres by k-means; w_k = alpha c_k / |c_k| with ``assignment_sharpness``. One cluster is the
    mean, and everything is assigned to it.
    """
    if clusters == 1:
        centres = features.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
        return Vocabulary(centres, np.zeros_like(centres))
    centres = kmeans(features, clusters, seed)
    alpha = assignment_sharpness(features, centres)
    return Vocabulary(centres, (alpha * normalise(centres)).astype(np.float32))


def kmeans(samples: Array, clusters: int, seed: int = 0, rounds: int = KMEANS_ITERATIONS) -> Array:
    """Lloyd's k-means with k-means++ seeding (Arthur and Vassilvitskii, 2007), seeded.

    ``samples`` (N, D) float32, N >= clusters; returns (clusters, D) float32, after ``rounds`` or
    when nothing moves. A cluster that loses all its samples starts again from the sample that is
    farthest from its centre.
    """
    rng = np.random.default_rng(seed)
    squares = np.einsum("nd,nd->n", samples, samples)
    chosen = [int(rng.integers(len(samples)))]
    nearest = _distances(samples, squares, samples[chosen])[:, 0]
    while len(chosen) < clusters:
        total = np.cumsum(nearest, dtype=np.float64)
        pick = int(np.searchsorted(total, rng.random() * total[-1]))
        chosen.append(min(pick, len(samples) - 1))
        nearest = np.minimum(nearest, _distances(samples, squares, samples[chosen[-1:]])[:, 0])
    centres = samples[chosen].astype(np.float32)
    for _ in range(rounds):
        distances = _distances(samples, squares, centres)
        label = distances.argmin(axis=1)
        count = np.bincount(label, minlength=clusters)
        order = np.argsort(label, kind="stable")
        starts = np.concatenate(([0], np.cumsum(count)[:-1]))
        sums = np.add.reduceat(samples[order], np.minimum(starts, len(order) - 1), axis=0)
        moved = (sums / np.maximum(count, 1)[:, None]).astype(np.float32)
        lonely = np.flatnonzero(count == 0)
        if len(lonely):
            worst = np.argsort(-distances[np.arange(len(label)), label], kind="stable")
            moved[lonely] = samples[worst[: len(lonely)]]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _distances(samples: Array, squares: Array, centres: Array) -> Array:
    own = np.einsum("kd,kd->k", centres, centres)
    distances: Array = np.maximum(squares[:, None] - 2.0 * (samples @ centres.T) + own, 0.0)
    return distances
