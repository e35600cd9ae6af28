"""A build with Ray: the same index, photos that end a process, and processes that are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from ray_support import SMALL, build

from index.index_support import colours
from placerec import PlaceRecognizer, build_index
from placerec.demo import demo_pose, render
from placerec.errors import EngineStopped, NotFound, UsageError
from placerec.index import open_index, verify
from placerec.index.lance.place import STAGED
from placerec.index.ray_build import KILLER
from placerec.records import Position
from placerec.settings import Settings

PHOTOS = 9
SOON_LOST = {  # a node whose raylet does not answer
    "RAY_health_check_initial_delay_ms": "500", "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000", "RAY_health_check_failure_threshold": "3",
}  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    for place in range(PHOTOS):
        pixels = render(1, demo_pose(1, place, False), size=SMALL)
        Image.fromarray(pixels).save(folder / f"{place}.png")
    return folder


@pytest.fixture(scope="module")
def notes_file(tmp_path_factory):
    """Where the workers note what they read; one cluster serves all tests that do not end it."""
    folder = tmp_path_factory.mktemp("notes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLACEREC_TEST_NOTES", str(folder / "notes"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        yield folder / "notes"
        sys.modules["ray"].shutdown()


@pytest.fixture
def notes(notes_file):
    notes_file.write_text("")
    notes_file.with_name("go").unlink(missing_ok=True)
    return notes_file


@pytest.fixture
def photos(drawn, folder) -> Path:
    return Path(shutil.copytree(drawn, folder / "photos"))


@pytest.fixture
def index(folder) -> str:
    return f"lance:{folder}/town"


def read(notes: Path) -> Counter[str]:
    """How often each photo was read by a worker."""
    return Counter(line.split()[1] for line in notes.read_text().splitlines())


def answers(index: str, photo: Path) -> list[tuple[str, float]]:
    with PlaceRecognizer.open(index) as recognizer:
        return [(place.path, place.score) for place in recognizer.query(photo, PHOTOS).places]


def staged(folder: Path) -> bool:
    return (folder / "town" / STAGED).exists()


def test_the_index_is_that_of_threads_and_a_bad_photo_is_named(photos, folder, index, notes):
    (photos / "bad.jpg").write_bytes(b"no photo")
    where = {"3.png": Position(1.0, 2.0)}
    options = {"settings": Settings(image_size=SMALL), "model": "generic", "positions": where}
    file = str(folder / "town.placerec")
    expected = build_index(file, photos, **options)
    report = build(index, photos)
    assert (report.added, len(report.skipped)) == (PHOTOS, 1)
    assert str(report.skipped[0]) == str(expected.skipped[0])
    assert answers(index, photos / "4.png") == answers(file, photos / "4.png")
    assert verify(index) == []
    assert not staged(folder)
    build_index(index, photos, engine="ray", replace=True, **options)
    with open_index(index) as ours, open_index(file) as other:
        assert ours.entries == other.entries


def test_the_workers_describe_with_the_retriever(photos, folder, index, notes):
    net = colours(folder / "colours.onnx")
    options = {"settings": Settings(image_size=SMALL), "model": "generic", "retriever": net}
    file = str(folder / "town.placerec")
    build_index(file, photos, **options)
    build_index(index, photos, engine="ray", **options)
    assert answers(index, photos / "4.png") == answers(file, photos / "4.png")
    with open_index(index) as ours, open_index(file) as other:
        assert ours.retriever == other.retriever
        first, second = ours.retrieval_descriptors(), other.retrieval_descriptors()
        assert first.stored.tobytes() == second.stored.tobytes()
    assert verify(index) == []


def test_a_photo_that_ends_its_process_twice_is_skipped_and_named(photos, folder, index, notes):
    shutil.copy(photos / "1.png", photos / "killer.png")
    report = build(index, photos)
    assert report.added == PHOTOS
    assert [str(error) for error in report.skipped] == [f"killer.png: {KILLER}"]
    assert read(notes)["killer.png"] == 2
    assert verify(index) == []


def test_a_killed_worker_is_replaced(photos, index, notes):
    shutil.copy(photos / "1.png", photos / "slow.png")
    child = os.fork()
    if not child:
        kill_the_reader_of("slow.png", notes)
    report = build(index, photos)
    os.waitpid(child, 0)
    assert (report.added, report.skipped) == (PHOTOS + 1, [])
    assert read(notes)["slow.png"] == 2
    assert verify(index) == []


def kill_the_reader_of(name: str, notes: Path) -> None:
    """Kill the process that reads a photo, and let the next one go on; in a process of its own."""
    for _ in range(1200):
        time.sleep(0.1)
        for line in notes.read_text().splitlines():
            if line.endswith(name):
                notes.with_name("go").touch()
                os.kill(int(line.split()[0]), signal.SIGKILL)
                os._exit(0)
    os._exit(1)


def test_a_build_goes_on_after_its_driver_was_killed_before_the_commit(
    photos, folder, index, notes
):
    script = str(Path(__file__).with_name("ray_support.py"))
    child = subprocess.run(
        [sys.executable, script, index, str(photos), "die"], capture_output=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert sum(read(notes).values()) == PHOTOS
    with pytest.raises(NotFound):
        open_index(index)
    notes.write_text("")
    shutil.copy(photos / "2.png", photos / "new.png")
    Image.new("RGB", SMALL[::-1], "red").save(photos / "0.png")
    steps = []
    report = build(index, photos, progress=lambda stage, done, total: steps.append((stage, done)))
    assert report.added == PHOTOS + 1
    # 0.png has another content, so its block of three is described again, and new.png is new.
    assert read(notes) == {"0.png": 1, "1.png": 1, "2.png": 1, "new.png": 1}
    assert ("describing photos", PHOTOS + 1) in steps
    assert verify(index) == []
    assert not staged(folder)


def test_a_build_whose_ray_ends_goes_on_where_it_stopped(photos, folder, index, notes):
    script = str(Path(__file__).with_name("ray_support.py"))
    shutil.copy(photos / "1.png", photos / "slow.png")
    child = subprocess.Popen(
        [sys.executable, script, index, str(photos), "live"], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | SOON_LOST,
    )  # fmt: skip
    while read(notes)["slow.png"] == 0 or journal_length(folder) < 2:
        assert child.poll() is None, child.stdout.read()
        time.sleep(0.1)
    for process in raylets_of(child.pid):
        os.kill(process, signal.SIGKILL)
    output = child.communicate(timeout=120)[0]
    assert child.returncode != 0, output  # Ray itself ends the driver, or it raises EngineStopped
    assert "raylet" in output.lower() or EngineStopped.__name__ in output
    with pytest.raises(NotFound):
        open_index(index)
    kept = 3 * journal_length(folder)
    assert kept in (6, 9)
    notes.write_text("")
    notes.with_name("go").touch()
    assert build(index, photos).added == PHOTOS + 1
    assert sum(read(notes).values()) == PHOTOS + 1 - kept
    assert verify(index) == []


def journal_length(folder: Path) -> int:
    import lance

    try:
        return lance.dataset(str(folder / "town" / STAGED)).count_rows()
    except ValueError:
        return 0


def raylets_of(parent: int) -> list[int]:
    """The processes ``raylet`` that were started by this process."""
    raylets = []
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "status").read_text()
        except OSError:
            continue
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        if facts.get("Name") == "raylet" and int(facts["PPid"]) == parent:
            raylets.append(int(entry.name))
    return raylets


def test_a_cluster_of_its_own_listens_on_this_machine_only():
    script = str(Path(__file__).with_name("ray_support.py"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    child = subprocess.run(
        [sys.executable, script, "ports"], capture_output=True, text=True, check=True,
        env=environment,
    )  # fmt: skip
    ports = [line.split()[1] for line in child.stdout.splitlines() if line.startswith("port ")]
    assert len(ports) > 3
    assert set(ports) <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1


def test_a_cluster_that_cannot_be_reached_is_one_sentence(photos, index, folder, monkeypatch):
    def refuse(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nTraceback")  # noqa: TRY002

    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(EngineStopped, match="run the same command again") as caught:
        build_index(index, photos, settings=Settings(image_size=SMALL), engine="ray")
    assert "\n" not in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["photos"]


def test_what_ray_cannot_build_is_refused_before_any_work(photos, folder):
    with pytest.raises(UsageError, match="give lance:FOLDER"):
        build_index(folder / "town.placerec", photos, engine="ray")
    with pytest.raises(UsageError, match="cannot send a retriever that is an object"):
        build_index(f"lance:{folder}/town", photos, engine="ray", retriever=object())
    assert [path.name for path in folder.iterdir()] == ["photos"]
