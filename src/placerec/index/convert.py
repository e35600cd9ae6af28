"""Store an index with fewer bytes: the descriptors are packed again, and no photo is described."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from placerec.errors import UsageError
from placerec.files import path_of
from placerec.index.calibrate import calibrate_index
from placerec.index.index_model import model_of_index
from placerec.index.presets import preset_named
from placerec.index.retriever import row_for_copy
from placerec.index.store import open_index, store_of
from placerec.models.resolve import AUTO
from placerec.records import Features
from placerec.runtime import DEFAULT_RUNTIME, Runtime, require_runtime
from placerec.settings import CHOICES
from placerec.trunks import Trunk
from placerec.workers import single_threaded_blas


def convert_index(
    index: str | Path,
    out: str | Path,
    preset: str,
    *,
    model: str | Trunk = AUTO,
    replace: bool = False,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> int:
    """Write the index ``index`` as ``out`` with another preset; return the number of photos.

    ``out`` may be the same file; it is replaced if ``replace`` is true. The photos are only read
    for the calibration, and those that are gone take no part in it. ``model`` is only required for
    an index with a trunk from outside placerec. Raises ``UsageError`` for a preset with more bytes:
    what an index no longer has can only be described again.
    """
    index, out = path_of(index), path_of(out)
    require_runtime(runtime)
    storage, order = preset_named(preset), CHOICES["preset"]
    if store_of(out).exists(out) and not replace:
        raise UsageError(f"{out}: already exists; give another name, or replace it")
    with open_index(index) as reader, single_threaded_blas():
        info = reader.info
        if order.index(preset) <= order.index(info.preset):
            raise UsageError(
                f"{index}: has the preset {info.preset}, and {preset} does not need fewer bytes: "
                f"build the index again with it"
            )
        inside = model_of_index(reader, index, model, runtime.one_thread)
        row = reader.retriever and row_for_copy(reader.retriever, index, out)
        with store_of(out).create(
            out, root=info.root, model=info.model, fingerprint=info.fingerprint,
            settings=info.settings, weights=reader.weights(), storage=storage, retriever=row,
            replace=replace,
        ) as writer:  # fmt: skip
            vectors, retrieval = reader.global_descriptors(), reader.retrieval_descriptors()
            for number, entry in enumerate(reader.entries):
                features = Features(
                    vectors[number], reader.patches(number),
                    None if retrieval is None else retrieval[number],
                )  # fmt: skip
                writer.put(
                    entry.name, entry.sha256, entry.position, features,
                    gps_damaged=entry.gps_damaged, blank=entry.blank, restored=True,
                )  # fmt: skip
            writer.calibrate(partial(calibrate_index, model=inside, runtime=runtime))
        return len(reader.entries)
