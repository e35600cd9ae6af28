"""Running the program as a user does: its own process, its exit code, its two streams."""

import os
import subprocess
import sys

import pytest

from placerec.cli import _run


@pytest.fixture
def placerec(tmp_path):
    """``placerec("index", "info", path)``: run in an empty folder of its own."""
    folder = tmp_path / "here"
    folder.mkdir()

    def run(*words, code=0, **options):
        result = subprocess.run(
            [sys.executable, "-W", "error", "-m", "placerec", *map(str, words)],
            cwd=folder, capture_output=True, text=True, timeout=300,
            env={**os.environ, "COLUMNS": "80", **options.pop("env", {})}, **options,
        )  # fmt: skip
        assert "Traceback" not in result.stderr, result.stderr
        assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
        return result

    run.folder = folder
    return run


@pytest.fixture
def called(tmp_path, monkeypatch, capsys):
    """``called("index", "info", path)``: as ``placerec``, but in this process: code, out, err."""
    folder = tmp_path / "here"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words, code=0):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["placerec", *map(str, words)])
        status = _run()
        printed = capsys.readouterr()
        assert status == code, (status, printed)
        return printed

    call.folder = folder
    return call
