"""Convert the weights of MegaLoc to an ONNX graph.

The source is ``model.safetensors`` of the authors (Hugging Face: gberton/MegaLoc), or their older
``megaloc.torch``, a pickle of the same state, which PyTorch's restricted reader reads.

The graph maps an image (1, 3, H, W), normalised as ImageNet, to its descriptor (1, D) of unit
length. H and W are free multiples of 14. All widths come from the tensors.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from placerec.baselines.megaloc import LICENCE, METHOD, PATCH, TRAINING_DATA
from placerec.errors import UnsafeWeights, import_extra
from placerec.files import file_sha256
from placerec.records import Array
from placerec.trunks.convert import read_safetensors, read_torch, write_encoded
from placerec.trunks.external import HEADER

REMEDY = "give the authors' model.safetensors, unchanged"
HEAD = 64  # channels of an attention head in DINOv2
EPSILON = 1e-6  # of DINOv2's layer normalisation
OFFSET = 0.1  # of DINOv2's position embedding: the resize factor is (side + .1) / trained side
CUBIC = -0.75  # PyTorch's bicubic kernel; that of ONNX has the same default
FLOOR = 1e-12  # of a length that divides
ROUNDS = 3  # of the optimal transport
OPSET = 17

State = Mapping[str, Array]


def convert(source: str | Path, out: str | Path) -> str:
    """Write the weights ``source`` of MegaLoc as the ONNX file ``out``.

    Returns the sha256 (hex) of the written file. Raises ``UnsafeWeights`` that names the first
    tensor that does not fit; then nothing is written.
    """
    source, out = Path(source), Path(out)
    state = read_state(source)
    return write_encoded(out, onnx_model(state, source.name, file_sha256(source)))


def read_state(source: Path) -> dict[str, Array]:
    """Return the checked tensors of ``source``, float32, by their published names."""
    if source.suffix == ".safetensors":
        content, _ = read_safetensors(source, METHOD, REMEDY)
    else:
        content = read_torch(source, source, REMEDY)
    if not isinstance(content, Mapping) or not content:
        raise UnsafeWeights(source, "it has no tensors by name", REMEDY)
    state: dict[str, Array] = {}
    for key, value in content.items():
        # An older release has one module more around the trunk.
        name = re.sub(r"^backbone\.model\.", "backbone.", str(key))
        if name == "backbone.mask_token":  # only for training
            continue
        try:
            values = np.asarray(value)
        except Exception as error:  # whatever the pickle has in place of a tensor
            raise UnsafeWeights(source, f"{name:.80} is not an array", REMEDY) from error
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise UnsafeWeights(source, f"tensor {name:.80} is not of finite floats", REMEDY)
        state[name] = np.asarray(values, np.float32)
    _check(state, source)
    return state


def onnx_model(state: State, file: str, sha256: str) -> bytes:
    """Return the ONNX model of a checked state; ``file`` and ``sha256`` are those of its source."""
    onnx = import_extra("onnx", f"weights convert {METHOD}", "torch")
    graph = _Graph(state)
    tokens = _backbone(graph, len(state["backbone.norm.bias"]))
    graph.nodes.append(
        graph.helper.make_node("Identity", [_aggregated(graph, tokens)], ["descriptor"])
    )
    size = len(state["aggregator.linear.bias"])
    value_info, kind = graph.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    model = graph.helper.make_model(
        graph.helper.make_graph(
            graph.nodes, METHOD, [value_info("image", kind, [1, 3, "H", "W"])],
            [value_info("descriptor", kind, [1, size])], graph.tensors,
        ),
        producer_name="placerec", ir_version=8,
        opset_imports=[graph.helper.make_opsetid("", OPSET)],
    )  # fmt: skip
    header = {
        "name": METHOD, "clusters": _clusters(state), "licence": LICENCE,
        "training_data": TRAINING_DATA, "source": file, "source_sha256": sha256,
        "provenance": "gberton/MegaLoc, Berton and Masone, CVPR workshops 2025",
    }  # fmt: skip
    graph.helper.set_model_props(model, {HEADER: json.dumps(header, sort_keys=True)})
    encoded: bytes = model.SerializeToString()
    return encoded


class _Graph:
    """The nodes and tensors of a graph that grows; a value is the name of a node's output."""

    def __init__(self, state: State) -> None:
        onnx = import_extra("onnx", f"weights convert {METHOD}", "torch")
        self.helper, self._as_tensor = onnx.helper, onnx.numpy_helper.from_array
        self.state = state
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def __call__(self, kind: str, *inputs: str | Array | float, **attributes: Any) -> str:
        """Append a node and return its output; an array or number becomes a constant."""
        return self.several(kind, 1, *inputs, **attributes)[0]

    def several(
        self, kind: str, count: int, *inputs: str | Array | float, **attributes: Any
    ) -> list[str]:
        """Append a node with ``count`` outputs, and return them."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        outputs = [f"{kind}_{len(self.nodes)}_{number}" for number in range(count)]
        self.nodes.append(self.helper.make_node(kind, names, outputs, **attributes))
        return outputs

    def constant(self, value: Array | float) -> str:
        """Return the name of a constant: int64 for whole numbers, else float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        name = f"constant_{len(self.tensors)}"
        self.tensors.append(self._as_tensor(array, name))
        return name

    def tensor(self, name: str) -> Array:
        """Return a tensor of the state."""
        return self.state[name]

    def linear(self, x: str, name: str) -> str:
        """Return x W^T + b, for a linear layer or a 1 x 1 convolution, on the last axis."""
        weight = self.tensor(f"{name}.weight")
        matrix = np.ascontiguousarray(weight.reshape(len(weight), -1).T)
        return self("Add", self("MatMul", x, matrix), self.tensor(f"{name}.bias"))

    def two_layers(self, x: str, name: str, second: int) -> str:
        """Return two linear layers with a ReLU between them."""
        hidden = self("Relu", self.linear(x, f"aggregator.agg.{name}.0"))
        return self.linear(hidden, f"aggregator.agg.{name}.{second}")

    def norm(self, x: str, name: str) -> str:
        """Return the layer normalisation of the last axis."""
        weight, bias = (self.tensor(f"backbone.{name}.{part}") for part in ("weight", "bias"))
        return self("LayerNormalization", x, weight, bias, axis=-1, epsilon=EPSILON)

    def unit(self, x: str, axis: int) -> str:
        """Return x with unit length along an axis."""
        length = self("ReduceL2", x, axes=[axis], keepdims=1)
        return self("Div", x, self("Max", length, FLOOR))


def _backbone(graph: _Graph, width: int) -> str:
    """Append DINOv2; return its tokens (1, 1 + h * w, C) after the last norm, the class first."""
    kernel, bias = (graph.tensor(f"backbone.patch_embed.proj.{p}") for p in ("weight", "bias"))
    cells = graph("Conv", "image", kernel, bias, strides=[PATCH, PATCH])
    embedded = graph.tensor("backbone.pos_embed")
    side = _side(graph.state)
    grid = np.ascontiguousarray(embedded[:, 1:].reshape(1, side, side, width).transpose(0, 3, 1, 2))
    cells = graph("Add", cells, _resized(graph, grid, cells))
    flat = graph("Reshape", cells, np.array([1, width, -1]))
    first = graph.tensor("backbone.cls_token") + embedded[:, :1]
    x = graph("Concat", graph.constant(first), graph("Transpose", flat, perm=[0, 2, 1]), axis=1)
    for number in range(_blocks(graph.state)):
        x = _block(graph, x, f"blocks.{number}", width)
    return graph.norm(x, "norm")


def _resized(graph: _Graph, grid: Array, cells: str) -> str:
    """Return the position embedding ``grid`` (1, C, M, M) at the size of ``cells`` (1, C, h, w).

    As in DINOv2, the trained size itself is not resampled.
    """
    side = grid.shape[2]
    shape = graph("Slice", graph("Shape", cells), np.array([2]), np.array([4]))
    sides = graph("Cast", shape, to=1)
    other = graph("ReduceMax", graph("Abs", graph("Sub", sides, float(side))), keepdims=1)
    offset = graph("Mul", graph("Sign", other), OFFSET)
    factors = graph("Div", graph("Add", sides, offset), float(side))
    scales = graph("Concat", graph.constant(np.ones(2, np.float32)), factors, axis=0)
    return graph(
        "Resize", graph.constant(grid), "", scales, mode="cubic", cubic_coeff_a=CUBIC,
        coordinate_transformation_mode="half_pixel",
    )  # fmt: skip


def _block(graph: _Graph, x: str, name: str, width: int) -> str:
    """Append a block of the transformer: attention, then two layers, each scaled and added."""
    for part, layer in (("1", _attention), ("2", _perceptron)):
        change = layer(graph, graph.norm(x, f"{name}.norm{part}"), f"backbone.{name}", width)
        x = graph("Add", x, graph("Mul", change, graph.tensor(f"backbone.{name}.ls{part}.gamma")))
    return x


def _attention(graph: _Graph, x: str, name: str, width: int) -> str:
    shape = np.array([-1, 3, width // HEAD, HEAD])
    values = graph("Reshape", graph.linear(x, f"{name}.attn.qkv"), shape)
    q, k, v = graph.several("Split", 3, graph("Transpose", values, perm=[1, 2, 0, 3]), axis=0)
    products = graph("MatMul", q, graph("Transpose", k, perm=[0, 1, 3, 2]))
    shares = graph("Softmax", graph("Mul", products, HEAD**-0.5), axis=-1)
    mixed = graph("Transpose", graph("MatMul", shares, v), perm=[0, 2, 1, 3])
    joined = graph("Reshape", mixed, np.array([1, -1, width]))
    return graph.linear(joined, f"{name}.attn.proj")


def _perceptron(graph: _Graph, x: str, name: str, _: int) -> str:
    """Two layers with the exact GELU, x (1 + erf(x / sqrt 2)) / 2, between them."""
    hidden = graph.linear(x, f"{name}.mlp.fc1")
    error = graph("Erf", graph("Mul", hidden, math.sqrt(0.5)))
    gelu = graph("Mul", graph("Mul", hidden, 0.5), graph("Add", error, 1.0))
    return graph.linear(gelu, f"{name}.mlp.fc2")


def _aggregated(graph: _Graph, tokens: str) -> str:
    """Append SALAD and the last layer; return the descriptor (1, D)."""
    first, last = np.array([1]), np.array([np.iinfo(np.int64).max])
    scene = graph("Gather", tokens, 0, axis=1)
    cells = graph("Slice", tokens, first, last, first)
    scene = graph.unit(graph.two_layers(scene, "token_features", 2), 1)
    features = graph("Transpose", graph.two_layers(cells, "cluster_features", 3), perm=[0, 2, 1])
    scores = graph("Transpose", graph.two_layers(cells, "score", 3), perm=[0, 2, 1])
    shares = graph("Transpose", _transport(graph, scores), perm=[0, 2, 1])
    sums = graph.unit(graph("MatMul", features, shares), 1)  # (1, d, m), each cluster of length 1
    whole = graph("Concat", scene, graph("Reshape", sums, np.array([1, -1])), axis=1)
    return graph.unit(graph.linear(graph.unit(whole, 1), "aggregator.linear"), 1)


def _transport(graph: _Graph, scores: str) -> str:
    """Return how the n cells are shared among the m clusters: (1, m, n) for scores (1, m, n).

    Sinkhorn's iterations on logarithms. Each cluster takes 1, the dustbin the other n - m, and each
    cell gives 1. ``rows`` and ``columns`` are what is added to each row and column.
    """
    m = _clusters(graph.state)
    n = graph("Slice", graph("Shape", scores), np.array([2]), np.array([3]))
    one = graph("Concat", graph.constant(np.array([1, 1])), n, axis=0)
    dustbin = graph("Expand", graph.tensor("aggregator.agg.dust_bin").reshape(1, 1, 1), one)
    table = graph("Concat", scores, dustbin, axis=1)
    cells = graph("Cast", n, to=1)
    norm = graph("Neg", graph("Log", graph("Add", cells, float(m))))
    only_dustbin = np.append(np.zeros(m), 1.0).reshape(1, m + 1, 1)
    more = graph("Log", graph("Sub", cells, float(m)))
    log_a = graph("Add", norm, graph("Mul", only_dustbin, more))
    shifted, columns, rows = table, "", ""
    for _ in range(ROUNDS):
        rows = graph("Sub", log_a, graph("ReduceLogSumExp", shifted, axes=[2], keepdims=1))
        shifted = graph("Add", table, rows)
        columns = graph("Sub", norm, graph("ReduceLogSumExp", shifted, axes=[1], keepdims=1))
        shifted = graph("Add", table, columns)
    logs = graph("Sub", graph("Add", graph("Add", table, rows), columns), norm)
    kept = graph("Slice", logs, np.array([0]), np.array([m]), np.array([1]))
    return graph("Exp", kept)


def _blocks(state: State) -> int:
    numbers = {key.split(".")[2] for key in state if key.startswith("backbone.blocks.")}
    return len(numbers)


def _clusters(state: State) -> int:
    return len(state["aggregator.agg.score.3.bias"])


def _side(state: State) -> int:
    """The side of the trained square of position embeddings."""
    return math.isqrt(state["backbone.pos_embed"].shape[1] - 1)


def _check(state: State, path: Path) -> None:
    """Raise ``UnsafeWeights`` that names the first tensor that does not fit."""
    shapes = dict(_shapes(state))
    for key in sorted({*shapes, *state}):
        if key not in state or key not in shapes:
            fault = "is missing" if key in shapes else "is unknown"
        elif state[key].shape != shapes[key]:
            fault = f"has shape {state[key].shape}, not {shapes[key]}"
        else:
            continue
        raise UnsafeWeights(path, f"tensor {key:.80} {fault}", REMEDY)
    if 0 in {size for tensor in state.values() for size in tensor.shape}:
        raise UnsafeWeights(path, "a tensor is empty", REMEDY)
    if (width := len(state["backbone.norm.bias"])) % HEAD:
        raise UnsafeWeights(path, f"{width} channels are not a multiple of {HEAD}", REMEDY)


def _shapes(state: State) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of each tensor; the state's own tensors give the widths."""

    def length(name: str, axis: int = 0) -> int:
        shape = np.shape(state.get(name, ()))
        return shape[axis] if len(shape) > axis else 0

    width = length("backbone.norm.bias")
    side = math.isqrt(max(1, length("backbone.pos_embed", 1) - 1))
    yield "backbone.cls_token", (1, 1, width)
    yield "backbone.pos_embed", (1, 1 + side * side, width)
    yield "backbone.patch_embed.proj.weight", (width, 3, PATCH, PATCH)
    yield "backbone.patch_embed.proj.bias", (width,)
    layers: list[tuple[str, int, int]] = []
    for number in range(max(1, _blocks(state))):
        block = f"backbone.blocks.{number}."
        hidden = length(f"{block}mlp.fc1.bias")
        for name, outputs, inputs in (
            ("attn.qkv", 3 * width, width), ("attn.proj", width, width),
            ("mlp.fc1", hidden, width), ("mlp.fc2", width, hidden),
        ):  # fmt: skip
            layers.append((block + name, outputs, inputs))
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
                     "ls1.gamma", "ls2.gamma"):  # fmt: skip
            yield block + name, (width,)
    yield "backbone.norm.weight", (width,)
    yield "backbone.norm.bias", (width,)
    sizes = []
    for name, second in (("token_features", 2), ("cluster_features", 3), ("score", 3)):
        start, ones = f"aggregator.agg.{name}.", (1, 1) if second == 3 else ()
        hidden, size = length(f"{start}0.bias"), length(f"{start}{second}.bias")
        for number, outputs, inputs in ((0, hidden, width), (second, size, hidden)):
            yield f"{start}{number}.weight", (outputs, inputs, *ones)
            yield f"{start}{number}.bias", (outputs,)
        sizes.append(size)
    yield "aggregator.agg.dust_bin", ()
    layers.append((
        "aggregator.linear", length("aggregator.linear.bias"), sizes[0] + sizes[1] * sizes[2]
    ))  # fmt: skip
    for name, outputs, inputs in layers:
        yield f"{name}.weight", (outputs, inputs)
        yield f"{name}.bias", (outputs,)
