"""Fit a model on a folder of photos, to be used for other photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from placerec.errors import PhotoError, UsageError
from placerec.models.model import Model
from placerec.models.photo_source import PhotoSource
from placerec.models.resolve import AUTO, resolve, settings_for
from placerec.photos.find import find_photos
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.settings import AnySettings
from placerec.trunks import Trunk
from placerec.workers import single_threaded_blas


def fit_on_folder(
    photos: str | Path,
    *,
    model: str | Trunk = AUTO,
    settings: AnySettings | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> tuple[Model, list[PhotoError]]:
    """Return a model of the trunk ``model`` fitted on at most 1000 photos below ``photos``.

    The PCA of the published form takes up to 10,000 photos. With too few photos it also takes
    windows of their feature maps and mirrored photos; the model's training data state how many.
    Of an imported or trained model (``.safetensors``) only the PCA is fitted.

    Also returns the photos that were skipped. ``save_model`` writes the model to a file, which is
    valid as ``model`` everywhere. Raises ``PhotoError`` if no photo can be read.
    """
    settings = settings or settings_for(model)
    resolved = resolve(settings.trunk if model == AUTO else model, settings, runtime.one_thread)
    start = resolved.model
    if start:
        if start.settings.form != "published":
            raise UsageError(f"model {model!r}: already fitted; name a trunk or an .onnx file")
        start.check_form(settings)
    vocabulary = start.fitted.vocabulary if start else None
    with (
        PhotoSource(Path(photos), resolved.trunk, settings, runtime) as source,
        single_threaded_blas(),
    ):
        fitted = source.fit(find_photos(Path(photos)), vocabulary=vocabulary)
        if fitted is None:
            raise PhotoError(photos, "no photo in it can be read; give a folder of photos")
        if start:
            fitted = replace(
                fitted, name=f"{start.name}, {fitted.name}",
                provenance=f"{start.provenance}; the PCA: {fitted.provenance}",
                licence=f"{start.licence}; the PCA belongs to its author",
                training_data=f"{start.training_data}; the PCA: {fitted.training_data}",
            )  # fmt: skip
        return fitted, source.skipped
