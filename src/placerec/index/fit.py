"""Fit a model on a folder of photos, to be used for other photos."""

from __future__ import annotations

from pathlib import Path

from placerec.errors import PhotoError, UsageError
from placerec.index.describe import PhotoSource, Progress, no_progress
from placerec.models.model import Model
from placerec.models.named import DEFAULT_TRUNK, trunk_named
from placerec.photos.find import find_photos
from placerec.settings import Settings
from placerec.trunks import Trunk
from placerec.workers import available_threads, single_threaded_blas


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

    Returns it with the photos that were skipped. ``save_model`` writes it to a file that is
    accepted wherever a model is named. Raises ``PhotoError`` where no photo can be used.
    """
    trunk = trunk_named(DEFAULT_TRUNK if model == "auto" else model, 1, device)
    if trunk is None:
        raise UsageError(f"model {model!r}: already fitted; name a trunk or an .onnx file")
    source = PhotoSource(
        Path(photos), trunk, settings or Settings(), threads or available_threads(), progress
    )
    with source, single_threaded_blas():
        fitted = source.fit(find_photos(Path(photos)))
        if fitted is None:
            raise PhotoError(photos, "no photo in it that can be used; give a folder of photos")
        return fitted, source.skipped
