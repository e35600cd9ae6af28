"""From photos on disk to a fitted model and to described photos, several photos at a time.

A photo that cannot be read becomes the error with its reason, in its place. So one bad photo does
not stop a run, and no photo is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from placerec.errors import NotFound, PhotoError
from placerec.method.vlad import Vocabulary
from placerec.models.fit import FeatureMaps, fit_model, more_photos_for_pca, photos_for_fit
from placerec.models.model import Model
from placerec.photos.decode import decode
from placerec.records import Array, Features, Position
from placerec.runtime import Runtime
from placerec.settings import AnySettings
from placerec.trunks import Trunk, feature_map
from placerec.workers import map_in_order


@dataclass(frozen=True, slots=True)
class Described:
    """One photo as an index stores it."""

    name: str
    sha256: str
    position: Position | None
    features: Features = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mapped:
    """One photo with its feature map (h, w, C)."""

    name: str
    sha256: str
    position: Position | None
    features: Array = field(repr=False)


class PhotoSource:
    """The photos below ``root``, seen by one trunk at the image size of ``settings``.

    Photo names are paths relative to ``root``. The feature maps of a fit are stored until
    ``close``, so no photo passes through the trunk twice.
    """

    def __init__(self, root: Path, trunk: Trunk, settings: AnySettings, runtime: Runtime) -> None:
        self._root, self._trunk, self._settings = root, trunk, settings
        self._threads, self._progress = runtime.cores, runtime.progress
        self._maps = FeatureMaps()
        self._read: dict[str, Mapped | PhotoError] = {}

    def fit(
        self, names: Sequence[str], fewest: int = 1, vocabulary: Vocabulary | None = None
    ) -> Model | None:
        """Return a model fitted on at most 1000 photos, or ``None`` with fewer than ``fewest``.

        The PCA of the published form takes up to 10,000 photos; the feature maps beyond the first
        1000 are not stored. With a ``vocabulary`` only that PCA is fitted.
        """
        chosen = photos_for_fit(names)
        for done, photo in enumerate(map_in_order(self._map, chosen, self._threads), start=1):
            name = chosen[done - 1]
            self._read[name] = photo
            if isinstance(photo, Mapped):
                row = self._maps.append(photo.features)
                self._read[name] = Mapped(name, photo.sha256, photo.position, self._maps[row])
            self._progress("reading photos", done, len(chosen))
        if len(self._maps) < max(fewest, 1):
            return None
        folder, count = "/".join(self._root.resolve().parts[-2:]), len(self._maps)
        usable = [name for name in chosen if isinstance(self._read[name], Mapped)]
        others = more_photos_for_pca(names, chosen)
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
        """Yield each photo described, or the error that says why not, in the order of ``names``."""

        def describe(name: str) -> Described | PhotoError:
            photo = self._read.get(name) or self._map(name)
            if isinstance(photo, PhotoError):
                return photo
            features = model.describe_map(np.asarray(photo.features))
            return Described(name, photo.sha256, photo.position, features)

        for done, photo in enumerate(map_in_order(describe, names, self._threads), start=1):
            self._progress("describing photos", done, len(names))
            yield photo

    @property
    def skipped(self) -> list[PhotoError]:
        """The photos that a fit could not read."""
        return [photo for photo in self._read.values() if isinstance(photo, PhotoError)]

    def close(self) -> None:
        """Delete the stored feature maps."""
        self._read.clear()
        self._maps.close()

    def __enter__(self) -> PhotoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _maps_of(
        self, names: Sequence[str], stage: str, *, mirrored: bool = False
    ) -> Iterator[Array]:
        """Yield the feature maps of the valid photos, one at a time; none is stored."""
        photos = map_in_order(partial(self._map, mirrored=mirrored), names, self._threads)
        for done, (name, photo) in enumerate(zip(names, photos, strict=True), start=1):
            self._progress(stage, done, len(names))
            if isinstance(photo, Mapped):
                yield photo.features
            else:
                self._read.setdefault(name, photo)

    def _map(self, name: str, *, mirrored: bool = False) -> Mapped | PhotoError:
        size = self._settings.image_size
        try:
            photo = decode(self._root / name, name, self._trunk.preprocessing(size).shrink_to)
        except NotFound:
            return PhotoError(name, "it disappeared while the folder was read")
        except PhotoError as error:
            return type(error)(name, error.reason)
        pixels = photo.pixels[:, ::-1] if mirrored else photo.pixels
        features = feature_map(self._trunk, pixels, size)
        return Mapped(name, photo.sha256, photo.position, features)
