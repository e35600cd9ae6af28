"""What ``model`` means, for every command and library call.

* ``auto``: the trunk of the settings, fitted on the photos at hand. With fewer than 50 photos our
  method uses ``generic`` instead.
* ``generic``: EfficientNet-Lite0 with the fit that ships in the package.
* ``efficientnet-lite0``, ``vgg16`` or an ONNX file: that trunk, fitted on the photos at hand.
* a ``.safetensors`` file that ``placerec fit``, ``train`` or ``weights import`` wrote. It has its
  own settings; a named method changes those that can still be changed.
* the name of a published model, such as ``mapillary-512`` (``published``), which ``placerec weights
  download`` put on this machine: its file.
* a ``Trunk`` object (such as ``TorchTrunk``), in the library only.

A file is a ``str`` or a ``Path``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from placerec.errors import UsageError
from placerec.files import path_of
from placerec.models.fit import FEWEST_PHOTOS
from placerec.models.model import Model
from placerec.models.model_file import (
    CHECKPOINT_ENDINGS,
    load_model,
    model_from_bytes,
    parse_header,
    parse_settings,
    read_header,
    read_settings,
)
from placerec.models.published import PUBLISHED, is_model_name, published_path
from placerec.runtime import DEFAULT_RUNTIME, Runtime, require_runtime
from placerec.settings import METHODS, AnySettings, Settings, named_settings, require_settings
from placerec.trunks import TRUNKS, Trunk, open_trunk
from placerec.trunks.external import STATED, OnnxNetwork, OnnxTrunk

AnyModel = str | Path | Trunk
AUTO, GENERIC = "auto", "generic"
OF_A_TRUNK = ("name", "sha256", "channels", "stride", "preprocessing")
DEFAULT_TRUNK = Settings().trunk
LARGEST_AUTO_DIM = 1024  # a larger PCA is never fitted while an index is built
FACTS = ("name", "provenance", "training_data", "licence", "sha256", "trunk", "trunk_sha256",
         "settings", "format")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resolved:
    """What ``model`` names: a trunk, and the fitted model if there is one.

    ``generic_if_few``: with too few photos for a fit, the generic model takes its place.
    """

    trunk: Trunk = field(repr=False)
    model: Model | None = None
    generic_if_few: bool = False

    @property
    def digests(self) -> dict[str, str]:
        """The sha256 (hex) by name of everything that decides a description, before any fit."""
        digests = {self.trunk.name: self.trunk.sha256}
        if self.model:
            digests[self.model.name] = self.model.fingerprint
        if self.generic_if_few:
            digests[GENERIC] = model_facts(GENERIC)["sha256"]
        return digests

    def check_photos(self, settings: AnySettings, photos: int) -> None:
        """Raise ``UsageError`` if neither a fit on ``photos`` photos nor generic is possible."""
        if not self.generic_if_few or photos >= FEWEST_PHOTOS:
            return
        try:
            generic_model().with_settings(settings)
        except UsageError as error:
            same = [f"the method {name}" for name, named in METHODS.items() if named == settings]
            raise UsageError(
                f"{photos} photos are too few for a fit, and the generic model does not have these "
                f"settings ({str(error).partition(';')[0]}); give {FEWEST_PHOTOS} photos or more, "
                f"or fit a model with {(same or ['the same settings'])[0]} (placerec fit) and give "
                f"its file as model, or choose the method default"
            ) from error


def resolve(
    model: AnyModel = AUTO,
    settings: AnySettings | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
) -> Resolved:
    """Open what ``model`` names. ``settings`` say which trunk ``auto`` means.

    Raises ``UsageError`` for an unknown name, for a checkpoint that must be imported first, and for
    ``auto`` with a PCA that is too large to be fitted while an index is built.
    """
    require_runtime(runtime)
    if not isinstance(model, str | Path):
        missing = [name for name in OF_A_TRUNK if not hasattr(model, name)]
        if missing or not callable(model):
            raise UsageError(
                f"model: {model!r:.100} is neither a name, nor a file, nor a Trunk (without "
                f"{', '.join(missing) or '__call__'}); save a fitted model and give its file"
            )
        return Resolved(model)
    model = str(path_of(model))
    if model == AUTO:
        settings = settings or Settings()
        if settings.trunk != DEFAULT_TRUNK and settings.global_dim > LARGEST_AUTO_DIM:
            raise UsageError(
                f"PCA to {settings.global_dim} dimensions: no model is named, and a PCA of this "
                f"size neither ships nor is fitted while an index is built; fit a model with "
                f"placerec fit, or get one with placerec weights download or placerec weights "
                f"import, and give it as model"
            )
        trunk = open_trunk(settings.trunk, runtime)
        return Resolved(trunk, generic_if_few=settings.trunk == DEFAULT_TRUNK)
    ending = Path(model.lower()).suffix
    if model in TRUNKS:
        return Resolved(open_trunk(model, runtime))
    if ending == ".onnx":
        return Resolved(OnnxTrunk.from_file(Path(model), runtime))
    if ending in CHECKPOINT_ENDINGS:
        raise UsageError(
            f"model {model!r}: a PyTorch checkpoint; import it first: placerec weights import "
            f"{model} MODEL.safetensors; then give MODEL.safetensors as model"
        )
    if model != GENERIC and not _is_model_file(model):
        choices = ", ".join((AUTO, GENERIC, *TRUNKS, *filter(is_model_name, PUBLISHED)))
        raise UsageError(f"model {model!r}: choose {choices}, an .onnx or a .safetensors file")
    ready = generic_model(runtime) if model == GENERIC else load_model(Path(model), runtime)
    return Resolved(ready.trunk, ready)


def settings_for(model: AnyModel = AUTO, method: str | None = None, **changes: Any) -> AnySettings:
    """Return the settings of ``model`` with a named ``method`` and single ``changes``.

    Without a method a model file has its own settings; everything else has those of ``default``.
    """
    settings = named_settings(method or "default")
    if isinstance(model, str | Path) and _is_model_file(model):
        own = read_settings(model)
        settings = _on_weights(own, settings, method) if method else own
    return settings.replace(**changes)


def settings_or_own(settings: AnySettings | None, model: AnyModel) -> AnySettings:
    """Return the settings that a caller gave, or else those of ``model``."""
    if settings is None:
        return settings_for(model)
    require_settings(settings)
    return settings


def _is_model_file(model: str | Path) -> bool:
    return is_model_name(model) or str(model).lower().endswith(".safetensors")


def _on_weights(own: AnySettings, named: AnySettings, method: str) -> AnySettings:
    """The settings of a model file, changed by a method where its weights allow it."""
    if named.patch_sizes and named.form != own.form:
        needed = "imported or trained weights" if named.form == "published" else "a fit of its own"
        choices = ", ".join(name for name, other in METHODS.items() if other.form == own.form)
        raise UsageError(
            f"method {method}: needs {needed}, and this model does not have that form; omit the "
            f"method, or choose one of {choices}"
        )
    changes = named.open_after_fit()
    if not named.patch_sizes:  # retrieval only: at most the dimensions that the model has
        del changes["pca_dim"]
        changes["global_dim"] = min(named.global_dim, own.global_dim)
    return own.replace(**changes)


def model_facts(model: str | Path) -> dict[str, str]:
    """Return what a model file, an ONNX file, ``generic`` or a published name states, as text.

    ``name``, ``provenance``, ``training_data``, ``licence``, ``sha256`` (of its tensors, or of the
    ONNX file), ``trunk`` and ``trunk_sha256``, ``settings`` (JSON), ``format``; an empty text for a
    missing entry.
    """
    if str(model) in PUBLISHED:
        model = published_path(str(model))
    if str(model).lower().endswith(".onnx"):
        network = OnnxNetwork.from_file(model)
        facts = {name: network.header.get(name, "") for name in STATED}
        facts |= {"name": network.name, "sha256": network.sha256, "format": "onnx"}
        return {name: facts.get(name, "") for name in FACTS}
    generic = model == GENERIC
    header = parse_header(_generic_bytes(), _GENERIC_PATH) if generic else read_header(model)
    parse_settings(header["settings"], Path(model))  # refuses invalid settings
    return {name: header.get(name, "") for name in FACTS}


def generic_model(runtime: Runtime = DEFAULT_RUNTIME) -> Model:
    """Return the model that ships in the package, fitted on street photos (see its header)."""
    model = model_from_bytes(_generic_bytes(), _GENERIC_PATH, runtime=runtime)
    return replace(model, name=GENERIC)


_GENERIC_PATH = Path("generic.safetensors")


def _generic_bytes() -> bytes:
    return (files("placerec.models") / "weights" / _GENERIC_PATH.name).read_bytes()
