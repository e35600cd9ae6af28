"""The program when it is stopped, cannot write its output, or gets a wrong path: P9, P10."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from promise_support import draw, draw_folder, files_in, limited, small_index, stored

from index.index_support import create, edit, features
from placerec.index import verify
from placerec.models.model_file import model_bytes
from placerec.models.resolve import generic_model
from placerec.records import Features

# The program with one more command, which builds an index with a small trunk and stops itself.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from placerec import cli
from placerec.index import publish, writer
from placerec.models import photo_source
from promise_support import small_index

place, number, first, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
owner, name = {
    "decode": (photo_source, "decode"), "put": (writer.IndexWriter, "put"),
    "verify": (writer, "findings"), "publish": (publish, "publish"),
    "rename": (Path, "replace"), "sync folder": (publish, "_sync_folder"),
}[place]
original, calls = getattr(owner, name), 0

def stopping(*args, **options):
    global calls
    calls += 1
    if calls >= first and calls < first + times:
        os.kill(os.getpid(), number)
    return original(*args, **options)

setattr(owner, name, stopping)
if times > 1:  # the second one comes while the first one is obeyed
    tidy = publish.discard
    publish.discard = lambda staged: (os.kill(os.getpid(), number), tidy(staged))

@cli.cli.command()
def stop_yourself():
    small_index(Path("a.placerec"), Path("photos"), replace=True)

sys.argv = ["placerec", "stop-yourself"]
cli.main()
"""


@pytest.fixture
def home(tmp_path) -> Path:
    """A folder with four photos, and an index of the first three."""
    folder = draw_folder(tmp_path / "photos", 3)
    small_index(tmp_path / "a.placerec", folder)
    draw(folder / "003.png", 3)
    return tmp_path


def stop_at(home: Path, place: str, number: int, first: int = 1, times: int = 1):
    folders = os.pathsep.join(filter(None, sys.path))
    words = [sys.executable, "-W", "error", "-c", PROGRAM, place, str(int(number)), str(first)]
    return subprocess.run(
        [*words, str(times)], cwd=home, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": folders},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("place", "first", "number", "code"),
    [
        ("decode", 3, signal.SIGTERM, 143), ("put", 4, signal.SIGINT, 130),
        ("verify", 1, signal.SIGINT, 130), ("rename", 1, signal.SIGTERM, 143),
    ],
)  # fmt: skip
def test_a_build_that_is_stopped_leaves_the_old_index_alone(home, place, first, number, code):
    before = (home / "a.placerec").read_bytes()
    result = stop_at(home, place, number, first)
    assert result.returncode == code, result.stderr
    assert result.stderr == ("error: interrupted\n" if code == 130 else "")
    assert result.stdout == ""
    assert (home / "a.placerec").read_bytes() == before
    assert files_in(home) == ["a.placerec", "photos"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_stopped_after_its_rename_has_published_the_whole_index(home, number):
    result = stop_at(home, "sync folder", number)
    assert "Traceback" not in result.stderr
    assert len(stored(home / "a.placerec")) == 4
    assert verify(home / "a.placerec") == []
    assert files_in(home) == ["a.placerec", "photos"]


@pytest.mark.parametrize("place", ["put", "rename"])
def test_a_build_that_is_killed_leaves_the_old_index_and_a_partial_file_for_the_next(home, place):
    before = (home / "a.placerec").read_bytes()
    assert stop_at(home, place, signal.SIGKILL).returncode == -signal.SIGKILL
    assert (home / "a.placerec").read_bytes() == before
    assert files_in(home) == ["a.placerec", "a.placerec.partial", "photos"]
    small_index(home / "a.placerec", home / "photos", replace=True)
    assert len(stored(home / "a.placerec")) == 4
    assert files_in(home) == ["a.placerec", "photos"]


def test_a_second_ctrl_c_while_the_first_is_obeyed_is_no_traceback(home):
    before = (home / "a.placerec").read_bytes()
    result = stop_at(home, "put", signal.SIGINT, 2, times=2)
    assert (result.returncode, result.stderr) == (130, "error: interrupted\n")
    assert (home / "a.placerec").read_bytes() == before
    small_index(home / "a.placerec", home / "photos", replace=True)
    assert files_in(home) == ["a.placerec", "photos"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_30_builds_that_are_stopped_at_any_moment(town, tmp_path, number, code):
    for copy in range(30):
        shutil.copytree(town / "database", tmp_path / "photos" / str(copy))
    chance = random.Random(int(number))
    for _ in range(30):
        words = [sys.executable, "-m", "placerec", "index", "build", "a.placerec"]
        with subprocess.Popen(
            [*words, "photos"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:  # fmt: skip
            time.sleep(chance.uniform(0.35, 3.0))
            process.send_signal(number)
            _, error = process.communicate(timeout=20)
        if process.returncode == -number:  # so early that Python itself was still starting
            continue
        assert process.returncode in (code, 0), error
        assert "Traceback" not in error
        assert "terminate called" not in error
        if process.returncode == 0:
            (tmp_path / "a.placerec").unlink()
        assert files_in(tmp_path) == ["photos"]


# Outputs that are closed, full, narrow or foreign.


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """An index of 1000 photos with long names: more than a pipe holds."""
    path = tmp_path_factory.mktemp("many") / "a.placerec"
    with create(path, settings="{}", weights=model_bytes(generic_model())) as writer:
        for number in range(1000):
            name = f"{'a long name of a photo ' * 3}{number}.jpg"
            writer.put(name, f"{number:064x}", None, Features(features(1).global_descriptor))
    return path


def shell(line: str, path: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a line of bash; ``placerec`` in it is the program."""
    program = f'placerec() {{ "{sys.executable}" -W error -m placerec "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", program + line, "bash", str(path)], capture_output=True, text=True,
        timeout=60, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def test_a_reader_that_wants_one_line_gets_one_line_and_no_complaint(many):
    line = 'placerec index info "$1" --photos | head -1; echo "${PIPESTATUS[0]}"'
    result = shell(line, many)
    first, code = result.stdout.splitlines()
    assert first.endswith("photo 0.jpg")
    assert code == "141"
    assert result.stderr == ""


def test_a_full_disk_at_the_end_of_a_pipe_is_one_line_and_code_6(many):
    result = shell('placerec index info "$1" --photos > /dev/full', many)
    assert result.returncode == 6
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


def test_closed_streams_are_no_traceback(many):
    result = shell('placerec index info "$1" --json <&- 2>&-', many)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["photos"] == 1000
    for closed in (">&-", ">&- 2>&-", "<&- >&- 2>&-"):
        result = shell(f'placerec index info "$1" {closed}', many)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_locale_terminal_and_width_change_no_byte_of_the_data(many):
    wanted = shell('placerec index info "$1" --photos', many).stdout
    assert len(wanted.splitlines()) == 1000
    narrow = {"COLUMNS": "20", "TERM": "dumb", "NO_COLOR": "1"}
    for environment in ({"LC_ALL": "C", "PYTHONUTF8": "0"}, narrow):
        result = shell('placerec index info "$1" --photos', many, **environment)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == wanted


# Paths that are wrong.

READERS = [
    ("index", "info"), ("index", "verify"), ("index", "remove"), ("index", "add"),
    ("index", "refresh"), ("index", "refit"), ("query",),
]  # fmt: skip


@pytest.mark.parametrize("words", READERS, ids=" ".join)
@pytest.mark.parametrize("name", ["town.placerec", "no/such/town.placerec", "~/town.placerec", "-"])
def test_a_mistyped_index_is_code_3_and_creates_nothing(command, home, words, name):
    more = [home / "photos" / "000.png"] if words[-1] in ("add", "remove", "query") else []
    code, out, err = command(*words, home / name, *more)
    assert (code, out) == (3, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert files_in(home) == ["a.placerec", "photos"]


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_what_is_no_index_is_code_3_and_stays_as_it_is(command, home, words):
    more = [home / "photos" / "000.png"] if words[-1] in ("add", "remove", "query") else []
    (home / "empty").touch()
    os.mkfifo(home / "pipe")
    (home / "link").symlink_to("nowhere")
    (home / "loop").symlink_to("loop")
    shutil.copy(home / "photos" / "000.png", home / "photo.placerec")
    before = files_in(home)
    for name in ("empty", "pipe", "link", "loop", "photo.placerec", "photos"):
        code, out, err = command(*words, home / name, *more)
        assert (code, out) == (3, ""), name
        assert len(err.splitlines()) == 1
    assert files_in(home) == before
    assert (home / "photo.placerec").read_bytes() == (home / "photos" / "000.png").read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else for a while")
def test_a_read_only_index_answers_anyone_and_is_changed_by_no_one(command, town, town_index):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        path = Path(shutil.copy(town_index, folder / "a.placerec"))
        photo = Path(shutil.copy(town / "queries" / "night_000.jpg", folder / "q.jpg"))
        path.chmod(0o444)
        folder.chmod(0o555)
        wanted = command("query", path, photo, "--json")
        os.seteuid(65534)
        try:
            assert command("query", path, photo, "--json") == wanted
            assert command("index", "verify", path)[0] == 0
            assert command("index", "info", path)[0] == 0
            for words in (("add", path, photo), ("remove", path, "place_000.jpg")):
                code, out, err = command("index", *words)
                assert (code, out) == (6, "")
                assert len(err.splitlines()) == 1
            code, _, err = command("index", "build", folder / "b.placerec", folder)
            assert code == 6, err
        finally:
            os.seteuid(0)
        assert files_in(folder) == ["a.placerec", "q.jpg"]


def test_a_finding_shows_a_name_on_one_line(command, tmp_path):
    path = tmp_path / "a.placerec"
    with create(path) as writer:
        for number, name in enumerate(("a\n\x1b[31mb.jpg", os.fsdecode(b"caf\xe9.jpg"), "<b>.jpg")):
            writer.put(name, f"{number:064x}", None, features(number))
    edit(path, "UPDATE photos SET sha256 = 'changed'")
    code, out, err = command("index", "verify", path)
    assert code == 4
    assert [line for line in [*out.splitlines(), *err.splitlines()] if not line.isprintable()] == []
    assert sum("has changed" in line for line in out.splitlines()) == 3
    code, out, err = command("index", "remove", path, "no\n\x1b[2Jname")
    assert code == 4
    assert err.count("\n") == 1
    assert "\x1b" not in err


# Little memory.


@pytest.mark.parametrize("megabytes", [250, 1300])
def test_too_little_memory_is_one_line_and_code_6(home, megabytes):
    with limited(resource.RLIMIT_AS, megabytes << 20):
        result = subprocess.run(
            [sys.executable, "-m", "placerec", "index", "build", "b.placerec", "photos",
             "--threads", "2"],
            cwd=home, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert result.returncode in (0, 6), result.stderr
    if result.returncode == 6:
        assert result.stderr.splitlines()[-1].startswith("error: out of memory; ")
        assert files_in(home) == ["a.placerec", "photos"]
    assert result.returncode == 6 or megabytes > 300
