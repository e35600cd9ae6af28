"""A server of a small index in this process, and requests byte by byte."""

import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass

from placerec.records import Answer, Place, Position, Where
from placerec.serve import PageServer, ServedIndex


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def lines(self):
        return [json.loads(line) for line in self.body.splitlines()]


@contextmanager
def running(index, **options):
    with ServedIndex.open(index) as served, PageServer(served, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def connect(server):
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=20)


def reply_on(connection):
    with connection.makefile("rb") as file:
        head, _, body = file.read().partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return Reply(int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body)


def send(server, data):
    """Send these bytes and return the reply."""
    with connect(server) as connection:
        connection.sendall(data)
        return reply_on(connection)


def get(server, path, method="GET", host=None):
    host = f"127.0.0.1:{server.server_port}" if host is None else host
    return send(server, f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


def head_of_post(server, length, **headers):
    """The head of a good request for a search; ``headers`` change it, None removes one."""
    fields = {
        "Host": f"127.0.0.1:{server.server_port}",
        "X-Placerec-Key": server.key,
        "X-Photo-Name": "asked.jpg",
        "Content-Length": str(length),
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join(["POST /api/query HTTP/1.1", *lines, "\r\n"]).encode()


def post(server, data, **headers):
    return send(server, head_of_post(server, len(data), **headers) + data)


def answer_of(*names, in_map=True, sure=0.97, query="asked.jpg", **values):
    """An answer with these places, the first one with a position."""
    places = tuple(
        Place(rank, name, 0.9 / rank, 0.8, Position(45.0, 30.0 + rank / 1000), (), sure)
        for rank, name in enumerate(names, start=1)
    )
    where = Where(Position(45.0, 30.001), 7.0, 12.0)
    return Answer(query, places, in_map=in_map, **{"where": where if in_map else None, **values})
