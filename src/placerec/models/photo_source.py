"""From photos on disk to what an index stores, several at a time.

A photo that cannot be used comes out as the error that says why, in its place, so that nothing
stops and nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from placerec.errors import NotFound, PhotoError
from placerec.method.vlad import Vocabulary
from placerec.models.fit import FeatureMaps, chosen_for_fit, chosen_for_pca, fit_model
from placerec.models.model import Model
from placerec.photos.decode import decode
from placerec.records import Array, Features, Position
from placerec.settings import Settings
from placerec.trunks import Trunk, feature_map
from placerec.workers import map_in_order

Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """Take note of nothing: stage, items done, items in all."""


@dataclass(frozen=True, slots=True)
class Described:
    """One photo as it goes into an index."""

    name: str
    sha256: str
    position: Position | None
    features: Features = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mapped:
    """One photo as far as its feature map (h, w, C)."""

    name: str
    sha256: str
    position: Position | None
    features: Array = field(repr=False)


class PhotoSource:
    """The photos ``names`` below ``root`` as one trunk sees them at one image size.

    ``names`` are paths relative to ``root``. Feature maps that a fit has needed are kept until
    ``close``, so that no photo runs through the trunk twice.
    """

    def __init__(
        self, root: Path, trunk: Trunk, settings: Settings, threads: int, progress: Progress
    ) -> None:
        self._root, self._trunk, self._settings = root, trunk, settings
        self._threads, self._progress = threads, progress
        self._maps = FeatureMaps()
        self._kept: dict[str, Mapped | PhotoError] = {}

    def fit(
        self, names: Sequence[str], fewest: int = 1, vocabulary: Vocabulary | None = None
    ) -> Model | None:
        """A model fitted on at most 1000 of the photos; ``None`` with fewer than ``fewest``.

        The PCA of the published form takes up to 10,000; of those beyond the 1000 no feature map
        is kept. With a ``vocabulary`` only that PCA is fitted.
        """
        chosen = chosen_for_fit(names)
        for done, one in enumerate(map_in_order(self._map, chosen, self._threads), start=1):
            name = chosen[done - 1]
            self._kept[name] = one
            if isinstance(one, Mapped):
                row = self._maps.append(one.features)
                self._kept[name] = Mapped(name, one.sha256, one.position, self._maps[row])
            self._progress("reading photos", done, len(chosen))
        if len(self._maps) < max(fewest, 1):
            return None
        folder, count = "/".join(self._root.resolve().parts[-2:]), len(self._maps)
        usable = [name for name in chosen if isinstance(self._kept[name], Mapped)]
        others = chosen_for_pca(names, chosen)
        return fit_model(
            self._trunk, self._settings, self._maps,
            name=f"{self._trunk.name} fitted on {folder} ({count} photos)",
            training_data=f"{count} photos of {folder}, without labels",
            vocabulary=vocabulary,
            others=self._maps_of(others, "more photos for the PCA"),
            mirrored=self._maps_of(usable, "mirrored photos for the PCA", mirrored=True),
            progress=lambda done, total: self._progress("fitting the model", done, total),
        )  # fmt: skip

    def describe(self, names: Sequence[str], model: Model) -> Iterator[Described | PhotoError]:
        """Each photo described, or the reason why not, in the order of ``names``."""

        def describe(name: str) -> Described | PhotoError:
            one = self._kept.get(name) or self._map(name)
            if isinstance(one, PhotoError):
                return one
            return Described(
                name, one.sha256, one.position, model.describe_map(np.asarray(one.features))
            )

        for done, one in enumerate(map_in_order(describe, names, self._threads), start=1):
            self._progress("describing photos", done, len(names))
            yield one

    @property
    def skipped(self) -> list[PhotoError]:
        """The photos that a fit could not use."""
        return [one for one in self._kept.values() if isinstance(one, PhotoError)]

    def close(self) -> None:
        """Drop the kept feature maps."""
        self._kept.clear()
        self._maps.close()

    def __enter__(self) -> PhotoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _maps_of(
        self, names: Sequence[str], stage: str, *, mirrored: bool = False
    ) -> Iterator[Array]:
        """The feature maps of the photos that can be used, one at a time; none is kept."""
        found = map_in_order(partial(self._map, mirrored=mirrored), names, self._threads)
        for done, (name, one) in enumerate(zip(names, found, strict=True), start=1):
            self._progress(stage, done, len(names))
            if isinstance(one, Mapped):
                yield one.features
            else:
                self._kept.setdefault(name, one)

    def _map(self, name: str, *, mirrored: bool = False) -> Mapped | PhotoError:
        preprocessing = self._trunk.preprocessing(self._settings.image_size)
        try:
            photo = decode(self._root / name, name, preprocessing.shrink_to)
        except NotFound:
            return PhotoError(name, "it disappeared while the folder was read")
        except PhotoError as error:
            return type(error)(name, error.reason)
        pixels = photo.pixels[:, ::-1] if mirrored else photo.pixels
        features = feature_map(self._trunk, pixels, self._settings.image_size)
        return Mapped(name, photo.sha256, photo.position, features)
