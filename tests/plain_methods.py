"""A retriever, a re-ranker and a trunk, quick and plain, for what does not depend on the method."""

import numpy as np
import pytest

from placerec.baselines.contract import Provenance, Verified


class MeanColour:
    """The plainest retriever: mean colour of 4 x 4 boxes; remembers what it was asked to do."""

    name, provenance, fingerprint = "mean-colour", Provenance("MIT", "none"), "a" * 64

    def __init__(self):
        self.fitted, self.described = [], 0

    def fit(self, photos, count, progress):
        self.fitted.append((sum(1 for _ in photos()), count))

    def describe(self, pixels):
        self.described += 1
        rows = np.array_split(pixels.astype(np.float32), 4)
        boxes = [box.mean(axis=(0, 1)) for row in rows for box in np.array_split(row, 4, axis=1)]
        values = np.concatenate(boxes) - np.mean(boxes)
        return (values / np.linalg.norm(values)).astype(np.float32)


class Darkest:
    """A re-ranker of no sense: the darker the better; keeps one number per photo."""

    name, provenance, fingerprint = "darkest", Provenance("MIT", "none"), "b" * 64

    def describe(self, pixels):
        return {"mean": np.array([pixels.mean()], np.float32)}

    def score(self, query, candidates):
        return [Verified(-float(features["mean"][0]), np.zeros((0, 4))) for features in candidates]


def write_onnx_trunk(path, seed=0):
    """A trunk of one seeded convolution: 16 channels, stride 16, images of any size."""
    onnx = pytest.importorskip("onnx")
    make, float32 = onnx.helper, onnx.TensorProto.FLOAT
    kernel = np.random.default_rng(seed).standard_normal((16, 3, 16, 16)).astype(np.float32)
    graph = make.make_graph(
        [make.make_node("Conv", ["x", "w"], ["y"], strides=[16, 16])], "g",
        [make.make_tensor_value_info("x", float32, [1, 3, "H", "W"])],
        [make.make_tensor_value_info("y", float32, [1, 16, "h", "w"])],
        [onnx.numpy_helper.from_array(kernel, "w")],
    )  # fmt: skip
    onnx.save(make.make_model(graph, ir_version=8, opset_imports=[make.make_opsetid("", 17)]), path)
