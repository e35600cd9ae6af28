"""MegaLoc: our ONNX graph gives what PyTorch computes from the published formulas."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from megaloc_twin import CLUSTERS, SIDE, descriptor, positions, seeded_state, transport  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from placerec.baselines import megaloc_graph  # noqa: E402
from placerec.baselines.megaloc_graph import convert  # noqa: E402
from placerec.trunks.external import OnnxNetwork  # noqa: E402


@pytest.fixture(scope="module")
def state():
    return seeded_state()


@pytest.fixture(scope="module")
def weights(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("megaloc")
    save_file(state, folder / "model.safetensors")
    convert(folder / "model.safetensors", folder / "megaloc.onnx")
    return folder / "megaloc.onnx"


def image(height, width, seed=1):
    return np.random.default_rng(seed).standard_normal((1, 3, height, width), np.float32)


def parts(build, **inputs):
    """Run a piece of the graph on arrays: ``build`` appends it and returns its output."""
    import onnx
    import onnxruntime

    graph = megaloc_graph._Graph(seeded_state_arrays())
    output = build(graph)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(n, kind, list(a.shape)) for n, a in inputs.items()]
    out = helper.make_tensor_value_info(output, kind, None)
    made = helper.make_model(
        helper.make_graph(graph.nodes, "part", values, [out], graph.tensors),
        ir_version=8, opset_imports=[helper.make_opsetid("", megaloc_graph.OPSET)],
    )  # fmt: skip
    session = onnxruntime.InferenceSession(made.SerializeToString())
    return session.run(None, inputs)[0]


def seeded_state_arrays():
    return {key: value.numpy() for key, value in seeded_state().items()}


@pytest.mark.parametrize("size", [(70, 84), (126, 98), (70, 70)])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_graph_gives_the_descriptor_of_the_formulas(weights, state, size, kind):
    pixels = image(*size)
    wanted = descriptor(state, torch.from_numpy(pixels.astype(kind))).numpy()
    given = OnnxNetwork.from_file(weights)(pixels)
    assert given.shape == wanted.shape
    assert np.abs(given - wanted).max() < 2e-6
    assert np.linalg.norm(given) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [(4, 9), (5, 5), (5, 6), (23, 23), (37, 50)])
def test_positions_are_resized_as_by_pytorch(state, size):
    embedding = state["backbone.pos_embed"]
    grid = embedding[0, 1:].reshape(1, SIDE, SIDE, -1).permute(0, 3, 1, 2).contiguous().numpy()
    cells = np.zeros((1, grid.shape[1], *size), np.float32)
    given = parts(lambda graph: megaloc_graph._resized(graph, grid, "cells"), cells=cells)
    assert np.abs(given - positions(embedding.double(), *size).numpy()).max() < 2e-6


@pytest.mark.parametrize("scale", [1, 30])
def test_cells_are_shared_as_by_optimal_transport(state, scale):
    scores = np.random.default_rng(3).standard_normal((1, CLUSTERS, 40)).astype(np.float32) * scale
    given = parts(lambda graph: megaloc_graph._transport(graph, "scores"), scores=scores)
    dust_bin = state["aggregator.agg.dust_bin"].double()
    wanted = transport(torch.from_numpy(scores).double(), dust_bin).numpy()
    assert np.abs(given - wanted).max() < 1e-5
    assert given.sum() < 40
