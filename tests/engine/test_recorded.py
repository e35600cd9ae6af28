"""Which shortlists run from a recording. What a recording gives is checked on a GPU alone."""

from types import SimpleNamespace

import pytest
import torch

from placerec.engine import recorded
from placerec.engine.matching import PatchesThere, Shown
from placerec.records import Grid

GRID = Grid((1, 1), 2, 2, 1)


def sizes(count=1, depth=8):
    """A query and its candidates of one size."""
    rows = [PatchesThere(GRID, torch.ones(4, depth)) for _ in range(1 + count)]
    return [(rows[0], Shown.of(rows[1:]))]


@pytest.fixture
def recordings(monkeypatch):
    """Recordings that add 100 to what the work returns, and the shortlists they were made of."""
    made = []

    def record(one, work):
        made.append(one)
        return lambda other: work(other) + 100

    monkeypatch.setattr(recorded, "_Recording", record)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    return recorded.Recordings(), made


def count_of(shortlist):
    return len(shortlist[0][1].descriptors)


def test_the_second_shortlist_of_a_shape_is_recorded_and_the_next_ones_run_from_it(recordings):
    runs, made = recordings
    assert [runs.run("a", sizes(3), count_of) for _ in range(3)] == [3, 103, 103]
    assert len(made) == 1
    assert runs.run("b", sizes(3), count_of) == 3  # other settings
    assert runs.run("a", sizes(2), count_of) == 2  # another number of candidates
    assert runs.run("a", sizes(3, depth=16), count_of) == 3
    assert runs.run("a", sizes(3), count_of) == 103
    assert len(made) == 1


def test_the_recordings_used_last_are_kept(recordings):
    runs, made = recordings
    for number in (1, 1, 2, 2, 3, 3, 4, 4, 1, 5, 5):  # the fifth shape replaces shape 2
        runs.run("a", sizes(number), count_of)
    assert [count_of(one) for one in made] == [1, 2, 3, 4, 5]
    assert runs.run("a", sizes(1), count_of) == 101
    assert runs.run("a", sizes(2), count_of) == 2


def test_where_recording_fails_the_work_runs_as_it_is(monkeypatch):
    def refuse(*_):
        refused.append(1)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    refused, streams, runs = [], [], recorded.Recordings()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "before")
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    monkeypatch.setattr(recorded, "_Recording", refuse)
    assert [runs.run("a", sizes(3), count_of) for _ in range(4)] == [3, 3, 3, 3]
    assert (refused, streams) == ([1], ["before"])


def test_a_recording_reads_the_query_and_the_addresses_of_each_run(monkeypatch):
    seen = []
    graph = SimpleNamespace(replay=lambda: seen.append("replay"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "Stream", object)
    asked = []
    monkeypatch.setattr(
        torch.cuda, "graph", lambda _, **how: asked.append(how) or torch.inference_mode()
    )
    read = []
    recording = recorded._Recording(sizes(3), lambda own: read.append(own) or "result")
    assert len(read) == 2  # once before, once while it is recorded
    assert asked[0].keys() == {"stream", "capture_error_mode"}
    other = sizes(3)
    other[0][0].descriptors.mul_(5)
    assert recording(other) == "result"
    assert seen == ["replay"]
    ((query, shown),) = read[1]
    assert torch.equal(query.descriptors, other[0][0].descriptors)
    assert torch.equal(shown.numbers, other[0][1].numbers)


def test_only_a_gpu_with_the_kernel_records(monkeypatch):
    assert not recorded.can_record(sizes())
    monkeypatch.setattr(recorded, "maxima_on", lambda _: "the kernel")
    assert not recorded.can_record(sizes())  # on a CPU
