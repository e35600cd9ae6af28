"""A cache folder, a hub on this machine, and tiny weights that it has."""

import huggingface_hub.file_download
import pytest
from local_hub import CONTENT, local_hub

from placerec.baselines import CONVERTERS
from placerec.models.published import PUBLISHED, Published
from placerec.trunks.convert import write_encoded

TINY = Published(
    "tiny", "a test", "none", "someone/Tiny", "tiny.bin", 1, "MIT", "none", "tiny.onnx"
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and a registry with the weights ``tiny``, whose converter copies."""
    monkeypatch.setenv("PLACEREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setitem(PUBLISHED, "tiny", TINY)
    monkeypatch.setitem(CONVERTERS, "tiny", copy)
    return tmp_path / "cache"


@pytest.fixture(scope="module", autouse=True)
def no_connection_left():
    """Close the connections of the hub's library after the last test of a file."""
    yield
    huggingface_hub.close_session()


def copy(source, out):
    assert source.name == "tiny.bin"
    return write_encoded(out, source.read_bytes())


@pytest.fixture
def hub(cache, monkeypatch):
    with local_hub(CONTENT) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub
