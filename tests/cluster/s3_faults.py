"""An object store in this process: moto behind a door that fails as a test says."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from typing import Any

from werkzeug.serving import make_server

BUCKET = "maps"
Fault = Callable[[str, str], str]  # from method and path to "", "refuse", "taken" or "lost"
STATUS = {"refuse": "503 Slow Down", "taken": "412 Precondition Failed", "lost": "503 Slow Down"}


def no_fault(_method: str, _path: str) -> str:
    return ""


class ObjectStore:
    """A server of S3. ``fault`` names what happens to a request; "lost": it is done, but fails."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from moto.server import DomainDispatcherApplication, create_backend_app

            self._moto = DomainDispatcherApplication(create_backend_app)
        self.fault: Fault = no_fault
        self.server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which Lance finds it."""
        return {
            "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}", "AWS_ALLOW_HTTP": "true",
        }  # fmt: skip

    def _answer(self, environ: dict[str, Any], start: Any) -> Any:
        kind = self.fault(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if kind in ("", "lost"):
            answer = self._moto(environ, start if not kind else lambda *_: None)
        if not kind:
            return answer
        start(STATUS[kind], [("Content-Length", "0")])
        return [b""]
