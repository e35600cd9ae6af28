"""External trunks: any ONNX file or ``torch.nn.Module``.

Both must map an image (1, 3, H, W) to a feature map (1, C, h, w) or to the tokens (1, N, C) of a
vision transformer; leading class and register tokens are dropped. An ONNX file must contain all its
data. A file that refers to data in other files is refused.

A file that ``placerec train`` or ``adapt`` wrote states its own ``mean`` and ``std`` (in 0..255),
``training_data`` and ``licence``: JSON under the key ``HEADER`` of its metadata.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from placerec.device import alone, fetch, open_device, send
from placerec.errors import NotFound, UnsafeWeights, UsageError, import_extra, import_package
from placerec.photos.prepare import Preprocessing
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.text import printable

if TYPE_CHECKING:
    import torch

Channels = tuple[float, float, float]

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
HEADER = "placerec"  # the key in an ONNX file's metadata, as in a .safetensors file
FACTS = ("training_data", "licence")
STATED = (*FACTS, "provenance")
LONGEST_FACT = 10_000  # characters; the header of a model repeats the facts
LEAST, MOST = {"mean": 0.0, "std": 0.01}, 1000.0  # of the mean and the deviation in a header
PROBE_SIZE = (224, 224)
TOKEN_STRIDES = (8, 14, 16, 32)
MOST_PREFIX_TOKENS = 16
LARGEST_FILE = 1 << 31  # bytes; a protobuf message cannot be larger
# A protobuf string with the key "location" is how ONNX refers to data in another file. The tag and
# the length before it are 0a and 08; readers also accept both with more bytes than needed.
LOCATION = re.compile(b"location")
KEY_BEFORE = re.compile(rb"(\x0a|\x8a[\x80-\xff]*[\0-\x7f])(\x08|\x88[\x80-\xff]*[\0-\x7f])\Z")
NO_MEMORY = re.compile("allocate memory|bad.alloc|out of memory", re.IGNORECASE)
LONGEST_KEY = 20  # bytes of such a tag and length
# PyTorch may round differently with another number of threads.
ONE_THREAD = Runtime(threads=1)
AT_ONCE_ON_GPU = 20  # images; those of 480 x 640 need about 5 GB of GPU memory in VGG16


class OnnxNetwork:
    """A network that ONNX Runtime runs, from the bytes of one ONNX file, one image at a time.

    ``fixed_size`` is the (height, width) that the file fixes, or ``None``. ``header`` is what the
    file states about itself; often nothing. The results do not depend on the number of threads.
    Raises ``UnsafeWeights`` for an invalid file.
    """

    def __init__(self, data: bytes, name: str, runtime: Runtime = DEFAULT_RUNTIME) -> None:
        onnxruntime = import_package("onnxruntime")
        self.name, self.sha256 = name, hashlib.sha256(data).hexdigest()
        refuse_external_data(data, name)
        provider, gpu = _provider(runtime)
        if provider not in onnxruntime.get_available_providers():
            raise _no_such_device(name, runtime)
        options = onnxruntime.SessionOptions()
        # More threads than cores are no faster, and with little memory ONNX Runtime waits for ever
        # for those that it could not start.
        options.intra_op_num_threads = min(runtime.cores, DEFAULT_RUNTIME.cores)
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # the errors are raised, so no line of its own is needed
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=[provider], provider_options=[gpu]
            )
            opened = self._session.get_providers()
            inputs = self._session.get_inputs()
            metadata = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:  # ONNX Runtime's own exceptions have no common public base
            _refuse_lack_of_memory(name, error)
            raise UnsafeWeights(name, f"ONNX Runtime: {error}", "check the file") from error
        if provider not in opened:  # ONNX Runtime goes on without a GPU that it cannot open
            raise _no_such_device(name, runtime)
        if len(inputs) != 1:
            raise UnsafeWeights(name, f"it has {len(inputs)} inputs, not one", "check the file")
        self._input, shape = inputs[0].name, inputs[0].shape
        self.at_once, self.header = 1, _header(metadata, name)
        fixed = len(shape) == 4 and all(isinstance(side, int) for side in shape[2:])
        self.fixed_size: tuple[int, int] | None = (shape[2], shape[3]) if fixed else None

    @classmethod
    def from_file(cls, path: str | Path, runtime: Runtime = DEFAULT_RUNTIME) -> OnnxNetwork:
        """Return the network in the ONNX file ``path``."""
        return cls(read_onnx(path), printable(Path(path).name), runtime)

    def __call__(self, image: Array) -> Array:
        """Return the first output for an image (1, 3, H, W) float32."""
        try:
            output = np.asarray(self._session.run(None, {self._input: image})[0])
        except Exception as error:  # ONNX Runtime's own exceptions have no common public base
            _refuse_lack_of_memory(self.name, error)
            raise UsageError(
                f"{self.name}: it fails on a float32 image {image.shape}: {error}; save it for "
                f"such images"
            ) from error
        if output.dtype.kind not in "biuf":
            raise UsageError(f"{self.name}: its output is {output.dtype}; it must be numbers")
        return output


def _provider(runtime: Runtime) -> tuple[str, dict[str, int]]:
    """Return ONNX Runtime's name of the device, and its options there."""
    kind, _, number = runtime.device.partition(":")
    if kind != "cuda":
        return "CPUExecutionProvider" if kind == "cpu" else "", {}
    # On a GPU, ONNX Runtime alone computes in TF32 too.
    options = {"use_tf32": int(runtime.precision != "float32")}
    return "CUDAExecutionProvider", options | ({"device_id": int(number)} if number else {})


def _no_such_device(name: str, runtime: Runtime) -> UsageError:
    remedy = "use cpu"
    if runtime.device.startswith("cuda"):
        remedy = "install onnxruntime-gpu in place of onnxruntime (and CUDA), or use cpu"
    return UsageError(
        f"device {runtime.device}: {name} runs on ONNX Runtime, which finds no such device; "
        f"{remedy}"
    )


def read_onnx(path: str | Path) -> bytes:
    """Return the bytes of the ONNX file ``path``, if it is there and not too large."""
    path = Path(path)
    if not path.is_file():
        raise NotFound(path, "no such ONNX file")
    if path.stat().st_size > LARGEST_FILE:
        raise UnsafeWeights(path, f"more than {LARGEST_FILE} bytes", "check the file")
    return path.read_bytes()


def _header(metadata: dict[str, str], name: str) -> dict[str, Any]:
    """Return what an ONNX file states about itself; ``mean`` and ``std`` are always there."""
    header: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    try:
        header |= dict(json.loads(metadata.get(HEADER, "{}")))
        for part in ("mean", "std"):
            header[part] = _colours(header[part], part)
        for fact in STATED:
            _check_fact(fact, header.get(fact, ""))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        why = f"the entry {HEADER} of its metadata: {error}"
        raise UnsafeWeights(name, why, "check the file") from error
    return header


def _check_fact(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is not text")
    if len(value) > LONGEST_FACT:
        raise ValueError(f"{name} is longer than {LONGEST_FACT} characters")


def _colours(numbers: Iterable[Any], part: str) -> Channels:
    """Return the numbers of red, green and blue that a header states."""
    red, green, blue = map(float, numbers)
    if not all(LEAST[part] <= number <= MOST for number in (red, green, blue)):
        raise ValueError(f"{part}: three numbers from {LEAST[part]} to {MOST} are valid")
    return red, green, blue


def _refuse_lack_of_memory(name: str, error: Exception) -> None:
    """Raise ``MemoryError`` if ``error`` says that there is too little memory, here or on a GPU.

    Otherwise the caller blames the network. The runtimes have no common type for it.
    """
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        raise MemoryError(f"{name}: {error}") from error


def refuse_external_data(data: bytes, name: str) -> None:
    """Raise ``UnsafeWeights`` if an ONNX file refers to data in other files."""
    places = (match.start() for match in LOCATION.finditer(data))
    if any(KEY_BEFORE.search(data[max(0, end - LONGEST_KEY) : end]) for end in places):
        raise UnsafeWeights(name, "it refers to data in other files", "save it as one file")


class TorchNetwork:
    """A network that PyTorch runs: a module, in evaluation mode, or another callable.

    ``sha256`` covers the tensors of a module; all other callables have the same. ``at_once`` is
    the number of images that one call should take. With ``channels_last`` an NVIDIA GPU has all
    channels of a position together, which is faster for convolutions; not every network takes it.
    """

    fixed_size = None

    def __init__(
        self, network: Callable[[Any], Any], name: str, runtime: Runtime, *,
        channels_last: bool = False,
    ) -> None:  # fmt: skip
        self._torch = torch = import_extra("torch", f"network {name}", "torch")
        torch.set_num_threads(runtime.cores)
        self._device, self._precision = open_device(runtime.device), runtime.precision
        self.at_once = AT_ONCE_ON_GPU if runtime.on_gpu else 1
        module = network if isinstance(network, torch.nn.Module) else torch.nn.Module()
        module.eval().to(self._device)
        self._layout: dict[str, Any] = {}
        if channels_last and self._device.type == "cuda":
            self._layout = {"memory_format": torch.channels_last}
            module.to(**self._layout)
        self.name, self.sha256, self._network = name, module_digest(module), network

    def __call__(self, image: Array) -> Array:
        """Return the output, as float32, for images (n, 3, H, W) float32."""
        output = self.there([image])
        with alone(self._device, self._precision):
            return fetch([output])[0]

    def there(self, images: Sequence[Array]) -> torch.Tensor:
        """Return the output on the device, as float32, for images, each (n, 3, H, W) float32."""
        with alone(self._device, self._precision), self._torch.inference_mode():
            sent = send(images, self._device).flatten(0, 1).contiguous(**self._layout)
            try:
                output: torch.Tensor = self._network(sent)
            except Exception as error:  # the user's code can raise any exception
                _refuse_lack_of_memory(self.name, error)
                raise UsageError(
                    f"{self.name}: it fails on an image {tuple(sent.shape)} ({error}); set its "
                    f"attribute image_size (height, width) to a size that it takes"
                ) from error
        if not isinstance(output, self._torch.Tensor):
            kind = type(output).__name__
            raise UsageError(f"{self.name}: it returns a {kind}; return one tensor")
        features: torch.Tensor = output.float()
        return features


Network = OnnxNetwork | TorchNetwork


class NetworkTrunk:
    """A trunk of a network whose output is a feature map or tokens.

    ``mean`` and ``std`` of red, green and blue are in 0..255. ``probe_size`` (height, width) is a
    size of images that the network takes.
    """

    def __init__(
        self,
        network: Network,
        mean: Channels = IMAGENET_MEAN,
        std: Channels = IMAGENET_STD,
        probe_size: tuple[int, int] = PROBE_SIZE,
    ) -> None:
        self.name, self.sha256, self._network = network.name, network.sha256, network
        self._mean, self._std = mean, std
        size = network.fixed_size or probe_size
        features = self(np.zeros((1, 3, *size), np.float32))
        self.channels, self.stride = features.shape[0], round(size[0] / features.shape[1])

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """Return the input at ``size`` (height, width) with this trunk's mean and deviation.

        Raises ``UsageError`` if the file has a fixed input size and ``size`` is different.
        """
        fixed = self._network.fixed_size
        if fixed not in (None, size):
            raise UsageError(
                f"{self.name}: image_size: must be {fixed[0]},{fixed[1]}, the fixed input size of "
                f"the file, not {size[0]},{size[1]}; or save the file with free axes"
            )
        return Preprocessing(size, self._mean, self._std, shrink=True)

    def __call__(self, image: Array) -> Array:
        """Return the feature map (C, h, w) float32 of an image (1, 3, H, W) float32."""
        return self.maps(image)[0]

    @property
    def at_once(self) -> int:
        """The number of images that one call of ``maps`` should take: 1 on a CPU."""
        return self._network.at_once

    def maps(self, images: Array) -> list[Array]:
        """Return the feature maps (C, h, w) float32 of images (n, 3, H, W) float32.

        On a GPU a map may depend on the other images, by rounding.
        """
        return maps_of(self._network, images)

    def maps_there(self, images: Sequence[Array]) -> torch.Tensor | None:
        """Return what the function ``maps_there`` does."""
        return maps_there(self._network, images)


class OnnxTrunk(NetworkTrunk):
    """A trunk of the bytes of one ONNX file.

    Its mean and deviation are those that the file states, or else ImageNet's.
    """

    def __init__(self, data: bytes, *, name: str, runtime: Runtime = DEFAULT_RUNTIME) -> None:
        network = OnnxNetwork(data, name, runtime)
        super().__init__(network, network.header["mean"], network.header["std"])
        for fact in FACTS:
            if stated := network.header.get(fact):
                setattr(self, fact, printable(stated))

    @classmethod
    def from_file(cls, path: str | Path, runtime: Runtime = DEFAULT_RUNTIME) -> OnnxTrunk:
        """Return the trunk in the ONNX file ``path``."""
        return cls(read_onnx(path), name=printable(Path(path).name), runtime=runtime)


class TorchTrunk(NetworkTrunk):
    """A trunk of a PyTorch module, in evaluation mode."""

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        name: str = "torch",
        mean: Channels = IMAGENET_MEAN,
        std: Channels = IMAGENET_STD,
        runtime: Runtime = ONE_THREAD,
        probe_size: tuple[int, int] = PROBE_SIZE,
    ) -> None:
        super().__init__(TorchNetwork(module, name, runtime), mean, std, probe_size)


def maps_of(network: Network, images: Array) -> list[Array]:
    """Return the feature maps (C, h, w) float32 of a network for images (n, 3, H, W) float32."""
    maps = as_feature_maps(network(images), images.shape)
    return [np.ascontiguousarray(one, np.float32) for one in maps]


def maps_there(network: Network, images: Sequence[Array]) -> torch.Tensor | None:
    """Return the feature maps (n, C, h, w) float32 on the device of a network of PyTorch.

    Each of the n images is (1, 3, H, W) float32. For any other network the result is ``None``.
    """
    if not isinstance(network, TorchNetwork):
        return None
    shape = (len(images), *images[0].shape[1:])
    maps: torch.Tensor = as_feature_maps(network.there(images), shape)
    return maps


def as_feature_maps(output: Any, shape: tuple[int, ...]) -> Any:
    """Return the output of a network for images of ``shape`` (n, 3, H, W) as maps (n, C, h, w).

    The output is (n, C, h, w) or tokens (n, N, C), an array or a tensor. Raises ``UsageError`` for
    any other shape.
    """
    count, _, *size = shape
    if output.ndim == 4 and len(output) == count:
        return output
    if output.ndim == 3 and len(output) == count:
        for stride in TOKEN_STRIDES:
            rows, columns = size[0] // stride, size[1] // stride
            extra = output.shape[1] - rows * columns
            if rows and columns and 0 <= extra <= MOST_PREFIX_TOKENS:
                return output[:, extra:].swapaxes(1, 2).reshape(count, -1, rows, columns)
    images = "an image" if count == 1 else f"{count} images"
    raise UsageError(
        f"the network turns {images} of {size[0]}x{size[1]} into shape {tuple(output.shape)}; it "
        f"must give a feature map ({count}, C, h, w) or tokens ({count}, N, C) of stride "
        f"{TOKEN_STRIDES}"
    )


def module_digest(module: torch.nn.Module) -> str:
    """Return the sha256 (hex) of a module's state: names, shapes, types, values."""
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()
