"""How one search is answered: a database prepared for queries.

A ``Searcher`` makes a shortlist; a ``Verifier`` scores the photos on it. ``IndexSearcher`` does
both: it is an index as ``placerec index build`` writes it. ``DescriptorSearcher`` and
``LocalVerifier`` run any baseline (``baselines.contract``). Photos are numbered as in the database
of the search. What takes long is stored in a work folder, for a run that is killed and resumed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from placerec.baselines.contract import Local, Reranker, Retriever, Verified
from placerec.errors import PhotoError, UsageError
from placerec.evaluation.dataset import Search
from placerec.evaluation.geometry import as_positions
from placerec.files import atomic_write
from placerec.index.build import build_index
from placerec.method.ranking import shortlist
from placerec.photos.decode import decode
from placerec.photos.structure import has_structure
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.records import Array, Features, Match, Position
from placerec.runtime import Runtime
from placerec.settings import AnySettings
from placerec.trunks import Trunk
from placerec.workers import map_all, map_in_order

SEEDED = "seeded: not trained, its recall says nothing about the method"
BLOCK = 64  # photos whose descriptors are stored together: what a killed run may lose


class Part(Protocol):
    """What a ``Searcher`` and a ``Verifier`` have in common."""

    @property
    def bytes_per_photo(self) -> float:
        """The bytes that are stored per database photo."""

    @property
    def facts(self) -> dict[str, str]:
        """``model``, ``fingerprint``, ``licence``, ``training_data`` of what answers."""

    def encode(self, photo: Path) -> Any:
        """Return what ``search`` or ``verify`` needs of a query photo."""

    def close(self) -> None:
        """Close the files."""


class Searcher(Part, Protocol):
    """Finds the database photos that are globally similar."""

    @property
    def skipped(self) -> Sequence[PhotoError]:
        """The database photos that cannot be read, and so are never found."""

    def search(self, query: Any, top: int) -> tuple[list[int], list[float]]:
        """Return the ``top`` database numbers, best first, and their cosines."""


class Verifier(Part, Protocol):
    """Scores candidates of a shortlist."""

    def prepare(self, numbers: Sequence[int]) -> None:
        """Make what is stored of these database photos; not part of a query's time."""

    def verify(self, query: Any, numbers: Sequence[int]) -> list[Verified]:
        """Return one result for each of the first ``numbers``, in their order.

        The others were not compared, because one of the first is sure to be right.
        """


@dataclass(frozen=True, slots=True)
class Described:
    """A query photo as ``IndexSearcher`` needs it; one without structure shows no place."""

    features: Features = field(repr=False)
    has_structure: bool


@dataclass(frozen=True)
class IndexSearcher:
    """One of our own methods: the index of a search's database, with its model.

    ``numbers`` (N,) int64 is the database number of each row of the index; ``rows`` is the inverse.
    """

    recognizer: PlaceRecognizer = field(repr=False)
    numbers: Array = field(repr=False)
    rows: dict[int, int] = field(repr=False)
    skipped: tuple[PhotoError, ...] = field(default=(), repr=False)

    @classmethod
    def open(
        cls, search: Search, index: Path, model: str | Trunk, settings: AnySettings,
        runtime: Runtime, retriever: Retriever | None = None, preset: str | None = None,
    ) -> Self:  # fmt: skip
        """Open the index of the database, with a ``retriever`` if given; build it if missing.

        Its photos have the positions of the data set: a margin needs them (``method.confidence``).
        """
        paths = search.database.paths
        root = common_folder(paths[: len(paths) - search.distractors])
        names = [Path(os.path.relpath(path, root)).as_posix() for path in paths]
        if not index.is_file():
            build_index(
                index, root, names=names, model=model, settings=settings,
                retriever=retriever, preset=preset, positions=_positions(search, names),
                runtime=runtime,
            )  # fmt: skip
        recognizer = PlaceRecognizer.open(
            index, model=model, retriever=retriever, runtime=runtime, **settings.group("query")
        )
        number_of = {name: number for number, name in enumerate(names)}
        numbers = [number_of[entry.name] for entry in recognizer.index.entries]
        rows = {number: row for row, number in enumerate(numbers)}
        skipped = tuple(_reason(path) for n, path in enumerate(paths) if n not in rows)
        return cls(recognizer, np.array(numbers), rows, skipped)

    @property
    def bytes_per_photo(self) -> float:
        """The size of the descriptors in the index; the model in it is not counted."""
        return self.recognizer.index.info.bytes_per_photo

    @property
    def facts(self) -> dict[str, str]:
        """The model inside the index, after its retriever if it has one."""
        model, retriever = self.recognizer.model, self.recognizer.retriever
        facts = {"model": model.name, "fingerprint": model.fingerprint, "licence": model.licence,
                 "training_data": model.training_data}  # fmt: skip
        if retriever is None:
            return facts
        first = _BaselinePart(retriever.retriever).facts
        return first | {name: f"{first[name]}; {fact}" for name, fact in facts.items()}

    def prepare(self, numbers: Sequence[int]) -> None:
        """Do nothing: all patches are in the index."""

    def encode(self, photo: Path) -> Described:
        """Return the global descriptor and the patches of a query."""
        pixels = self.recognizer.read(photo).pixels
        return Described(self.recognizer.describe(pixels), has_structure(pixels))

    def search(self, query: Described, top: int) -> tuple[list[int], list[float]]:
        """Return the photos that are most similar as a whole."""
        rows, similar = self.recognizer.shortlist(query.features, top)
        return self.numbers[rows].tolist(), similar.tolist()

    def verify(self, query: Described, numbers: Sequence[int]) -> list[Verified]:
        """Score the mutual patch matches, as ``PlaceRecognizer.answer`` does."""
        if not self.recognizer.settings.patch_sizes:
            raise UsageError("re-ranking: this method has no patches; choose another method")
        scores, matches = self.recognizer.score(query.features, [self.rows[n] for n in numbers])
        return [
            Verified(score, _points(sizes))
            for score, sizes in zip(scores.tolist(), matches, strict=True)
        ]

    def judge(
        self, query: Described, numbers: Sequence[int], scores: Array
    ) -> tuple[float | None, bool | None]:
        """Return the confidence of the first candidate, and whether the query is in the map.

        The candidates, best first, have final ``scores`` (n,). As ``PlaceRecognizer.query`` it
        leaves out photos without structure: a query without structure has neither value, and a
        first candidate without structure has no confidence.
        """
        rows = [self.rows[number] for number in numbers]
        seen = [n for n, row in enumerate(rows) if row not in self.recognizer.blank]
        if not query.has_structure or not seen:
            return None, None
        rows = [rows[n] for n in seen]
        confidences, judgement = self.recognizer.judge(rows, scores[seen])
        return confidences[0] if seen[0] == 0 else None, judgement.in_map

    def close(self) -> None:
        """Close the index."""
        self.recognizer.close()


@dataclass(frozen=True)
class _BaselinePart:
    """What is common to a retriever and a re-ranker at work."""

    baseline: Retriever | Reranker

    @property
    def facts(self) -> dict[str, str]:
        """The baseline; ``weights`` says whether they are trained."""
        provenance = self.baseline.provenance
        return {"model": self.baseline.name, "fingerprint": self.baseline.fingerprint,
                "licence": provenance.licence, "training_data": provenance.training_data,
                "weights": "real" if provenance.real else SEEDED}  # fmt: skip

    def encode(self, photo: Path) -> Any:
        """Return the descriptor or the local features of a photo."""
        return self.baseline.describe(decode(photo).pixels)

    def close(self) -> None:
        """Do nothing: no file is open."""


@dataclass(frozen=True)
class DescriptorSearcher(_BaselinePart):
    """A retriever's descriptors of a database: (n, D) float32, NaN for a photo it cannot read."""

    descriptors: Array = field(repr=False)
    skipped: tuple[PhotoError, ...] = field(default=(), repr=False)

    @classmethod
    def open(cls, search: Search, retriever: Retriever, work: Path, runtime: Runtime) -> Self:
        """Fit on the database, and describe what an earlier run has not described."""
        paths = search.database.paths
        retriever.fit(lambda: _readable(paths), len(paths), runtime.progress)
        folder = work / retriever.fingerprint[:16]

        def describe(path: Path) -> Array:
            try:
                return retriever.describe(decode(path).pixels)
            except PhotoError:
                return np.empty(0, np.float32)

        rows: list[Array] = []
        for first in range(0, len(paths), BLOCK):
            file = folder / f"{first}.npy"
            if not file.is_file():
                block = paths[first : first + BLOCK]
                save_array(file, _padded(map_all(describe, block, runtime.cores)))
            rows.extend(np.load(file, allow_pickle=False))
            runtime.progress("describing photos", len(rows), len(paths))
        descriptors = _padded(rows)
        invalid = np.flatnonzero(np.isnan(descriptors[:, 0])).tolist()
        if len(invalid) == len(rows):
            raise PhotoError(common_folder(paths), f"none of its {len(rows)} photos can be read")
        return cls(retriever, descriptors, tuple(_reason(paths[n]) for n in invalid))

    @property
    def bytes_per_photo(self) -> float:
        """The size of a float32 descriptor."""
        return 4.0 * len(self.descriptors[0])

    def search(self, query: Array, top: int) -> tuple[list[int], list[float]]:
        """Return the photos with the largest dot product; a photo without descriptor is none."""
        rows, cosines = shortlist(query, self.descriptors, top)
        valid = ~np.isnan(cosines)
        return rows[valid].tolist(), cosines[valid].tolist()


@dataclass(frozen=True)
class LocalVerifier(_BaselinePart):
    """A re-ranker of the database photos ``paths``.

    Their local features are made when first needed, and stored in the folder ``work``.
    """

    baseline: Reranker
    paths: tuple[Path, ...] = field(repr=False)
    work: Path = field(repr=False)
    threads: int = 1

    @property
    def bytes_per_photo(self) -> float:
        """The mean size of the stored local features."""
        sizes = [file.stat().st_size for file in self._file(0).parent.glob("*.npz")]
        return sum(sizes) / max(1, len(sizes))

    def prepare(self, numbers: Sequence[int]) -> None:
        """Describe the photos that are not described yet."""
        missing = [number for number in numbers if not self._file(number).is_file()]
        photos = [self.paths[number] for number in missing]
        described = map_in_order(self.encode, photos, self.threads)
        for number, local in zip(missing, described, strict=True):
            save_array(self._file(number), local)

    def verify(self, query: Local, numbers: Sequence[int]) -> list[Verified]:
        """Return the re-ranker's scores."""
        self.prepare(numbers)
        return self.baseline.score(query, [_load(self._file(number)) for number in numbers])

    def _file(self, number: int) -> Path:
        return self.work / self.baseline.fingerprint[:16] / f"{number}.npz"


def _positions(search: Search, names: Sequence[str]) -> dict[str, Position] | None:
    """Return the positions of the own database photos by their ``names`` in the index."""
    if search.database.positions is None:
        return None
    located = zip(
        names[: len(search.own_names)], as_positions(search.database.positions), strict=False
    )
    return {name: position for name, position in located if position}


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the deepest folder above all photos."""
    return Path(os.path.commonpath([path.absolute().parent for path in paths]))


def save_array(path: Path, values: Array | Local) -> None:
    """Write one array (.npy) or several arrays by name (.npz) atomically."""
    with atomic_write(path, durable=False) as partial, partial.open("wb") as file:
        if isinstance(values, np.ndarray):
            np.save(file, values, allow_pickle=False)
        else:
            np.savez(file, allow_pickle=False, **values)


def _load(path: Path) -> Local:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _readable(paths: Sequence[Path]) -> Iterator[Array]:
    for path in paths:
        try:
            yield decode(path).pixels
        except PhotoError:
            continue  # it is listed in ``skipped``


def _padded(rows: Sequence[Array]) -> Array:
    """Return rows (n, D) float32 of the longest length; NaN fills a shorter row."""
    padded = np.full((len(rows), max(1, *map(len, rows))), np.nan, np.float32)
    for values, row in zip(padded, rows, strict=True):
        values[: len(row)] = row
    return padded


def _reason(path: Path) -> PhotoError:
    try:
        decode(path)
    except PhotoError as error:
        return error
    return PhotoError(path, "it could not be described")


def _points(sizes: Sequence[Match]) -> Array:
    """Return the matched patches of all sizes as centres (M, 4), in fractions of both photos."""
    points = [np.zeros((0, 4), np.float32)]
    for match in sizes:
        boxes = (match.query_grid.boxes(match.pairs[:, 0]),
                 match.database_grid.boxes(match.pairs[:, 1]))  # fmt: skip
        centres = [(box[:, :2] + box[:, 2:]) / 2 for box in boxes]
        points.append(np.concatenate(centres, axis=1).astype(np.float32))
    return np.concatenate(points)
