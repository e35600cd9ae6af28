"""What ``--model`` means: a name, a model file, or a trunk that is yet to be fitted.

* ``auto``: EfficientNet-Lite0, fitted on the photos at hand where there are at least 50, else
  ``generic``; with a preset of the paper VGG16, fitted on the photos at hand.
* ``generic``: EfficientNet-Lite0 with the fit that ships in the package.
* ``efficientnet-lite0``, ``vgg16`` or an ONNX file: that trunk, fitted on the photos at hand.
* a ``.safetensors`` file: what ``placerec fit``, ``train`` or ``weights import`` wrote. It brings
  its own settings; a named method changes what its weights leave open.

The library also takes a ``Trunk`` object (such as ``TorchTrunk``) in place of a name.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from placerec.errors import UsageError
from placerec.models.model import Model
from placerec.models.model_file import (
    CHECKPOINT_ENDINGS,
    load_model,
    model_from_bytes,
    parsed_settings,
    read_header,
    read_settings,
)
from placerec.runtime import Runtime
from placerec.settings import METHODS, Settings, named_settings
from placerec.trunks import TRUNKS, Trunk, open_trunk

DEFAULT_TRUNK = Settings().trunk
LARGEST_AUTO_DIM = 1024  # a larger PCA is not fitted in passing
# What a method may change of a model file: all that its weights leave open.
OPEN_TO_METHODS = ("patch_sizes", "stride", "patch_sums", "global_dim", "pca_dim", "scorer",
                   "scale_weights", "fusion", "spatial_form", "box", "candidates")  # fmt: skip
GENERIC = "generic.safetensors"
_GENERIC = files("placerec.models") / "weights" / GENERIC
FACTS = ("name", "provenance", "training_data", "licence", "sha256", "trunk", "trunk_sha256",
         "settings", "format")  # fmt: skip


def settings_for(
    model: str | Trunk = "auto", method: str | None = None, **changes: Any
) -> Settings:
    """The settings that ``model``, a named ``method`` and single ``changes`` come to.

    Without a method a model file brings its own settings, everything else those of ``default``.
    """
    base = named_settings(method or "default")
    if isinstance(model, str) and model.lower().endswith(".safetensors"):
        own = read_settings(Path(model))
        base = _on_weights(own, base, method) if method else own
    return base.replace(**changes)


def _on_weights(own: Settings, named: Settings, method: str) -> Settings:
    """The settings of a model file, changed by a method as far as its weights leave it open."""
    if named.patch_sizes and named.shared_pca != own.shared_pca:
        form = "imported or trained weights" if named.shared_pca else "a fit of its own"
        fitting = ", ".join(n for n, s in METHODS.items() if s.shared_pca == own.shared_pca)
        raise UsageError(
            f"method {method}: needs {form}, and this model is not of that form; leave --method "
            f"away, or choose one of {fitting}"
        )
    changes = {name: getattr(named, name) for name in OPEN_TO_METHODS}
    if not named.patch_sizes:  # retrieval alone: no more dimensions than there are
        changes["global_dim"] = min(named.global_dim, own.global_dim)
        changes["pca_dim"] = changes["global_dim"] or own.pca_dim
    return own.replace(**changes)


def auto_model(model: str | Trunk, settings: Settings) -> str | Trunk:
    """``model``, where ``auto`` becomes the trunk of ``settings`` if that is not the default one.

    Raises ``UsageError`` for ``paper-performance`` without a model: its PCA is too large to be
    fitted in passing or to ship.
    """
    if model != "auto" or settings.trunk == DEFAULT_TRUNK:
        return model
    if settings.global_dim > LARGEST_AUTO_DIM:
        raise UsageError(
            f"PCA to {settings.global_dim} dimensions: no model is named, and one so large neither "
            f"ships nor is fitted in passing; fit one: placerec fit PHOTOS --method "
            f"paper-performance --out MODEL.safetensors; or import one: placerec weights import "
            f"CHECKPOINT.pth.tar MODEL.safetensors; then say --model MODEL.safetensors"
        )
    return settings.trunk


def trunk_named(model: str | Trunk, threads: int = 1, device: str = "cpu") -> Trunk | None:
    """The trunk that ``model`` names (or is) and that needs a fit; ``None`` for other models."""
    if not isinstance(model, str):
        return model
    if model in TRUNKS:
        return open_trunk(model, Runtime(threads=threads, device=device))
    if model.lower().endswith(".onnx"):
        from placerec.trunks.external import OnnxTrunk

        return OnnxTrunk.from_file(Path(model), Runtime(threads=threads, device=device))
    return None


def open_named(model: str | Trunk, threads: int = 1, device: str = "cpu") -> Model | None:
    """The ready model that ``model`` names; ``None`` where it must be fitted first."""
    if not isinstance(model, str) or model == "auto" or model in TRUNKS:
        return None
    if model.lower().endswith(".onnx"):
        return None
    if model == "generic":
        return generic_model(threads, device)
    if model.lower().endswith(CHECKPOINT_ENDINGS):
        raise UsageError(
            f"model {model!r}: a PyTorch checkpoint; import it first: placerec weights import "
            f"{model} MODEL.safetensors; then say --model MODEL.safetensors"
        )
    if not model.lower().endswith(".safetensors"):
        choices = ", ".join(("auto", "generic", *TRUNKS))
        raise UsageError(f"model {model!r}: choose {choices}, an .onnx or a .safetensors file")
    return load_model(Path(model), threads, device)


def model_facts(model: str) -> dict[str, str]:
    """What a model file, or ``generic``, says of itself: everything in its header, as text.

    ``name``, ``provenance``, ``training_data``, ``licence``, ``sha256`` (of its tensors),
    ``trunk`` and ``trunk_sha256``, ``settings`` (JSON), ``format``; "" where it says nothing.
    """
    if model == "generic":
        with as_file(_GENERIC) as path:
            header = read_header(path)
    else:
        header = read_header(Path(model))
    parsed_settings(header["settings"], Path(model))
    return {name: header.get(name, "") for name in FACTS}


def generic_model(threads: int = 1, device: str = "cpu") -> Model:
    """The model that ships in the package, fitted on street-view photos (see its metadata)."""
    data = _GENERIC.read_bytes()
    model = model_from_bytes(data, Path(GENERIC), threads=threads, device=device)
    return replace(model, name="generic")
