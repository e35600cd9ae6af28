"""From photos on disk to a fitted model and to described photos, several photos at a time.

A photo that cannot be read becomes the error with its reason, in its place. So one bad photo does
not stop a run, and no photo is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from placerec.errors import NotFound, PhotoError, UsageError
from placerec.files import path_of
from placerec.method.vlad import Vocabulary
from placerec.models.fit import FeatureMaps, fit_model, more_photos_for_pca, photos_for_fit
from placerec.models.model import Model, on_device
from placerec.models.resolve import AUTO, AnyModel, resolve, settings_or_own
from placerec.photos.decode import decode
from placerec.photos.find import look_through
from placerec.photos.prepare import prepare
from placerec.photos.structure import has_structure
from placerec.records import Array, Features, Position
from placerec.runtime import DEFAULT_RUNTIME, Runtime, require_runtime
from placerec.settings import AnySettings
from placerec.trunks import Trunk, feature_maps
from placerec.trunks.external import AT_ONCE_ON_GPU
from placerec.workers import map_in_order, single_threaded_blas

Result = TypeVar("Result")
Content = TypeVar("Content", Features, Array)


@dataclass(frozen=True, slots=True)
class SourcePhoto(Generic[Content]):
    """One photo as it was read, with its features or its feature map (h, w, C).

    ``taken`` and ``gps_damaged`` as in ``Photo``; ``blank``: it has no structure. ``retrieval`` is
    the descriptor (R,) of a retriever, if there is one.
    """

    name: str
    sha256: str
    position: Position | None
    taken: datetime | None
    gps_damaged: bool
    blank: bool
    features: Content = field(repr=False)
    retrieval: Array | None = field(default=None, repr=False)


Described = SourcePhoto[Features]
Mapped = SourcePhoto[Array]
IMAGE_AXES = 4  # of the input of a trunk; a feature map has 3
STORED = np.empty(0, np.float32)  # in place of a feature map that is in the file of the maps


class PhotoSource:
    """The photos below ``root``, seen by one trunk at the image size of ``settings``.

    Photo names are paths relative to ``root``. The feature maps of a fit are stored until
    ``close``, so no photo passes through the trunk twice. ``retrieve`` turns the pixels of a photo
    into the descriptor of a retriever; it sees as many pixels as the trunk uses.
    """

    def __init__(
        self, root: Path, trunk: Trunk, settings: AnySettings, runtime: Runtime,
        retrieve: Callable[[Array], Array] | None = None,
    ) -> None:  # fmt: skip
        self._root, self._trunk, self._settings, self._retrieve = root, trunk, settings, retrieve
        self._runtime, self._progress = runtime, runtime.progress
        self._maps = FeatureMaps()
        self._read: dict[str, Mapped | PhotoError] = {}
        self._rows: dict[str, int] = {}  # of the photos whose maps are stored

    def fit(
        self, names: Sequence[str], fewest: int = 1, vocabulary: Vocabulary | None = None
    ) -> Model | None:
        """Return a model fitted on at most 1000 photos, or ``None`` with fewer than ``fewest``.

        Photos without structure take no part. The PCA of the published form takes up to 10,000
        photos; the feature maps beyond the first 1000 are not stored. With a ``vocabulary`` only
        that PCA is fitted.
        """
        if len(names) < fewest:
            return None
        chosen = photos_for_fit(names)
        usable = []
        for name, photo in self._batches(self._prepared, self._mapped, chosen, "reading photos"):
            if isinstance(photo, PhotoError):
                self._read[name] = photo
            elif not photo.blank:
                self._rows[name] = self._maps.append(photo.features)
                self._read[name] = replace(photo, features=STORED)
                usable.append(name)
        if len(self._maps) < fewest:
            return None
        folder, count = "/".join(self._root.resolve().parts[-2:]), len(self._maps)
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
        model = on_device(model, self._runtime)

        def ready(name: str) -> Mapped | PhotoError:
            photo, row = self._read.get(name), self._rows.get(name)
            if isinstance(photo, SourcePhoto) and row is not None:
                return replace(photo, features=self._maps[row])
            return photo or self._prepared(name)

        def described(photos: Sequence[Mapped | PhotoError]) -> list[Described | PhotoError]:
            inputs = {n: p.features for n, p in enumerate(photos) if isinstance(p, SourcePhoto)}
            images = {n: one for n, one in inputs.items() if one.ndim == IMAGE_AXES}
            maps = {n: np.asarray(one) for n, one in inputs.items() if n not in images}
            features = dict(zip(images, model.describe_images([*images.values()]), strict=True))
            features |= zip(maps, model.describe_maps([*maps.values()]), strict=True)
            return [
                photo if isinstance(photo, PhotoError) else _described(photo, features[n], model)
                for n, photo in enumerate(photos)
            ]

        for _, photo in self._batches(ready, described, names, "describing photos"):
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
        """Yield the feature maps of photos with structure, one at a time; none is stored."""
        only_map = partial(self._prepared, mirrored=mirrored, retrieve=False)
        for name, photo in self._batches(only_map, self._mapped, names, stage):
            if isinstance(photo, PhotoError):
                self._read.setdefault(name, photo)
            elif not photo.blank:
                yield photo.features

    def _batches(
        self,
        prepare: Callable[[str], Mapped | PhotoError],
        work: Callable[[Sequence[Mapped | PhotoError]], list[Result]],
        names: Sequence[str],
        stage: str,
    ) -> Iterator[tuple[str, Result]]:
        """Yield each name with its result of ``work``, and report the progress.

        On a CPU each thread prepares a photo and works on it alone. On a GPU the threads prepare
        photos, and ``work`` takes several of them at once.
        """
        if not self._runtime.on_gpu:
            yield from self._each(lambda name: work([prepare(name)])[0], names, stage)
            return
        prepared = self._each(prepare, names, stage)
        while batch := list(islice(prepared, AT_ONCE_ON_GPU)):
            done, photos = zip(*batch, strict=True)
            yield from zip(done, work(photos), strict=True)

    def _each(
        self, function: Callable[[str], Result], names: Sequence[str], stage: str
    ) -> Iterator[tuple[str, Result]]:
        """Yield each name with the result of ``function``, and report the progress."""
        results = map_in_order(function, names, self._runtime.cores)
        for done, (name, result) in enumerate(zip(names, results, strict=True), start=1):
            self._progress(stage, done, len(names))
            yield name, result

    def _prepared(
        self, name: str, *, mirrored: bool = False, retrieve: bool = True
    ) -> Mapped | PhotoError:
        """Return a photo with the input of the trunk (1, 3, H, W) in place of its feature map."""
        preprocessing = self._trunk.preprocessing(self._settings.image_size)
        try:
            photo = decode(self._root / name, name, preprocessing.shrink_to)
        except NotFound:
            return PhotoError(name, "it disappeared while the folder was read")
        except PhotoError as error:
            return type(error)(name, error.reason)
        pixels = photo.pixels[:, ::-1] if mirrored else photo.pixels
        image, blank = prepare(pixels, preprocessing), not has_structure(photo.pixels)
        try:
            retrieval = self._retrieve(photo.pixels) if self._retrieve and retrieve else None
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from error
        return SourcePhoto(
            name, photo.sha256, photo.position, photo.taken, photo.gps_damaged, blank, image,
            retrieval,
        )  # fmt: skip

    def _mapped(self, photos: Sequence[Mapped | PhotoError]) -> list[Mapped | PhotoError]:
        """Return photos with the feature maps of those that are prepared; the others stay."""
        images = [photo.features for photo in photos if isinstance(photo, SourcePhoto)]
        maps = iter(feature_maps(self._trunk, images))
        return [
            photo if isinstance(photo, PhotoError) else replace(photo, features=next(maps))
            for photo in photos
        ]


def _described(photo: Mapped, features: Features, model: Model) -> Described:
    """Return a photo with its features; they are zero if it has no structure, in our form."""
    if photo.blank and model.settings.form == "own":
        features = model.blank(features)
    features = replace(features, retrieval_descriptor=photo.retrieval)
    return SourcePhoto(
        photo.name, photo.sha256, photo.position, photo.taken, photo.gps_damaged, photo.blank,
        features,
    )  # fmt: skip


def no_photo_to_fit(folder: str | Path, skipped: Sequence[PhotoError]) -> PhotoError:
    """Return the error for a folder of which no photo can be used."""
    if not skipped:
        return PhotoError(folder, "none of its photos has anything to recognise; add other photos")
    reasons = first_reasons(skipped)
    return PhotoError(folder, f"none of its {len(skipped)} photos can be read ({reasons})")


def first_reasons(skipped: Sequence[PhotoError]) -> str:
    """Return the first photos that were skipped, with their reasons; ``...`` if there are more."""
    more = ["..."] if len(skipped) > 3 else []
    return "; ".join([*map(str, skipped[:3]), *more])


def fit_on_folder(
    photos: str | Path,
    *,
    model: AnyModel = AUTO,
    settings: AnySettings | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> tuple[Model, list[PhotoError]]:
    """Return a model of the trunk ``model`` fitted on at most 1000 photos below ``photos``.

    The PCA of the published form takes up to 10,000 photos. With too few photos it also takes
    windows of their feature maps and mirrored photos; the model's training data state how many.
    Of an imported or trained model (``.safetensors``) only the PCA is fitted.

    Also returns the photos and folders that were skipped. ``save_model`` writes the model to a
    file, which is valid as ``model`` everywhere. Raises ``NotFound`` for a folder without photos
    and ``PhotoError`` if no photo can be used.
    """
    photos = path_of(photos)
    require_runtime(runtime)
    settings = settings_or_own(settings, model)
    resolved = resolve(settings.trunk if model == AUTO else model, settings, runtime.one_thread)
    start = resolved.model
    if start:
        if start.settings.form != "published":
            raise UsageError(f"model {model!r}: already fitted; name a trunk or an .onnx file")
        start.check_form(settings)
    vocabulary = start.fitted.vocabulary if start else None
    content = look_through(photos)
    names = content.photos
    unreadable = [PhotoError(name, "the folder cannot be read") for name in content.unreadable]
    if not names and not unreadable:
        raise NotFound(photos, "no photo in this folder", "give a folder with .jpg or .png files")
    with (
        PhotoSource(photos, resolved.trunk, settings, runtime) as source,
        single_threaded_blas(),
    ):
        fitted = source.fit(names, vocabulary=vocabulary)
        if fitted is None:
            raise no_photo_to_fit(photos, unreadable + source.skipped)
        if start:
            fitted = replace(
                fitted, name=f"{start.name}, {fitted.name}",
                provenance=f"{start.provenance}; the PCA: {fitted.provenance}",
                licence=f"{start.licence}; the PCA belongs to its author",
                training_data=f"{start.training_data}; the PCA: {fitted.training_data}",
            )  # fmt: skip
        return fitted, unreadable + source.skipped
