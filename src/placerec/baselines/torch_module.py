"""Any network as a baseline: ``--torch-module package:function``, or a file ``NET.onnx``.

``function`` is imported and called once without arguments. It returns a ``torch.nn.Module`` (or
another callable) that maps one image (1, 3, H, W) float32 to

* (1, D): the global descriptor of the photo (``GlobalModule``), or
* a feature map (1, C, h, w) or tokens (1, N, C): it becomes the trunk of NetVLAD, whose vocabulary
  and PCA are fitted on the database photos (``NetvladOfModule``; method ``netvlad``).

What it returns may carry attributes that say how photos are prepared and where its weights come
from: those of ``About``, all optional. An ONNX file has ImageNet's mean and deviation, and the size
of its input where that is fixed.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from placerec.baselines.contract import Progress, Provenance, Retriever
from placerec.errors import MissingExtra, NotFound, UnsafeWeights, UsageError
from placerec.method.vlad import normalise
from placerec.models.fit import FeatureMaps, fit_model
from placerec.photos.prepare import Preprocessing, prepare
from placerec.records import Array
from placerec.runtime import Runtime
from placerec.settings import NETVLAD, Settings
from placerec.trunks.external import (
    EXTERNAL_DATA,
    as_feature_map,
    fixed_size,
    onnx_output,
    onnx_session,
)

if TYPE_CHECKING:
    import torch

    from placerec.models.model import Model
    from placerec.trunks import Trunk

MOST_PHOTOS = 1000  # that the fit of a feature map looks at, evenly spread over the database
FEWEST_PHOTOS_FOR_PCA = 33  # they span 32 dimensions; in fewer, a photo is hardly told from another
PIXELS = 255


@dataclass(frozen=True, slots=True)
class About:
    """What a module may say of itself, as attributes of the same names.

    ``image_size`` (height, width) in pixels, aspect not kept, or (0, 0): the photo's own size;
    ``mean`` and ``std`` of red, green and blue in 0..1 (default: ImageNet's); ``version`` enters
    the fingerprint, for a callable whose tensors do not tell it apart; ``licence`` and
    ``training_data`` in words.
    """

    image_size: tuple[int, int] = Settings().image_size
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    version: str = ""
    licence: str = "not stated"
    training_data: str = "not stated"

    @property
    def preprocessing(self) -> Preprocessing:
        """The same for ``prepare``, whose numbers are for pixels in 0..255."""
        mean, std = ((one[0] * PIXELS, one[1] * PIXELS, one[2] * PIXELS)
                     for one in (self.mean, self.std))  # fmt: skip
        return Preprocessing(self.image_size, mean, std)


class GlobalModule:
    """A ``Retriever`` of a network that gives a global descriptor.

    ``network`` maps (1, 3, H, W) float32 to anything array-like, which must be (1, D) and finite;
    ``sha256`` is of its weights.
    """

    def __init__(
        self, name: str, network: Callable[[Array], Array], sha256: str, about: About
    ) -> None:
        self.name, self._network, self._about = name, network, about
        self.provenance = Provenance(about.licence, about.training_data)
        self.fingerprint = hashlib.sha256(f"{name} {sha256} {asdict(about)}".encode()).hexdigest()

    def fit(self, photos: Callable[[], Iterator[Array]], count: int, progress: Progress) -> None:
        """Nothing to learn."""

    def describe(self, pixels: Array) -> Array:
        """(H, W, 3) uint8 RGB to (D,) float32 of unit length."""
        output = self._network(prepare(pixels, self._about.preprocessing))
        if output.ndim != 2 or len(output) != 1:
            raise UsageError(f"{self.name}: {_shape_of(output)} for a photo; (1, D) is needed")
        return normalise(_finite(output[0], self.name).astype(np.float32))


class MapTrunk:
    """A ``Trunk`` of a network whose output is a feature map or tokens; ``output``: for a probe."""

    def __init__(
        self,
        name: str,
        network: Callable[[Array], Array],
        sha256: str,
        about: About,
        output: Array,
    ) -> None:
        self.name, self.sha256 = name, sha256
        self._network, self._about = network, about
        size = _probe_size(about)
        features = as_feature_map(output, size)
        self.channels, self.stride = len(features), round(size[0] / features.shape[1])

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """As the network says of itself, at ``size``."""
        return replace(self._about, image_size=size).preprocessing

    def __call__(self, image: Array) -> Array:
        """Feature map (C, h, w) float32 of (1, 3, H, W) float32."""
        return as_feature_map(self._network(image), image.shape[2:])


class NetvladOfModule:
    """A ``Retriever`` of a network that gives a feature map: NetVLAD, fitted on the database.

    On fewer than 33 photos without a PCA, which would leave fewer than 32 dimensions.
    """

    def __init__(self, trunk: Trunk, about: About) -> None:
        self.name, self._trunk, self._about = trunk.name, trunk, about
        self._model: Model | None = None

    @property
    def provenance(self) -> Provenance:
        """What the module says of its weights, and the photos of the fit."""
        fitted = self._model.training_data if self._model else "the database photos"
        return Provenance(
            self._about.licence, f"{self._about.training_data}; NetVLAD fitted on {fitted}"
        )

    @property
    def record(self) -> dict[str, Any]:
        """The weights, and what the network says of itself: all that is known before the fit."""
        return {"weights": {self.name: self._trunk.sha256}, **asdict(self._about)}

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of weights, preprocessing and fit."""
        text = f"{self.name} {self._fitted.fingerprint} {asdict(self._about)}"
        return hashlib.sha256(text.encode()).hexdigest()

    def fit(self, photos: Callable[[], Iterator[Array]], count: int, progress: Progress) -> None:
        """K-means and PCA of the feature maps of at most 1000 photos, seeded."""
        chosen = {i * count // MOST_PHOTOS for i in range(MOST_PHOTOS)}
        chosen = set(range(count)) if count <= MOST_PHOTOS else chosen
        maps = FeatureMaps()
        try:
            for number, pixels in enumerate(photos()):
                if number in chosen:
                    maps.append(_finite(self._map(pixels), self.name))
                    progress("feature maps", len(maps), len(chosen))
            told = f"the database photos ({len(maps)} of {count}), without labels"
            settings = NETVLAD.replace(image_size=self._about.image_size)
            if len(maps) < FEWEST_PHOTOS_FOR_PCA:
                settings = settings.replace(global_dim=0)
                told += f"; no PCA, which needs {FEWEST_PHOTOS_FOR_PCA} photos"
            self._model = fit_model(self._trunk, settings, maps, name=self.name, training_data=told)
        finally:
            maps.close()

    def describe(self, pixels: Array) -> Array:
        """(H, W, 3) uint8 RGB to (D,) float32 of unit length."""
        features = _finite(self._map(pixels), self.name)
        return self._fitted.describe_map(features).global_descriptor

    @property
    def _fitted(self) -> Model:
        if self._model is None:
            raise UsageError(f"{self.name}: not fitted yet; call fit first")
        return self._model

    def _map(self, pixels: Array) -> Array:
        image = prepare(pixels, self._about.preprocessing)
        return np.ascontiguousarray(self._trunk(image).transpose(1, 2, 0))


def open_module(spec: str, threads: int = 1, device: str = "cpu") -> Retriever:
    """The retriever of ``spec``: ``package:function``, or the path of an ONNX file.

    The network is run once on an image of noise to see what it gives. Raises ``UsageError`` where
    it cannot be imported or called or gives something else, ``MissingExtra`` without PyTorch.
    """
    if spec.lower().endswith(".onnx"):
        return _open_onnx(Path(spec), threads, device)
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("--torch-module", "torch") from error
    from placerec.trunks.external import module_digest

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device {device}: PyTorch finds no such device; use cpu")
    made = _made(spec)
    about = _about(made, spec)
    module = made if isinstance(made, torch.nn.Module) else _as_module(made)
    sha256 = module_digest(module)
    torch.set_num_threads(threads)
    module.eval().to(torch.device(device))
    return _retriever(spec, _torch_network(module, spec, device), sha256, about)


def _open_onnx(path: Path, threads: int, device: str) -> Retriever:
    """The same for an ONNX file, by its first output."""
    if not path.is_file():
        raise NotFound(path, "no such ONNX file")
    data = path.read_bytes()
    if EXTERNAL_DATA in data:
        raise UnsafeWeights(path, "it refers to data in other files", "save it as one file")
    session = onnx_session(data, path.name, Runtime(threads=threads, device=device))
    size = fixed_size(session)
    about = About() if size is None else About(image_size=size)
    run = partial(onnx_output, session, path.name)
    return _retriever(path.name, run, hashlib.sha256(data).hexdigest(), about)


def _retriever(
    name: str, network: Callable[[Array], Array], sha256: str, about: About
) -> Retriever:
    """What the output for an image of noise makes of the network."""
    output = _probed(network, about, name)
    if output.ndim == 2:
        return GlobalModule(name, network, sha256, about)
    return NetvladOfModule(MapTrunk(name, network, sha256, about, output), about)


def _made(spec: str) -> Any:
    """What the function named by ``spec`` returns."""
    package, colon, name = spec.partition(":")
    if not (package and colon and name):
        raise UsageError(f"--torch-module {spec}: give PACKAGE:FUNCTION, such as mynet.model:build")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # as python does, and an installed program does not
    try:
        function = getattr(import_module(package), name)
    except Exception as error:  # the import runs the code of others
        raise UsageError(
            f"--torch-module {spec}: cannot be imported ({type(error).__name__}: {error}); install "
            f"the package, run this beside it, or put its folder on PYTHONPATH"
        ) from error
    try:
        made = function()
    except Exception as error:
        raise UsageError(
            f"--torch-module {spec}: its call without arguments fails ({type(error).__name__}: "
            f"{error}); correct the function"
        ) from error
    if not callable(made):
        raise UsageError(
            f"--torch-module {spec}: the function returns a {type(made).__name__}; return a "
            f"torch.nn.Module or another callable"
        )
    return made


def _about(made: Any, spec: str) -> About:
    """The attributes of ``made`` that ``About`` knows, checked."""
    said: dict[str, Any] = {
        one.name: getattr(made, one.name) for one in fields(About) if hasattr(made, one.name)
    }
    try:
        if "image_size" in said:
            height, width = said["image_size"]
            said["image_size"] = (int(height), int(width))
        for name in {"mean", "std"} & set(said):
            red, green, blue = said[name]
            said[name] = (float(red), float(green), float(blue))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"--torch-module {spec}: image_size must be (height, width), mean and std three "
            f"numbers in 0..1 ({error})"
        ) from error
    for name in {"version", "licence", "training_data"} & set(said):
        said[name] = str(said[name])
    return About(**said)


def _as_module(function: Callable[[Any], Any]) -> torch.nn.Module:
    """A callable that is no module as one without tensors."""
    import torch

    class Called(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> Any:
            return function(image)

    return Called()


def _torch_network(module: torch.nn.Module, spec: str, device: str) -> Callable[[Array], Array]:
    import torch

    def run(image: Array) -> Array:
        try:
            with torch.inference_mode():
                output = module(torch.from_numpy(image).to(device))
        except Exception as error:  # whatever the code of others raises
            raise UsageError(
                f"--torch-module {spec}: it fails on an image {image.shape} ({error}); say with "
                f"its attribute image_size (height, width) which size it takes"
            ) from error
        if not isinstance(output, torch.Tensor):
            raise UsageError(
                f"--torch-module {spec}: it returns a {type(output).__name__}; return one tensor"
            )
        return np.asarray(output.float().cpu().numpy())

    return run


def _probed(network: Callable[[Array], Array], about: About, name: str) -> Array:
    """What the network gives for an image of noise, if that is of a shape that can be used."""
    noise = np.random.default_rng(0).standard_normal((1, 3, *_probe_size(about)), np.float32)
    output = network(noise)
    if output.ndim not in (2, 3, 4) or len(output) != 1 or not output.size:
        raise UsageError(
            f"{name}: {_shape_of(output)} for one image; (1, D) for a global descriptor, or "
            f"(1, C, h, w) or (1, N, C) for a feature map is needed"
        )
    return _finite(output, name)


def _probe_size(about: About) -> tuple[int, int]:
    return about.image_size if min(about.image_size) > 0 else Settings().image_size


def _finite(values: Array, name: str) -> Array:
    if not np.isfinite(values).all():
        raise UsageError(f"{name}: its output for a photo is not finite; check its weights")
    return values


def _shape_of(output: Array) -> str:
    return f"the output has shape {tuple(output.shape)}"
