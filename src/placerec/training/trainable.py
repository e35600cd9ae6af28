"""A trunk that can be trained: the graph of an ONNX file as a PyTorch module, and back.

The graph may consist of the operators in ``OPERATORS``. BatchNorm must be folded into the
convolutions, as exporters do. The kernels and biases of the convolutions are the parameters.
``encoded`` writes the same graph with other numbers, so the result runs wherever the file ran.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from placerec.errors import UnsafeWeights, UsageError, import_extra
from placerec.records import Array
from placerec.trunks.external import HEADER

Tensor = torch.Tensor
Attributes = Mapping[str, Any]
SMALLEST_SIZE = 1e-6  # root mean square; a tensor of zeros takes steps too


class TrainableTrunk(nn.Module):
    """The network in the bytes ``data`` of an ONNX file: images (n, 3, H, W) to (n, C, h, w).

    Raises ``UnsafeWeights`` of ``name`` for an invalid file, and ``UsageError`` for a network that
    cannot be trained here.
    """

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__()
        onnx = import_extra("onnx", "training a trunk", "train")
        try:
            self._proto = onnx.load_from_string(data)
            graph = self._proto.graph
            values = {part.name: onnx.numpy_helper.to_array(part) for part in graph.initializer}
            self._nodes = [
                (node.op_type, [*node.input], node.output[0],
                 {part.name: onnx.helper.get_attribute_value(part) for part in node.attribute})
                for node in graph.node
            ]  # fmt: skip
            self._input = next(part.name for part in graph.input if part.name not in values)
            self._output = graph.output[0].name
        except Exception as error:  # the exceptions of protobuf have no common public base
            raise UnsafeWeights(name, "not an ONNX network", "check the file") from error
        for kind, inputs, _, attributes in self._nodes:
            if why := _why_not(kind, [values.get(part) for part in inputs if part], attributes):
                raise UsageError(
                    f"{name}: {why}; export the network in float32, with its BatchNorm folded into "
                    f"the convolutions, or train another trunk"
                )
        kernels = [inputs[1:] for kind, inputs, *_ in self._nodes if kind == "Conv"]
        trained = dict.fromkeys(part for parts in kernels for part in parts if part)
        self._places = {part: place for place, part in enumerate(trained)}
        self.tensors = nn.ParameterList(torch.from_numpy(values[part].copy()) for part in trained)
        self._constants = {part: value.item() for part, value in values.items() if value.size == 1}

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature maps (n, C, h, w) of images (n, 3, H, W)."""
        values: dict[str, Any] = {"": None, self._input: images, **self._constants}
        values |= {part: self.tensors[place] for part, place in self._places.items()}
        for kind, inputs, output, attributes in self._nodes:
            values[output] = OPERATORS[kind](attributes, *(values[part] for part in inputs))
        features: Tensor = values[self._output]
        return features

    def groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the parameters for an optimiser, each with the step size of its tensor.

        ``learning_rate`` is a share of the root mean square of a tensor. With BatchNorm folded in,
        the tensors differ in size by a factor of a hundred, so one step size does not suit all.
        """
        sizes = [float(tensor.detach().square().mean().sqrt()) for tensor in self.tensors]
        return [
            {"params": [tensor], "lr": learning_rate * max(size, SMALLEST_SIZE)}
            for tensor, size in zip(self.tensors, sizes, strict=True)
        ]

    def arrays(self) -> list[Array]:
        """Return copies of the parameters, float32."""
        return [tensor.detach().cpu().numpy().copy() for tensor in self.tensors]

    def encoded(self, arrays: Sequence[Array], header: Mapping[str, Any] | None = None) -> bytes:
        """Return the ONNX file with ``arrays`` as its parameters.

        ``header`` replaces what the file states about itself (``trunks.external.HEADER``).
        """
        onnx = import_extra("onnx", "writing a trunk", "train")
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        for part in proto.graph.initializer:
            if part.name in self._places:
                array = np.ascontiguousarray(arrays[self._places[part.name]], np.float32)
                part.CopyFrom(onnx.numpy_helper.from_array(array, part.name))
        if header is not None:
            entries = {entry.key: entry.value for entry in proto.metadata_props}
            onnx.helper.set_model_props(proto, {**entries, HEADER: json.dumps(header)})
        data: bytes = proto.SerializeToString()
        return data


def _why_not(kind: str, inputs: Sequence[Array | None], attributes: Attributes) -> str:
    """Say why a node cannot be trained; empty if it can be. A computed input is ``None``."""
    if kind not in OPERATORS:
        return f"the operator {kind} cannot be trained, only {', '.join(OPERATORS)}"
    constant = [array is not None for array in inputs]
    if any(constant) if kind == "Add" else not all(constant[1:]):
        given = "a constant" if kind == "Add" else "a computed tensor"
        return f"the operator {kind} of {given} cannot be trained"
    if kind == "Conv" and any(array is not None and array.dtype != np.float32 for array in inputs):
        return "its tensors are not float32"
    padding = attributes.get("auto_pad", b"NOTSET").decode()
    return "" if padding in ("NOTSET", "SAME_UPPER") else f"padding {padding} cannot be trained"


def _convolution(attributes: Attributes, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    strides = attributes.get("strides", [1, 1])
    dilations = attributes.get("dilations", [1, 1])
    if attributes.get("auto_pad") == b"SAME_UPPER":
        before, after = [], []
        for axis in (0, 1):
            size, reach = x.shape[2 + axis], dilations[axis] * (kernel.shape[2 + axis] - 1)
            last = (size - 1) // strides[axis] * strides[axis]  # where the last window begins
            total = max(last + reach + 1 - size, 0)
            before.append(total // 2)
            after.append(total - total // 2)
    else:
        pads = attributes.get("pads", [0, 0, 0, 0])
        before, after = pads[:2], pads[2:]
    if before != after:
        x = functional.pad(x, (before[1], after[1], before[0], after[0]))
        before = [0, 0]
    groups = attributes.get("group", 1)
    return functional.conv2d(x, kernel, bias, strides, before, dilations, groups)


def _clip(
    attributes: Attributes, x: Tensor, low: float | None = None, high: float | None = None
) -> Tensor:
    return x.clamp(attributes.get("min", low), attributes.get("max", high))


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Conv": _convolution,
    "Clip": _clip,
    "Relu": lambda _, x: x.relu(),
    "Add": lambda _, x, y: x + y,
    "Identity": lambda _, x: x,
}
