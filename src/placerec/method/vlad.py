"""NetVLAD: soft assignment, residuals, and the descriptor of a whole photo.

Source: Arandjelovic et al., "NetVLAD", CVPR 2016, equations 1-4; Patch-NetVLAD, section 3.1. The
assignment weights are those of the published initialisation: on average, the best cluster has 100
times the weight of the second.
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
    """Divide the last axis by its L2 length (floor 1e-12); a zero vector stays zero."""
    length = np.sqrt(np.einsum("...d,...d->...", rows, rows))[..., None]
    unit: Array = rows / np.maximum(length, NORM_FLOOR)
    return unit


def soft_assign(features: Array, vocabulary: Vocabulary) -> Array:
    """Return a_k(x_i) of equation 2 for (N, D) unit features: (N, K) float64, rows sum to 1."""
    logits = features.astype(np.float64) @ vocabulary.weights.astype(np.float64).T
    if vocabulary.bias is not None:
        logits += vocabulary.bias
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def vlad(features: Array, vocabulary: Vocabulary, bands: Array | None = None) -> Array:
    """Return the global NetVLAD vector (K * D,) float32 of (N, D) unit features.

    V_k = sum_i a_k(x_i) (x_i - c_k). Each V_k has unit length (intra-normalisation), and so has
    their concatenation. Sums are float64. With ``bands`` (N, B) there is one such vector per band,
    its sums weighted by a column of ``bands``: (B * K * D,).
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
    """Return the published alpha: ln(100) over the mean gap of the two largest dot products.

    ``features`` (N, D) have unit length; ``centres`` (K, D), K >= 2, are normalised first.
    """
    similarity = features @ normalise(centres).T
    top = np.partition(similarity, len(centres) - 2, axis=1)[:, -2:].astype(np.float64)
    gap = float(np.mean(top[:, 1] - top[:, 0]))
    return float(np.log(BEST_TO_SECOND) / max(gap, NORM_FLOOR))


def fit_vocabulary(features: Array, clusters: int, seed: int = 0) -> Vocabulary:
    """Return a vocabulary of K clusters from (N, D) unit features, N >= K.

    The centres c_k are those of k-means, and w_k = alpha c_k / |c_k| with ``assignment_sharpness``.
    The centre of a single cluster is the mean.
    """
    if clusters == 1:
        centres = features.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
        return Vocabulary(centres, np.zeros_like(centres))
    centres = kmeans(features, clusters, seed)
    alpha = assignment_sharpness(features, centres)
    return Vocabulary(centres, (alpha * normalise(centres)).astype(np.float32))


def kmeans(samples: Array, clusters: int, seed: int = 0, rounds: int = KMEANS_ITERATIONS) -> Array:
    """Return the centres (clusters, D) float32 of Lloyd's k-means of ``samples`` (N, D) float32.

    The start is k-means++ (Arthur and Vassilvitskii, 2007) with a seed; N >= clusters. It stops
    after ``rounds``, or earlier if no centre moves. A cluster that loses all its samples starts
    again at the sample that is farthest from its centre.
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
        empty = np.flatnonzero(count == 0)
        if len(empty):
            farthest = np.argsort(-distances[np.arange(len(label)), label], kind="stable")
            moved[empty] = samples[farthest[: len(empty)]]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _distances(samples: Array, squares: Array, centres: Array) -> Array:
    own = np.einsum("kd,kd->k", centres, centres)
    distances: Array = np.maximum(squares[:, None] - 2.0 * (samples @ centres.T) + own, 0.0)
    return distances
