"""Each MATLAB file is read by one process, however many data sets have a copy of it."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from placerec.evaluation.layouts import netvlad_sets

DATE = rb"Created on: .{24}"  # in the first bytes of a MATLAB file


@pytest.fixture(scope="session", autouse=True)
def _each_matlab_file_once():
    seen = {}

    def remembered(command, **options):
        content = re.sub(DATE, b"", Path(command[-1]).read_bytes())
        if content not in seen:
            seen[content] = subprocess.run(command, **options)
        return seen[content]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(netvlad_sets, "subprocess", SimpleNamespace(run=remembered))
        yield
