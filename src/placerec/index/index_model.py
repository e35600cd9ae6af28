"""The model inside an index: what it states, and the model itself, ready to describe photos.

It is the model that described the photos of the index. Any other model is refused with both names.
"""

from __future__ import annotations

from pathlib import Path

from placerec.errors import ModelMismatch, UsageError
from placerec.index.schema import BUILD_AGAIN
from placerec.index.store import Reader
from placerec.models.model import Model
from placerec.models.model_file import model_from_bytes, parse_header, parse_settings
from placerec.models.resolve import AUTO, resolve
from placerec.runtime import Runtime
from placerec.trunks import TRUNKS, Trunk
from placerec.trunks.external import STATED

REMEDY = "an index has its model: omit model, or build a new index with it"


def stated_of_index(reader: Reader, path: Path) -> dict[str, str]:
    """Return what the model inside the index at ``path`` states; its trunk is not opened.

    ``training_data``, ``provenance`` and ``licence``; an empty text for a missing entry.
    """
    header = parse_header(reader.weights(), path)
    return {name: header.get(name, "") for name in STATED}


def model_of_index(reader: Reader, path: Path, model: str | Trunk, runtime: Runtime) -> Model:
    """Return the model inside the index at ``path``.

    ``model`` is ``auto``, or a model that must be the one inside; a trunk from outside placerec
    must be given. Raises ``ModelMismatch`` for another model.
    """
    weights = reader.weights()
    if isinstance(model, str) and model in TRUNKS and model != parse_header(weights, path)["trunk"]:
        raise ModelMismatch(path, reader.info.model, model, REMEDY)  # before its weights are read
    given = None if model == AUTO else resolve(model, runtime=runtime)
    trunk = given.trunk if given and not given.model else None
    if trunk is not None and trunk.name != parse_header(weights, path)["trunk"]:
        raise ModelMismatch(path, reader.info.model, trunk.name, REMEDY)
    inside = model_from_bytes(weights, path, trunk, runtime, again=BUILD_AGAIN)
    inside = inside.with_settings(parse_settings(reader.info.settings, path))
    if inside.fingerprint != reader.info.fingerprint:
        stored = f"{reader.info.model} {reader.info.fingerprint[:12]}"
        remedy = "build the index again with this version"
        raise ModelMismatch(path, stored, _label(inside), remedy)
    if given and given.model and not _same(given.model, inside):
        raise ModelMismatch(path, _label(inside), _label(given.model), REMEDY)
    return inside


def _label(model: Model) -> str:
    return f"{model.name} {model.fingerprint[:12]}"


def _same(given: Model, inside: Model) -> bool:
    try:
        return given.with_settings(inside.settings).fingerprint == inside.fingerprint
    except UsageError:  # the given model cannot have these settings
        return False
