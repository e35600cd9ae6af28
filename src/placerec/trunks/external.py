"""External trunks: any ONNX file or ``torch.nn.Module``.

Both must map an image (1, 3, H, W) to a feature map (1, C, h, w) or to the tokens (1, N, C) of a
vision transformer; leading class and register tokens are dropped. An ONNX file must contain all its
data. A file that refers to data in other files is refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from placerec.errors import NotFound, UnsafeWeights, UsageError, import_extra
from placerec.photos.prepare import Preprocessing
from placerec.records import Array
from placerec.runtime import DEFAULT_RUNTIME, Runtime

if TYPE_CHECKING:
    import torch

Channels = tuple[float, float, float]

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
PROBE_SIZE = (224, 224)
TOKEN_STRIDES = (8, 14, 16, 32)
MOST_PREFIX_TOKENS = 16
# A protobuf string entry with the key "location": how ONNX refers to data in another file.
EXTERNAL_DATA = b"\x0a\x08location"
# PyTorch may round differently with another number of threads.
ONE_THREAD = Runtime(threads=1)


class _NetworkTrunk:
    """The common part of ``OnnxTrunk`` and ``TorchTrunk``; ``_run`` calls the network."""

    def __init__(self, name: str, mean: Channels, std: Channels, size: tuple[int, int]) -> None:
        self.name, self._mean, self._std = name, mean, std
        features = self(np.zeros((1, 3, *size), np.float32))
        self.channels, self.stride = features.shape[0], round(size[0] / features.shape[1])

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """Return the input at ``size`` (height, width) with this trunk's mean and deviation."""
        return Preprocessing(size, self._mean, self._std, shrink=True)

    def __call__(self, image: Array) -> Array:
        """Return the feature map (C, h, w) float32 of an image (1, 3, H, W) float32."""
        return as_feature_map(self._run(image), image.shape[2:])

    def _run(self, image: Array) -> Array:
        raise NotImplementedError


class OnnxTrunk(_NetworkTrunk):
    """A trunk that ONNX Runtime runs, from the bytes of one ONNX file."""

    def __init__(
        self,
        data: bytes,
        *,
        name: str,
        mean: Channels = IMAGENET_MEAN,
        std: Channels = IMAGENET_STD,
        runtime: Runtime = DEFAULT_RUNTIME,
        expected_sha256: str | None = None,
    ) -> None:
        self.sha256 = hashlib.sha256(data).hexdigest()
        if expected_sha256 not in (None, self.sha256):
            raise UnsafeWeights(name, "its sha256 has changed", "install placerec again")
        if EXTERNAL_DATA in data:
            raise UnsafeWeights(name, "it refers to data in other files", "save it as one file")
        self._session = onnx_session(data, name, runtime)
        self._fixed = fixed_size(self._session)
        super().__init__(name, mean, std, self._fixed or PROBE_SIZE)

    @classmethod
    def from_file(cls, path: Path, runtime: Runtime = DEFAULT_RUNTIME) -> OnnxTrunk:
        """Return the trunk in the ONNX file ``path``, with ImageNet's mean and deviation."""
        if not path.is_file():
            raise NotFound(path, "no such ONNX file")
        return cls(path.read_bytes(), name=path.name, runtime=runtime)

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """Return the input at ``size`` (height, width) with this trunk's mean and deviation.

        Raises ``UsageError`` if the file has a fixed input size and ``size`` is different.
        """
        if self._fixed not in (None, size):
            height, width = self._fixed
            raise UsageError(
                f"{self.name}: image_size: must be {height},{width}, the fixed input size of the "
                f"file, not {size[0]},{size[1]}; or save the file with free axes"
            )
        return super().preprocessing(size)

    def _run(self, image: Array) -> Array:
        return onnx_output(self._session, self.name, image)


class TorchTrunk(_NetworkTrunk):
    """A trunk that PyTorch runs, from a module, in evaluation mode."""

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        name: str = "torch",
        mean: Channels = IMAGENET_MEAN,
        std: Channels = IMAGENET_STD,
        runtime: Runtime = ONE_THREAD,
        sha256: str | None = None,
        probe_size: tuple[int, int] = PROBE_SIZE,
    ) -> None:
        self._torch = torch = import_extra("torch", f"trunk {name}", "torch")
        torch.set_num_threads(runtime.cores)
        self._device = torch.device(runtime.device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise UsageError(f"device {runtime.device}: PyTorch finds no such device; use cpu")
        self._module = module.eval().to(self._device)
        self.sha256 = sha256 or module_digest(module)
        super().__init__(name, mean, std, probe_size)

    def _run(self, image: Array) -> Array:
        with self._torch.inference_mode():
            output = self._module(self._torch.from_numpy(image).to(self._device))
        features: Array = output.float().cpu().numpy()
        return features


def as_feature_map(output: Array, size: tuple[int, ...]) -> Array:
    """Return the output of a network for an image of ``size`` as a map (C, h, w) float32.

    The output is (1, C, h, w) or tokens (1, N, C). Raises ``UsageError`` for any other shape.
    """
    if output.ndim == 4 and len(output) == 1:
        return np.ascontiguousarray(output[0], np.float32)
    if output.ndim == 3 and len(output) == 1:
        for stride in TOKEN_STRIDES:
            rows, columns = size[0] // stride, size[1] // stride
            extra = output.shape[1] - rows * columns
            if rows and columns and 0 <= extra <= MOST_PREFIX_TOKENS:
                tokens = output[0, extra:].reshape(rows, columns, -1)
                return np.ascontiguousarray(tokens.transpose(2, 0, 1), np.float32)
    raise UsageError(
        f"the network turns an image of {size[0]}x{size[1]} into shape {output.shape}; it must "
        f"give a feature map (1, C, h, w) or tokens (1, N, C) of stride {TOKEN_STRIDES}"
    )


def onnx_session(data: bytes, name: str, runtime: Runtime) -> Any:
    """Return an ONNX Runtime session; its results do not depend on the number of threads."""
    import onnxruntime

    providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    provider = providers.get(runtime.device.partition(":")[0])
    if provider not in onnxruntime.get_available_providers():
        raise UsageError(f"device {runtime.device!r}: ONNX Runtime has no such device; use cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = runtime.cores, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(data, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's own exceptions have no common public base
        raise UnsafeWeights(name, f"ONNX Runtime: {error}", "check the file") from error


def fixed_size(session: Any) -> tuple[int, int] | None:
    """Return the fixed input (height, width) of an ONNX session, or ``None`` if it is free."""
    shape = session.get_inputs()[0].shape
    sides = shape[2:] if len(shape) == 4 else []
    fixed = len(sides) == 2 and all(isinstance(side, int) for side in sides)
    return (sides[0], sides[1]) if fixed else None


def onnx_output(session: Any, name: str, image: Array) -> Array:
    """Return the first output of an ONNX session for an image (1, 3, H, W) float32."""
    try:
        return np.asarray(session.run(None, {session.get_inputs()[0].name: image})[0])
    except Exception as error:  # ONNX Runtime's own exceptions have no common public base
        raise UsageError(
            f"{name}: it fails on a float32 image {image.shape}: {error}; save it for such images"
        ) from error


def module_digest(module: torch.nn.Module) -> str:
    """Return the sha256 (hex) of a module's state: names, shapes, types, values."""
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()
