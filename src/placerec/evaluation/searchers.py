"""How one search is answered: a database made ready, queries against it.

A ``Searcher`` gives a shortlist, a ``Verifier`` scores the photos on it. ``IndexEngine`` is both:
an index as ``placerec index build`` writes it. ``DescriptorSearcher`` and ``LocalVerifier`` carry
any baseline (``baselines.contract``). Photos are numbered as in the database of the search;
everything that is worth keeping for a killed run lies in a work folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from placerec.baselines.contract import Local, Progress, Reranker, Retriever, Verified
from placerec.errors import PhotoError, UsageError
from placerec.evaluation.dataset import Search
from placerec.files import atomic_write
from placerec.index.build import build_index
from placerec.method.ranking import shortlist
from placerec.photos.decode import decode
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.recognise.rerank import match_candidates, score_matches
from placerec.records import Array, Features, Match
from placerec.settings import Settings
from placerec.trunks import Trunk
from placerec.workers import map_in_order

SEEDED = "seeded: not trained, its recall says nothing of the method"
BLOCK = 64  # photos whose descriptors are kept together: what a killed run may lose


class Searcher(Protocol):
    """Finds the database photos that are globally alike."""

    @property
    def bytes_per_photo(self) -> float:
        """What is kept of a database photo."""

    @property
    def skipped(self) -> Sequence[PhotoError]:
        """The database photos that cannot be used, and so are never found."""

    @property
    def facts(self) -> dict[str, str]:
        """``model``, ``fingerprint``, ``licence``, ``training_data`` of what answers."""

    def encode(self, photo: Path) -> Any:
        """What ``search`` needs of a query photo."""

    def search(self, query: Any, top: int) -> tuple[list[int], list[float]]:
        """The ``top`` database numbers, best first, and their cosines."""

    def close(self) -> None:
        """Let go of files."""


class Verifier(Protocol):
    """Scores candidates of a shortlist."""

    @property
    def bytes_per_photo(self) -> float:
        """What is kept of a database photo."""

    @property
    def facts(self) -> dict[str, str]:
        """``model``, ``fingerprint``, ``licence``, ``training_data`` of what scores."""

    def encode(self, photo: Path) -> Any:
        """What ``verify`` needs of a query photo."""

    def prepare(self, numbers: Sequence[int]) -> None:
        """Make what is kept of these database photos; not a part of a query's time."""

    def verify(self, query: Any, numbers: Sequence[int]) -> list[Verified]:
        """One result for each of the database ``numbers``, in their order."""

    def close(self) -> None:
        """Let go of files."""


@dataclass(frozen=True)
class IndexEngine:
    """One of our own methods: the index of a search's database, with its model."""

    recognizer: PlaceRecognizer = field(repr=False)
    numbers: dict[str, int] = field(repr=False)  # database number by name in the index
    rows: dict[int, int] = field(repr=False)  # row in the index by database number
    skipped: tuple[PhotoError, ...] = field(default=(), repr=False)

    @classmethod
    def open(
        cls, search: Search, index: Path, model: str | Trunk, settings: Settings,
        threads: int | None, device: str, progress: Progress,
    ) -> Self:  # fmt: skip
        """Build the index of the database unless it is there, and open it."""
        own = len(search.database) - search.distractors
        root = common_folder(search.database.paths[:own])
        numbers = {
            Path(os.path.relpath(path, root)).as_posix(): number
            for number, path in enumerate(search.database.paths)
        }
        if not index.is_file():
            build_index(
                index, root, names=list(numbers), model=model, settings=settings, threads=threads,
                device=device, progress=progress,
            )  # fmt: skip
        open_settings = {name: getattr(settings, name) for name in QUERY_TIME}
        recognizer = PlaceRecognizer.open(
            index, model=model, threads=threads, device=device, **open_settings
        )
        entries = recognizer.index.entries
        rows = {numbers[entry.name]: row for row, entry in enumerate(entries)}
        unusable = [path for n, path in enumerate(search.database.paths) if n not in rows]
        return cls(recognizer, numbers, rows, tuple(map(_reason, unusable)))

    @property
    def bytes_per_photo(self) -> float:
        """Of the descriptors in the index; the model in it is not counted."""
        return float(self.recognizer.index.reader.descriptor_bytes())

    @property
    def facts(self) -> dict[str, str]:
        """Of the model inside the index."""
        model = self.recognizer.model
        return {"model": model.name, "fingerprint": model.fingerprint, "licence": model.licence,
                "training_data": model.training_data}  # fmt: skip

    def prepare(self, numbers: Sequence[int]) -> None:
        """Nothing: all patches are in the index."""

    def encode(self, photo: Path) -> Features:
        """Global descriptor and patches of a query."""
        model = self.recognizer.model
        return model.describe(model.read(photo).pixels, stride=1)

    def search(self, query: Features, top: int) -> tuple[list[int], list[float]]:
        """Exact nearest neighbours of the global descriptor."""
        index = self.recognizer.index
        rows, similar = shortlist(query.global_descriptor, index.global_descriptors, top)
        found = [self.numbers[index.entries[row].name] for row in rows.tolist()]
        return found, similar.tolist()

    def verify(self, query: Features, numbers: Sequence[int]) -> list[Verified]:
        """The scorer of the settings on mutual patch matches."""
        settings, threads = self.recognizer.settings, self.recognizer.threads
        if not settings.patch_sizes:
            raise UsageError("re-ranking: this method has no patches; choose another one")
        patches = (self.recognizer.index.patches(self.rows[number]) for number in numbers)
        matched = match_candidates(query.patches, patches, threads)
        scores, matches = score_matches(matched, settings, threads)
        return [
            Verified(score, _points(sizes))
            for score, sizes in zip(scores.tolist(), matches, strict=True)
        ]

    def close(self) -> None:
        """Close the index."""
        self.recognizer.index.close()


QUERY_TIME = ("scorer", "scale_weights", "fusion", "spatial_form", "box", "candidates")


@dataclass(frozen=True)
class DescriptorSearcher:
    """A retriever's descriptors of a database: (n, D) float32, NaN for a photo that is unusable."""

    retriever: Retriever
    descriptors: Array = field(repr=False)
    skipped: tuple[PhotoError, ...] = field(default=(), repr=False)

    @classmethod
    def open(
        cls, search: Search, retriever: Retriever, work: Path, threads: int, progress: Progress
    ) -> Self:
        """Fit on the database, and describe what an earlier run has not described yet."""
        paths = search.database.paths
        retriever.fit(lambda: _readable(paths), len(paths), progress)
        folder = work / retriever.fingerprint[:16]
        rows: list[Array] = []
        for first in range(0, len(paths), BLOCK):
            kept, some = folder / f"{first}.npy", paths[first : first + BLOCK]
            if not kept.is_file():
                save_array(kept, _describe(retriever, some, threads))
            rows.extend(np.load(kept, allow_pickle=False))
            progress("describing photos", len(rows), len(paths))
        descriptors = np.full((len(rows), max(map(len, rows))), np.nan, np.float32)
        for number, row in enumerate(rows):
            descriptors[number, : len(row)] = row
        unusable = np.flatnonzero(np.isnan(descriptors[:, 0])).tolist()
        if len(unusable) == len(rows):
            raise PhotoError(common_folder(paths), f"none of its {len(rows)} photos can be used")
        return cls(retriever, descriptors, tuple(_reason(paths[n]) for n in unusable))

    @property
    def bytes_per_photo(self) -> float:
        """Four a number, as they are kept."""
        return 4.0 * len(self.descriptors[0])

    @property
    def facts(self) -> dict[str, str]:
        """Of the retriever."""
        return _facts(self.retriever)

    def close(self) -> None:
        """Nothing is open."""

    def encode(self, photo: Path) -> Array:
        """The descriptor of a query."""
        return self.retriever.describe(decode(photo).pixels)

    def search(self, query: Array, top: int) -> tuple[list[int], list[float]]:
        """Exact nearest neighbours by dot product; NaN sorts last and is no answer."""
        rows, similar = shortlist(query, self.descriptors, top)
        known = ~np.isnan(similar)
        return rows[known].tolist(), similar[known].tolist()


@dataclass(frozen=True)
class LocalVerifier:
    """A re-ranker; local features of database photos are made when first needed, and kept."""

    reranker: Reranker
    paths: tuple[Path, ...] = field(repr=False)
    folder: Path = field(repr=False)
    threads: int = 1

    @classmethod
    def open(cls, search: Search, reranker: Reranker, work: Path, threads: int) -> Self:
        """Ready to score photos of the search's database."""
        folder = work / reranker.fingerprint[:16]
        return cls(reranker, search.database.paths, folder, threads)

    @property
    def bytes_per_photo(self) -> float:
        """Mean size of the features that are kept."""
        sizes = [kept.stat().st_size for kept in self.folder.glob("*.npz")]
        return float(np.mean(sizes)) if sizes else 0.0

    @property
    def facts(self) -> dict[str, str]:
        """Of the re-ranker."""
        return _facts(self.reranker)

    def close(self) -> None:
        """Nothing is open."""

    def encode(self, photo: Path) -> Local:
        """The local features of a query."""
        return self.reranker.describe(decode(photo).pixels)

    def prepare(self, numbers: Sequence[int]) -> None:
        """Describe those that are not described yet."""
        missing = [n for n in numbers if not self._kept(n).is_file()]

        def describe(number: int) -> Local:
            return self.reranker.describe(decode(self.paths[number]).pixels)

        described = map_in_order(describe, missing, self.threads)
        for number, local in zip(missing, described, strict=True):
            save_array(self._kept(number), local)

    def verify(self, query: Local, numbers: Sequence[int]) -> list[Verified]:
        """The re-ranker's scores."""
        self.prepare(numbers)
        return self.reranker.score(query, [_load(self._kept(n)) for n in numbers])

    def _kept(self, number: int) -> Path:
        return self.folder / f"{number}.npz"


def common_folder(paths: Sequence[Path]) -> Path:
    """The folder that all photos lie below."""
    return Path(os.path.commonpath([path.absolute().parent for path in paths]))


def save_array(path: Path, values: Array | Local) -> None:
    """One array (.npy) or several by name (.npz); wholly or not at all."""
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
            continue  # it is listed when it is to be described


def _describe(retriever: Retriever, paths: Sequence[Path], threads: int) -> Array:
    """Descriptors (n, D) float32; a row of NaN for a photo that cannot be used."""

    def describe(path: Path) -> Array:
        try:
            return retriever.describe(decode(path).pixels)
        except PhotoError:
            return np.empty(0, np.float32)

    found = list(map_in_order(describe, paths, threads))
    rows = np.full((len(paths), max(1, *map(len, found))), np.nan, np.float32)
    for row, one in zip(rows, found, strict=True):
        row[: len(one)] = one
    return rows


def _reason(path: Path) -> PhotoError:
    try:
        decode(path)
    except PhotoError as error:
        return error
    return PhotoError(path, "it could not be described")


def _facts(baseline: Retriever | Reranker) -> dict[str, str]:
    provenance = baseline.provenance
    return {"model": baseline.name, "fingerprint": baseline.fingerprint,
            "licence": provenance.licence, "training_data": provenance.training_data,
            "weights": "real" if provenance.real else SEEDED}  # fmt: skip


def _points(sizes: Sequence[Match]) -> Array:
    """The agreeing patches of all sizes as centres (M, 4) in fractions of the two photos."""
    found = []
    for match in sizes:
        centres = []
        for grid, numbers in zip(
            (match.query_grid, match.database_grid), match.pairs.T, strict=True
        ):
            boxes = grid.boxes(numbers)
            centres.append((boxes[:, :2] + boxes[:, 2:]) / 2)
        found.append(np.concatenate(centres, axis=1))
    return np.concatenate(found).astype(np.float32) if found else np.zeros((0, 4), np.float32)
