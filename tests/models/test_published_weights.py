"""The names of published weights: the list, the command, and a name as a model."""

import hashlib
import io
import json
import math
import re
from pathlib import Path

import pytest
import torch
from local_hub import CONTENT, DIGEST, REVISION, files

import placerec
from placerec import download as module
from placerec.errors import NotFound, UsageError
from placerec.models.published import PUBLISHED
from placerec.models.resolve import model_facts, settings_for
from placerec.settings import METHODS
from placerec.trunks.efficientnet_lite import SHA256, WEIGHTS
from placerec.trunks.vgg16 import state_shapes


@pytest.fixture(scope="module")
def checkpoint():
    """The bytes of a seeded checkpoint of the shapes and types of mapillary_WPCA128.pth.tar."""
    torch.manual_seed(7)
    state = {key: 0.05 * torch.randn(shape) for key, shape in state_shapes().items()}
    centres = torch.nn.functional.normalize(torch.randn(16, 512))
    state |= {"pool.centroids": centres, "pool.conv.weight": 60 * centres[:, :, None, None]}
    state["WPCA.0.weight"] = torch.randn(128, 16 * 512, 1, 1, dtype=torch.float64) / 90
    state["WPCA.0.bias"] = torch.zeros(128, dtype=torch.float64)
    file = io.BytesIO()
    torch.save({"num_pcs": 128, "state_dict": state}, file)
    return file.getvalue()


def test_the_published_system_by_two_commands(hub, command, cache, checkpoint, town):
    hub.content, name = checkpoint, "mapillary-128"
    photos = town / "database" / "place_001.jpg", town / "queries" / "night_001.jpg"
    words = ("match", *photos, "--model", name, "--method", "paper-storage", "--image-size",
             "96,128", "--patch-sizes", "2", "--json")  # fmt: skip
    code, _, err = command(*words)
    assert code == 3
    assert err.endswith("not on this machine; download them: placerec weights download "
                        f"{name}\n")  # fmt: skip
    address = (f"{hub.address}/TobiasRobotics/Patch-NetVLAD/resolve/{REVISION}/"
               "mapillary_WPCA128.pth.tar")  # fmt: skip
    code, out, err = command("weights", "download", name)
    assert (code, out.splitlines()) == (0, [
        "weights: Patch-NetVLAD: VGG16, NetVLAD K 16, PCA 128",
        "licence: MIT, as the authors' program",
        "trained on: Mapillary SLS (terms of its own: CC BY-NC-SA)",
        f"source: {address}",
        f"bytes: {len(checkpoint)}", f"sha256: {hashlib.sha256(checkpoint).hexdigest()}",
        "size and sha256: equal to those that the hub states",
        f"{cache / name}.safetensors: {name}",
    ]), err  # fmt: skip
    assert round(len(checkpoint) / 1e6) == PUBLISHED[name].megabytes
    assert files(cache) == [f"{name}.safetensors"]
    code, out, _ = command(*words)
    assert (code, json.loads(out)["model"]) == (0, name)
    facts = json.loads(command("weights", "info", name, "--json")[1])
    assert (facts["name"], facts["licence"]) == (name, "MIT, as the authors' program")
    assert (facts["method"], facts["path"]) == ("paper-storage", f"{cache / name}.safetensors")
    assert facts["provenance"] == (
        f"imported from TobiasRobotics/Patch-NetVLAD/mapillary_WPCA128.pth.tar, revision "
        f"{REVISION}, sha256 {hashlib.sha256(checkpoint).hexdigest()}"
    )
    assert settings_for(name) == settings_for(name, "paper-storage") == METHODS["paper-storage"]
    with pytest.raises(UsageError, match="needs a fit of its own"):
        settings_for(name, "default")
    code, out, _ = command("weights", "download", name)
    assert (code, out) == (
        0, f"{cache / name}.safetensors: already there; delete it to download it again\n"
    )  # fmt: skip


def test_the_command_takes_a_folder_and_says_what_was_not_compared(
    hub, command, cache, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "_convert", lambda weights, *_: None)
    (tmp_path / "pitts_WPCA4096.pth.tar").write_bytes(CONTENT)
    code, out, _ = command("weights", "download", "pitts-4096", "--from", tmp_path)
    assert code == 0
    assert out.splitlines()[2:] == [
        "trained on: Pittsburgh 30k (photos of Google Street View: terms of their own)",
        f"source: {tmp_path}/pitts_WPCA4096.pth.tar", "bytes: 300000", f"sha256: {DIGEST}",
        "size and sha256: not compared with those of the hub: a file from a folder",
        f"{cache}/pitts-4096.safetensors: pitts-4096",
    ]  # fmt: skip
    assert hub.requests == []


def test_the_list_says_what_each_is_and_where(command, cache):
    cache.mkdir()
    (cache / "pitts-512.safetensors").write_bytes(b"x")
    rows = {row["name"]: row for row in json.loads(command("weights", "list", "--json")[1])}
    assert list(rows)[:-1] == [f"{data}-{size}" for data in ("mapillary", "pitts")
                               for size in (128, 512, 4096)] + ["megaloc"]  # fmt: skip
    assert rows["megaloc"] == {
        "name": "megaloc", "what": "MegaLoc: DINOv2 ViT-B/14, optimal transport, 8448 values",
        "method": "megaloc", "licence": "MIT", "training_data": PUBLISHED["megaloc"].training_data,
        "source": "gberton/MegaLoc/model.safetensors", "megabytes": 914, "path": None,
    }  # fmt: skip
    assert rows["pitts-512"]["path"] == str(cache / "pitts-512.safetensors")
    assert rows["pitts-512"]["source"] == "TobiasRobotics/Patch-NetVLAD/pitts_WPCA512.pth.tar"
    table = command("weights", "list")[1].splitlines()
    assert len(table) == 1 + len(PUBLISHED)
    assert max(map(len, table)) <= 100
    cells = {line.split()[0]: re.split("  +", line.strip()) for line in table}
    assert cells["name"] == ["name", "method", "licence", "megabytes", "on this machine"]
    assert cells["pitts-512"] == [
        "pitts-512", "paper-speed", "MIT, as the authors' program", "193", "yes"
    ]  # fmt: skip
    assert cells["megaloc"][-1] == "no"


@pytest.mark.parametrize("name", [name for name, weights in PUBLISHED.items() if weights.is_model])
def test_the_stated_sizes_and_methods_follow_from_the_shapes(name):
    data, dimensions = name.split("-")
    clusters = {"mapillary": 16, "pitts": 64}[data]
    trunk = sum(math.prod(shape) for shape in state_shapes().values())
    size = 4 * (trunk + 2 * clusters * 512) + 8 * int(dimensions) * (clusters * 512 + 1)
    weights = PUBLISHED[name]
    assert weights.megabytes == round(size / 1e6)
    assert f"K {clusters}, PCA {dimensions}" in weights.what
    assert METHODS[weights.method].pca_dim == int(dimensions)


CLIENTS = {"socket", "ssl", "http", "urllib", "requests", "httpx2", "huggingface_hub", "asyncio",
           "ftplib", "smtplib", "xmlrpc", "urllib3", "aiohttp", "httpx"}  # fmt: skip
IMPORTS = r"^ *(?:import|from) (\w+)|import_(?:extra|package)\(\"(\w+)"


def test_only_the_download_uses_the_network():
    """No other module imports a client; ``serve`` listens on this machine."""
    folder, users = Path(placerec.__file__).parent, set()
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8").replace("from urllib.parse import", "")
        names = re.findall(
            r"^ *(?:import|from) (\w+)|import_(?:extra|package)\(\"(\w+)", text, re.M
        )
        if CLIENTS & {name for pair in names for name in pair}:
            users.add(path.relative_to(folder).parts[0])
    assert users == {"download.py", "serve"}


def test_the_facts_of_an_onnx_file_and_of_weights_that_are_not_here(command, cache):
    path = Path(placerec.__file__).parent / "trunks" / "weights" / WEIGHTS
    code, out, _ = command("weights", "info", path, "--json")
    facts = json.loads(out)
    assert (code, facts["name"], facts["sha256"], facts["format"]) == (0, WEIGHTS, SHA256, "onnx")
    code, out, _ = command("weights", "info", "megaloc", "--json")
    listed = {row["name"]: row for row in json.loads(command("weights", "list", "--json")[1])}
    assert (code, json.loads(out)) == (0, listed["megaloc"])
    code, out, _ = command("weights", "info", "megaloc")
    lines = out.splitlines()
    assert code == 0
    assert f"training_data: {PUBLISHED['megaloc'].training_data}" in lines
    assert lines[-1] == "path: not on this machine; placerec weights download megaloc"
    with pytest.raises(NotFound, match="placerec weights download megaloc"):
        model_facts("megaloc")
