"""What the commands do with --device cuda: on a CPU that pretends to be a GPU, and without one."""

import json
import shutil

import numpy as np
import pytest
import torch

from placerec import PlaceRecognizer, build_index, evaluate, open_dataset
from placerec.engine.shortlist import Engine
from placerec.errors import StaleIndex
from placerec.evaluation.methods import own_method
from placerec.index.reader import IndexReader
from placerec.index.writer import IndexWriter
from placerec.models.on_device import DeviceModel
from placerec.runtime import Runtime
from placerec.settings import METHODS, Settings
from placerec.trunks import feature_maps
from placerec.trunks.external import TorchTrunk
from placerec.trunks.vgg16 import VGG16, state_shapes

CUDA = Runtime(threads=2, device="cuda")
SMALL = Settings(image_size=(120, 160))


@pytest.fixture
def calls(monkeypatch):
    """How many shortlists the engine scored, and how many maps each call described."""
    scored, described = [], []
    score, maps = Engine.score, DeviceModel._described
    monkeypatch.setattr(Engine, "score", lambda *a, **k: (scored.append(1), score(*a, **k))[1])
    monkeypatch.setattr(
        DeviceModel, "_described",
        lambda self, m, *a: (described.append(len(m)), maps(self, m, *a))[1],
    )  # fmt: skip
    return scored, described


def test_a_query_on_a_gpu_has_the_answer_of_a_cpu(gpu, calls, command, town, quick_index):
    photo = town / "queries" / "night_002.jpg"
    _, wanted, _ = command("query", quick_index, photo, "--json", "--threads", "2")
    assert calls == ([], [])
    code, out, _ = command("query", quick_index, photo, "--json", "--device", "cuda")
    assert (code, calls) == (0, ([1], [1]))
    for ours, cpu in zip(*(json.loads(o)[0]["places"] for o in (out, wanted)), strict=True):
        assert ours["path"] == cpu["path"]
        assert ours["score"] == pytest.approx(cpu["score"], abs=1e-4)
        assert ours["inliers"] == cpu["inliers"]


def test_patches_are_read_once_and_a_changed_photo_is_still_stale(
    gpu, monkeypatch, town, quick_index, tmp_path
):
    index, read = tmp_path / "copy.placerec", []
    shutil.copy(quick_index, index)
    reading = IndexReader.read_patches
    monkeypatch.setattr(
        IndexReader, "read_patches", lambda self, rows: (read.extend(rows), reading(self, rows))[1]
    )
    with PlaceRecognizer.open(index, runtime=CUDA) as recognizer:
        first = recognizer.query(town / "queries" / "night_000.jpg")
        assert sorted(read) == list(range(6))
        assert recognizer.query(town / "queries" / "night_000.jpg") == first
        recognizer.query(town / "queries" / "night_001.jpg")
        assert len(read) == 6
        with IndexWriter.open(index) as writer:
            writer.remove(recognizer.index.entries[3].name)
        with pytest.raises(StaleIndex):
            recognizer.query(town / "queries" / "night_000.jpg")


def test_a_build_describes_several_photos_at_once(gpu, calls, many_photos, tmp_path):
    passes, runtime = [], Runtime(threads=2, device="cuda")

    class Convolution(torch.nn.Conv2d):
        def forward(self, images):
            passes.append(len(images))
            return super().forward(images)

    torch.manual_seed(0)
    module = Convolution(3, 12, 16, stride=16)
    settings = SMALL.replace(local_dim=6, clusters=4, pca_dim=8)
    photos = tmp_path / "photos"
    shutil.copytree(many_photos, photos)
    (photos / "017.jpg").write_bytes(b"no photo")
    indexes = []
    for used in (Runtime(threads=2), runtime):
        trunk = TorchTrunk(module, name="small", runtime=used)
        passes.clear()
        index = tmp_path / f"{used.device}.placerec"
        report = build_index(index, photos, model=trunk, settings=settings, runtime=used)
        assert (report.added, [error.path.name for error in report.skipped]) == (52, ["017.jpg"])
        indexes.append(index)
        if used.on_gpu:
            assert passes == [19, 20, 13]
            assert calls[1] == [19, 20, 13]
        else:
            assert passes == [1] * 52
    with IndexReader.open(indexes[0]) as cpu, IndexReader.open(indexes[1]) as ours:
        assert [entry.name for entry in cpu.entries] == [entry.name for entry in ours.entries]
        assert np.allclose(cpu.global_descriptors(), ours.global_descriptors(), atol=0.01)
        for row in (0, 51):
            one, other = cpu.patches(row)[0].descriptors, ours.patches(row)[0].descriptors
            assert np.einsum("pd,pd->p", one, other).min() > 0.999


def test_the_published_form_runs_on_a_gpu(gpu, calls, town, tmp_path):
    pytest.importorskip("cv2")
    torch.manual_seed(1)
    trunk = TorchTrunk(torch.nn.Conv2d(3, 12, 16, stride=16), name="small", runtime=CUDA)
    settings = METHODS["paper-performance"].replace(
        image_size=(160, 192), clusters=2, pca_dim=16, candidates=4
    )
    index = tmp_path / "published.placerec"
    build_index(index, town / "database", model=trunk, settings=settings, runtime=CUDA)
    assert calls[1] == [6]
    with PlaceRecognizer.open(index, model=trunk, runtime=CUDA) as recognizer:
        entry = recognizer.index.entries[2]
        answer = recognizer.query(town / "database" / entry.name)
        assert answer.best.path == entry.name
        patches = sum(len(one.grid) for one in recognizer.index.patches(2))
        assert answer.best.inliers > 0.9 * patches
    assert len(calls[0]) == 1


def test_vgg16_takes_several_images_at_once(gpu):
    draw = np.random.default_rng(0)
    state = {
        key: (draw.random(shape, np.float32) - 0.5) * np.float32(np.sqrt(24 / np.prod(shape[1:])))
        for key, shape in state_shapes().items()
    }
    trunk = VGG16(state, "0" * 64, CUDA)
    images = [draw.standard_normal((1, 3, 32, 48), np.float32) for _ in range(3)]
    together = feature_maps(trunk, images)
    assert trunk.at_once == 20
    assert [features.shape for features in together] == [(2, 3, 512)] * 3
    for features, image in zip(together, images, strict=True):
        assert np.allclose(features, trunk(image).transpose(1, 2, 0), atol=1e-4)


def test_an_evaluation_on_a_gpu_has_the_ranks_of_a_cpu(gpu, calls, town):
    method = own_method("default", "generic", SMALL)
    runtimes = Runtime(threads=2), CUDA
    results = [evaluate(open_dataset(town), method, runtime=runtime) for runtime in runtimes]
    answers = [result.predictions.predictions for result in results]
    ranked = [
        {key: [name for name, _ in answer.final] for key, answer in each.items()}
        for each in answers
    ]
    assert len(ranked[0]) == 6
    assert ranked[0] == ranked[1]
    assert len(calls[0]) == 6


NO_ONNX = "device {}: efficientnet-lite0 runs on ONNX Runtime, which finds no such device; "
NO_TORCH = "device {}: PyTorch finds no such device; use cpu"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("query", "{index}", "{town}/queries/night_000.jpg"), NO_ONNX),
        (("index", "build", "{out}/new.placerec", "{town}/database"), NO_ONNX),
        (("evaluate", "{town}", "--out", "{out}/run"), NO_TORCH),
        (("reproduce", "speed", "{town}", "--out", "{out}/table", "--model", "efficientnet-lite0"),
         NO_ONNX),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_without_a_gpu_each_command_says_so_and_writes_nothing(
    command, town, quick_index, tmp_path, words, reason
):
    words = [word.format(index=quick_index, town=town, out=tmp_path) for word in words]
    for device, remedy in (("cuda", "install onnxruntime-gpu in place of"), ("mps", "use cpu")):
        code, out, error = command(*words, "--device", device)
        assert (code, out) == (2, "")
        assert reason.format(device) in error
        assert remedy in error or reason == NO_TORCH
    assert list(tmp_path.iterdir()) == []
