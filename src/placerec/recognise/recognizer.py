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

from placerec.index.open_index import OpenIndex
from placerec.method.ranking import shortlist
from placerec.models.model import Model
from placerec.recognise.rerank import rerank
from placerec.records import Answer, Array, Features, Place
from placerec.settings import Settings
from placerec.trunks import Trunk
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
        model: str | Trunk = "auto",
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

    def query(self, photo: str | Path | Array, top: int = 5) -> Answer:
        """The ``top`` places most like ``photo`` (a path, or (H, W, 3) uint8 RGB), best first."""
        if isinstance(photo, np.ndarray):
            name, pixels = "", photo
        else:
            name, pixels = str(photo), self.model.read(Path(photo)).pixels
        with single_threaded_blas():
            return Answer(name, self.rank(self.model.describe(pixels, stride=1), top))

    def rank(self, query: Features, top: int) -> tuple[Place, ...]:
        """The ``top`` places for the features of a photo: shortlist, re-rank, answer."""
        candidates = self.settings.candidates if self.settings.reranks else 0
        rows, similar = shortlist(
            query.global_descriptor, self.index.global_descriptors, max(top, candidates)
        )
        patches = map(self.index.patches, rows[:candidates])
        ranked = rerank(query.patches, patches, similar, self.settings, self.threads)
        found = [(self.index.entries[rows[one.candidate]], one) for one in ranked[:top]]
        return tuple(
            Place(rank, entry.name, one.score, float(similar[one.candidate]), entry.position,
                  one.matches)
            for rank, (entry, one) in enumerate(found, start=1)
        )  # fmt: skip

    def __enter__(self) -> PlaceRecognizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.index.close()
