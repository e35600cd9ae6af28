"""The server of the page: what is answered, and what is refused.

It listens on the loopback address only. Each connection has one request. A request is refused
before its body is read unless its ``Host`` is exactly this server, and, if it asks for a search,
unless it has the key that only the page knows, and a length within the limit. No part of an address
is ever a path: files of the page and photos are looked up by name and by number.
"""

from __future__ import annotations

import hmac
import io
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import unquote, urlsplit

from placerec.errors import NotFound, PhotoError, PlacerecError, UsageError
from placerec.recognise.forms import answer_as_json
from placerec.records import Photo
from placerec.serve.answers import answer_as_geojson, answer_for_page
from placerec.serve.pictures import SMALL
from placerec.serve.search import Report, ServedIndex, no_report

HOST = "127.0.0.1"
MOST_BYTES = 30_000_000  # of a photo
MOST_CONNECTIONS = 32
SECONDS = 30.0  # in which a request must be complete, and a client must take each part of an answer
LINGER_SECONDS = 1.0  # in which what a refused client still sends is thrown away
LONGEST_NAME = 200  # characters of a photo's name
KEY_HEADER, NAME_HEADER = "X-Placerec-Key", "X-Photo-Name"
STATIC = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "map.js": "text/javascript; charset=utf-8",
    "pair.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "land.json": "application/json",
}
FIXED_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Connection": "close",
}
NUMBER = r"([0-9]{1,9})"
JSON = "application/json"


class PageServer(ThreadingHTTPServer):
    """Serves the page of an index at ``address``; ``serve_forever`` runs it.

    ``port`` 0 takes a free port. ``tiles`` is the address of map tiles with {z}, {x} and {y}; the
    browser then loads them from that host. ``log`` takes one line for each fault. Raises
    ``UsageError`` for a port that is in use, and for tiles that are no such address.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name == "posix"  # elsewhere it would share the port
    request_queue_size = MOST_CONNECTIONS

    def __init__(
        self, served: ServedIndex, port: int = 0, *, tiles: str = "",
        log: Report = no_report,
    ) -> None:  # fmt: skip
        self.served, self.tiles, self.log = served, tiles, log
        self.policy = _policy(tiles)
        self.key = secrets.token_urlsafe(32)
        self._connections = threading.BoundedSemaphore(MOST_CONNECTIONS)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(
                f"port {port}: {why}; choose another port, or 0 for a free one"
            ) from error
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def server_bind(self) -> None:
        """Bind without asking a name server for the name of this machine."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, self.allow_reuse_address)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; close the connection at once if too many are open."""
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, then give the connection's place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away; other faults are answered where they occur."""


def _policy(tiles: str) -> str:
    """Return the Content-Security-Policy of every answer."""
    images = "'self'"
    if tiles:
        url = urlsplit(tiles)
        exact = re.fullmatch(r"https?://[\w.-]+(:[0-9]+)?/[\w./?&=%~{}@-]+", tiles, re.ASCII)
        if not exact or not all(part in tiles for part in ("{z}", "{x}", "{y}")):
            raise UsageError(f"tiles {tiles!r}: give https://HOST/.../{{z}}/{{x}}/{{y}}.png")
        images += f" {url.scheme}://{url.netloc}"
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Deadline(io.RawIOBase):
    """Reads a socket, and raises ``TimeoutError`` after a time for all reads together."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection, self._end = connection, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(SECONDS)


class _Refused(Exception):
    """An answer other than success: a status and a sentence for a person."""

    def __init__(self, status: HTTPStatus, why: str, **headers: str) -> None:
        self.status, self.why, self.headers = status, why, headers


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: PageServer
    server_version, sys_version = "placerec", ""
    timeout = SECONDS

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Deadline(self.connection, SECONDS))

    def do_GET(self) -> None:
        self._guarded(self._get)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def _guarded(self, answer: Callable[[], None]) -> None:
        """Check the host, answer, and turn every fault into a status with a sentence."""
        try:
            self._require_host()
            answer()
        except _Refused as refused:
            self._send_error(refused.status, refused.why, refused.headers)
        except NotFound as error:
            self._send_error(HTTPStatus.NOT_FOUND, str(error))
        except PhotoError as error:
            self._send_error(HTTPStatus.UNPROCESSABLE_ENTITY, error.reason)
        except PlacerecError as error:
            self._send_error(HTTPStatus.CONFLICT, str(error))
        except TimeoutError:
            self._send_error(HTTPStatus.REQUEST_TIMEOUT, f"not complete within {SECONDS:g} seconds")
        except ConnectionError:
            self.close_connection = True  # the client went away
        except Exception as error:
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, self._bug(error))

    def _bug(self, error: Exception) -> str:
        self.server.log(f"a bug in placerec ({type(error).__name__}: {error})")
        return "a bug in placerec; the window of the program says more"

    def _require_host(self) -> None:
        """Refuse any other host: a web site that names this address would see the photos."""
        if self.headers.get_all("Host") not in [[host] for host in self.server.hosts]:
            raise _Refused(HTTPStatus.FORBIDDEN, f"open {self.server.address} instead")

    def _get(self) -> None:
        if self.path == "/":
            page = _file("page.html").replace(b"{key}", self.server.key.encode())
            return self._send("text/html; charset=utf-8", page)
        if self.path.startswith("/static/") and self.path[8:] in STATIC:
            return self._send(STATIC[self.path[8:]], _file(self.path[8:]))
        if self.path == "/api/map":
            return self._send_json(self.server.served.map() | {"tiles": self.server.tiles})
        for pattern, answer in ROUTES.items():
            if match := re.fullmatch(pattern, self.path, re.ASCII):
                return answer(self, *map(int, match.groups()))
        raise _Refused(HTTPStatus.NOT_FOUND, "nothing is here")

    def _photo(self, number: int) -> None:
        self._send("image/jpeg", self.server.served.picture(number).jpeg)

    def _small_photo(self, number: int) -> None:
        self._send("image/jpeg", self.server.served.picture(number, SMALL).jpeg)

    def _query_photo(self, number: int) -> None:
        self._send("image/jpeg", self.server.served.answer(number).picture.jpeg)

    def _answer(self, number: int) -> None:
        self._send_json(answer_for_page(self.server.served.answer(number)))

    def _json_download(self, number: int) -> None:
        self._send_download(
            number, "json", answer_as_json(self.server.served.answer(number).answer)
        )

    def _geojson_download(self, number: int) -> None:
        content = answer_as_geojson(self.server.served.answer(number).answer)
        self._send_download(number, "geojson", content)

    def _pair(self, number: int, rank: int) -> None:
        self._send_json(self.server.served.pair(number, rank))

    def _post(self) -> None:
        """Answer a photo with one line of JSON for each stage, and one for the answer."""
        if self.path != "/api/query":
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing is here")
        length = self._allowed_length()
        if not self.server.served.seats.acquire(blocking=False):
            why = "several searches are waiting; try again in a few seconds"
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, why, **{"Retry-After": "2"})
        try:
            data = self.rfile.read(length)
            if len(data) == length:
                name = unquote(self.headers.get(NAME_HEADER, ""))[:LONGEST_NAME]
                self._search(self.server.served.read(data, name or "photo"))
        finally:
            self.server.served.seats.release()

    def _allowed_length(self) -> int:
        """Return the length of the body of a request that may be read."""
        headers = self.headers
        key = headers.get(KEY_HEADER, "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(key, self.server.key.encode()):
            why = "the program was started again; load the page again"
            raise _Refused(HTTPStatus.FORBIDDEN, why)
        if headers.get("Origin", f"http://{headers['Host']}") != f"http://{headers['Host']}":
            raise _Refused(HTTPStatus.FORBIDDEN, "another page may not ask")
        lengths = headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in headers or len(lengths) != 1:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "give the length of the photo, once")
        if not re.fullmatch(r"[0-9]{1,18}", lengths[0], re.ASCII):
            raise _Refused(HTTPStatus.BAD_REQUEST, "the length of the photo is not a number")
        if int(lengths[0]) > MOST_BYTES:
            why = f"a photo may have {MOST_BYTES // 1_000_000} MB"
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why)
        return int(lengths[0])

    def _search(self, photo: Photo) -> None:
        self._send_head(HTTPStatus.OK, "application/x-ndjson", {})
        self._send_stage("wait")
        try:
            served = self.server.served.search(photo, self._send_stage)
            self._send_line({"answer": answer_for_page(served)})
        except PlacerecError as error:
            self._send_line({"error": str(error)})
        except ConnectionError:
            raise
        except Exception as error:
            self._send_line({"error": self._bug(error)})

    def _send_stage(self, stage: str) -> None:
        self._send_line({"stage": stage})

    def _send_line(self, content: dict[str, Any]) -> None:
        self.wfile.write(json.dumps(content).encode() + b"\n")

    def _send_json(self, content: dict[str, Any]) -> None:
        self._send(JSON, json.dumps(content).encode())

    def _send_download(self, number: int, kind: str, content: dict[str, Any]) -> None:
        name = f'attachment; filename="answer_{number}.{kind}"'
        body = json.dumps(content, indent=2).encode() + b"\n"
        self._send(JSON, body, headers={"Content-Disposition": name})

    def _send_error(
        self, status: HTTPStatus, why: str, headers: dict[str, str] | None = None
    ) -> None:
        self._send(JSON, json.dumps({"error": why}).encode(), status, headers)
        self._throw_away_the_rest()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer another method, or what is no HTTP, in the form of every other refusal."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            allowed = {"Allow": "GET, POST"}
            self._send_error(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and POST", allowed)
        else:
            self._send_error(HTTPStatus(code), message or explain or HTTPStatus(code).phrase)

    def _send(
        self, kind: str, body: bytes, status: HTTPStatus = HTTPStatus.OK,
        headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        length = {"Content-Length": str(len(body))}
        try:
            self._send_head(status, kind, length | (headers or {}))
            self.wfile.write(body)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _send_head(self, status: HTTPStatus, kind: str, headers: dict[str, str]) -> None:
        policy = {"Content-Security-Policy": self.server.policy, "Content-Type": kind}
        self.send_response(status)
        for name, value in (FIXED_HEADERS | policy | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def _throw_away_the_rest(self) -> None:
        """Read on for a moment: a system may drop an answer if the client's bytes are unread."""
        try:
            self.connection.shutdown(socket.SHUT_WR)
            rest = _Deadline(self.connection, LINGER_SECONDS)
            while rest.read(1 << 16):
                pass
        except OSError:  # also if the time is over
            return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name of the base class)
        """Keep silent: what was asked is nobody's business."""


ROUTES: dict[str, Callable[..., None]] = {
    f"/photo/{NUMBER}": _Handler._photo,
    f"/photo/{NUMBER}/small": _Handler._small_photo,
    f"/query/{NUMBER}": _Handler._query_photo,
    f"/api/answers/{NUMBER}": _Handler._answer,
    rf"/api/answers/{NUMBER}\.json": _Handler._json_download,
    rf"/api/answers/{NUMBER}\.geojson": _Handler._geojson_download,
    f"/api/answers/{NUMBER}/pairs/{NUMBER}": _Handler._pair,
}


def _file(name: str) -> bytes:
    return (files("placerec.serve") / "static" / name).read_bytes()
