"""Compare two photos without an index."""

from __future__ import annotations

from pathlib import Path

from placerec.errors import UsageError
from placerec.models.fit import FEWEST_PHOTOS
from placerec.models.model import Model
from placerec.models.resolve import auto_model, open_named, settings_for
from placerec.recognise.rerank import rerank
from placerec.records import Place
from placerec.runtime import available_threads
from placerec.settings import Settings
from placerec.trunks import Trunk
from placerec.workers import single_threaded_blas


def match_photos(
    first: str | Path,
    second: str | Path,
    *,
    model: str | Trunk = "auto",
    settings: Settings | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> tuple[Place, Model]:
    """How well ``first`` (as the query) agrees with ``second``; also the model that was used.

    Two photos are too few to fit a model: ``auto`` is the generic one, a trunk alone is refused.
    The fusion is always raw, as in the published two-image tool: one candidate has no z-score.
    The photos are described by several threads, never differently for it.
    """
    threads = threads or available_threads()
    settings = settings or settings_for(model)
    model = auto_model(model, settings)
    ready = open_named("generic" if model == "auto" else model, threads, device)
    if ready is None:
        raise UsageError(
            f"model {model}: it must be fitted on photos, at least {FEWEST_PHOTOS}; fit one: "
            f"placerec fit PHOTOS --model {model} --out MODEL.safetensors"
        )
    ready = ready.with_settings(settings)
    with single_threaded_blas():
        query = ready.describe(ready.read(Path(first)).pixels, stride=1)
        other = ready.describe(ready.read(Path(second)).pixels)
        similar = query.global_descriptor[None] @ other.global_descriptor
        candidates = [other.patches] if ready.settings.reranks else []
        one = rerank(query.patches, candidates, similar, ready.settings.replace(fusion="raw"))[0]
    return Place(1, str(second), one.score, float(similar[0]), None, one.matches), ready
