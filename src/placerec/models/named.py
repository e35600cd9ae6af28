"""What ``--model`` means: a name, a model file, or a trunk that is yet to be fitted.

* ``auto``: EfficientNet-Lite0, fitted on the photos at hand where there are at least 50, else
  ``generic``.
* ``generic``: EfficientNet-Lite0 with the fit that ships in the package.
* ``efficientnet-lite0``, ``vgg16`` or an ONNX file: that trunk, fitted on the photos at hand.
* a ``.safetensors`` file: what ``placerec fit`` wrote.

The library also takes a ``Trunk`` object (such as ``TorchTrunk``) in place of a name.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from placerec.errors import NotFound, UsageError
from placerec.models.files import load_model, model_from_bytes
from placerec.models.model import Model
from placerec.trunks import TRUNKS, Trunk, open_trunk

DEFAULT_TRUNK = "efficientnet-lite0"
GENERIC = "generic.safetensors"


def trunk_named(model: str | Trunk, threads: int = 1, device: str = "cpu") -> Trunk | None:
    """The trunk that ``model`` names (or is) and that needs a fit; ``None`` for other models."""
    if not isinstance(model, str):
        return model
    if model in TRUNKS:
        return open_trunk(model, threads, device)
    if model.lower().endswith(".onnx"):
        from placerec.trunks.external import OnnxTrunk

        return OnnxTrunk.from_file(Path(model), threads, device)
    return None


def open_named(model: str | Trunk, threads: int = 1, device: str = "cpu") -> Model | None:
    """The ready model that ``model`` names; ``None`` where it must be fitted first."""
    if not isinstance(model, str) or model == "auto" or model in TRUNKS:
        return None
    if model.lower().endswith(".onnx"):
        return None
    if model == "generic":
        return generic_model(threads, device)
    if not model.lower().endswith(".safetensors"):
        choices = ", ".join(("auto", "generic", *TRUNKS))
        raise UsageError(f"model {model!r}: choose {choices}, an .onnx or a .safetensors file")
    if not Path(model).is_file():
        raise NotFound(model, "no such model file", "make one: placerec fit PHOTOS --out FILE")
    return load_model(Path(model), threads, device)


def generic_model(threads: int = 1, device: str = "cpu") -> Model:
    """The model that ships in the package, fitted on street-view photos (see its metadata)."""
    data = (files("placerec.models") / "weights" / GENERIC).read_bytes()
    model = model_from_bytes(data, Path(GENERIC), threads=threads, device=device)
    return replace(model, name="generic")
