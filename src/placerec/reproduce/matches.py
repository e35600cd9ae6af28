"""Matches of many queries with their candidates, kept on disk without descriptors.

Descriptors of 4096 dimensions take 46 MB a photo, so no set of them fits into memory. The loop is
therefore over the database photos: each that is anyone's candidate is described once and matched
with every query that has it on its shortlist, at every size and dimension that is wanted. A smaller
dimension is the leading columns brought back to unit length, which is exactly the smaller PCA.
Only the mutual matches are kept, one file a database photo; every scorer, weighting and fusion
is computed from them. A file grows when another table wants more sizes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from placerec.errors import Damaged
from placerec.files import atomic_write
from placerec.method.matching import Matched, mutual_nearest
from placerec.method.vlad import normalise
from placerec.models.model import Model
from placerec.records import Array, Grid, PatchSet
from placerec.runtime import Progress
from placerec.settings import Size
from placerec.workers import map_in_order

Kind = tuple[Size, int]  # patch size, dimensions
Stored = dict[str, Array]


def truncated(patches: PatchSet, dimensions: int) -> PatchSet:
    """The leading ``dimensions`` of each descriptor, of unit length: those of a smaller PCA."""
    full = patches.descriptors.shape[1]
    some = patches.descriptors[:, :dimensions].astype(np.float32, copy=False)
    kept = some if full <= dimensions else normalise(some)
    return replace(patches, descriptors=np.ascontiguousarray(kept))


def describe(
    model: Model, features: Array, sizes: Sequence[Size], dims: Sequence[int], stride: int
) -> dict[Kind, PatchSet]:
    """Patches of a map at each size and dimension, described once at the largest."""
    full = at(model, tuple(sizes), max(dims))
    found = full.describe_map(features, stride).patches
    return {(p.grid.size, dim): truncated(p, dim) for p in found for dim in dims}


def at(model: Model, sizes: tuple[Size, ...], dim: int) -> Model:
    """``model`` with patches of ``sizes`` and ``dim`` dimensions."""
    return model.with_settings(
        model.settings.replace(patch_sizes=sizes, pca_dim=dim, scale_weights=None)
    )


class Matches:
    """The matches of every question with its candidates.

    ``lists`` holds the database rows of each question's candidates, best first, equally many each.
    """

    def __init__(self, folder: Path, lists: Sequence[Array]) -> None:
        self.folder, self.lists = folder, lists
        self._askers: dict[int, list[int]] = {}
        for question, rows in enumerate(lists):
            for row in rows.tolist():
                self._askers.setdefault(row, []).append(question)

    def compute(
        self,
        model: Model,
        questions: Sequence[Array],
        database: Sequence[Array],
        kinds: Sequence[Kind],
        threads: int,
        progress: Progress,
    ) -> None:
        """Match what is not there yet; ``questions`` and ``database`` are trunk maps."""
        self.folder.mkdir(parents=True, exist_ok=True)
        todo = {row: self._missing(row, kinds) for row in sorted(self._askers)}
        todo = {row: missing for row, missing in todo.items() if missing}
        if not todo:
            return
        wanted = sorted({kind for missing in todo.values() for kind in missing})
        sizes, dims = sorted({size for size, _ in wanted}), sorted({dim for _, dim in wanted})
        asking = sorted({question for row in todo for question in self._askers[row]})

        def ask(question: int) -> dict[Kind, PatchSet]:
            return describe(model, questions[question], sizes, dims, 1)

        asked = {}
        for question, patches in zip(asking, map_in_order(ask, asking, threads), strict=True):
            asked[question] = patches
            progress("describing queries", len(asked), len(asking))

        def match(row: int) -> None:
            missing = todo[row]
            mine = describe(
                model, database[row], sorted({s for s, _ in missing}),
                sorted({d for _, d in missing}), model.settings.stride,
            )  # fmt: skip
            stored = self._read(row)
            for kind in missing:
                pairs = [(asked[q][kind], mine[kind]) for q in self._askers[row]]
                stored |= _stored(kind, pairs)
            with (
                atomic_write(self._file(row), durable=False) as partial,
                partial.open("wb") as file,
            ):
                np.savez(file, **stored)  # type: ignore[arg-type]

        for done, _ in enumerate(map_in_order(match, todo, threads), start=1):
            progress("matching database photos", done, len(todo))

    def of(self, kind: Kind) -> list[list[Matched]]:
        """The matches of each question with each of its candidates."""
        found: list[dict[int, Matched]] = [{} for _ in self.lists]
        for row, askers in self._askers.items():
            stored = self._read(row, _label(kind))
            for question, matched in zip(askers, _matched(kind, stored), strict=True):
                found[question][row] = matched
        return [[found[q][row] for row in rows.tolist()] for q, rows in enumerate(self.lists)]

    def _file(self, row: int) -> Path:
        return self.folder / f"{row:06}.npz"

    def _missing(self, row: int, kinds: Sequence[Kind]) -> list[Kind]:
        """The ``kinds`` that the file of a database row does not have yet."""
        if not self._file(row).is_file():
            return list(kinds)
        try:
            with zipfile.ZipFile(self._file(row)) as file:
                known = {name.split("/")[0] for name in file.namelist()}
            return [kind for kind in kinds if _label(kind) not in known]
        except zipfile.BadZipFile as error:
            raise Damaged(f"{self._file(row)}: damaged ({error}); delete it") from error

    def _read(self, row: int, label: str = "") -> Stored:
        if not self._file(row).is_file():
            return {}
        with np.load(self._file(row), allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name.startswith(label)}


def _label(kind: Kind) -> str:
    (height, width), dim = kind
    return f"{height}x{width}-{dim}."


def _stored(kind: Kind, pairs: list[tuple[PatchSet, PatchSet]]) -> Stored:
    found = [mutual_nearest(query, database) for query, database in pairs]
    grids = [(p.grid.rows, p.grid.columns, p.grid.stride) for p in pairs[0]]
    values = {
        "grids": np.array(grids),
        "counts": np.array([len(one.pairs) for one in found]),
        "pairs": np.concatenate([one.pairs for one in found]).astype(np.int32),
        "similarity": np.concatenate([one.similarity for one in found]).astype(np.float32),
        "best": np.stack([one.best for one in found]).astype(np.float32),
    }
    return {f"{_label(kind)}/{name}": value for name, value in values.items()}


def _matched(kind: Kind, stored: Stored) -> Iterator[Matched]:
    label = _label(kind)
    query, database = (Grid(kind[0], *map(int, grid)) for grid in stored[f"{label}/grids"].tolist())
    ends = np.cumsum(stored[f"{label}/counts"])[:-1]
    pairs = np.split(stored[f"{label}/pairs"].astype(np.int64), ends)
    similar = np.split(stored[f"{label}/similarity"], ends)
    for some, similarity, best in zip(pairs, similar, stored[f"{label}/best"], strict=True):
        yield Matched(query, database, some, similarity, best)
