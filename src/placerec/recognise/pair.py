"""Compare two photos without an index."""

from __future__ import annotations

import numpy as np

from placerec.errors import UsageError
from placerec.method.ranking import similarities
from placerec.method.scores import match_candidates, score_matches
from placerec.models.fit import FEWEST_PHOTOS
from placerec.models.model import Model, on_device
from placerec.models.resolve import AUTO, generic_model, resolve, settings_or_own
from placerec.photos.pixels import AnyPhoto, photo_of
from placerec.records import Array, Place
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.settings import AnySettings
from placerec.trunks import Trunk
from placerec.workers import single_threaded_blas


def match_photos(
    first: AnyPhoto,
    second: AnyPhoto,
    *,
    bgr: bool = False,
    model: str | Trunk = AUTO,
    settings: AnySettings | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> tuple[Place, Model]:
    """Return how well ``first``, as the query, agrees with ``second``, and the model used.

    Both are photos in any form, as in ``PlaceRecognizer.query``; with ``bgr`` each array has the
    order of OpenCV. Two photos are too few to fit a model: ``auto`` means ``generic``, and a trunk
    is refused.
    """
    ready = pair_model(model, settings, runtime)
    either = [isinstance(photo, np.ndarray) for photo in (first, second)]
    query, other = (
        photo_of(photo, bgr=bgr and (is_array or not any(either)), shrink_to=ready.shrink_to)
        for photo, is_array in zip((first, second), either, strict=True)
    )
    return match_pixels(query.pixels, other.pixels, ready, other.path), ready


def pair_model(
    model: str | Trunk = AUTO,
    settings: AnySettings | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Model:
    """Return the model that compares two photos."""
    settings = settings_or_own(settings, model)
    resolved = resolve(model, settings, runtime)
    ready = generic_model(runtime) if resolved.generic_if_few else resolved.model
    if ready is None:
        raise UsageError(
            f"model {model}: it must be fitted on at least {FEWEST_PHOTOS} photos; fit a model "
            f"first: placerec fit PHOTOS"
        )
    return on_device(ready.with_settings(settings), runtime)


def match_pixels(query: Array, other: Array, model: Model, name: str = "") -> Place:
    """Return how well two photos (H, W, 3) uint8 RGB agree; ``name`` is that of ``other``.

    The fusion is always raw, as in the published tool for two images: one candidate has no z-score.
    """
    with single_threaded_blas():
        asked = model.describe(query, stride=1)
        answer = model.describe(other)
        cosines = similarities(asked.global_descriptor, answer.global_descriptor[None])
        cosine = float(cosines[0])
        if not model.settings.reranks:
            return Place(1, name, cosine, cosine)
        matched = match_candidates(asked.patches, [answer.patches])
        settings = model.settings.replace(fusion="raw")
        scores, matches = score_matches(matched, settings, cosines=cosines)
    return Place(1, name, float(scores[0]), cosine, None, matches[0])
