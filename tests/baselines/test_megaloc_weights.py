"""MegaLoc as a retriever: its weights are checked, its photos resized, its options named."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from safetensors.torch import save_file  # noqa: E402

from placerec.baselines.megaloc import SIZE, MegaLoc  # noqa: E402
from placerec.baselines.megaloc_graph import convert  # noqa: E402
from placerec.errors import NotFound, UnsafeWeights, UsageError  # noqa: E402
from placerec.evaluation.methods import named_method  # noqa: E402
from placerec.files import file_sha256  # noqa: E402
from placerec.runtime import Runtime  # noqa: E402
from placerec.trunks.external import OnnxNetwork  # noqa: E402

sys.path.append(str(Path(__file__).parent.parent / "oracle"))
from megaloc_twin import CLUSTERS, OUTPUTS, descriptor, seeded_state  # noqa: E402

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLACEREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path):
    save_file(seeded_state(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def converted(source, cache, command):
    code, out, err = command("weights", "convert", "megaloc", source)
    assert code == 0, err
    assert out.startswith(f"{cache / 'megaloc.onnx'}: sha256 ")
    return cache / "megaloc.onnx"


@pytest.fixture
def pixels():
    return np.random.default_rng(5).integers(0, 256, (97, 131, 3), np.uint8)


def test_a_photo_is_resized_and_normalised_as_published(converted, pixels):
    retriever = MegaLoc(image_size=(72, 96))
    assert retriever.name == "megaloc (70x98 px)"
    small = Image.fromarray(pixels).resize((98, 70), Image.Resampling.BILINEAR)
    values = (np.asarray(small) / 255 - MEAN) / DEVIATION
    wanted = descriptor(seeded_state(), torch.from_numpy(values.transpose(2, 0, 1)[None]))[0]
    given = retriever.describe(pixels)
    assert given.dtype == np.float32
    assert np.abs(given - wanted.numpy()).max() < 2e-6


def test_it_is_a_method_by_name_with_its_licence(converted, pixels):
    method = named_method("megaloc", runtime=Runtime(threads=1))
    retriever = method.retrieval
    assert retriever.name == method.name == "megaloc"
    assert retriever.describe(pixels).shape == (OUTPUTS,)
    assert retriever.provenance.licence == "MIT"
    assert "Mapillary SLS" in retriever.provenance.training_data
    assert retriever.record["image_size"] == list(SIZE)
    other = MegaLoc(image_size=(70, 70))
    assert len({retriever.fingerprint, other.fingerprint}) == 2
    assert named_method("megaloc", "default").name == "megaloc + default"


def test_the_file_states_where_it_comes_from(converted, source):
    header = OnnxNetwork.from_file(converted).header
    assert (header["licence"], header["clusters"]) == ("MIT", CLUSTERS)
    assert header["source_sha256"] == file_sha256(source)


def test_without_weights_the_error_says_how_to_get_them(cache):
    with pytest.raises(NotFound, match="weights download megaloc, or placerec weights convert me"):
        named_method("megaloc")


def test_another_network_is_no_weights_of_megaloc():
    trunk = Path(sys.modules["placerec.trunks"].__file__).parent / "weights"
    with pytest.raises(UnsafeWeights, match="not weights of megaloc"):
        MegaLoc(trunk / "efficientnet-lite0.onnx")


def test_an_image_of_too_few_patches_is_refused(converted):
    with pytest.raises(UsageError, match="2 x 4 patches of 14 pixels; megaloc needs more than 8"):
        MegaLoc(image_size=(28, 56))


def test_the_older_release_gives_the_same_file(source, tmp_path):
    older = {k.replace("backbone.", "backbone.model."): v for k, v in seeded_state().items()}
    older["backbone.model.mask_token"] = torch.zeros(1, 128)
    torch.save(older, tmp_path / "megaloc.torch")
    convert(source, tmp_path / "new.onnx")
    convert(tmp_path / "megaloc.torch", tmp_path / "old.onnx")
    draw = np.random.default_rng(2).integers(0, 256, (80, 80, 3), np.uint8)
    one, two = (MegaLoc(tmp_path / f"{name}.onnx").describe(draw) for name in ("new", "old"))
    assert np.array_equal(one, two)


BLOCK = "backbone.blocks.1.attn.qkv.weight"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: s.pop(BLOCK), f"tensor {BLOCK} is missing"),
        (lambda s: s.update({"head.bias": torch.ones(3)}), "tensor head.bias is unknown"),
        (lambda s: s.update({BLOCK: torch.ones(3, 128)}), "has shape .3, 128., not .384, 128."),
        (lambda s: s[BLOCK].fill_(torch.nan), f"{BLOCK} is not of finite floats"),
        (lambda s: s.update({BLOCK: s[BLOCK].int()}), f"{BLOCK} is not of finite floats"),
        (lambda s: s.pop("aggregator.agg.dust_bin"), "dust_bin is missing"),
        (lambda s: s.clear(), "it has no tensors by name"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_named_and_nothing_is_written(change, why, tmp_path):
    state = seeded_state()
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(UnsafeWeights, match=why):
        convert(tmp_path / "model.safetensors", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    "content", [[1, 2], {"a": {"b": 1}}, {"a": torch.ones(2).bfloat16()}, {"x": "text"}]
)
def test_a_pickle_of_anything_else_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "megaloc.torch")
    with pytest.raises(UnsafeWeights, match="unchanged"):
        convert(tmp_path / "megaloc.torch", tmp_path / "out.onnx")


def test_a_code_in_a_pickle_is_not_run(tmp_path):
    torch.save({"a": Path}, tmp_path / "megaloc.torch")
    with pytest.raises(UnsafeWeights, match="safe reader refuses it"):
        convert(tmp_path / "megaloc.torch", tmp_path / "out.onnx")


def test_evaluate_ranks_by_it_and_our_patches_rerank(converted, town, tmp_path, command):
    small = ("--image-size", "120,160", "--queries", 2)
    code, text, err = command(
        "evaluate", town, "--method", "megaloc", "--rerank", "default", "--out", tmp_path / "run",
        *small,
    )  # fmt: skip
    assert code == 0, err
    assert "queries: 2, with a positive: 2" in text
    assert "megaloc + default" in (tmp_path / "run" / "report.html").read_text()
