"""Which photos a step sees: queries in portions, the closest positive, the hardest negatives.

Source: the published program (Mapillary SLS). The network changes slowly, so descriptors are
renewed once a portion of queries: those of the queries, of all their positives, and of a random
pool of database photos. From these each query takes its closest positive and its most similar
negatives; a query is left out unless more negatives than it needs violate the margin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.geometry import headings_of, neighbours, positions_of, similar_headings
from placerec.method.ranking import best_first
from placerec.records import Array
from placerec.training.collapse import check_descriptors
from placerec.training.schedule import Schedule
from placerec.training.sets import TrainingSet

Describe = Callable[[Sequence[Path]], Array]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """For each query the database photos that are its positives, and those that are near it.

    ``usable`` (n,) int64 are the queries that have a positive at all.
    """

    positives: list[Array] = field(repr=False)
    near: list[Array] = field(repr=False)
    usable: Array = field(repr=False)


def surroundings(data: TrainingSet, schedule: Schedule) -> Surroundings:
    """Positives: near enough, looking the same way where headings are known, not the photo itself.

    Near: within ``negative_metres`` whatever the heading; they are never negatives.
    """
    queries, database = data.queries, data.database
    here, there = positions_of(queries), positions_of(database)
    heading, others = headings_of(queries), headings_of(database)
    near = neighbours(here, there, schedule.negative_metres)
    positives = []
    for query, numbers in enumerate(near):
        distance = np.sqrt(np.square(there[numbers] - here[query]).sum(axis=1))
        alike = similar_headings(heading[query], others[numbers], schedule.heading_degrees)
        another = [database.paths[n] != queries.paths[query] for n in numbers]
        kept = (distance <= schedule.positive_metres) & alike & np.array(another, bool)
        positives.append(numbers[kept])
    usable = np.array([q for q, found in enumerate(positives) if len(found)], np.int64)
    if not len(usable):
        raise UsageError(
            f"{data.name}: no query has a positive within {schedule.positive_metres:g} m; check "
            f"the positions, or give photos that are taken closer together"
        )
    return Surroundings(positives, near, usable)


def draw_queries(
    data: TrainingSet, around: Surroundings, schedule: Schedule, rng: np.random.Generator
) -> Array:
    """The queries (n,) int64 of one epoch in order: drawn by weight, or each once."""
    wanted = schedule.queries or len(around.usable)
    if data.weights is None:
        order: Array = rng.permutation(around.usable)[:wanted]
        return order
    weights = data.weights[around.usable]
    drawn: Array = rng.choice(around.usable, wanted, p=weights / weights.sum())
    return drawn


def portions(order: Array, portion: int) -> list[Array]:
    """The queries of an epoch in parts of about ``portion``, all nearly equally large."""
    return np.array_split(order, max(1, -(-len(order) // portion)))


def mine(
    queries: Array,
    data: TrainingSet,
    around: Surroundings,
    schedule: Schedule,
    rng: np.random.Generator,
    describe: Describe,
) -> Array:
    """Triplets of one portion as rows (n, 2 + negatives) int64: query, positive, negatives.

    ``describe`` gives descriptors (n, D) of unit length. Rows are in the order of ``queries``.
    """
    pool = draw_pool(queries, data, around, schedule, rng)
    wanted = np.unique(np.concatenate([pool, *(around.positives[q] for q in queries)]))
    paths = [data.database.paths[n] for n in wanted] + [data.queries.paths[q] for q in queries]
    row = {path: n for n, path in enumerate(dict.fromkeys(paths))}
    descriptors = describe(list(row))
    check_descriptors(descriptors)
    database = {n: row[data.database.paths[n]] for n in wanted.tolist()}
    pool_descriptors = descriptors[[database[n] for n in pool.tolist()]]
    triplets = []
    for query in queries.tolist():
        own = descriptors[row[data.queries.paths[query]]]
        positives = around.positives[query]
        to_positives = descriptors[[database[n] for n in positives.tolist()]] @ own
        far = ~np.isin(pool, around.near[query])
        similarity = pool_descriptors[far] @ own
        closest = int(to_positives.argmax())
        violating = violates(
            float(to_positives[closest]), similarity, schedule.margin, schedule.mining
        )
        if np.count_nonzero(violating) > schedule.negatives:
            hardest = best_first(similarity)[: schedule.negatives]
            triplets.append([query, positives[closest], *pool[far][hardest]])
    return np.array(triplets, np.int64).reshape(-1, 2 + schedule.negatives)


def check_pools(data: TrainingSet, around: Surroundings, schedule: Schedule) -> None:
    """Refuse before anything is described what ``mine`` would refuse, or never find, later.

    Draws the queries and pools that the first epoch of a run with this seed will have.
    """
    rng = np.random.default_rng(schedule.seed)
    enough = False
    for queries in portions(draw_queries(data, around, schedule, rng), schedule.portion):
        pool = draw_pool(queries, data, around, schedule, rng)
        enough = enough or any(
            np.count_nonzero(~np.isin(pool, around.near[query])) > schedule.negatives
            for query in queries.tolist()
        )
    if not enough:
        raise UsageError(
            f"{data.name}: no query has more than {schedule.negatives} database photos farther "
            f"than {schedule.negative_metres:g} m away; give photos of a larger area, or fewer "
            f"--negatives"
        )


def draw_pool(
    queries: Array,
    data: TrainingSet,
    around: Surroundings,
    schedule: Schedule,
    rng: np.random.Generator,
) -> Array:
    """The database photos (n,) int64, sorted, that the negatives of a portion come from."""
    size = min(schedule.pool, len(data.database))
    pool = np.sort(rng.choice(len(data.database), size, replace=False))
    if schedule.avoid == "portion":
        pool = pool[~np.isin(pool, np.concatenate([around.near[q] for q in queries]))]
    if len(pool) <= schedule.negatives:
        where, remedy = "in a pool", "give more photos, a larger --pool, or fewer --negatives"
        if schedule.avoid == "portion":
            where = "far from every query of a portion"
            remedy = (
                "--preset photos lets each query leave out only its own surroundings; or give a "
                "smaller --portion, or fewer --negatives"
            )
        raise UsageError(
            f"{data.name}: only {len(pool)} database photos are {where}, and a query needs more "
            f"than {schedule.negatives}; {remedy}"
        )
    return np.asarray(pool, np.int64)


def violates(positive: float, negatives: Array, margin: float, mining: str) -> Array:
    """Which ``negatives`` (n,) (cosines with the query) are too similar to the query.

    Ours asks whether a negative comes within the margin of the positive: s_n > s_p - margin. The
    published program put the similarities into the test for distances, s_p - s_n + margin > 0,
    which holds for nearly every negative that is *less* similar, so it keeps easy queries and
    drops the hardest.
    """
    if mining == "published":
        return np.asarray(positive - negatives + margin > 0)
    return np.asarray(negatives > positive - margin)
