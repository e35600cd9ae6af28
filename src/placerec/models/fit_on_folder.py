"""Fit a model on a folder of photos, to be used for other photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from placerec.errors import PhotoError, UsageError
from placerec.models.model import Model
from placerec.models.photo_source import PhotoSource
from placerec.models.resolve import open_named, settings_for, trunk_named
from placerec.photos.find import find_photos
from placerec.runtime import Progress, available_threads, no_progress
from placerec.settings import Settings
from placerec.trunks import Trunk
from placerec.workers import single_threaded_blas


def fit_on_folder(
    photos: str | Path,
    *,
    model: str | Trunk = "auto",
    settings: Settings | None = None,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> tuple[Model, list[PhotoError]]:
    """A model of the trunk ``model`` fitted on at most 1000 photos below the folder ``photos``.

    The PCA of the published form takes up to 10,000, and where those are too few, windows of their
    feature maps and mirrored photos; the model's training data say so. Of an imported or trained
    model (``.safetensors``) only the PCA is fitted. Returns the model with the photos that were
    skipped. ``save_model`` writes it to a file that is accepted wherever a model is named. Raises
    ``PhotoError`` where no photo can be used.
    """
    settings = settings or settings_for(model)
    start = open_named(model, 1, device)
    if start and not start.settings.shared_pca:
        raise UsageError(f"model {model!r}: already fitted; name a trunk or an .onnx file")
    if start:
        start.check_form(settings)
        trunk: Trunk | None = start.trunk
    else:
        trunk = trunk_named(settings.trunk if model == "auto" else model, 1, device)
    if trunk is None:
        raise UsageError(f"model {model!r}: name a trunk, an .onnx or a .safetensors file")
    vocabulary = start.fitted.vocabulary if start else None
    source = PhotoSource(Path(photos), trunk, settings, threads or available_threads(), progress)
    with source, single_threaded_blas():
        fitted = source.fit(find_photos(Path(photos)), vocabulary=vocabulary)
        if fitted is None:
            raise PhotoError(photos, "no photo in it that can be used; give a folder of photos")
        if start:
            fitted = replace(
                fitted, name=f"{start.name}, {fitted.name}",
                provenance=f"{start.provenance}; the PCA: {fitted.provenance}",
                licence=f"{start.licence}; the PCA belongs to who made it",
                training_data=f"{start.training_data}; the PCA: {fitted.training_data}",
            )  # fmt: skip
        return fitted, source.skipped
