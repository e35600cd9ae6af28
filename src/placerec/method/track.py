"""The answers to ordered frames as one path: a hidden Markov model.

This is not in the paper. A frame shows one of its candidates, or it is off the map. Its look says
how probable each of them is: the calibrated confidence. From one frame to the next the camera moves
near, nearer than its fastest speed allows, anywhere on the map (a jump), off the map, or back. How
often it does each is learned from the frames themselves. So frames that jump, for example shuffled
ones, keep their own answers, and a walk mends the frames that contradict it.

The path is the most probable state of each frame (forward-backward), not the most probable chain
(Viterbi): it makes the fewest wrong frames, and says how sure each one is. The shares of the moves
are learned by Baum-Welch with a prior (Rabiner, A tutorial on hidden Markov models, Proceedings of
the IEEE, 1989). The numbers were chosen on the validation halves (``benchmarks/track.py``).

A state has the weight of one photo of N. So a move to anywhere has the density 1/N, and a move to
a place within reach has a density that is larger by a factor, its gain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from placerec.records import Array

OUTSIDE = 1 / 3  # of the queries are not in the map, as in the fit of the confidence
MOST_SURE = 0.99  # no look is so sure that the other frames could not contradict it
TINY = 1e-12  # the least confidence of a candidate
FROM_PLACE = (0.4, 0.15, 0.4, 0.05)  # shares of moves: near, less near, anywhere, off the map
FROM_OUTSIDE = (0.3, 0.7)  # back to the map, or still off it
PRIOR_MOVES = 3.0  # the shares above count as much as this number of moves of the frames
MOST_ROUNDS, SETTLED = 20, 1e-3  # of learning; it ends when no share changes by more


def look(confidences: Array, same: Array, chance: float, photos: int) -> Array:
    """Return what a frame says by its look alone: (n + 1,), the last value is "off the map".

    ``confidences`` (n,) are those of its candidates, best first; ``same`` (n,) bool says which of
    them show the place of the first. ``chance`` is the probability that the frame is in a map of
    this number of ``photos``. Each value is a likelihood, up to a common factor.

    The place of the first candidate has its confidence. The candidates that show other places have
    theirs, or less, if all of them are more than what the first place leaves. A frame alone is in
    the map with the probability ``chance``.
    """
    chance = min(max(chance, 1 - MOST_SURE), MOST_SURE)
    weights = np.clip(confidences, TINY, MOST_SURE * chance)
    first, others = weights[0], weights[~same].sum()
    weights[same] *= first / weights[same].sum()
    weights[~same] *= min(1.0, (chance - first) / max(others, TINY))
    weights *= chance / weights.sum()
    return np.append(weights * photos / (1 - OUTSIDE), (1 - chance) / OUTSIDE)


def smooth(looks: Sequence[Array], gains: Sequence[Array], photos: int) -> list[Array]:
    """Return the probability of each state of each frame, given all frames: (n + 1,) per frame.

    ``looks`` are those of ``look``, in the order of the frames. ``gains`` has one array
    (2, n, m) for each step between frames: how much likelier a candidate of the next frame is than
    any photo of the map, after a move near, and after one less near.
    """
    place, outside = np.array(FROM_PLACE), np.array(FROM_OUTSIDE)
    for _ in range(MOST_ROUNDS):
        moves = [_moves(gain, place, outside, photos) for gain in gains]
        before, after = _pass(looks, moves, photos)
        arrived = [one * two for one, two in zip(looks[1:], after[1:], strict=True)]
        learned = _learn(before, arrived, gains, place, outside, photos)
        change = max(np.abs(learned[0] - place).max(), np.abs(learned[1] - outside).max())
        if change < SETTLED:
            break
        place, outside = learned
    return [_scaled(one * two) for one, two in zip(before, after, strict=True)]


def _moves(gain: Array, place: Array, outside: Array, photos: int) -> Array:
    """Return the probability (n + 1, m + 1) of each next state."""
    moves = np.empty((gain.shape[1] + 1, gain.shape[2] + 1))
    moves[:-1, :-1] = (np.tensordot(place[:-2], gain, 1) + place[-2]) / photos
    moves[:-1, -1] = place[-1]
    moves[-1, :-1] = outside[0] / photos
    moves[-1, -1] = outside[1]
    return moves


def _pass(
    looks: Sequence[Array], moves: Sequence[Array], photos: int
) -> tuple[list[Array], list[Array]]:
    """Return the forward and the backward weights of each frame, each up to a factor."""
    start = np.full(len(looks[0]), (1 - OUTSIDE) / photos)
    start[-1] = OUTSIDE
    before, after = [_scaled(start * looks[0])], [np.ones(len(looks[-1]))]
    for move, seen in zip(moves, looks[1:], strict=True):
        before.append(_scaled(before[-1] @ move * seen))
    for move, seen in zip(reversed(moves), reversed(looks[1:]), strict=True):
        after.append(_scaled(move @ (seen * after[-1])))
    return before, after[::-1]


def _learn(
    before: Sequence[Array], arrived: Sequence[Array], gains: Sequence[Array],
    place: Array, outside: Array, photos: int,
) -> tuple[Array, Array]:  # fmt: skip
    """Return the shares of the moves of these frames, with the prior (one round of Baum-Welch).

    ``before`` are the forward weights of the frame that a move leaves, and ``arrived`` the
    likelihoods of the frame that it reaches and of all frames after it.
    """
    from_place, from_outside = (PRIOR_MOVES * np.array(s) for s in (FROM_PLACE, FROM_OUTSIDE))
    for left, reached, gain in zip(before, arrived, gains, strict=False):
        near = np.einsum("i,kij,j->k", left[:-1], gain, reached[:-1]) / photos
        on, off, anywhere = left[:-1].sum(), left[-1], reached[:-1].sum() / photos
        moved = place * [*near, on * anywhere, on * reached[-1]]
        stayed = outside * [off * anywhere, off * reached[-1]]
        total = moved.sum() + stayed.sum()
        from_place += moved / total
        from_outside += stayed / total
    return from_place / from_place.sum(), from_outside / from_outside.sum()


def _scaled(weights: Array) -> Array:
    scaled: Array = weights / weights.sum()
    return scaled
