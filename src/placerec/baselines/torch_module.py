"""Any network as a method: ``torch_module`` is PACKAGE:FUNCTION, or the path of an ONNX file.

The function is imported and called once without arguments. It returns a ``torch.nn.Module``, or
another callable, that maps one image (1, 3, H, W) float32 to

* (1, D): the global descriptor of the photo. The network is a ``Retriever`` (``GlobalModule``).
* a feature map (1, C, h, w) or tokens (1, N, C). The network is a ``Trunk``, and the method
  ``netvlad`` on this trunk answers, as with any other trunk.

Optional attributes of the returned object state how photos are prepared and where the weights come
from (``About``). An ONNX file has ImageNet's mean and deviation, and the size of its input if the
file fixes it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from placerec.baselines.contract import Provenance
from placerec.errors import UsageError, import_extra
from placerec.method.vlad import normalise
from placerec.photos.prepare import Preprocessing, prepare
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Progress, Runtime
from placerec.settings import Settings
from placerec.trunks.external import (
    Network,
    NetworkTrunk,
    OnnxNetwork,
    TorchNetwork,
)

TOLERANCE = 1e-3  # of the length of a descriptor


@dataclass(frozen=True, slots=True)
class About:
    """What a module may state about itself, as attributes of the same names.

    ``image_size`` is (height, width) in pixels, aspect not kept; (0, 0) is the photo's own size.
    ``mean`` and ``std`` are of red, green and blue in 0..1, by default ImageNet's. ``version``
    distinguishes callables with equal tensors. ``licence`` and ``training_data`` are words.
    """

    image_size: tuple[int, int] = Settings().image_size
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    version: str = ""
    licence: str = "not stated"
    training_data: str = "not stated"

    @property
    def preprocessing(self) -> Preprocessing:
        """The same for ``prepare``, with numbers for pixels in 0..255."""
        (r, g, b), (red, green, blue) = self.mean, self.std
        return Preprocessing(
            self.image_size, (r * 255, g * 255, b * 255), (red * 255, green * 255, blue * 255)
        )

    @property
    def probe_size(self) -> tuple[int, int]:
        """The size (height, width) of an image that the network takes."""
        return self.image_size if min(self.image_size) > 0 else Settings().image_size


class GlobalModule:
    """A ``Retriever`` with a network that gives a global descriptor (1, D); nothing is fitted."""

    def __init__(self, network: Network, about: About) -> None:
        self.name, self._network, self._about = network.name, network, about
        self.provenance = Provenance(about.licence, about.training_data)
        self.fingerprint = _fingerprint(network, about)

    def fit(self, photos: Callable[[], Iterator[Array]], count: int, progress: Progress) -> None:
        """Do nothing: the network is already trained."""

    def describe(self, pixels: Array) -> Array:
        """Return (D,) float32 of unit length for (H, W, 3) uint8 RGB."""
        output = self._network(prepare(pixels, self._about.preprocessing))
        if output.ndim != 2 or len(output) != 1:
            raise UsageError(f"{self.name}: its output must be (1, D), not {output.shape}")
        return unit_length(_finite(output[0], self.name), self.name)


class ModuleTrunk(NetworkTrunk):
    """A trunk of a module of the user's own, with its licence and training data.

    Its ``sha256`` covers the tensors of the module and ``about``.
    """

    def __init__(self, network: Network, about: About) -> None:
        preparation = about.preprocessing
        super().__init__(network, preparation.mean, preparation.std, about.probe_size)
        self.licence, self.training_data = about.licence, about.training_data
        self.sha256 = _fingerprint(network, about)


def open_module(
    torch_module: str, runtime: Runtime = DEFAULT_RUNTIME
) -> tuple[GlobalModule | NetworkTrunk, tuple[int, int]]:
    """Open PACKAGE:FUNCTION or an ONNX file; return it with its image size (height, width).

    The network is a retriever or a trunk; its output for an image of noise decides. Raises
    ``UsageError`` if it cannot be imported or called or has an invalid output, and ``MissingExtra``
    without PyTorch.
    """
    network: Network
    if is_onnx := torch_module.lower().endswith(".onnx"):
        network = OnnxNetwork.from_file(Path(torch_module), runtime)
        about = About(image_size=network.fixed_size or About().image_size)
    else:
        import_extra("torch", "a network of PyTorch", "torch")
        made = _made(torch_module)
        about = _about(made, torch_module)
        network = TorchNetwork(made, torch_module, runtime)
    if _is_global(network, about):
        return GlobalModule(network, about), about.image_size
    trunk = NetworkTrunk(network) if is_onnx else ModuleTrunk(network, about)
    return trunk, about.image_size


def _made(spec: str) -> Any:
    """Return what the function named by ``spec`` returns."""
    package, colon, name = spec.partition(":")
    if not (package and colon and name):
        raise UsageError(f"torch_module {spec}: give PACKAGE:FUNCTION, such as mynet.model:build")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # python does so, but an installed program does not
    fault, remedy = "cannot be imported", "install the package, or put its folder on PYTHONPATH"
    try:
        function = getattr(import_module(package), name)
        fault, remedy = "the call without arguments fails", "correct the function"
        made = function()
    except Exception as error:  # the import and the call run the user's code
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"torch_module {spec}: {fault} ({reason}); {remedy}") from error
    if not callable(made):
        raise UsageError(
            f"torch_module {spec}: the function returns a {type(made).__name__}; return a "
            f"torch.nn.Module or another callable"
        )
    return made


def _about(made: Any, spec: str) -> About:
    """Return the attributes of ``made`` that ``About`` defines, checked."""
    stated: dict[str, Any] = {}
    for name, default in asdict(About()).items():
        value = getattr(made, name, default)
        if isinstance(default, str):
            stated[name] = str(value)
            continue
        try:
            pairs = zip(default, value, strict=True)
            stated[name] = tuple(type(number)(item) for number, item in pairs)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"torch_module {spec}: image_size must be (height, width), mean and std three "
                f"numbers in 0..1 ({name}: {error})"
            ) from error
    return About(**stated)


def _is_global(network: Network, about: About) -> bool:
    """Return whether the output for an image of noise is a global descriptor, not a map."""
    noise = np.random.default_rng(0).standard_normal((1, 3, *about.probe_size), np.float32)
    output = network(noise)
    if output.ndim not in (2, 3, 4) or len(output) != 1 or not output.size:
        raise UsageError(
            f"{network.name}: its output has shape {output.shape} for one image; it must be (1, D) "
            f"for a global descriptor, or (1, C, h, w) or (1, N, C) for a feature map"
        )
    return bool(_finite(output, network.name).ndim == 2)


def _finite(values: Array, name: str) -> Array:
    if not np.isfinite(values).all():
        raise UsageError(f"{name}: its output for a photo is not finite; check its weights")
    return values


def unit_length(vector: Array, name: str) -> Array:
    """Return a descriptor (D,) of finite numbers as float32 of unit length; zeros stay zeros.

    Raises ``UsageError`` if float32 has no room for its numbers or for their squares.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        unit = normalise(vector.astype(np.float32))
        length = np.linalg.norm(unit)
    if vector.any() and not abs(length - 1) < TOLERANCE:
        raise UsageError(
            f"{name}: it describes a photo by numbers up to {abs(vector).max():.3g}, which float32 "
            f"cannot bring to unit length; it must give a vector of unit length"
        )
    return unit


def _fingerprint(network: Network, about: About) -> str:
    text = f"{network.name} {network.sha256} {asdict(about)}"
    return hashlib.sha256(text.encode()).hexdigest()
