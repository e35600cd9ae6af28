"""Running the program as a user does: its exit code, its two streams."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def placerec(command, monkeypatch, tmp_path):
    """``placerec("index", "info", path)``: run in an empty folder of its own, in this process.

    With ``env``, variables of its environment, it runs in a process of its own.
    """
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words, code=0, env=None):
        if env is None:
            result = subprocess.CompletedProcess(words, *command(*words))
        else:
            result = subprocess.run(
                [sys.executable, "-W", "error", "-m", "placerec", *map(str, words)],
                capture_output=True, text=True, timeout=300, env={**os.environ, **env},
            )  # fmt: skip
        assert "Traceback" not in result.stderr, result.stderr
        assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
        return result

    run.folder = folder
    return run
