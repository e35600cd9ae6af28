"""Networks of the user: which outputs are valid, and a named error for everything else."""

import hashlib
import sys
import textwrap

import numpy as np
import pytest

from placerec.baselines.torch_module import open_module
from placerec.demo import demo_pose, render
from placerec.errors import MissingExtra, NotFound, UsageError
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.methods import named_method
from placerec.evaluation.runner import evaluate
from placerec.models.fit import fit_model
from placerec.settings import NETVLAD
from placerec.trunks import feature_map
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

    class Logarithm(Cells):
        "A feature map that is not finite for a black photo."
        mean, std = (0, 0, 0), (1, 1, 1)

        def forward(self, image):
            return torch.nn.functional.avg_pool2d(image, 8).abs().log()

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

    def huge():
        return lambda image: image.mean((2, 3)) * 0 + 3e38

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


def fit(trunk, size, photos):
    """NetVLAD on a trunk, fitted as every trunk is."""
    maps = [feature_map(trunk, photo, size) for photo in photos]
    settings = NETVLAD.replace(image_size=size)
    return fit_model(trunk, settings, maps, name=trunk.name, training_data="8 photos")


def test_a_two_dimensional_output_is_the_global_descriptor_at_unit_length(photos):
    means, _ = open_module("outsidenet:Means")
    descriptor = means.describe(photos[0])
    assert descriptor.shape == (48,)
    assert descriptor.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(descriptor), 1, atol=1e-6)


def test_photos_are_prepared_as_the_attributes_say():
    yellow = np.full((10, 10, 3), 255, np.uint8)
    yellow[:, :, 2] = 0  # red and green are (1 - .5) / .25 = 2, blue is -2
    descriptor = open_module("outsidenet:Means")[0].describe(yellow)
    expected = np.repeat([2.0, 2.0, -2.0], 16)
    np.testing.assert_allclose(descriptor, expected / np.linalg.norm(expected), atol=1e-6)


def test_licence_and_training_data_of_a_module_are_passed_on(photos, monkeypatch):
    provenance = open_module("outsidenet:Means")[0].provenance
    assert (provenance.licence, provenance.training_data) == ("MIT", "nothing")
    assert open_module("outsidenet:plain")[0].provenance.licence == "not stated"
    cells = sys.modules["outsidenet"].Cells
    monkeypatch.setattr(cells, "licence", "MIT", raising=False)
    monkeypatch.setattr(cells, "training_data", "nothing", raising=False)
    model = fit(*open_module("outsidenet:Cells"), photos)
    assert "MIT" in model.licence
    assert model.training_data == "trunk: nothing; fit: 8 photos"


def test_any_callable_is_a_network(photos):
    plain, _ = open_module("outsidenet:plain")
    assert plain.describe(photos[0]).shape == (3,)
    assert plain.name == "outsidenet:plain"


@pytest.mark.parametrize("name", ["Cells", "Tokens"])
def test_a_feature_map_becomes_the_trunk_of_netvlad(name, photos):
    trunk, size = open_module(f"outsidenet:{name}")
    assert size == (64, 96)
    model = fit(trunk, size, photos)
    database = np.stack([model.describe(photo).global_descriptor for photo in photos])
    assert database.shape == (8, 7)  # a PCA of 8 photos keeps 7 dimensions
    np.testing.assert_allclose(np.linalg.norm(database, axis=1), 1, atol=1e-5)
    assert (model.describe(photos[3]).global_descriptor @ database.T).argmax() == 3


def test_a_trunk_is_identified_by_its_tensors_and_its_attributes(photos, monkeypatch):
    (cells, size), (tokens, _) = (open_module(f"outsidenet:{name}") for name in ("Cells", "Tokens"))
    assert cells.sha256 == open_module("outsidenet:Cells")[0].sha256
    assert cells.sha256 != tokens.sha256
    models = [fit(cells, size, photos) for _ in range(2)] + [fit(cells, size, photos[:7])]
    first, again, fewer = (model.fingerprint for model in models)
    assert first == again
    assert first != fewer
    monkeypatch.setattr(sys.modules["outsidenet"].Cells, "mean", (0.1, 0.2, 0.3), raising=False)
    assert open_module("outsidenet:Cells")[0].sha256 != cells.sha256


def test_a_run_records_a_feature_map_as_netvlad_and_refuses_another_network(
    town, tmp_path, monkeypatch
):
    method = named_method(torch_module="outsidenet:Cells")
    recorded = method.as_json()
    assert set(recorded["code"]) == {"outsidenet.py"}
    assert recorded["retrieval"]["method"] == recorded["name"] == "netvlad"
    assert recorded["retrieval"]["settings"]["image_size"] == (64, 96)
    trunk = method.retrieval.model
    assert recorded["retrieval"]["weights"] == {"outsidenet:Cells": trunk.sha256}
    for options in ({"model": "generic"}, {"changes": {"clusters": 8}}):
        with pytest.raises(UsageError, match="changes nothing of netvlad"):
            named_method(torch_module="outsidenet:Cells", **options)
    monkeypatch.setattr(sys.modules["outsidenet"].Cells, "image_size", (160, 224))
    run = evaluate(open_dataset(town), named_method(torch_module="outsidenet:Cells"), out=tmp_path)
    assert "outsidenet:Cells" in run.facts["model"]
    monkeypatch.setattr(sys.modules["outsidenet"].Cells, "std", (0.3, 0.2, 0.3), raising=False)
    with pytest.raises(UsageError, match="weights outsidenet:Cells"):
        evaluate(open_dataset(town), named_method(torch_module="outsidenet:Cells"), out=tmp_path)


def test_a_feature_map_that_is_not_finite_for_a_photo_is_refused(photos):
    trunk, size = open_module("outsidenet:Logarithm")
    assert feature_map(trunk, photos[0], size).shape == (8, 12, 3)
    with pytest.raises(UsageError, match="not finite"):
        feature_map(trunk, np.zeros_like(photos[0]), size)


def test_global_descriptors_are_identified_by_their_network():
    means, again = (open_module("outsidenet:Means")[0].fingerprint for _ in range(2))
    assert means == again
    assert means != open_module("outsidenet:plain")[0].fingerprint


def test_a_version_distinguishes_callables(monkeypatch):
    before = open_module("outsidenet:Means")[0].fingerprint
    monkeypatch.setattr(sys.modules["outsidenet"].Means, "version", "2", raising=False)
    assert open_module("outsidenet:Means")[0].fingerprint != before


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
        ("outsidenet:flat", r"shape \(921600,\)"),
        ("outsidenet:batch", r"shape \(2, 5\)"),
        ("outsidenet:nothing", "not finite"),
        ("outsidenet:refuses", "too small.*image_size"),
        ("outsidenet:wrong", "image_size must be"),
    ],
)
def test_an_invalid_module_has_an_error_that_names_the_fault(spec, message):
    with pytest.raises(UsageError, match=message):
        open_module(spec)


def test_without_pytorch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match="torch"):
        open_module("outsidenet:Means")


def test_an_onnx_file_with_a_two_dimensional_output_is_a_global_descriptor(tmp_path, photos):
    file = onnx_file(tmp_path / "means.onnx", "global")
    means, size = open_module(str(file))
    assert (means.name, size) == ("means.onnx", (32, 48))
    descriptor = means.describe(photos[0])
    assert descriptor.shape == (3,)
    np.testing.assert_allclose(np.linalg.norm(descriptor), 1, atol=1e-6)
    assert means.fingerprint == open_module(str(file))[0].fingerprint


@pytest.mark.parametrize("kind", ["map", "tokens"])
def test_an_onnx_feature_map_becomes_the_trunk_of_netvlad_as_a_module_does(kind, tmp_path, photos):
    file = onnx_file(tmp_path / "dense.onnx", kind)
    (onnx, size), (module, _) = (open_module(spec) for spec in (str(file), "outsidenet:Pooled"))
    for photo in photos[:3]:
        expected = feature_map(module, photo, size)
        np.testing.assert_allclose(feature_map(onnx, photo, size), expected, atol=1e-4)
    assert (onnx.name, size) == ("dense.onnx", (32, 48))
    assert onnx.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert onnx.sha256 != module.sha256
    assert named_method(torch_module=str(file)).retrieval.settings.image_size == size


def test_a_descriptor_too_large_for_float32_is_refused_by_name(photos):
    network, _ = open_module("outsidenet:huge")
    with pytest.raises(UsageError, match=r"outsidenet:huge: .*numbers up to 3e\+38, which float32"):
        network.describe(photos[0])


def test_a_missing_onnx_file_is_named(tmp_path):
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
