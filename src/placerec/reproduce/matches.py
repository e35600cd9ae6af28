"""Feature maps on disk, and the matches of many queries with their candidates.

Descriptors of 4096 dimensions take 46 MB per photo, so those of a data set do not fit into memory.
Therefore the loop runs over the database photos. Each candidate is described once, and matched with
every query that has it on the shortlist, at all patch sizes and dimensions. A smaller dimension is
the leading columns scaled to unit length, which equals the smaller PCA. Only the mutual matches are
stored. Every scorer, weighting and fusion is computed from them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from placerec.engine import engine_for
from placerec.errors import Damaged
from placerec.evaluation.searchers import save_array
from placerec.method.fusion import default_weights, fuse
from placerec.method.matching import Matched, mutual_nearest
from placerec.method.ranking import rerank
from placerec.method.scores import score_matches
from placerec.method.vlad import normalise
from placerec.models.model import Model
from placerec.records import Array, Grid, Match, PatchSet
from placerec.reproduce.folder import digest
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.settings import Settings, Size
from placerec.workers import map_in_order

FUSION = "z-score"  # of the published program, for every scorer
Kind = tuple[Size, int]  # patch size, dimensions
Variant = tuple[tuple[Size, ...], int, str]  # patch sizes, dimensions, scorer
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_reported(
    function: Callable[[Item], Result], items: Sequence[Item], stage: str, runtime: Runtime
) -> list[Result]:
    """Return ``function`` of each item, in order; each result is one step of ``stage``."""
    results: list[Result] = []
    for result in map_in_order(function, items, runtime.cores):
        results.append(result)
        runtime.progress(stage, len(results), len(items))
    return results


class FeatureMapFiles(Sequence[Array]):
    """Feature maps (h, w, C) float32, read from disk one at a time."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]
        features: Array = np.load(self.files[index], allow_pickle=False)
        return features

    @property
    def digest(self) -> str:
        """12 hex digits that identify trunk, image size, photos and the changes of their pixels."""
        return digest(f"{file.parent.name}/{file.stem}" for file in self.files)


def kinds_of(variants: Iterable[Variant]) -> list[Kind]:
    """Return the kinds of patches that ``variants`` need."""
    return sorted({(size, dim) for sizes, dim, _ in variants for size in sizes})


def with_patches(model: Model, sizes: tuple[Size, ...], dim: int) -> Model:
    """Return ``model`` with patches of ``sizes`` and ``dim`` dimensions."""
    return model.with_settings(
        model.settings.replace(patch_sizes=sizes, pca_dim=dim, scale_weights=None)
    )


def describe(
    model: Model, features: Array, kinds: Sequence[Kind], stride: int
) -> dict[Kind, PatchSet]:
    """Return the patches of a feature map for each kind; each size is described once."""
    sizes = tuple(sorted({size for size, _ in kinds}))
    full = with_patches(model, sizes, max(dim for _, dim in kinds))
    described = {p.grid.size: p for p in full.describe_map(features, stride).patches}

    def truncated(patches: PatchSet, dim: int) -> PatchSet:
        leading = patches.descriptors[:, :dim].astype(np.float32, copy=False)
        if dim < patches.descriptors.shape[1]:
            leading = normalise(leading)
        return replace(patches, descriptors=np.ascontiguousarray(leading))

    return {(size, dim): truncated(described[size], dim) for size, dim in kinds}


class Matches:
    """The matches of every query with its candidates, and the orders that they give.

    ``lists`` holds the database rows of each query's candidates, best first. All lists have the
    same length. ``folder`` has one file per kind and database row.
    """

    def __init__(
        self, folder: Path, lists: Sequence[Array], runtime: Runtime = DEFAULT_RUNTIME
    ) -> None:
        self.folder, self.lists, self._runtime = folder, lists, runtime
        engine = engine_for(runtime)
        self._match = engine.mutual_nearest if engine else mutual_nearest
        self._queries_of: dict[int, list[int]] = {}  # by database row
        for query, rows in enumerate(lists):
            for row in rows.tolist():
                self._queries_of.setdefault(row, []).append(query)
        self._matched = cache(self.of)
        self.scores = cache(self._scores)

    def compute(
        self, model: Model, queries: Sequence[Array], database: Sequence[Array],
        kinds: Sequence[Kind],
    ) -> None:  # fmt: skip
        """Compute the matches that are not stored; ``queries`` and ``database`` are maps."""
        missing = {
            row: [kind for kind in kinds if not self._file(kind, row).is_file()]
            for row in sorted(self._queries_of)
        }
        todo = [row for row in missing if missing[row]]
        wanted = sorted({kind for row in todo for kind in missing[row]})
        asked = sorted({query for row in todo for query in self._queries_of[row]})
        described = map_reported(
            lambda query: describe(model, queries[query], wanted, 1),
            asked, "describing queries", self._runtime,
        )  # fmt: skip
        patches = dict(zip(asked, described, strict=True))

        def match(row: int) -> None:
            candidate = describe(model, database[row], missing[row], model.settings.stride)
            for kind, patch_set in candidate.items():
                asking = [patches[query][kind] for query in self._queries_of[row]]
                matched = [self._match(query, patch_set) for query in asking]
                _save(self._file(kind, row), matched)

        map_reported(match, todo, "matching database photos", self._runtime)

    def of(self, kind: Kind) -> list[list[Matched]]:
        """Return the matches of each query with each of its candidates."""
        by_row: list[dict[int, Matched]] = [{} for _ in self.lists]
        for row, queries in self._queries_of.items():
            for query, matched in zip(queries, _load(self._file(kind, row), kind[0]), strict=True):
                by_row[query][row] = matched
        return [[by_row[q][row] for row in rows.tolist()] for q, rows in enumerate(self.lists)]

    def orders(self, sizes: tuple[Size, ...], dim: int, scorer: str) -> list[Array]:
        """Return the database rows of each query's candidates, best first.

        The sizes are fused by z-scores, with the published weights for sizes 2, 5, 8, else with
        equal ones. Equal scores keep the order of the shortlist.
        """
        scores = np.stack([self.scores(scorer, (size, dim)) for size in sizes], axis=2)
        weights = default_weights(sizes)
        fused = [fuse(candidates, weights, FUSION) for candidates in scores]
        return [
            rows[rerank(final, len(rows))[0]] for rows, final in zip(self.lists, fused, strict=True)
        ]

    def scored(self, scorer: str, kind: Kind, query: int) -> tuple[Array, list[tuple[Match, ...]]]:
        """Return scores (C,) and scored matches of one query with its candidates."""
        settings = Settings(patch_sizes=(kind[0],), scorer=scorer)
        candidates: list[tuple[Matched, ...]] = [(m,) for m in self._matched(kind)[query]]
        return score_matches(candidates, settings, self._runtime.cores)

    def score_all(self, variants: Sequence[Variant]) -> None:
        """Compute all scores of ``variants``, with the matches of one kind in memory at a time."""
        for kind in kinds_of(variants):
            for sizes, dim, scorer in variants:
                if kind[0] in sizes and kind[1] == dim:
                    self.scores(scorer, kind)
            self._matched.cache_clear()

    def _scores(self, scorer: str, kind: Kind) -> Array:
        """Scores (Q, C) of one kind; larger is better."""
        scores = []
        for query in range(len(self.lists)):
            scores.append(self.scored(scorer, kind, query)[0])
            self._runtime.progress(f"scoring by {scorer}", len(scores), len(self.lists))
        return np.stack(scores)

    def _file(self, kind: Kind, row: int) -> Path:
        (height, width), dim = kind
        return self.folder / f"{height}x{width}-{dim}" / f"{row:06}.npz"


def _save(file: Path, matched: list[Matched]) -> None:
    grids = matched[0].query, matched[0].database
    arrays = {
        "grids": np.array([(grid.rows, grid.columns, grid.stride) for grid in grids]),
        "ends": np.cumsum([len(m.pairs) for m in matched])[:-1],
        "pairs": np.concatenate([m.pairs for m in matched]).astype(np.int32),
        "similarity": np.concatenate([m.similarity for m in matched]).astype(np.float32),
        "best": np.stack([m.best for m in matched]).astype(np.float32),
    }
    save_array(file, arrays)


def _load(file: Path, size: Size) -> Iterator[Matched]:
    try:
        arrays = np.load(file, allow_pickle=False)
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise Damaged(f"{file}: damaged ({error}); delete it") from error
    with arrays:
        query, database = (Grid(size, *map(int, grid)) for grid in arrays["grids"])
        pairs = np.split(arrays["pairs"].astype(np.int64), arrays["ends"])
        similarity = np.split(arrays["similarity"], arrays["ends"])
        for columns in zip(pairs, similarity, arrays["best"], strict=True):
            yield Matched(query, database, *columns)
