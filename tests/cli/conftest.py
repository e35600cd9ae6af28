"""Running the program as a user does: its own process, its exit code, its two streams."""

import os
import subprocess
import sys

import pytest


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
