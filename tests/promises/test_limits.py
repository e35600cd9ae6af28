"""Little room, few descriptors, little memory: P1, P6, P9. A limit is lowered inside the test."""

from __future__ import annotations

import resource
from types import SimpleNamespace

import numpy as np
import pytest
from promise_support import (
    SETTINGS,
    SIZE,
    MeanColours,
    draw,
    draw_folder,
    files_in,
    limited,
    open_descriptors,
    small_index,
    stored,
)

from index.index_support import answers
from placerec import add_photos, build_index
from placerec.errors import NoRoom, PlacerecError
from placerec.index import IndexReader, build, verify
from placerec.recognise import PlaceRecognizer
from placerec.trunks.external import OnnxTrunk, TorchTrunk
from plain_methods import write_onnx_trunk


def test_a_disk_that_is_full_at_any_size_ends_a_build_and_an_add_as_if_they_had_not_begun(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(build, "BATCH", 2)
    folder = draw_folder(tmp_path / "photos", 6)
    path = small_index(tmp_path / "a.placerec", folder)
    start, whole = path.read_bytes(), path.stat().st_size
    more = [draw(tmp_path / "more" / f"{seed}.png", seed) for seed in range(10, 60)]
    add_photos(path, more, model=MeanColours())
    undisturbed, largest, seen = answers(path), path.stat().st_size, set()
    for room in (*range(0, whole, 16384), *range(whole, largest, 4096)):
        path.write_bytes(start)
        if room < whole:
            with limited(resource.RLIMIT_FSIZE, room), pytest.raises(NoRoom) as error:
                small_index(path, folder, replace=True)
            assert error.value.exit_code == 6
            assert path.read_bytes() == start
        else:
            with limited(resource.RLIMIT_FSIZE, room), pytest.raises(NoRoom, match="cannot write"):
                add_photos(path, more, model=MeanColours())
            assert len(stored(path)) % 2 == 0
            seen.add(len(stored(path)))
        assert verify(path) == []
        assert files_in(tmp_path) == ["a.placerec", "more", "photos"]
    add_photos(path, more, model=MeanColours())
    assert answers(path) == undisturbed
    assert len(seen) > 1


def test_a_full_folder_of_temporary_files_is_an_error_that_names_it(tmp_path, monkeypatch):
    folder = draw_folder(tmp_path / "photos", 6)
    with (
        limited(resource.RLIMIT_FSIZE, 1000),
        pytest.raises(NoRoom, match=r"cannot write \(File too large\)"),
    ):
        small_index(tmp_path / "a.placerec", folder)
    assert files_in(tmp_path) == ["photos"]


def test_no_descriptor_is_left_open(tmp_path):
    folder = draw_folder(tmp_path / "photos", 4)
    path = small_index(tmp_path / "a.placerec", folder)
    before = open_descriptors()
    for number in range(10):
        with PlaceRecognizer.open(path, model=MeanColours()) as recognizer:
            for seed in range(12):
                recognizer.query(folder / f"{seed % 4:03}.png")
        draw(folder / "003.png", 100 + number)
        add_photos(path, [folder], model=MeanColours())
        for wrong in (tmp_path / "nowhere", folder, folder / "000.png"):
            with pytest.raises(PlacerecError):
                PlaceRecognizer.open(wrong)
    assert open_descriptors() == before


def test_a_fit_of_many_photos_needs_few_descriptors(tmp_path):
    folder = draw_folder(tmp_path / "photos", 60)
    with limited(resource.RLIMIT_NOFILE, open_descriptors() + 30):
        path = small_index(tmp_path / "a.placerec", folder)
    assert len(stored(path)) == 60


def test_too_few_descriptors_are_an_error_and_leave_nothing(tmp_path):
    folder = draw_folder(tmp_path / "photos", 4)
    path = small_index(tmp_path / "a.placerec", folder)
    calls = (
        lambda: IndexReader.open(path).close(),
        lambda: add_photos(path, [folder], model=MeanColours()),
        lambda: build_index(path, folder, model=MeanColours(), replace=True),
    )
    before, errors = open_descriptors(), []
    for free in range(6):
        draw(folder / "new.png", 10 + free)
        for call in calls:
            try:
                with limited(resource.RLIMIT_NOFILE, before + free):
                    report = call()
            except PlacerecError as error:
                errors.append(str(error))
                continue
            if report:
                counts = report.added + report.changed + report.unchanged + len(report.skipped)
                assert counts == 5
                assert not report.skipped  # a limit of the machine is no fault of a photo
        assert files_in(tmp_path) == ["a.placerec", "photos"]
        assert verify(path) == []
    assert errors
    assert open_descriptors() == before


@pytest.mark.parametrize(
    "says",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 1 GiB",
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes",
    ],
)
def test_a_network_that_finds_no_memory_is_not_blamed(tmp_path, says):
    torch = pytest.importorskip("torch")
    folder, path = draw_folder(tmp_path / "photos", 2), tmp_path / "a.placerec"

    class Network(torch.nn.Module):
        def forward(self, image):
            if len(seen) > 1:
                raise RuntimeError(says)
            seen.append(image)
            return image[:, :, ::16, ::16]

    seen: list[object] = []
    trunk = TorchTrunk(Network(), name="large", probe_size=SIZE)
    with pytest.raises(MemoryError, match="large: "):
        build_index(path, folder, model=trunk, settings=SETTINGS)
    assert files_in(tmp_path) == ["photos"]


def test_onnx_runtime_that_finds_no_memory_is_no_fault_of_the_file(tmp_path, monkeypatch):
    import onnxruntime

    def fail(*args, **options):
        raise RuntimeError("bfc_arena.cc:360 Failed to allocate memory for requested buffer")

    write_onnx_trunk(tmp_path / "a.onnx")
    trunk = OnnxTrunk.from_file(tmp_path / "a.onnx")
    with monkeypatch.context() as patched:
        inputs = [SimpleNamespace(name="x")]
        session = SimpleNamespace(run=fail, get_inputs=lambda: inputs)
        patched.setattr(trunk._network, "_session", session)
        with pytest.raises(MemoryError, match="allocate"):
            trunk(np.zeros((1, 3, 32, 32), np.float32))
        patched.setattr(onnxruntime, "InferenceSession", fail)
        with pytest.raises(MemoryError, match="allocate"):
            OnnxTrunk.from_file(tmp_path / "a.onnx")
