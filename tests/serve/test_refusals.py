"""What the page's server refuses, byte by byte, and that it goes on afterwards."""

import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from placerec import serve
from placerec.errors import UsageError
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.serve import PageServer
from placerec.serve import server as server_module
from serve.serve_support import (
    answer_of,
    connect,
    get,
    head_of_post,
    post,
    reply_on,
    running,
    send,
)

RESET_WHEN_CLOSED = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
POSIX = pytest.mark.skipif(os.name != "posix", reason="links, pipes and signals of POSIX")
STATIC = Path(serve.__file__).parent / "static"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@pytest.fixture
def photo(town):
    return (town / "queries" / "night_000.jpg").read_bytes()


def test_it_listens_on_the_loopback_address_only(server):
    assert server.socket.getsockname() == ("127.0.0.1", server.server_port)


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/api/map", "/photo/0", "/nothing"])
def test_every_answer_has_the_strict_headers(server, path):
    headers = get(server, path).headers
    assert headers.items() >= HEADERS.items()
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert "Set-Cookie" not in headers


HOSTS = ["evil.example", "evil.example:{}", "127.0.0.1", "127.0.0.1:1", "localhost.:{}", "[::1]:{}",
         "", "127.0.0.1:{}\r\nHost: evil.example", "127.0.0.1:{}, evil.example"]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", ["/", "/api/map"])
def test_another_host_is_refused(server, host, path):
    reply = get(server, path, host=host.format(server.server_port))
    assert reply.status == 403
    assert server.key.encode() not in reply.body


def test_a_request_without_a_host_is_refused_and_localhost_is_not(server):
    assert send(server, b"GET / HTTP/1.0\r\n\r\n").status == 403
    assert get(server, "/", host=f"localhost:{server.server_port}").status == 200


ADDRESSES = [
    "/static/../search.py", "/static/%2e%2e/search.py", "/static/", "/static/..\\search.py",
    "/photo/../../etc/passwd", "/photo//etc/passwd", "/photo/-1", "/photo/1e2", "/photo/0/",
    "/photo/0?path=/etc/passwd", "/photo/place_000.jpg", "/photo/%30", "/photo/6", "/query/999",
    "/photo/999999999999999999999", "/photo/0/small/../..", "//etc/passwd", "/api/answers/999",
    "/api/answers/999/pairs/1", "/etc/passwd", "http://evil.example/photo/0", "/\u0660", "*",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_is_a_path(server, address):
    assert get(server, address).status == 404


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_another_method_is_refused(server, method):
    reply = get(server, "/", method)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, POST")


NO_REQUESTS = [b"\x16\x03\x01\x02\x00", b"GET /", b"", b"GET / HTTP/9.9", b"A" * 70000]


@pytest.mark.parametrize("data", NO_REQUESTS, ids=range(5))
def test_what_is_no_request_ends_and_the_server_goes_on(server, data):
    with connect(server) as connection:
        connection.sendall(data + b"\r\n\r\n")
        connection.shutdown(1)
        assert b"key" not in connection.makefile("rb").read()
    assert get(server, "/").status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X_Placerec_Key": None}, 403),
        ({"X_Placerec_Key": "wrong"}, 403),
        ({"X_Placerec_Key": "\u00e9"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content_Length": None}, 411),
        ({"Transfer_Encoding": "chunked", "Content_Length": None}, 411),
        ({"Transfer_Encoding": "chunked"}, 411),
        ({"Content_Length": "5\r\nContent-Length: 6"}, 411),
        ({"Content_Length": "-1"}, 400),
        ({"Content_Length": "+5"}, 400),
        ({"Content_Length": "5_0"}, 400),
        ({"Content_Length": "9" * 5000}, 400),
        ({"Content_Length": "30000001"}, 413),
    ],
)
def test_a_search_is_refused_before_its_body_is_read(server, headers, status):
    reply = send(server, head_of_post(server, 30_000_000, **headers))  # and no body comes
    assert reply.status == status
    assert reply.json["error"]


def test_a_refused_client_that_sends_on_gets_its_answer(server):
    with connect(server) as connection:
        connection.sendall(head_of_post(server, 40_000_000))
        connection.sendall(bytes(5_000_000))
        assert reply_on(connection).status == 413


def test_a_search_at_another_address_is_refused(server):
    head = head_of_post(server, 0).replace(b"/api/query", b"/api/map")
    assert send(server, head).status == 404


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_slow_request_ends_and_gives_its_seat_back(server, photo, monkeypatch, part):
    monkeypatch.setattr(server_module, "SECONDS", 0.03)
    whole = head_of_post(server, len(photo)) + photo
    slow = whole[:40] if part == "head" else whole[:-1]
    for _ in range(6):  # one more than there are seats
        with connect(server) as connection:
            connection.sendall(slow)
            reply = connection.makefile("rb").read()
        assert (b" 408 " in reply) == (part == "body")
    monkeypatch.undo()
    assert post(server, photo).status == 200


def test_a_request_that_comes_in_drops_ends_too(server, monkeypatch):
    monkeypatch.setattr(server_module, "SECONDS", 0.1)
    with connect(server) as connection:
        connection.sendall(head_of_post(server, 1000))
        drops = 0
        while drops < 500 and not select.select([connection], [], [], 0.005)[0]:
            connection.send(b".")
            drops += 1
        assert drops < 500
        assert reply_on(connection).status == 408


def test_a_body_that_is_cut_off_is_not_searched(server, photo, monkeypatch):
    monkeypatch.setattr(PlaceRecognizer, "query", lambda *_: pytest.fail("it was searched"))
    with connect(server) as connection:
        connection.sendall(head_of_post(server, len(photo)) + photo[:-1])
        connection.shutdown(1)
        assert connection.makefile("rb").read() == b""


def bomb():
    """A PNG file of 70 bytes that says it has 4 000 000 000 pixels."""
    size = struct.pack(">IIBBBBB", 80_000, 50_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"", "empty file"), (b"<svg/>", "not an image"), (bomb(), "pixels"), (b"\xff\xd8\xff", "")],
    ids=["empty", "svg", "bomb", "cut"],
)
def test_a_bad_photo_is_refused_with_its_reason(server, data, why):
    reply = post(server, data)
    assert reply.status == 422
    assert why in reply.json["error"]


def test_the_name_of_a_photo_is_never_a_path(server, photo):
    reply = post(server, photo, X_Photo_Name="..%2F..%2Fetc%2Fpasswd%0A%1B[2J")
    answer = reply.lines[-1]["answer"]
    assert answer["name"] == "../../etc/passwd\\n\\x1b[2J"
    assert answer["places"]


def test_one_search_at_a_time_and_a_short_queue(server, photo, monkeypatch):
    running_now, most, enough = [], [], threading.Event()

    def query(self, photo, top):
        running_now.append(1)
        most.append(len(running_now))
        enough.wait(20)
        running_now.pop()
        return answer_of("place_001.jpg")

    monkeypatch.setattr(PlaceRecognizer, "query", query)
    replies = []
    threads = [
        threading.Thread(target=lambda: replies.append(post(server, photo))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    while server.served.seats._value:
        time.sleep(0.002)
    refused = post(server, photo)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    assert get(server, "/photo/0/small").status == 200  # photos do not wait for searches
    enough.set()
    for thread in threads:
        thread.join()
    assert [reply.lines[-1]["answer"]["places"][0]["number"] for reply in replies] == [1] * 5
    numbers = sorted(reply.lines[-1]["answer"]["number"] for reply in replies)
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert most == [1] * 5


def test_a_client_that_leaves_in_mid_answer_stops_nobody(server, photo, monkeypatch):
    begun, gone = threading.Event(), threading.Event()
    query = PlaceRecognizer.query

    def slow(self, *arguments):
        begun.set()
        gone.wait(20)
        return query(self, *arguments)

    monkeypatch.setattr(PlaceRecognizer, "query", slow)
    with connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_WHEN_CLOSED)
        connection.sendall(head_of_post(server, len(photo)) + photo)
        assert begun.wait(20)
    gone.set()
    assert post(server, photo).lines[-1]["answer"]["places"][0]["path"] == "place_000.jpg"


def test_the_end_of_the_program_waits_for_the_search_that_runs(town_index, photo, monkeypatch):
    begun, ended = threading.Event(), []
    query = PlaceRecognizer.query

    def slow(self, *arguments):
        begun.set()
        time.sleep(0.1)
        answer = query(self, *arguments)  # an index that is closed would raise an error
        ended.append(len(answer))
        return answer

    monkeypatch.setattr(PlaceRecognizer, "query", slow)
    with running(town_index) as server:
        client = threading.Thread(target=post, args=(server, photo))
        client.start()
        assert begun.wait(20)
    assert ended == [6]
    client.join()


@POSIX
def test_the_program_ends_in_mid_answer_without_a_traceback(town_index, photo):
    words = [sys.executable, "-m", "placerec", "serve", town_index, "--port", "0", "--no-browser"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as program:
        port = int(re.search(r":(\d+)/$", program.stdout.readline())[1])
        page = get(SimpleNamespace(server_port=port), "/").body
        key = re.search(rb'placerec-key" content="(.+?)"', page)[1].decode()
        server = SimpleNamespace(server_port=port, key=key)
        with connect(server) as connection:
            connection.sendall(head_of_post(server, len(photo)) + photo)
            lines = connection.makefile("rb")
            assert any(b'"describe"' in line for line in lines)  # the search has begun
            program.send_signal(signal.SIGTERM)
            _, err = program.communicate(timeout=30)
    assert (program.returncode, err) == (143, "")


def test_too_many_connections_are_closed_and_the_others_served(server):
    held = [connect(server) for _ in range(server_module.MOST_CONNECTIONS)]
    while server._connections._value:
        time.sleep(0.002)
    with connect(server) as one_more:
        assert one_more.recv(1) == b""
    for connection in held:
        connection.close()
    while not server._connections._value:
        time.sleep(0.002)
    assert get(server, "/").status == 200


@POSIX
def test_a_photo_that_links_out_of_the_folder_is_refused(own_index, tmp_path):
    index, photos = own_index
    (photos / "place_001.jpg").rename(tmp_path / "outside.jpg")
    (photos / "place_001.jpg").symlink_to(tmp_path / "outside.jpg")
    (photos / "place_002.jpg").unlink()
    (photos / "place_002.jpg").symlink_to(photos / "place_002.jpg")
    (photos / "place_003.jpg").unlink()
    os.mkfifo(photos / "place_003.jpg")
    with running(index) as server:
        statuses = [get(server, f"/photo/{number}").status for number in range(5)]
    assert statuses == [200, 404, 404, 422, 200]


def test_a_port_in_use_is_named(server):
    with pytest.raises(UsageError, match=f"port {server.server_port}: .* choose another port"):
        PageServer(server.served, server.server_port)


@pytest.mark.parametrize(
    "host", ["file://", "https://a.b;x", "https://u@a.b", "https://a.b/ *", "a.b"]
)
def test_tiles_that_could_open_the_policy_are_refused(server, host):
    with pytest.raises(UsageError, match="tiles"):
        PageServer(server.served, tiles=host + "/{z}/{x}/{y}.png")
    with pytest.raises(UsageError, match="tiles"):
        PageServer(server.served, tiles="https://tile.example/{z}/{x}.png")


def test_tiles_open_the_policy_for_their_host_only(server):
    with PageServer(server.served, tiles="https://tile.example:81/a/{z}/{x}/{y}.png") as other:
        assert "img-src 'self' https://tile.example:81;" in other.policy
        assert "connect-src 'self';" in other.policy


def test_the_page_never_reads_text_as_html_and_names_no_other_host():
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
        assert not re.search(r"style=|<script>|\son\w+=|javascript:", text), path
        assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}, path
