"""Published weights by one command: from a hub on this machine, with every fault of a network."""

import errno
import re
import shutil
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub.file_download
import pytest
from local_hub import CONTENT, DIGEST, REVISION, files

import placerec
from placerec import download as module
from placerec.baselines import CONVERTERS
from placerec.download import download_weights
from placerec.errors import (
    DownloadFailed,
    MissingExtra,
    NoRoom,
    NotFound,
    UnsafeWeights,
    UsageError,
)
from placerec.models.published import PUBLISHED
from placerec.runtime import Runtime


def test_a_download_is_checked_and_converted_and_nothing_else_stays(hub, cache):
    seen = []
    progress = lambda stage, done, total: seen.append((stage, done, total))  # noqa: E731
    origin = download_weights("tiny", runtime=Runtime(progress=progress))
    assert (origin.size, origin.sha256, origin.revision) == (300_000, DIGEST, REVISION)
    assert origin.source == f"{hub.address}/someone/Tiny/resolve/{REVISION}/tiny.bin"
    assert (cache / "tiny.onnx").read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == ["tiny.onnx"]
    assert hub.asked("HEAD") == ["/someone/Tiny/resolve/main/tiny.bin"]
    assert hub.asked("GET") == [f"/someone/Tiny/resolve/{REVISION}/tiny.bin", "/content"]
    assert seen[-3:] == [("tiny, MB", 0, 0), ("conversion", 0, 1), ("conversion", 1, 1)]


def test_a_second_download_asks_nobody(hub, command, cache):
    download_weights("tiny")
    count = len(hub.requests)
    assert download_weights("tiny") is None
    code, out, _ = command("weights", "list")
    assert (code, out.splitlines()[-1].split()[::4]) == (0, ["tiny", "yes"])
    assert len(hub.requests) == count


def test_no_telemetry_is_sent_and_a_token_only_to_the_hub_of_one_who_has_it(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", False)
    download_weights("tiny")
    assert {h["user-agent"] for _, _, h in hub.requests} == {f"placerec/{placerec.__version__}"}
    assert not any("authorization" in h for _, _, h in hub.requests)
    assert {path.split("/")[1] for _, path, _ in hub.requests} == {"someone", "content"}
    assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY is False
    hub.requests.clear()
    PUBLISHED["tiny"].path.unlink()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download_weights("tiny")
    sent = {path: h.get("authorization") for _, path, h in hub.requests}
    assert sent.pop("/content") is None
    assert set(sent.values()) == {"Bearer hf_secret"}


def test_a_file_in_xet_storage_comes_by_plain_requests_too(hub, cache):
    hub.stated = {"X-Xet-Hash": "ab" * 32, "X-Xet-Refresh-Route": f"{hub.address}/api/xet"}
    download_weights("tiny")
    assert (cache / "tiny.onnx").read_bytes() == CONTENT
    assert len(hub.requests) == 3


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_breaks_off_goes_on_in_the_same_call(hub, cache, ranges):
    hub.sends, hub.ranges = [100_000, 150_000], ranges
    if not ranges:
        hub.sends = [100_000]
    assert download_weights("tiny").sha256 == DIGEST
    assert (cache / "tiny.onnx").read_bytes() == CONTENT
    expected = ["", "bytes=100000-", "bytes=250000-"] if ranges else ["", "bytes=100000-"]
    assert hub.ranges_asked() == expected


def test_a_transfer_that_never_gets_further_ends(hub):
    hub.sends, hub.ranges = [100_000, 100_000], False
    with pytest.raises(DownloadFailed, match=r"the transfer .*try again"):
        download_weights("tiny")
    assert hub.sends == []
    assert len(hub.ranges_asked()) == 2


def test_a_broken_download_goes_on_in_the_next_call(hub, cache):
    hub.sends = [100_000, 0]
    with pytest.raises(DownloadFailed, match=r"transfer .*try again, it goes on where it stopped"):
        download_weights("tiny")
    assert files(cache) == [f"tiny-{DIGEST[:12]}.part/tiny.bin"]
    download_weights("tiny")
    assert hub.ranges_asked() == ["", "bytes=100000-", "bytes=100000-"]
    assert files(cache) == ["tiny.onnx"]


def test_an_interrupted_download_goes_on_in_the_next_call(hub):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_weights("tiny", runtime=Runtime(progress=stop))
    assert download_weights("tiny").sha256 == DIGEST
    first, second = hub.ranges_asked()
    assert first == ""
    assert re.fullmatch(r"bytes=[1-9]\d*-", second)


def test_of_two_downloads_at_once_one_waits_and_finds_the_weights(hub, monkeypatch):
    waits, goes, plain = threading.Event(), threading.Event(), CONVERTERS["tiny"]

    def slow(source, out):
        waits.set()
        goes.wait(10)
        return plain(source, out)

    monkeypatch.setitem(CONVERTERS, "tiny", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(download_weights, "tiny")
        waits.wait(10)
        second = pool.submit(download_weights, "tiny")
        goes.set()
        assert (first.result().sha256, second.result()) == (DIGEST, None)
    assert len(hub.asked("HEAD")) == 1


def test_an_answer_that_ends_early_without_a_length_goes_on_too(hub, monkeypatch):
    monkeypatch.setattr("local_hub.Handler.protocol_version", "HTTP/1.0")
    hub.sends = [100_000]
    plain = module._Hub._receive
    sizes = []

    def receive(self, origin, path, have, progress):
        sizes.append(have)
        plain(self, origin, path, have, progress)

    monkeypatch.setattr(module._Hub, "_receive", receive)
    assert download_weights("tiny").size == 300_000
    assert sizes == [0, 100_000]


def test_a_part_of_another_revision_is_not_continued(hub, cache):
    hub.sends = [100_000, 0]
    with pytest.raises(DownloadFailed):
        download_weights("tiny")
    hub.content = CONTENT[::-1]
    download_weights("tiny")
    assert hub.ranges_asked()[-1] == ""
    assert (cache / "tiny.onnx").read_bytes() == CONTENT[::-1]
    assert files(cache) == ["tiny.onnx"]


@pytest.mark.parametrize("change", ["content", "longer"])
def test_a_file_with_another_digest_is_deleted_before_anything_reads_it(
    hub, cache, monkeypatch, change
):
    hub.stated = {"X-Linked-Etag": f'"{"0" * 64}"'}
    if change == "longer":
        hub.stated = {"X-Linked-Size": "299999"}
    monkeypatch.setitem(CONVERTERS, "tiny", lambda source, out: pytest.fail("it was read"))
    with pytest.raises(UnsafeWeights, match=r"its sha256 is \w{64}, and the hub states \w{64}"):
        download_weights("tiny")
    assert files(cache) == []


def test_a_file_that_is_not_what_it_should_be_is_deleted_and_named(hub, cache):
    with pytest.raises(UnsafeWeights, match=r"mapillary_WPCA512\.pth\.tar: invalid weights"):
        download_weights("mapillary-512")
    assert files(cache) == []


def test_what_cannot_be_converted_for_another_reason_is_not_downloaded_again(
    hub, cache, monkeypatch
):
    def unable(source, out):
        raise MissingExtra("converting", "torch")

    with monkeypatch.context() as patched:
        patched.setitem(CONVERTERS, "tiny", unable)
        with pytest.raises(MissingExtra):
            download_weights("tiny")
    download_weights("tiny")
    assert hub.ranges_asked() == [""]
    assert files(cache) == ["tiny.onnx"]


@pytest.mark.parametrize(("method", "code", "why"), [
    ("HEAD", 404, r"no such repository or file \(HTTP 404\); check HF_ENDPOINT"),
    ("GET", 404, r"no such repository or file \(HTTP 404\)"),
    ("HEAD", 401, r"access is denied, or there is no such repository \(HTTP 401\)"),
    ("HEAD", 403, r"access is denied \(HTTP 403\); check HF_TOKEN"),
    ("HEAD", 429, r"the server has an error \(HTTP 429\); try again later"),
    ("HEAD", 503, r"the server has an error \(HTTP 503\); try again later"),
    ("GET", 503, r"the server has an error \(HTTP 503\); try again later"),
])  # fmt: skip
def test_a_refusal_of_the_hub_is_one_line_with_a_remedy(hub, command, cache, method, code, why):
    hub.status = {method: code}
    with pytest.raises(DownloadFailed, match=rf"^{hub.address}/.*tiny\.bin: {why}.* its folder$"):
        download_weights("tiny")
    assert len(hub.asked(method)) == 1  # not asked again and again
    assert files(cache) == []


def test_a_connection_that_is_not_secure_is_refused(hub, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.address.replace("http:", "https:"))
    with pytest.raises(DownloadFailed, match=r"no secure connection .*check the network"):
        download_weights("tiny")
    assert files(cache) == []


@pytest.mark.parametrize(("stated", "why"), [
    ({"X-Repo-Commit": None, "X-Linked-Etag": None, "Location": None}, "not the answer of a hub"),
    ({"X-Linked-Etag": None}, "states no size and sha256"),
    ({"X-Linked-Etag": f'"{"a" * 40}"'}, "states no size and sha256"),
    ({"X-Linked-Size": None}, "states no size and sha256"),
    ({"X-Linked-Size": "many"}, "states no size and sha256"),
    ({"X-Linked-Size": "-5"}, "states no size and sha256"),
    ({"Location": "http://[::1"}, r"answer to it, is invalid \(.*\); check HF_ENDPOINT"),
])  # fmt: skip
def test_a_server_that_does_not_state_what_the_file_is_is_refused(hub, cache, stated, why):
    hub.stated = stated
    with pytest.raises(DownloadFailed, match=why):
        download_weights("tiny")
    assert hub.asked("GET") == []
    assert files(cache) == []


def test_the_page_of_a_proxy_is_no_weights(hub, cache):
    hub.page = b"<html>log in first</html>"
    with pytest.raises(DownloadFailed, match="a web page came in place of the file"):
        download_weights("tiny")
    assert list(cache.rglob("*")) == []


def no_name(*_, **__):
    raise socket.gaierror(-2, "Name or service not known")


def test_a_machine_without_a_network_says_so(monkeypatch, cache):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}/")
    with pytest.raises(DownloadFailed, match=r"/someone/.*: the connection is refused"):
        download_weights("tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    with pytest.raises(DownloadFailed, match="the name of the server cannot be resolved"):
        download_weights("tiny")
    for wrong in ("hub.example", "http://[::"):
        monkeypatch.setenv("HF_ENDPOINT", wrong)
        with pytest.raises(DownloadFailed, match=r"not an address .*check HF_ENDPOINT"):
            download_weights("tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE is set"):
        download_weights("tiny")
    assert not list(cache.iterdir())


@pytest.mark.parametrize(("name", "value", "error"), [
    ("HTTP_PROXY", "socks5://a:secret@127.0.0.1:1", UsageError),
    ("ALL_PROXY", "xx://a:secret@y", UsageError),
    ("SSL_CERT_FILE", "/nonexistent", UsageError),
    ("HF_ENDPOINT", "http://127.0.0.1:99999", DownloadFailed),
    ("HF_ENDPOINT", "http://a:secret@127.0.0.1:1", DownloadFailed),
    ("HF_ENDPOINT", "http://a:se/cret@127.0.0.1:1", DownloadFailed),
    ("HF_ENDPOINT", "a:secret@127.0.0.1:1", DownloadFailed),
    ("HF_ENDPOINT", "http://\udcff/", DownloadFailed),
    ("HF_TOKEN", "secret-\xfc", DownloadFailed),
])  # fmt: skip
def test_a_wrong_variable_is_named_without_its_password(
    hub, cache, monkeypatch, name, value, error
):
    huggingface_hub.close_session()  # the proxies are read when a session begins
    monkeypatch.setenv(name, value)
    with pytest.raises(error, match=rf"check .*{name}") as refused:
        download_weights("tiny")
    assert not re.search("se/?cret", str(refused.value))
    assert list(cache.rglob("*")) == []


@pytest.mark.parametrize("name", ["HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"])
def test_a_variable_that_the_library_refuses_when_it_is_imported_is_named(cache, monkeypatch, name):
    for imported in [key for key in sys.modules if key.startswith("huggingface_hub")]:
        monkeypatch.delitem(sys.modules, imported)
    monkeypatch.setenv(name, "abc")
    with pytest.raises(UsageError, match=rf"cannot start \(.*abc.*\); check .*{name}"):
        download_weights("tiny")


def test_a_time_below_zero_is_one_error(hub, cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", -1)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "-1")
    with pytest.raises(DownloadFailed, match=r"Timeout .*check .*HF_HUB_DOWNLOAD_TIMEOUT"):
        download_weights("tiny")
    assert list(cache.rglob("*")) == []


def test_the_origin_has_no_password(hub, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.address.replace("//", "//a:secret@"))
    origin = download_weights("tiny")
    assert origin.source == f"{hub.address}/someone/Tiny/resolve/{REVISION}/tiny.bin"


def test_a_server_that_does_not_answer_is_given_up(monkeypatch, cache):
    plain = huggingface_hub.get_hf_file_metadata
    monkeypatch.setattr(
        huggingface_hub,
        "get_hf_file_metadata",
        lambda url, **more: plain(url, timeout=0.05, **more),
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DownloadFailed, match="no answer in time"):
            download_weights("tiny")


def test_a_full_disk_is_said_before_and_during_a_download(hub, cache, monkeypatch):
    usage = shutil.disk_usage(cache.parent)._replace(free=100_000)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(NoRoom, match=r"0\.3 MB needed, 0\.1 MB free"):
            download_weights("tiny")
    assert hub.asked("GET") == []

    plain = Path.open

    def full_disk(path, mode="r", *more, **options):
        if mode in ("ab", "wb"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(path, mode, *more, **options)

    with monkeypatch.context() as full:
        full.setattr(Path, "open", full_disk)
        with pytest.raises(NoRoom, match="No space left on device"):
            download_weights("tiny")
    assert files(cache) == []


@pytest.mark.parametrize(("package", "extra"), [
    ("huggingface_hub", "download"), ("httpx2", "download"), ("torch", "torch"),
])  # fmt: skip
def test_a_missing_extra_is_named_before_a_download(hub, monkeypatch, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"placerec\[{extra}\]"):
        download_weights("mapillary-128")
    assert hub.requests == []


def test_an_unknown_name_lists_the_names():
    with pytest.raises(UsageError, match=r"choose mapillary-128, .*megaloc"):
        download_weights("mapillary")


def test_a_folder_takes_the_place_of_the_network(hub, cache, tmp_path):
    with pytest.raises(NotFound, match=r"tiny\.bin: no such file; put it there: someone/Tiny/"):
        download_weights("tiny", tmp_path)
    (tmp_path / "tiny.bin").write_bytes(CONTENT)
    origin = download_weights("tiny", tmp_path)
    assert (origin.sha256, origin.revision) == (DIGEST, "")
    assert (tmp_path / "tiny.bin").read_bytes() == CONTENT
    assert files(cache) == ["tiny.onnx"]
    assert hub.requests == []


def test_a_file_of_quite_another_size_is_refused_before_it_is_read(cache, tmp_path, monkeypatch):
    with (tmp_path / "tiny.bin").open("wb") as file:
        file.truncate(2_000_001)
    monkeypatch.setattr(module, "file_sha256", lambda _: pytest.fail("it was read"))
    with pytest.raises(UnsafeWeights, match="2000001 bytes, and tiny has about 1 MB"):
        download_weights("tiny", tmp_path)
