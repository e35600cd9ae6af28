"""Running the program inside this process. The tests need the limits and signals of Linux."""

import sys

import pytest

from placerec import cli

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


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
