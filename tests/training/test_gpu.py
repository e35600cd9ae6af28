"""What a run on a GPU does, on a CPU that pretends to be one: passes, and their precision."""

import csv

import numpy as np
import onnxruntime
import pytest
import torch
from training_support import SIZE, TINY, random_trunk, write_folder

from placerec import build_index, evaluate, fit_on_folder, open_dataset
from placerec.errors import UsageError
from placerec.evaluation.methods import own_method
from placerec.runtime import Runtime
from placerec.settings import Settings
from placerec.training import network
from placerec.training.datasets import open_training_data
from placerec.training.loop import Options, train
from placerec.training.model import start_from
from placerec.training.network import FrozenFeatures
from placerec.trunks.external import OnnxTrunk, TorchTrunk
from plain_methods import write_onnx_trunk

SMALL = Settings(image_size=SIZE, clusters=2, local_dim=4, patch_sizes=(), candidates=0)


@pytest.fixture
def seen(monkeypatch):
    """The number of images and the precisions of every convolution of an image."""
    passes, forward = [], torch.nn.Conv2d.forward

    def noting(self, images):
        if self.in_channels == 3:
            passes.append((len(images), *precisions()))
        return forward(self, images)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", noting)
    return passes


def precisions():
    return (
        torch.backends.cudnn.conv.fp32_precision,
        torch.backends.cuda.matmul.fp32_precision,
    )


def small_trunk(runtime):
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=16, padding=1))
    return TorchTrunk(layers, name="small", runtime=runtime)


def run(folder, out, runtime, schedule=TINY, **options):
    start = start_from(random_trunk())
    data = open_training_data(str(folder))
    return train(data, str(out), schedule, start, Options(runtime, **options))


def test_frozen_layers_take_twenty_photos_in_one_pass_with_equal_results(
    gpu, monkeypatch, tmp_path
):
    passes = []

    class Frozen(torch.nn.Module):
        def forward(self, images):
            passes.append(len(images))
            return torch.nn.functional.avg_pool2d(images, 16)

    monkeypatch.setattr(network, "vgg16_module", lambda _: torch.nn.Sequential(Frozen()))
    monkeypatch.setenv("PLACEREC_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path, places=12)
    paths = sorted((tmp_path / "photos").iterdir())
    runtime = Runtime(threads=2, device="cuda")
    features = FrozenFeatures(random_trunk(), SIZE, runtime=runtime)
    passes.clear()  # of the probe of the network
    together = features.batch(paths)
    assert passes == [20, 4]
    again = features.batch([*paths[::-1], paths[0]])
    assert np.array_equal(again, [*together[::-1], together[0]])
    assert passes == [20, 4]  # all of them were cached
    features.folder = None
    alone = np.concatenate([features.batch([path]) for path in paths])
    assert passes == [20, 4, *[1] * 24]
    assert np.array_equal(together, alone)


@pytest.mark.parametrize(("precision", "convolutions"), [("float32", "ieee"), ("tf32", "tf32")])
def test_a_training_has_the_precision_of_its_schedule_and_restores_it(
    gpu, seen, tmp_path, monkeypatch, precision, convolutions
):
    folder, before = write_folder(tmp_path / "photos", places=4), precisions()
    trained = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD, "step",
        lambda self, *a, **k: (trained.append(precisions()), step(self, *a, **k))[1],
    )  # fmt: skip
    schedule = TINY.replace(precision=precision, epochs=1, queries=1, portion=1)
    run(folder, tmp_path / "out", Runtime(threads=2, device="cuda"), schedule, cached=False)
    wanted = (convolutions, "ieee")
    assert {tuple(rest) for _, *rest in seen} == {wanted}
    assert set(trained) == {wanted}
    assert max(images for images, *_ in seen) > 1
    assert precisions() == before


@pytest.mark.parametrize(("precision", "convolutions"), [("float32", "ieee"), ("float16", "tf32")])
def test_fit_index_and_evaluation_have_the_precision_of_their_runtime(
    gpu, seen, town, tmp_path, precision, convolutions
):
    runtime = Runtime(threads=2, device="cuda", precision=precision)
    trunk, before = small_trunk(runtime), precisions()
    fit_on_folder(town / "database", model=trunk, settings=SMALL, runtime=runtime)
    build_index(tmp_path / "i.placerec", town / "database", model=trunk, settings=SMALL,
                runtime=runtime)  # fmt: skip
    method = own_method("netvlad", trunk, SMALL)
    evaluate(open_dataset(town), method, runtime=runtime)
    assert sum(images for images, *_ in seen) > 18
    assert {tuple(rest) for _, *rest in seen} == {(convolutions, "ieee")}
    assert precisions() == before


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_an_onnx_trunk_has_the_precision_of_its_runtime(monkeypatch, tmp_path, precision):
    opened, session = [], onnxruntime.InferenceSession

    def note(data, options, providers, provider_options):
        opened.append((providers, provider_options))
        return session(data, options)

    write_onnx_trunk(tmp_path / "mine.onnx")
    monkeypatch.setattr(session, "get_providers", lambda self: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", note)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    OnnxTrunk.from_file(str(tmp_path / "mine.onnx"), Runtime(device="cuda", precision=precision))
    OnnxTrunk.from_file(str(tmp_path / "mine.onnx"), Runtime(device="cuda:1", precision=precision))
    faster = {"use_tf32": int(precision != "float32")}
    cuda = ["CUDAExecutionProvider"]
    assert opened == [(cuda, [faster]), (cuda, [{**faster, "device_id": 1}])]


@pytest.mark.parametrize("available", [["CPUExecutionProvider"], ["CUDAExecutionProvider"]])
def test_an_onnx_trunk_without_a_gpu_says_what_to_install(monkeypatch, tmp_path, available):
    session = onnxruntime.InferenceSession  # it goes on with the CPU if CUDA cannot be opened
    write_onnx_trunk(tmp_path / "mine.onnx")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda data, options, **_: session(data))
    with pytest.raises(UsageError, match=r"device cuda: mine\.onnx .* install onnxruntime-gpu"):
        OnnxTrunk.from_file(str(tmp_path / "mine.onnx"), Runtime(device="cuda"))


def test_tf32_without_a_gpu_is_refused(tmp_path):
    with pytest.raises(UsageError, match="precision tf32: must be used with device cuda"):
        Runtime(precision="tf32")
    with pytest.raises(UsageError, match="precision: must be float32 or tf32"):
        Runtime(device="cuda", precision="bf16")
    folder = write_folder(tmp_path / "photos")
    with pytest.raises(UsageError, match="precision tf32: needs device cuda"):
        run(folder, tmp_path / "out", Runtime(threads=2), TINY.replace(precision="tf32"))


def test_an_epoch_shorter_than_the_steps_between_two_rows_has_a_row(tmp_path):
    folder = write_folder(tmp_path / "photos")
    run(folder, tmp_path / "out", Runtime(threads=2), TINY.replace(epochs=1))
    with (tmp_path / "out" / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "4")]
    assert all(0.0 < float(row["loss"]) < 5.0 for row in rows)
    assert {row["recall@1"] for row in rows} == {""}
