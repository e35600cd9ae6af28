"""Is one run better than another? Paired differences of every measure, with intervals.

Both runs answered the same queries, so the difference is taken query by query and both are
recomputed on the same resamples. What makes a query easy or hard for both then cancels: the
interval of the difference is narrower than those of the two values let one expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.scoring import intervals
from placerec.evaluation.scoring.metrics import Found, Measures
from placerec.evaluation.scoring.outcomes import DIGITS, Outcome, measures_of, places_of
from placerec.evaluation.scoring.score_files import ScoredRun
from placerec.records import Array

Query = tuple[str, str]  # search and name


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of two rankings; ``difference`` is second minus first, with its interval.

    ``won`` and ``lost`` count the queries whose own value rose or fell; ``None`` for the two
    measures of the precision-recall curve, which have no value a query.
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
        told = f"{self.measure} {self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        if self.won is not None:
            told += f"  won {self.won} lost {self.lost}"
        return f"{told}  ({self.doubt})" if self.doubt else told


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs of one protocol. ``won`` and ``lost``: the queries right at 1 in one run only."""

    first: str
    second: str
    protocol: str
    hash: str
    queries: int
    differences: tuple[Difference, ...] = field(repr=False)
    won: tuple[Query, ...] = field(repr=False)
    lost: tuple[Query, ...] = field(repr=False)

    def lines(self) -> list[str]:
        """One line a measure, beginning with its name."""
        return [str(one) for one in self.differences]

    def as_json(self) -> dict[str, Any]:
        """The same as one JSON object (docs/EVALUATION.md)."""
        told = asdict(self)
        told["measures"] = {
            one.pop("measure"): {
                key: round(value, DIGITS) if isinstance(value, float) else value
                for key, value in one.items()
            }
            for one in told.pop("differences")
        }
        for key in ("won", "lost"):
            told[key] = [list(query) for query in told[key]]
        return told


def compare(first: ScoredRun, second: ScoredRun) -> Comparison:
    """The final ranking of ``second`` against that of ``first``.

    Only measures that both runs have are compared. Raises ``UsageError`` where the runs are of
    different protocols, photos or positives, or where there is no such measure.
    """
    if first.hash != second.hash:
        raise UsageError(
            f"{first.name} is {first.protocol!r} ({first.hash[:12]}), {second.name} is "
            f"{second.protocol!r} ({second.hash[:12]}): their numbers cannot be compared; "
            f"run both on the same data set with the same protocol"
        )
    asked, again = _queries(first.outcomes), _queries(second.outcomes)
    if asked != again or not asked:
        one = next(iter({*asked} ^ {*again}), ("", "no query"))
        raise UsageError(
            f"{first.name} and {second.name} do not hold the same queries ({one[1]}); "
            f"score both again"
        )
    defined = _defined(first, "final") & _defined(second, "final")
    if not defined:
        raise UsageError(
            f"{first.name} and {second.name}: no measure has a value in both, so nothing can be "
            f"compared; where the owner keeps the truth, hand in the two submissions"
        )
    return _comparison(
        (first.name, second.name), first,
        ([one.final for one in first.outcomes], [one.final for one in second.outcomes]), defined,
    )  # fmt: skip


def gain(run: ScoredRun) -> Comparison | None:
    """What re-ranking gained over the retrieval of the same run; ``None`` without re-ranking."""
    kept = [one.reranked for one in run.outcomes if one.reranked is not None]
    if not kept or len(kept) < len(run.outcomes):
        return None
    return _comparison(
        ("retrieved", "reranked"), run, ([one.retrieved for one in run.outcomes], kept),
        _defined(run, "retrieved") & _defined(run, "reranked"),
    )  # fmt: skip


def _comparison(
    names: tuple[str, str],
    run: ScoredRun,
    rankings: tuple[Sequence[Found], Sequence[Found]],
    defined: set[str],
) -> Comparison:
    one, two = (measures_of(run.outcomes, ranking) for ranking in rankings)
    right = [np.array([found.ranks[:1] == (1,) for found in ranking]) for ranking in rankings]
    queries = _queries(run.outcomes)
    return Comparison(
        *names, run.protocol, run.hash, len(queries),
        tuple(_differences(places_of(run.outcomes), one, two, defined)),
        tuple(queries[n] for n in np.flatnonzero(right[1] & ~right[0])),
        tuple(queries[n] for n in np.flatnonzero(right[0] & ~right[1])),
    )  # fmt: skip


def _differences(
    places: Array, one: Measures, two: Measures, defined: set[str]
) -> list[Difference]:
    all_once = np.ones((1, len(places)))
    values = one.of(all_once)[0].tolist(), two.of(all_once)[0].tolist()
    estimated = intervals.estimates(
        places, lambda weights: two.of(weights) - one.of(weights),
        [one.counted(name) for name in one.names],
    )  # fmt: skip
    found = []
    for n, (name, told) in enumerate(zip(one.names, estimated, strict=True)):
        if name not in defined or told.value is None or told.low is None or told.high is None:
            continue
        won = lost = None
        if n < one.values.shape[1]:
            rise = (
                two.values[:, n] - one.values[:, n]
            )  # NaN, neither won nor lost, where not counted
            won, lost = int((rise > 0).sum()), int((rise < 0).sum())
        found.append(Difference(
            name, values[0][n], values[1][n], told.value, told.low, told.high, won, lost,
            told.doubt,
        ))  # fmt: skip
    return found


def _queries(outcomes: Sequence[Outcome]) -> list[Query]:
    return [(one.search, one.query) for one in outcomes]


def _defined(run: ScoredRun, ranking: str) -> set[str]:
    """The measures that have a value: a list too short for N has none at N."""
    pooled = run.scores["pooled"]
    if ranking == "final":
        ranking = "retrieved" if pooled["reranked"] is None else "reranked"
    return {name for name, one in pooled[ranking].items() if one["value"] is not None}
