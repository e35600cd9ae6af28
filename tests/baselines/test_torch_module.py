"""Networks from outside as baselines: what they may give, and a named error for all else."""

import hashlib
import sys
import textwrap

import numpy as np
import pytest

from placerec.baselines.torch_module import open_module
from placerec.demo import demo_pose, render
from placerec.errors import MissingExtra, NotFound, UsageError
from placerec.trunks.external import OnnxTrunk

torch = pytest.importorskip("torch")

CODE = """
    import torch

    class Means(torch.nn.Module):
        "The means of 4 x 4 fields: a global descriptor (1, 48)."
        image_size = (64, 96)
        mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
        licence, training_data = "MIT", "nothing"

        def forward(self, image):
            assert image.shape == (1, 3, 64, 96)
            return torch.nn.functional.adaptive_avg_pool2d(image, 4).flatten(1)

    class Cells(torch.nn.Module):
        "A feature map (1, 8, 8, 12)."
        image_size = (64, 96)

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv = torch.nn.Conv2d(3, 8, 8, 8)

        def forward(self, image):
            return self.conv(image)

    class Tokens(Cells):
        "One class token, then 4 x 6 patches of 16 pixels."
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 16, 16)

        def forward(self, image):
            patches = self.conv(image).flatten(2).transpose(1, 2)
            return torch.cat([patches[:, :1], patches], dim=1)

    class Pooled(torch.nn.Module):
        "The means of 8 x 8 pixels: a feature map (1, 3, 4, 6)."
        image_size = (32, 48)

        def forward(self, image):
            return torch.nn.functional.avg_pool2d(image, 8)

    def plain():
        return lambda image: image.mean((2, 3))

    def fails():
        raise RuntimeError("no weights here")

    def number():
        return 7

    def two():
        return lambda image: (image, image)

    def flat():
        return lambda image: image.flatten()

    def batch():
        return lambda image: torch.ones(2, 5)

    def nothing():
        return lambda image: torch.full((1, 5), float("nan"))

    def refuses():
        def network(image):
            raise ValueError("too small")
        return network

    def wrong():
        network = Means()
        network.image_size = 224
        return network
"""


@pytest.fixture(scope="module", autouse=True)
def outside(tmp_path_factory):
    """A module ``outsidenet`` that can be imported."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "outsidenet.py").write_text(textwrap.dedent(CODE), encoding="utf-8")
    (folder / "brokennet.py").write_text("1 / 0\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
    sys.modules.pop("outsidenet", None)


@pytest.fixture(scope="module")
def photos():
    return [render(2, demo_pose(2, n, False), size=(80, 120)) for n in range(8)]


def fit(retriever, photos):
    retriever.fit(lambda: iter(photos), len(photos), lambda *_: None)
    return retriever


def test_a_two_dimensional_output_is_the_global_descriptor_at_unit_length(photos):
    means = fit(open_module("outsidenet:Means"), photos)
    descriptor = means.describe(photos[0])
    assert descriptor.shape == (48,)
    assert descriptor.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(descriptor), 1, atol=1e-6)


def test_photos_are_prepared_as_the_attributes_say():
    grey = np.full((10, 10, 3), 255, np.uint8)
    grey[:, :, 2] = 0  # red and green are (1 - .5) / .25 = 2, blue is -2
    descriptor = open_module("outsidenet:Means").describe(grey)
    expected = np.repeat([2.0, 2.0, -2.0], 16)
    np.testing.assert_allclose(descriptor, expected / np.linalg.norm(expected), atol=1e-6)


def test_what_a_module_says_of_its_weights_is_passed_on():
    provenance = open_module("outsidenet:Means").provenance
    assert (provenance.licence, provenance.training_data) == ("MIT", "nothing")
    assert open_module("outsidenet:plain").provenance.licence == "not stated"


def test_any_callable_will_do(photos):
    plain = open_module("outsidenet:plain")
    assert plain.describe(photos[0]).shape == (3,)
    assert plain.name == "outsidenet:plain"


@pytest.mark.parametrize("name", ["Cells", "Tokens"])
def test_a_feature_map_becomes_the_trunk_of_netvlad(name, photos):
    cells = fit(open_module(f"outsidenet:{name}"), photos)
    known = np.stack([cells.describe(photo) for photo in photos])
    assert known.shape == (8, 64 * 8)
    np.testing.assert_allclose(np.linalg.norm(known, axis=1), 1, atol=1e-5)
    assert (cells.describe(photos[3]) @ known.T).argmax() == 3
    assert "8 of 8" in cells.provenance.training_data


@pytest.mark.parametrize(("count", "width"), [(32, 64 * 8), (33, 32)])
def test_a_pca_is_only_fitted_where_it_keeps_32_dimensions(count, width):
    noise = np.random.default_rng(0).integers(0, 256, (count, 16, 24, 3), np.uint8)
    cells = fit(open_module("outsidenet:Cells"), noise)
    assert cells.describe(noise[0]).shape == (width,)
    assert ("no PCA" in cells.provenance.training_data) == (count == 32)


def test_what_is_known_before_a_fit_tells_networks_apart(monkeypatch):
    first, other = (open_module(f"outsidenet:{name}").record for name in ("Cells", "Tokens"))
    assert first == open_module("outsidenet:Cells").record
    assert first["weights"] != other["weights"]
    monkeypatch.setattr(sys.modules["outsidenet"].Cells, "mean", (0.1, 0.2, 0.3), raising=False)
    assert open_module("outsidenet:Cells").record != first


def test_equal_weights_and_photos_have_equal_fingerprints_and_others_do_not(photos):
    first, again, fewer = (
        fit(open_module("outsidenet:Cells"), some) for some in (photos, photos, photos[:7])
    )
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != fewer.fingerprint
    other = fit(open_module("outsidenet:Tokens"), photos)
    means = open_module("outsidenet:Means").fingerprint
    assert len({first.fingerprint, other.fingerprint, means}) == 3
    assert means == open_module("outsidenet:Means").fingerprint


def test_a_version_tells_callables_apart(monkeypatch):
    before = open_module("outsidenet:Means").fingerprint
    monkeypatch.setattr(sys.modules["outsidenet"].Means, "version", "2", raising=False)
    assert open_module("outsidenet:Means").fingerprint != before


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("outsidenet", "give PACKAGE:FUNCTION"),
        ("outsidenet:", "give PACKAGE:FUNCTION"),
        ("no_such_net:build", "cannot be imported .*no_such_net.*PYTHONPATH"),
        ("outsidenet:none", "cannot be imported .*none"),
        ("brokennet:build", "cannot be imported .ZeroDivisionError"),
        ("outsidenet:fails", "fails .RuntimeError: no weights here"),
        ("outsidenet:number", "returns a int; return a torch.nn.Module"),
        ("outsidenet:two", "returns a tuple; return one tensor"),
        ("outsidenet:flat", r"shape \(921600,\) for one image"),
        ("outsidenet:batch", r"shape \(2, 5\) for one image"),
        ("outsidenet:nothing", "not finite"),
        ("outsidenet:refuses", "too small.*image_size"),
        ("outsidenet:wrong", "image_size must be"),
    ],
)
def test_what_cannot_be_meant_has_an_error_that_says_so(spec, message):
    with pytest.raises(UsageError, match=message):
        open_module(spec)


def test_a_feature_map_must_be_fitted_first(photos):
    cells = open_module("outsidenet:Cells")
    with pytest.raises(UsageError, match="not fitted yet"):
        cells.describe(photos[0])


def test_without_pytorch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match="torch"):
        open_module("outsidenet:Means")


def test_an_onnx_file_with_a_two_dimensional_output_is_a_global_descriptor(tmp_path, photos):
    file = onnx_file(tmp_path / "means.onnx", "global")
    means = fit(open_module(str(file)), photos)
    assert means.name == "means.onnx"
    descriptor = means.describe(photos[0])
    assert descriptor.shape == (3,)
    np.testing.assert_allclose(np.linalg.norm(descriptor), 1, atol=1e-6)
    assert means.fingerprint == open_module(str(file)).fingerprint


@pytest.mark.parametrize("kind", ["map", "tokens"])
def test_an_onnx_feature_map_becomes_the_trunk_of_netvlad_as_a_module_does(kind, tmp_path, photos):
    file = onnx_file(tmp_path / "dense.onnx", kind)
    mine, theirs = (fit(open_module(spec), photos) for spec in (str(file), "outsidenet:Pooled"))
    for photo in photos[:3]:
        np.testing.assert_allclose(mine.describe(photo), theirs.describe(photo), atol=1e-4)
    assert mine.name == "dense.onnx"
    assert mine.record["weights"] == {mine.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    assert mine.fingerprint != theirs.fingerprint


def test_an_onnx_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"none\.onnx"):
        open_module(str(tmp_path / "none.onnx"))


def test_an_onnx_file_of_fixed_size_is_a_trunk_at_that_size_alone(tmp_path):
    trunk = OnnxTrunk.from_file(onnx_file(tmp_path / "map.onnx", "map"))
    assert (trunk.channels, trunk.stride) == (3, 8)
    assert trunk.preprocessing((32, 48)).size == (32, 48)
    with pytest.raises(UsageError, match=r"map\.onnx: .*32,48"):
        trunk.preprocessing((480, 640))
    with pytest.raises(UsageError, match=r"global\.onnx|turns an image"):
        OnnxTrunk.from_file(onnx_file(tmp_path / "global.onnx", "global"))
    half = tmp_path / "half.onnx"
    half.write_bytes(onnx_file(tmp_path / "x.onnx", "map", "FLOAT16").read_bytes())
    with pytest.raises(UsageError, match=r"half\.onnx: it fails on a float32 image"):
        OnnxTrunk.from_file(half)


def onnx_file(path, kind, dtype="FLOAT"):
    """The means of 32 x 48 pixels: of all ("global"), or of 8 x 8 as a map or as tokens."""
    onnx = pytest.importorskip("onnx")
    make, number = onnx.helper, getattr(onnx.TensorProto, dtype)
    shapes = {"global": [1, 3], "map": [1, 3, 4, 6], "tokens": [1, 24, 3]}
    pool = {"kernel_shape": [8, 8], "strides": [8, 8]}
    nodes = {
        "global": [make.make_node("ReduceMean", ["image"], ["out"], axes=[2, 3], keepdims=0)],
        "map": [make.make_node("AveragePool", ["image"], ["out"], **pool)],
        "tokens": [
            make.make_node("AveragePool", ["image"], ["map"], **pool),
            make.make_node("Reshape", ["map", "shape"], ["flat"]),
            make.make_node("Transpose", ["flat"], ["out"], perm=[0, 2, 1]),
        ],
    }
    shape = make.make_tensor("shape", onnx.TensorProto.INT64, [3], [1, 3, 24])
    graph = make.make_graph(
        nodes[kind], "net", [make.make_tensor_value_info("image", number, [1, 3, 32, 48])],
        [make.make_tensor_value_info("out", number, shapes[kind])],
        initializer=[shape] if kind == "tokens" else [],
    )  # fmt: skip
    model = make.make_model(graph, ir_version=8, opset_imports=[make.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())
    return path
