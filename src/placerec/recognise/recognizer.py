"""The method on one page: photo, features, shortlist, re-ranking, answer.

from placerec import PlaceRecognizer
answer = PlaceRecognizer.open("town.placerec").query("photo.jpg")
print(answer.best.path, answer.best.score)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from placerec.index.opened import OpenIndex
from placerec.models.model import Model
from placerec.photos.decode import decode
from placerec.recognise.rerank import score_candidates
from placerec.recognise.shortlist import shortlist
from placerec.records import Answer, Array, Features, Match, Place
from placerec.settings import Settings
from placerec.workers import single_threaded_blas


@dataclass(frozen=True, slots=True)
class PlaceRecognizer:
    """Answers where a photo was taken, from an index of photos."""

    index: OpenIndex = field(repr=False)
    model: Model
    settings: Settings
    threads: int = 1

    @classmethod
    def open(
        cls,
        index: str | Path,
        *,
        model: str = "auto",
        threads: int | None = None,
        device: str = "cpu",
        **changes: Any,
    ) -> PlaceRecognizer:
        """Open the index file; ``changes`` are query-time settings (see ``Settings``).

        ``model`` is only checked: an index knows its own. Raises ``NotFound``, ``NotAnIndex``,
        ``DamagedIndex``, ``ModelMismatch`` or ``FixedByIndex``.
        """
        opened = OpenIndex.open(Path(index), model=model, threads=threads, device=device)
        settings = opened.query_settings(**changes)
        return cls(opened, opened.model, settings, opened.threads)

    @property
    def reranks(self) -> bool:
        """Whether answers are re-ranked by their patches."""
        return bool(self.settings.candidates and self.settings.patch_sizes)

    def query(self, photo: str | Path | Array, top: int = 5) -> Answer:
        """The ``top`` places most like ``photo`` (a path, or (H, W, 3) uint8 RGB), best first."""
        name = "" if isinstance(photo, np.ndarray) else str(photo)
        with single_threaded_blas():
            return Answer(name, self.rank(self.model.describe(self._pixels(photo), stride=1), top))

    def rank(self, features: Features, top: int) -> tuple[Place, ...]:
        """The ``top`` places for the features of a photo.

        Photos of the shortlist beyond ``candidates`` follow the re-ranked ones in global order,
        without inliers and with the lowest score.
        """
        count = min(self.settings.candidates, len(self.index)) if self.reranks else 0
        rows, similar = shortlist(
            features.global_descriptor, self.index.global_descriptors, max(top, count)
        )
        scores = similar.copy()
        matches: list[tuple[Match, ...]] = [()] * len(rows)
        if count:
            scores[:count], matches[:count] = score_candidates(
                features.patches, map(self.index.patches, rows[:count]), self.settings, self.threads
            )
            scores[count:] = min(0.0, scores[:count].min())
        order = [*np.argsort(-scores[:count], kind="stable"), *range(count, len(rows))]
        return tuple(
            self._place(rank, rows[i], scores[i], similar[i], matches[i])
            for rank, i in enumerate(order[:top], start=1)
        )

    def _pixels(self, photo: str | Path | Array) -> Array:
        if isinstance(photo, np.ndarray):
            return photo
        return decode(Path(photo), shrink_to=self.model.preprocessing.shrink_to).pixels

    def _place(
        self, rank: int, row: int, score: float, similar: float, matches: tuple[Match, ...]
    ) -> Place:
        entry = self.index.entries[row]
        inliers = sum(match.inliers for match in matches) if matches else None
        return Place(
            rank, entry.name, float(score), float(similar), inliers, entry.position, matches
        )

    def __enter__(self) -> PlaceRecognizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.index.close()
