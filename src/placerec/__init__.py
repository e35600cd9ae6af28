"""placerec: visual place recognition that people can use, and a faithful Patch-NetVLAD.

    from placerec import PlaceRecognizer, build_index
    build_index("town.placerec", "photos")
    print(PlaceRecognizer.open("town.placerec").query("where.jpg").best)

Importing this package is light; every name below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from placerec.version import __version__

if TYPE_CHECKING:
    from placerec.evaluation.layouts import open_dataset
    from placerec.evaluation.runner import evaluate
    from placerec.index.build import build_index, refit_index
    from placerec.index.convert import convert_index
    from placerec.index.store import verify
    from placerec.index.update import add_photos, refresh_index, remove_photos
    from placerec.models.model_file import load_model, save_model
    from placerec.models.photo_source import fit_on_folder
    from placerec.photos.video import read_video
    from placerec.recognise.loop import LoopDetector
    from placerec.recognise.pair import match_photos
    from placerec.recognise.picture import draw_match
    from placerec.recognise.recognizer import PlaceRecognizer
    from placerec.recognise.track import follow
    from placerec.runtime import Runtime
    from placerec.settings import Settings

_HOMES = {
    "LoopDetector": "placerec.recognise.loop",
    "PlaceRecognizer": "placerec.recognise.recognizer",
    "Runtime": "placerec.runtime",
    "Settings": "placerec.settings",
    "add_photos": "placerec.index.update",
    "build_index": "placerec.index.build",
    "convert_index": "placerec.index.convert",
    "draw_match": "placerec.recognise.picture",
    "evaluate": "placerec.evaluation.runner",
    "fit_on_folder": "placerec.models.photo_source",
    "follow": "placerec.recognise.track",
    "load_model": "placerec.models.model_file",
    "match_photos": "placerec.recognise.pair",
    "open_dataset": "placerec.evaluation.layouts",
    "read_video": "placerec.photos.video",
    "refit_index": "placerec.index.build",
    "refresh_index": "placerec.index.update",
    "remove_photos": "placerec.index.update",
    "save_model": "placerec.models.model_file",
    "verify": "placerec.index.store",
}

__all__ = [
    "LoopDetector",
    "PlaceRecognizer",
    "Runtime",
    "Settings",
    "__version__",
    "add_photos",
    "build_index",
    "convert_index",
    "draw_match",
    "evaluate",
    "fit_on_folder",
    "follow",
    "load_model",
    "match_photos",
    "open_dataset",
    "read_video",
    "refit_index",
    "refresh_index",
    "remove_photos",
    "save_model",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'placerec' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
