"""Every test of this folder needs the packages of ``make test-cluster``, which warn of much."""

import shutil
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MISSING = [name for name in ("lance", "ray", "moto", "flask") if find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def one_object_store():
    from s3_faults import ObjectStore

    return ObjectStore()


@pytest.fixture
def object_store(one_object_store, monkeypatch):
    """An empty bucket of an object store, which Lance finds by the environment."""
    from s3_faults import BUCKET, no_fault

    for name, value in one_object_store.environment.items():
        monkeypatch.setenv(name, value)
    one_object_store.fault = no_fault
    for path, method in (("moto-api/reset", "POST"), (BUCKET, "PUT")):
        address = f"{one_object_store.environment['AWS_ENDPOINT']}/{path}"
        urllib.request.urlopen(urllib.request.Request(address, method=method)).read()
    return one_object_store


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path)
