"""Compare two photos without an index."""

from __future__ import annotations

from pathlib import Path

from placerec.errors import UsageError
from placerec.models.fit import FEWEST_PHOTOS
from placerec.models.model import Model
from placerec.models.named import open_named
from placerec.photos.decode import decode
from placerec.recognise.rerank import score_candidates
from placerec.records import Place
from placerec.settings import Settings
from placerec.workers import available_threads, single_threaded_blas


def match_photos(
    first: str | Path,
    second: str | Path,
    *,
    model: str = "auto",
    settings: Settings | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> tuple[Place, Model]:
    """How well ``first`` (as the query) agrees with ``second``; also the model that was used.

    Two photos are too few to fit a model: ``auto`` is the generic one, a trunk alone is refused.
    The photos are described by several threads, never differently for it.
    """
    threads = threads or available_threads()
    ready = open_named("generic" if model == "auto" else model, threads, device)
    if ready is None:
        raise UsageError(
            f"model {model}: it must be fitted on photos, at least {FEWEST_PHOTOS}; fit one: "
            f"placerec fit PHOTOS --model {model} --out MODEL.safetensors"
        )
    ready = ready.with_settings(settings or ready.settings)
    with single_threaded_blas():
        shrink_to = ready.preprocessing.shrink_to
        query = ready.describe(decode(Path(first), shrink_to=shrink_to).pixels, stride=1)
        other = ready.describe(decode(Path(second), shrink_to=shrink_to).pixels)
        similar = float(query.global_descriptor @ other.global_descriptor)
        if not ready.settings.patch_sizes:
            return Place(1, str(second), similar, similar, None), ready
        scores, matches = score_candidates(query.patches, [other.patches], ready.settings)
    inliers = sum(match.inliers for match in matches[0])
    place = Place(1, str(second), float(scores[0]), similar, inliers, None, matches[0])
    return place, ready
