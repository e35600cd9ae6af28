"""An ONNX trunk as a PyTorch module: the same numbers, and what is refused."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from training_support import small_network

from placerec.errors import NotFound, UnsafeWeights, UsageError
from placerec.training.trainable import TrainableTrunk
from placerec.training.unlabelled import starting_trunk
from placerec.trunks.efficientnet_lite import shipped_onnx
from placerec.trunks.external import OnnxNetwork


def image(size):
    return np.random.default_rng(0).standard_normal((1, 3, *size), np.float32)


@pytest.mark.parametrize("data", [small_network(), shipped_onnx()], ids=["small", "shipped"])
@pytest.mark.parametrize("size", [(64, 96), (75, 53)])
def test_an_untrained_trunk_is_the_file_to_the_byte_and_to_rounding(data, size):
    trunk = TrainableTrunk(data, "trunk")
    assert trunk.encoded(trunk.arrays()) == data
    expected = OnnxNetwork(data, "trunk")(image(size))
    features = trunk(torch.from_numpy(image(size))).detach().numpy()
    assert features.shape == expected.shape
    assert np.abs(features - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip": "HardSwish"}, "operator HardSwish cannot be trained, only Conv, Clip"),
        ({"add": "zero"}, "operator Add of a constant"),
        ({"padding": "SAME_LOWER"}, "padding SAME_LOWER"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(changes, message):
    with pytest.raises(UsageError, match=rf"small\.onnx: .*{message}"):
        TrainableTrunk(small_network(**changes), "small.onnx")


def test_tensors_of_another_type_and_other_files_are_refused(tmp_path):
    model = onnx.load_from_string(small_network())
    kernel = model.graph.initializer[0]
    half = numpy_helper.to_array(kernel).astype(np.float16)
    kernel.CopyFrom(numpy_helper.from_array(half, kernel.name))
    with pytest.raises(UsageError, match="not float32"):
        TrainableTrunk(model.SerializeToString(), "half.onnx")
    with pytest.raises(UnsafeWeights, match="not an ONNX network"):
        TrainableTrunk(b"no network", "a.onnx")
    (tmp_path / "model.safetensors").touch()
    for model in ("vgg16", tmp_path / "model.safetensors"):
        with pytest.raises(UsageError, match="this recipe trains auto"):
            starting_trunk(model)
    with pytest.raises(NotFound, match="no such ONNX file"):
        starting_trunk(tmp_path / "absent.onnx")


def test_the_step_of_a_tensor_is_relative_to_its_size():
    trunk = TrainableTrunk(small_network(), "small")
    for group, tensor in zip(trunk.groups(0.01), trunk.tensors, strict=True):
        assert group["lr"] == pytest.approx(0.01 * float(tensor.detach().square().mean().sqrt()))
