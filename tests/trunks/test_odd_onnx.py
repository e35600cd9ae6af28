"""ONNX files that ONNX Runtime loads and placerec must refuse by name."""

import json

import numpy as np
import pytest

from placerec.baselines.torch_module import open_module
from placerec.errors import UnsafeWeights, UsageError
from placerec.trunks.external import HEADER, OnnxTrunk

onnx = pytest.importorskip("onnx")
helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
HALF = [127.5] * 3


def saved(path, nodes, inputs=("x",), output=kinds.FLOAT, header=""):
    constants = {"four": np.array([1, 4], np.int64), "word": np.array([["a"]], object)}
    graph = helper.make_graph(
        [helper.make_node(kind, takes, gives) for kind, takes, gives in nodes], "odd",
        [helper.make_tensor_value_info(name, kinds.FLOAT, [1, 3, "H", "W"]) for name in inputs],
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    if header:
        helper.set_model_props(model, {HEADER: header})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("opened", [OnnxTrunk.from_file, lambda path: open_module(str(path))])
@pytest.mark.parametrize(("nodes", "more", "error", "why"), [
    ([("Identity", ["word"], ["y"])], {"output": kinds.STRING}, UsageError, "must be numbers"),
    ([("ConstantOfShape", ["four"], ["y"])], {"inputs": []}, UnsafeWeights, "it has 0 inputs"),
    ([("Add", ["x", "z"], ["y"])], {"inputs": ["x", "z"]}, UnsafeWeights, "it has 2 inputs"),
    ([("Reshape", ["x", "four"], ["y"])], {}, UsageError, "it fails on a float32 image"),
])  # fmt: skip
def test_a_network_of_the_wrong_kind_is_one_error(tmp_path, capfd, opened, nodes, more, error, why):
    with pytest.raises(error, match=rf"odd\.onnx: .*{why}"):
        opened(saved(tmp_path / "odd.onnx", nodes, **more))
    assert capfd.readouterr() == ("", "")  # ONNX Runtime itself writes nothing


@pytest.mark.parametrize(("header", "why"), [
    ("[" * 100_000, "recursion"),
    (json.dumps({"mean": [10**400] * 3}), "too large"),
    (json.dumps({"mean": [1e300] * 3}), r"mean: three numbers from 0\.0 to 1000\.0"),
    (json.dumps({"mean": [float("nan")] * 3}), "mean: three"),
    (json.dumps({"std": [0, 1, 1]}), r"std: three numbers from 0\.01 to 1000\.0"),
    (json.dumps({"std": [-50] * 3}), "std: three"),
    (json.dumps({"licence": {"a": 1}}), "licence is not text"),
    (json.dumps({"provenance": ["a"]}), "provenance is not text"),
    (json.dumps({"training_data": "a" * 10_001}), "training_data is longer than 10000"),
])  # fmt: skip
def test_a_header_that_cannot_be_right_is_refused(tmp_path, header, why):
    path = saved(tmp_path / "odd.onnx", [("Identity", ["x"], ["y"])], header=header)
    with pytest.raises(UnsafeWeights, match=rf"odd\.onnx: .*{HEADER} of its metadata: .*{why}"):
        OnnxTrunk.from_file(path)


def test_the_words_of_a_header_are_made_printable(tmp_path):
    header = json.dumps({"mean": HALF, "std": HALF, "licence": "MIT\n\ud800"})
    trunk = OnnxTrunk.from_file(
        saved(tmp_path / "odd.onnx", [("Identity", ["x"], ["y"])], header=header)
    )
    assert (trunk.licence, trunk.stride) == (r"MIT\n\ud800", 1)
