"""Which photos a step uses: the closest positive and the hardest negatives of each query.

Source: the published program (Mapillary SLS). The network changes slowly, so descriptors are
computed once per portion of queries: for the queries, for all their positives, and for a random
pool of database photos. Each query takes its closest positive and its most similar negatives. A
query is omitted unless more negatives than it needs violate the margin.
"""

from __future__ import annotations

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.geometry import neighbours, positions_of, within
from placerec.method.ranking import best_first
from placerec.records import Array
from placerec.schedule import Schedule
from placerec.training.datasets import TrainingSet
from placerec.training.validation import Describe, check_descriptors


class Miner:
    """Finds the triplets of a training set.

    For each query, ``positives`` are the database rows within ``positive_metres`` that look the
    same way (if headings are known) and are not the same file. ``near`` are the rows within
    ``negative_metres``, with any heading; they are never negatives. ``usable`` (n,) int64 are the
    queries with a positive. Raises ``UsageError`` if there is none.
    """

    def __init__(self, data: TrainingSet, schedule: Schedule) -> None:
        self._data, self._schedule = data, schedule
        self.near = neighbours(
            positions_of(data.queries), positions_of(data.database), schedule.negative_metres
        )
        positives = within(
            data.queries, data.database, schedule.positive_metres, schedule.heading_degrees
        )
        self.positives = [
            np.array([n for n in sorted(rows) if data.database.paths[n] != path], np.int64)
            for path, rows in zip(data.queries.paths, positives, strict=True)
        ]
        self.usable = np.array([q for q, rows in enumerate(self.positives) if len(rows)], np.int64)
        if not len(self.usable):
            raise UsageError(
                f"{data.name}: no query has a positive within {schedule.positive_metres:g} m; "
                f"check the positions, or use photos that are closer together"
            )

    def draw_queries(self, rng: np.random.Generator) -> Array:
        """Return the queries (n,) int64 of one epoch: drawn by weight, or each query once."""
        count = self._schedule.queries or len(self.usable)
        if self._data.weights is None:
            order: Array = rng.permutation(self.usable)[:count]
            return order
        weights = self._data.weights[self.usable]
        drawn: Array = rng.choice(self.usable, count, p=weights / weights.sum())
        return drawn

    def draw_pool(self, queries: Array, rng: np.random.Generator) -> Array:
        """Return the sorted database rows (n,) int64 that the negatives of a portion come from."""
        schedule, photos = self._schedule, len(self._data.database)
        pool = np.sort(rng.choice(photos, min(schedule.pool, photos), replace=False))
        where, remedy = "in a pool", "use more photos, a larger pool, or fewer negatives"
        if schedule.avoid == "portion":
            pool = pool[~np.isin(pool, np.concatenate([self.near[q] for q in queries]))]
            where = "far from every query of a portion"
            remedy = (
                "set avoid to query (as preset photos does), or use a smaller portion, or fewer "
                "negatives"
            )
        if len(pool) <= schedule.negatives:
            raise UsageError(
                f"{self._data.name}: only {len(pool)} database photos are {where}, and a query "
                f"needs more than {schedule.negatives}; {remedy}"
            )
        return np.asarray(pool, np.int64)

    def check_pools(self) -> None:
        """Raise ``UsageError`` if the first epoch of a run with this seed lacks negatives.

        This check needs no descriptors, so it runs before the training.
        """
        schedule = self._schedule
        rng = np.random.default_rng(schedule.seed)
        enough = False
        for queries in portions(self.draw_queries(rng), schedule.portion):
            pool = self.draw_pool(queries, rng)
            enough = enough or any(
                np.count_nonzero(~np.isin(pool, self.near[query])) > schedule.negatives
                for query in queries.tolist()
            )
        if not enough:
            raise UsageError(
                f"{self._data.name}: no query has more than {schedule.negatives} database photos "
                f"at a distance of more than {schedule.negative_metres:g} m; use photos of a "
                f"larger area, or fewer negatives"
            )

    def mine(self, queries: Array, rng: np.random.Generator, describe: Describe) -> Array:
        """Return the triplets of one portion: rows (n, 2 + negatives) int64, in query order.

        A row holds a query, its positive, and its negatives, hardest first.
        """
        schedule, database = self._schedule, self._data.database.paths
        pool = self.draw_pool(queries, rng)
        described = np.unique(np.concatenate([pool, *(self.positives[q] for q in queries)]))
        paths = [database[n] for n in described] + [self._data.queries.paths[q] for q in queries]
        row = {path: n for n, path in enumerate(dict.fromkeys(paths))}
        descriptors = describe(list(row))
        check_descriptors(descriptors)

        def rows(numbers: Array) -> Array:
            return descriptors[[row[database[n]] for n in numbers.tolist()]]

        asked = descriptors[[row[self._data.queries.paths[query]] for query in queries.tolist()]]
        triplets = []
        for query, descriptor, to_pool in zip(
            queries.tolist(), asked, asked @ rows(pool).T, strict=True
        ):
            positives = self.positives[query]
            to_positives = rows(positives) @ descriptor
            closest = int(to_positives.argmax())
            far = ~np.isin(pool, self.near[query])
            similarity = to_pool[far]
            violating = violates(
                float(to_positives[closest]), similarity, schedule.margin, schedule.mining
            )
            if np.count_nonzero(violating) > schedule.negatives:
                hardest = best_first(similarity)[: schedule.negatives]
                triplets.append([query, positives[closest], *pool[far][hardest]])
        return np.array(triplets, np.int64).reshape(-1, 2 + schedule.negatives)


def portions(order: Array, portion: int) -> list[Array]:
    """Return the queries of an epoch in parts of nearly equal size, about ``portion`` each."""
    return np.array_split(order, max(1, -(-len(order) // portion)))


def violates(positive: float, negatives: Array, margin: float, mining: str) -> Array:
    """Return which ``negatives`` (n,) (cosines with the query) are too similar to the query.

    Our test is whether a negative comes within the margin of the positive: s_n > s_p - margin. The
    published program uses similarities in the test for distances: s_p - s_n + margin > 0. This
    holds for nearly every negative that is *less* similar, so the program keeps easy queries and
    omits the hardest.
    """
    if mining == "published":
        return np.asarray(positive - negatives + margin > 0)
    return np.asarray(negatives > positive - margin)
