"""Compare two runs: paired differences of every measure, with intervals.

Both runs answered the same queries. So the difference is taken query by query, and both runs are
recomputed on the same resamples. What makes a query easy or hard for both runs then cancels, and
the interval of the difference is narrower than the intervals of the two values suggest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.run_folder import ScoredRun
from placerec.evaluation.scoring import intervals
from placerec.evaluation.scoring.confidence import OwnMeasures
from placerec.evaluation.scoring.metrics import MAIN, Measures, RankingResult
from placerec.evaluation.scoring.scores import measures_of, own_measures_of, places_of, rounded
from placerec.records import Array

Query = tuple[str, str]  # the names of the search and the query
Results = Sequence[RankingResult]
Measured = Measures | OwnMeasures


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of two rankings. ``difference`` is second minus first, with its interval.

    ``won`` and ``lost`` count the queries whose own value rose or fell. They are ``None`` for the
    two measures of the precision-recall curve and for those of confidence, which have no value per
    query.
    """

    measure: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    won: int | None
    lost: int | None
    doubt: str = ""

    def __str__(self) -> str:
        text = f"{self.measure} {self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        if self.won is not None:
            text += f"  won {self.won} lost {self.lost}"
        return f"{text}  ({self.doubt})" if self.doubt else text


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs of one protocol.

    ``differences`` are those of the final rankings, and of the confidences if both runs have them.
    ``retrieved`` are those of the global rankings,
    if a run re-ranks. ``won`` and ``lost`` are the queries whose first answer is correct in one run
    only: in the second, or in the first.
    """

    first: str
    second: str
    protocol: str
    hash: str
    queries: int
    differences: tuple[Difference, ...] = field(repr=False)
    won: tuple[Query, ...] = field(repr=False)
    lost: tuple[Query, ...] = field(repr=False)
    retrieved: tuple[Difference, ...] = field(default=(), repr=False)

    @property
    def title(self) -> str:
        """What the numbers of ``lines`` are."""
        return (
            f"{self.second} minus {self.first}, {self.queries} queries: difference [95 % interval] "
            f"and the queries that {self.second} won and lost"
        )

    def lines(self, *, every: bool = False) -> list[str]:
        """Return a line for each main measure (or ``every`` one), which begins with its name.

        The main measures are the recalls at 1, 5 and 10, and those of poses, of the final and of
        the global ranking.
        """
        rows = [("", row) for row in self.differences]
        rows += [("global ", row) for row in self.retrieved]
        return [f"{of}{row}" for of, row in rows if every or row.measure in MAIN]

    def as_json(self) -> dict[str, Any]:
        """Return the same as one JSON object (docs/EVALUATION.md)."""
        values: dict[str, Any] = rounded(self)
        differences = values.pop("differences")
        del values["retrieved"]
        return {**values, "measures": {row.pop("measure"): row for row in differences}}


def compare(first: ScoredRun, second: ScoredRun) -> Comparison:
    """Compare the final ranking of ``second`` with that of ``first``, and the global rankings.

    Only measures that have a value in both runs are compared. Raises ``UsageError`` if the runs
    have different protocols, photos or positives, or share no such measure.
    """
    names = f"{first.name} and {second.name}"
    if first.hash != second.hash:
        raise UsageError(
            f"{names} cannot be compared: their protocols are {first.protocol!r} "
            f"({first.hash[:12]}) and {second.protocol!r} ({second.hash[:12]}); run both on the "
            f"same data set with the same protocol"
        )
    queries, other_queries = _queries(first), _queries(second)
    if queries != other_queries or not queries:
        _, example = min({*queries} ^ {*other_queries}, default=("", "no query"))
        raise UsageError(f"{names} have different queries ({example}); score both again")
    defined = _defined(first, "final") & _defined(second, "final")
    if not defined:
        raise UsageError(
            f"{names} cannot be compared: no measure has a value in both; if the owner keeps the "
            f"ground truth, submit both runs to the owner's server"
        )
    before, after = ([outcome.final for outcome in run.outcomes] for run in (first, second))
    final = _comparison(first.name, second.name, first, before, after, defined)
    final = replace(final, differences=final.differences + _of_confidence(first, second))
    if not any(outcome.reranked for run in (first, second) for outcome in run.outcomes):
        return final
    before, after = ([outcome.retrieved for outcome in run.outcomes] for run in (first, second))
    defined = _defined(first, "retrieved") & _defined(second, "retrieved")
    retrieved = _comparison(first.name, second.name, first, before, after, defined)
    return replace(final, retrieved=retrieved.differences)


def gain(run: ScoredRun) -> Comparison | None:
    """Compare the re-ranked with the retrieved ranking of one run; ``None`` without re-ranking."""
    after = [outcome.reranked for outcome in run.outcomes if outcome.reranked is not None]
    if not after or len(after) < len(run.outcomes):
        return None
    before = [outcome.retrieved for outcome in run.outcomes]
    defined = _defined(run, "retrieved") & _defined(run, "reranked")
    return _comparison("retrieved", "reranked", run, before, after, defined)


def _comparison(
    first: str, second: str, run: ScoredRun, before: Results, after: Results, defined: set[str]
) -> Comparison:
    old, new = measures_of(run.outcomes, before), measures_of(run.outcomes, after)
    rises = [*(new.values - old.values).T, None, None]  # the curve has no value per query
    differences = _differences(run, old, new, rises, defined)
    pairs = list(zip(_queries(run), before, after, strict=True))
    return Comparison(
        first, second, run.protocol, run.hash, len(pairs), differences,
        won=tuple(query for query, old, new in pairs if new.correct and not old.correct),
        lost=tuple(query for query, old, new in pairs if old.correct and not new.correct),
    )  # fmt: skip


def _of_confidence(first: ScoredRun, second: ScoredRun) -> tuple[Difference, ...]:
    """Compare the measures of confidence; none if a run has no confidences."""
    old, new = (own_measures_of(run.outcomes) for run in (first, second))
    if old is None or new is None:
        return ()
    defined = _defined(first, "confidence") & _defined(second, "confidence")
    return _differences(first, old, new, [None] * len(old.names), defined)


def _differences(
    run: ScoredRun, old_measures: Measured, new_measures: Measured,
    rises: Sequence[Array | None], defined: set[str],
) -> tuple[Difference, ...]:  # fmt: skip
    """Return the measures in ``defined``; ``rises`` has the difference (Q,) of each query."""
    estimates = intervals.estimates(
        places_of(run.outcomes),
        lambda weights: new_measures.weighted(weights) - old_measures.weighted(weights),
        [old_measures.counted(name) for name in old_measures.names],
    )
    all_once = np.ones((1, len(run.outcomes)))
    values = (part.weighted(all_once)[0].tolist() for part in (old_measures, new_measures))
    differences = []
    for name, old, new, rise, estimate in zip(
        old_measures.names, *values, rises, estimates, strict=True
    ):
        value, low, high = estimate.value, estimate.low, estimate.high
        if name in defined and value is not None and low is not None and high is not None:
            # A query that does not count has NaN, which is neither won nor lost.
            won = None if rise is None else int((rise > 0).sum())
            lost = None if rise is None else int((rise < 0).sum())
            row = Difference(name, old, new, value, low, high, won, lost, estimate.doubt)
            differences.append(row)
    return tuple(differences)


def _queries(run: ScoredRun) -> list[Query]:
    return [(outcome.search, outcome.query) for outcome in run.outcomes]


def _defined(run: ScoredRun, ranking: str) -> set[str]:
    """Return the measures that have a value; a list shorter than N has none at N."""
    pooled = run.scores["pooled"]
    if ranking == "final":
        ranking = "retrieved" if pooled["reranked"] is None else "reranked"
    return {name for name, estimate in pooled[ranking].items() if estimate["value"] is not None}
