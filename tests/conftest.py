"""Photos for every room's tests, and the program inside this process."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from placerec import cli
from placerec.demo import demo_pose, render, write_demo_photos
from placerec.index.build import build_index
from placerec.runtime import Runtime
from placerec.settings import Settings

PLACES = 6
MANY = 52
os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: its kernels run on a CPU


@pytest.fixture(scope="session")
def town(tmp_path_factory) -> Path:
    """A data set of 6 places: database/, queries/, ground_truth.csv. Do not change it."""
    folder = tmp_path_factory.mktemp("town")
    write_demo_photos(folder, PLACES)
    return folder


@pytest.fixture(scope="session")
def town_index(town, tmp_path_factory) -> Path:
    """An index of the town's days, by the generic model. Copy it before you change it."""
    path = tmp_path_factory.mktemp("index") / "town.placerec"
    build_index(path, town / "database", runtime=Runtime(threads=2))
    return path


@pytest.fixture(scope="session")
def quick_index(town, tmp_path_factory) -> Path:
    """An index of the town's days at a quarter of the size: a query takes a few milliseconds."""
    path = tmp_path_factory.mktemp("index") / "quick.placerec"
    settings = Settings(image_size=(120, 160))
    build_index(path, town / "database", settings=settings, runtime=Runtime(threads=2))
    return path


@pytest.fixture
def photos(town, tmp_path) -> Path:
    """A folder of its own with the 6 day photos."""
    return Path(shutil.copytree(town / "database", tmp_path / "photos"))


@pytest.fixture(scope="session")
def many_photos(tmp_path_factory) -> Path:
    """52 small day photos of a drawn town: enough to fit a model on."""
    folder, seed = tmp_path_factory.mktemp("many"), 1
    for place in range(MANY):
        pixels = render(seed, demo_pose(seed, place, False), size=(120, 160))
        Image.fromarray(pixels).save(folder / f"{place:03}.png")
    return folder


@pytest.fixture
def lock(monkeypatch) -> Callable[[Path], None]:
    """A function that makes a folder unreadable; for root too, who may read a folder of mode 0."""
    locked, scan = [], os.scandir

    def refusing(path="."):
        if not isinstance(path, int) and Path(path) in locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    return locked.append


@pytest.fixture
def command(monkeypatch, capfd):
    """``command("index", "info", path)``: its exit code, stdout and stderr, without a process."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["placerec", *map(str, words)])
        capfd.readouterr()
        code = cli._run()
        sys.stdout.flush()
        out, err = capfd.readouterr()
        assert "Traceback" not in err, err
        return code, out, err

    return run


@pytest.fixture
def one_torch_thread():
    """PyTorch on one thread: several are slow for small tensors."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def gpu(monkeypatch, one_torch_thread):
    """Let PyTorch and ONNX Runtime take the device cuda and compute on the CPU."""
    import onnxruntime
    import torch

    module_to, tensor_to = torch.nn.Module.to, torch.Tensor.to
    session = onnxruntime.InferenceSession

    def staying(to):
        def stay(self, *places, **options):
            on_gpu = [place for place in places if str(place).startswith("cuda")]
            return self if on_gpu else to(self, *places, **options)

        return stay

    def on_cpu(data, options, **_):
        opened = session(data, options)
        opened.get_providers = lambda: providers
        return opened

    def anywhere(make):
        return lambda *args, pin_memory=False, **options: make(*args, **options)

    memory = SimpleNamespace(total_memory=1 << 30)
    monkeypatch.setattr(torch, "empty", anywhere(torch.empty))
    monkeypatch.setattr(torch, "tensor", anywhere(torch.tensor))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.nn.Module, "to", staying(module_to))
    monkeypatch.setattr(torch.Tensor, "to", staying(tensor_to))
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu)
