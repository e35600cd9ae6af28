"""The programs on the page about streams run: videos, loops, and stand-ins of two SLAM programs."""

import re
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from drawn_video import write_video
from placerec import LoopDetector
from placerec.demo import demo_pose, render
from placerec.recognise.loop import Loop

PAGE = Path(__file__).parent.parent.parent / "docs" / "STREAMS.md"
VIDEO, LOOPS, RTABMAP, PYSLAM = re.findall(
    r"^```py\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


def view(place):
    return render(0, demo_pose(0, place, False), size=(120, 160))


def run(code):
    """Run a program of the page; return its names."""
    names = {"__name__": "page"}
    exec(code, names)
    return names


def test_the_programs_for_videos_and_loops_run(quick_index, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "town.placerec").write_bytes(quick_index.read_bytes())
    write_video(tmp_path / "walk.mp4", [view(0), view(0), view(1), view(1)], rate=2)
    run(VIDEO)
    assert capsys.readouterr().out.splitlines() == [
        "0.0 place_000.jpg", "0.5 place_000.jpg", "1.0 place_001.jpg", "1.5 place_001.jpg"
    ]  # fmt: skip
    assert len(run(LOOPS)["detector"]) == 2


def test_rtabmap_gets_one_row_of_floats_from_its_bytes(monkeypatch):
    monkeypatch.delattr(sys, "argv")
    script = run(RTABMAP)
    script["init"](12288)
    bgr = view(0)[..., ::-1].copy()
    row = script["extract"](bgr.view(np.int8))  # NPY_BYTE, as PyDescriptor gives it
    assert (row.shape, row.dtype, row.flags.c_contiguous) == ((1, 12288), np.float32, True)
    expected = LoopDetector().describe(view(0)).global_descriptor
    assert np.array_equal(row[0], expected)
    grey = script["extract"](bgr[..., :1].copy().view(np.int8))
    assert grey.shape == (1, 12288)
    assert f"PyDescriptor/Dim {row.shape[1]}" in PAGE.read_text(encoding="utf-8")


class TaskType(Enum):
    COMPUTE_GLOBAL_DES = 2
    LOOP_CLOSURE = 3
    RELOCALIZATION = 4


class Output:
    """The result of pySLAM's detectors, with the parameters that it has there."""

    def __init__(
        self, task_type, candidate_idxs=None, candidate_scores=None, g_des_vec=None,
        frame_id=None, img=None,
    ):  # fmt: skip
        self.task_type, self.frame_id, self.img = task_type, frame_id, img
        self.candidate_idxs, self.candidate_scores = candidate_idxs, candidate_scores


class Base:
    def __init__(self):
        self.map_frame_id_to_img = {}

    def reset(self):
        self.map_frame_id_to_img.clear()


@pytest.fixture
def adapter(monkeypatch):
    """The detector of the page in a stand-in of pySLAM."""
    module = ModuleType("pyslam.loop_closing.loop_detector_base")
    module.LoopDetectorBase, module.LoopDetectorOutput = Base, Output
    module.LoopDetectorTaskType = TaskType
    for name in ("pyslam", "pyslam.loop_closing"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return run(PYSLAM)["PlacerecLoopDetector"]()


def task(number, kind=TaskType.LOOP_CLOSURE, connected=()):
    frame = SimpleNamespace(id=number, img=view(number % 3))
    return SimpleNamespace(task_type=kind, keyframe_data=frame, connected_keyframes_ids=connected)


def test_pyslam_gets_the_key_frames_of_accepted_loops(adapter, monkeypatch):
    first = adapter.run_task(task(30))
    assert (first.candidate_idxs, first.candidate_scores, first.frame_id) == ([], [], 30)
    assert len(adapter.detector) == 1
    calls = []

    def add(pixels, seconds, *, bgr):
        calls.append((seconds, bgr))
        return tuple(
            Loop(3, earlier, seconds, 0.0, 0.9 - earlier / 10, accepted, 0.1, 0.5)
            for earlier, accepted in ((0, True), (1, False), (2, True))
        )

    monkeypatch.setattr(adapter.detector, "add", add)
    adapter.ids[:] = [30, 60, 90]
    output = adapter.run_task(task(1200))
    assert calls == [(40.0, True)]
    assert output.candidate_idxs == [30, 90]
    assert output.candidate_scores == pytest.approx([0.9, 0.7])
    assert adapter.run_task(task(1230, connected=(90,))).candidate_idxs == [30]
    assert adapter.map_frame_id_to_img.keys() == {30, 1200, 1230}


def test_pyslam_gets_no_candidate_for_another_task_and_can_reset(adapter):
    output = adapter.run_task(task(0, TaskType.RELOCALIZATION))
    assert output.candidate_idxs == []
    assert len(adapter.detector) == 0
    adapter.run_task(task(0))
    adapter.reset()
    assert len(adapter.detector) == len(adapter.ids) == len(adapter.map_frame_id_to_img) == 0
