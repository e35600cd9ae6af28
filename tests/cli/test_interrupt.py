"""Ctrl-C at any moment: one line, the documented code, no file, no process."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals of this kind")

# A command that loads a package and is interrupted inside a function of Python's import.
WHILE_LOADING = """
import signal, sys
import numpy, click
import placerec.cli as program

def interrupt(frame, event, argument):
    if (frame.f_code.co_name, event) == place:
        sys.setprofile(None)
        signal.raise_signal(signal.SIGINT)

def command(*_, **__):
    sys.setprofile(interrupt)
    import onnxruntime
    sys.setprofile(None)
    import time
    time.sleep(10)

place = tuple(sys.argv.pop().split())
program.cli.commands["demo"].callback = command
program.main()
"""


def ended(process):
    """Exit code and stderr of a process."""
    _, error = process.communicate(timeout=30)
    return process.returncode, [line for line in error.splitlines() if line]


def started(words, folder):
    return subprocess.Popen(
        [sys.executable, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
        # A suite that runs in the background of a shell has inherited that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for_library(pid, name):
    for _ in range(6000):
        if name in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8"):
            return
        time.sleep(0.005)
    raise AssertionError(f"{name} was never loaded")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("seed", range(6))
def test_ctrl_c_is_one_line_and_leaves_nothing(seed, many_photos, tmp_path):
    shutil.copytree(many_photos, tmp_path / "photos" / "a")
    shutil.copytree(many_photos, tmp_path / "photos" / "b")
    words = ("-m", "placerec", "index", "build", "a.placerec", "photos")
    process = started(words, tmp_path)
    wait_for_library(process.pid, "onnxruntime")
    moment = random.Random(seed)
    time.sleep(moment.uniform(0, 0.4))
    # Impatient people press it again. Then Python ended with threads inside ONNX Runtime: abort.
    for _ in range(1 + seed % 3):
        process.send_signal(signal.SIGINT)
        time.sleep(moment.uniform(0, 0.05))
    assert ended(process) == (130, ["error: interrupted"])
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize(("signal_", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_leaves_no_file(placerec, many_photos, tmp_path, signal_, code):
    for copy in range(12):  # so many that the build cannot be done when the signal comes
        shutil.copytree(many_photos, tmp_path / "photos" / str(copy))
    words = [sys.executable, "-m", "placerec", "index", "build", "a.placerec", tmp_path / "photos"]
    with subprocess.Popen(
        words, cwd=placerec.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A suite that runs in the background of a shell has inherited that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        wait_for_library(process.pid, "onnxruntime")  # by then the command is at work
        process.send_signal(signal_)
        _, error = process.communicate(timeout=20)
    assert process.returncode == code, error
    assert "Traceback" not in error
    assert list(placerec.folder.iterdir()) == []


# An exception in a callback of Python's import is lost, with a traceback on stderr.
@pytest.mark.parametrize("place", ["cb call", "create_module return"])
def test_ctrl_c_while_a_package_is_loaded_waits_for_it(place, tmp_path):
    process = started(("-W", "ignore", "-c", WHILE_LOADING, "demo", place), tmp_path)
    assert ended(process) == (130, ["error: interrupted"])


def test_ctrl_c_before_the_program_begins_is_no_traceback(tmp_path):
    (tmp_path / "click.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    assert ended(started(("-m", "placerec"), tmp_path)) == (-signal.SIGINT, [])
