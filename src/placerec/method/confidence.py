"""Confidence: how probable is it that a candidate is right, and is the query in the map at all?

This is not in the paper. Two numbers of a candidate are its evidence: the final score, in which the
global cosine is, and the margin over the best candidate of another place. The confidence is the
product of two probabilities. The first says that the query shows a place of the map: a logistic
function of both numbers (Platt, Probabilistic outputs for support vector machines, 1999). The
second says that it is this place and no other: the Laplace distribution function of the margin. So
two places with equal scores have one half each, however high these are. The numbers of both
functions come from labelled photos (``benchmarks/confidence.py``).

``in_map`` is a conformal test (Vovk et al., Algorithmic Learning in a Random World, 2005). When it
was built, the index has answered photos of other places. A query is in the map if it has more
evidence than all but a share ``false_alarm`` of them, and than all but this share of the foreign
queries of the fit: an index without a photo that looks like those from elsewhere would accept too
much.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Self

import numpy as np

from placerec.records import Array

SMALLEST_SCORE = 1e-3  # scores below it are alike
NOTHING = 0.02  # photos that have nothing in common score about this
FEWEST = 20  # answers that a radius rests on
SHARES = (0.68, 0.95)  # of the answers within the two radii
MOST_RANGES = 4  # of the confidence, for the radii
DECIMALS = 6
LARGEST = 1e9  # of the numbers of a calibration, radii in metres among them
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)
MOST_MARGIN = 1.0  # a larger margin says no more about the map


@dataclass(frozen=True, slots=True)
class Weights:
    """The log-odds of "in the map", and how fast a margin decides for this place and no other."""

    score: float
    distinct: float
    offset: float
    margin: float


WEIGHTS = Weights(score=13.523, distinct=4.643, offset=44.692, margin=5.775)

# The log-odds of "in the map" that these shares of the foreign queries of the fit exceed, on the
# worst of its maps. All of these are those of results/confidence_weights.csv.
FALSE_ALARMS = (0.01, 0.05, 0.1, 0.25, 0.5)
USUAL_ODDS = (5.027, 1.669, 0.203, -1.723, -2.905)

# A query is nearer to a photo of the map than these photos are to each other, so its errors are
# smaller than those of photos left out: by these shares, for 68 and for 95 of 100 answers.
NEARER = (0.94, 0.61)
LEAST_RADIUS = 5.0  # metres: positions of cameras are no better


@dataclass(frozen=True, slots=True)
class Calibration:
    """What an index knows about its own answers; a few numbers.

    ``foreign`` are the log-odds of "in the map" of photos from elsewhere, in rising order.
    ``radii`` are metres: for each of some ranges of the confidence its lower end, and the radii
    that held 68 and 95 of 100 photos left out; empty without positions. ``photos`` is the size of
    the index when it was calibrated. ``reason`` says why there is no calibration; then all else is
    empty.
    """

    foreign: tuple[float, ...] = field(default=(), repr=False)
    radii: tuple[tuple[float, float, float], ...] = ()
    photos: int = 0
    reason: str = ""
    weights: Weights = WEIGHTS

    def in_map(self, values: Array, false_alarm: float) -> bool:
        """Whether the evidence (2,) of the first candidate is more than that of photos elsewhere.

        At most a share ``false_alarm`` of queries like those photos is called "in the map". A share
        that is too small for their number calls every query "not in the map".
        """
        count = len(self.foreign)
        # Rounding must not move a whole number up.
        rank = max(1, math.ceil(round((count + 1) * (1.0 - false_alarm), 9)))
        usual = float(np.interp(false_alarm, FALSE_ALARMS, USUAL_ODDS))
        odds = float(map_odds(values, self.weights))
        return rank <= count and odds > max(self.foreign[rank - 1], usual)

    def confidence(self, values: Array) -> Array:
        """Return the probability (n,) that candidates with the evidence (n, 2) are right."""
        odds = map_odds(values, self.weights)
        probability: Array = logistic(odds) * no_other(values[:, 1], self.weights.margin)
        return probability

    def radius(self, confidence: float) -> tuple[float, float] | None:
        """Return the radii in metres for 68 and 95 of 100 answers of this confidence."""
        for lowest, radius_68, radius_95 in reversed(self.radii):
            if confidence >= lowest:
                first, second = radius_68 * NEARER[0], radius_95 * NEARER[1]
                return max(first, LEAST_RADIUS), max(second, LEAST_RADIUS)
        return None

    def to_json(self) -> str:
        """Return this calibration as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the calibration that ``to_json`` wrote; raise ``ValueError`` for other text."""
        try:
            values = json.loads(text)
            values["radii"] = tuple(tuple(map(float, row)) for row in values["radii"])
            values["foreign"] = tuple(map(float, values["foreign"]))
            weights = {one.name: float(values["weights"][one.name]) for one in fields(Weights)}
            values |= {"photos": int(values["photos"]), "reason": str(values["reason"])}
            _require_sound(values["radii"], (*values["foreign"], *weights.values()))
            return cls(**{**values, "weights": Weights(**weights)})
        except MALFORMED as error:
            raise ValueError(f"not a calibration: {error}") from error


def _require_sound(rows: tuple[tuple[float, ...], ...], numbers: tuple[float, ...]) -> None:
    """Raise ``ValueError`` for radii or numbers that no calibration has."""
    if any(len(row) != 3 for row in rows):
        raise ValueError("a row of its radii has not three numbers")
    if not all(abs(number) <= LARGEST for row in (*rows, numbers) for number in row):
        raise ValueError(f"a number is not within {LARGEST:g}")


def evidence(scores: Array, elsewhere: Callable[[int, int], bool]) -> Array:
    """Return what speaks for each candidate of a query: (n, 2) float64, larger is better.

    ``scores`` (n,) are final scores. ``elsewhere(i, j)`` says that the candidates i and j show
    different places. The columns are the logarithm of the score, and the logarithm of the score
    over the best score elsewhere; without such a candidate, over that of photos that have nothing
    in common.
    """
    logs = np.log(np.maximum(scores, 0.0) + SMALLEST_SCORE)
    order = np.argsort(-logs, kind="stable").tolist()
    nothing = math.log(NOTHING + SMALLEST_SCORE)
    rivals = [
        next((logs[j] for j in order if j != i and elsewhere(i, j)), nothing)
        for i in range(len(logs))
    ]
    return np.stack((logs, logs - np.array(rivals)), axis=1)


def map_odds(values: Array, weights: Weights = WEIGHTS) -> Array:
    """Return the log-odds (...) that queries with the evidence (..., 2) show a place of the map."""
    score, margin = np.moveaxis(values, -1, 0)
    odds: Array = (
        weights.score * score
        + weights.distinct * np.clip(margin, 0.0, MOST_MARGIN)
        + weights.offset
    )
    return odds


def no_other(margins: Array, slope: float) -> Array:
    """Return the probability (n,) of this place and no other: the Laplace distribution function."""
    tails = 0.5 * np.exp(-slope * np.abs(margins))
    probability: Array = np.where(margins >= 0.0, 1.0 - tails, tails)
    return probability


def radii(confidences: Array, metres: Array) -> tuple[tuple[float, float, float], ...]:
    """Return ``Calibration.radii`` for answers of these confidences (n,) and errors (n,) in metres.

    A lower confidence has no smaller radius. Each radius is a conformal quantile: the k-th smallest
    error with k = ceil((n + 1) share). There is none for fewer than 20 answers.
    """
    if len(metres) < FEWEST:
        return ()
    order = np.argsort(-confidences, kind="stable")
    rows: list[tuple[float, float, float]] = []
    for part in np.array_split(order, min(MOST_RANGES, len(order) // FEWEST)):
        errors, before = np.sort(metres[part]), rows[-1][1:] if rows else (0.0, 0.0)
        ranks = [min(math.ceil((len(part) + 1) * share), len(part)) for share in SHARES]
        first, second = (round(float(errors[rank - 1]), 1) for rank in ranks)
        lowest = round(float(confidences[part[-1]]), DECIMALS)
        rows.append((lowest, max(first, before[0]), max(second, before[1])))
    rows[-1] = (0.0, *rows[-1][1:])
    return tuple(reversed(rows))


def logistic(odds: Array) -> Array:
    """Return the probabilities (...) of these log-odds."""
    result: Array = 1.0 / (1.0 + np.exp(-np.clip(odds, -500.0, 500.0)))
    return result
