"""Trunks from outside: any ONNX file or ``torch.nn.Module``.

Both must map an image (1, 3, H, W) to a feature map (1, C, h, w) or to the tokens (1, N, C) of a
vision transformer; leading class and register tokens are dropped. An ONNX file must be whole: one
that refers to data outside itself is refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from placerec.errors import MissingExtra, NotFound, UnsafeWeights, UsageError
from placerec.photos.prepare import Preprocessing
from placerec.records import Array

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
PROBE_SIZE = (224, 224)
TOKEN_STRIDES = (8, 14, 16, 32)
MOST_PREFIX_TOKENS = 16
# A protobuf string entry whose key is "location": how ONNX names a file outside itself.
EXTERNAL_DATA = b"\x0a\x08location"


class OnnxTrunk:
    """A trunk run by ONNX Runtime from the bytes of one ONNX file."""

    shrink = True

    def __init__(
        self,
        data: bytes,
        *,
        name: str,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        threads: int = 1,
        device: str = "cpu",
        expected_sha256: str | None = None,
    ) -> None:
        self.name, self.sha256 = name, hashlib.sha256(data).hexdigest()
        if expected_sha256 not in (None, self.sha256):
            raise UnsafeWeights(name, "its sha256 has changed", "install placerec again")
        if EXTERNAL_DATA in data:
            raise UnsafeWeights(name, "it refers to data in other files", "save it as one file")
        self._mean, self._std = mean, std
        self._session = onnx_session(data, name, threads, device)
        self._fixed = fixed_size(self._session)
        self.channels, self.stride = _probe(self, self._fixed or PROBE_SIZE)

    @classmethod
    def from_file(cls, path: Path, threads: int = 1, device: str = "cpu") -> OnnxTrunk:
        """The ONNX file at ``path``, with ImageNet's mean and deviation."""
        if not path.is_file():
            raise NotFound(path, "no such ONNX file")
        return cls(path.read_bytes(), name=path.name, threads=threads, device=device)

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """Input at ``size`` (height, width) with this trunk's mean and deviation.

        Raises ``UsageError`` for another size than a file of fixed size takes.
        """
        if self._fixed not in (None, size):
            height, width = self._fixed
            raise UsageError(
                f"{self.name}: takes images of {height}x{width} alone, not {size[0]}x{size[1]}; "
                f"say --image-size {height},{width}, or save it with free axes"
            )
        return Preprocessing(size, self._mean, self._std, self.shrink)

    def __call__(self, image: Array) -> Array:
        """Feature map (C, h, w) float32 of (1, 3, H, W) float32."""
        return as_feature_map(onnx_output(self._session, self.name, image), image.shape[2:])


class TorchTrunk:
    """A trunk run by PyTorch from a module in evaluation mode."""

    shrink = True

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        name: str = "torch",
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        threads: int = 1,
        device: str = "cpu",
        sha256: str | None = None,
        probe_size: tuple[int, int] = PROBE_SIZE,
    ) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingExtra(f"trunk {name}", "torch") from error
        self._torch = torch
        torch.set_num_threads(threads)
        self._device = torch.device(device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise UsageError(f"device {device}: PyTorch finds no such device; use cpu")
        self._module = module.eval().to(self._device)
        self.name, self._mean, self._std = name, mean, std
        self.sha256 = sha256 or module_digest(module)
        self.channels, self.stride = _probe(self, probe_size)

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """Input at ``size`` (height, width) with this trunk's mean and deviation."""
        return Preprocessing(size, self._mean, self._std, self.shrink)

    def __call__(self, image: Array) -> Array:
        """Feature map (C, h, w) float32 of (1, 3, H, W) float32."""
        with self._torch.inference_mode():
            output = self._module(self._torch.from_numpy(image).to(self._device))
        return as_feature_map(output.float().cpu().numpy(), image.shape[2:])


def as_feature_map(output: Array, size: tuple[int, ...]) -> Array:
    """(1, C, h, w) or tokens (1, N, C) of an image of ``size`` as (C, h, w) float32."""
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
        f"the network turns an image of {size[0]}x{size[1]} into shape {output.shape}; a feature "
        f"map (1, C, h, w) or tokens (1, N, C) of stride {TOKEN_STRIDES} are needed"
    )


def _probe(trunk: OnnxTrunk | TorchTrunk, size: tuple[int, int]) -> tuple[int, int]:
    features = trunk(np.zeros((1, 3, *size), np.float32))
    return features.shape[0], round(size[0] / features.shape[1])


def onnx_session(data: bytes, name: str, threads: int, device: str) -> Any:
    """An ONNX Runtime session that gives the same bits for any number of threads."""
    import onnxruntime

    providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    provider = providers.get(device.partition(":")[0])
    if provider not in onnxruntime.get_available_providers():
        raise UsageError(f"device {device!r}: ONNX Runtime offers no such device here; use cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(data, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's own exceptions have no common public base
        raise UnsafeWeights(name, f"ONNX Runtime: {error}", "check the file") from error


def fixed_size(session: Any) -> tuple[int, int] | None:
    """The (height, width) of its input where the file fixes both."""
    shape = session.get_inputs()[0].shape
    sides = shape[2:] if len(shape) == 4 else []
    fixed = len(sides) == 2 and all(isinstance(side, int) for side in sides)
    return (sides[0], sides[1]) if fixed else None


def onnx_output(session: Any, name: str, image: Array) -> Array:
    """The first output for an image (1, 3, H, W) float32."""
    try:
        return np.asarray(session.run(None, {session.get_inputs()[0].name: image})[0])
    except Exception as error:  # ONNX Runtime's own exceptions have no common public base
        raise UsageError(
            f"{name}: it fails on a float32 image {image.shape}: {error}; save it for such images"
        ) from error


def module_digest(module: torch.nn.Module) -> str:
    """sha256 (hex) of a module's state: names, shapes, types, values."""
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()
