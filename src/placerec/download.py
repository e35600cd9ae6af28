"""Published weights from their hub: the one use of the network, and only when it is asked for.

A hub (Hugging Face, or a mirror named by ``HF_ENDPOINT``) answers a HEAD request with the revision,
the size and the sha256 of a file. The bytes are then fetched by plain HTTP requests. A transfer
that breaks off goes on where it stopped, also in a later call: the part stays in the cache folder,
in a folder ``NAME-DIGEST.part``. Nothing reads the file before its size and sha256 are right.

Then the file is converted: a Patch-NetVLAD checkpoint by the safe reader, the weights of a baseline
by its converter. Only the converted file stays. Telemetry of the hub's library is off.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from placerec.baselines import CONVERTERS
from placerec.errors import (
    Damaged,
    DownloadFailed,
    NoRoom,
    NotFound,
    UnsafeWeights,
    UsageError,
    import_extra,
)
from placerec.files import AnyPath, cache_folder, file_sha256, is_file, path_of
from placerec.models.published import PUBLISHED, Published
from placerec.runtime import DEFAULT_RUNTIME, Progress, Runtime, require_runtime
from placerec.version import __version__

HEADERS = {"user-agent": f"placerec/{__version__}", "accept-encoding": "identity"}
MEGABYTE = 1_000_000
AGAIN = "try again, it goes on where it stopped"
CHECK = "check the network, HTTPS_PROXY and HF_ENDPOINT"
HTTP = {
    401: ("access is denied, or there is no such repository", "check HF_TOKEN and HF_ENDPOINT"),
    403: ("access is denied", "check HF_TOKEN and HF_ENDPOINT"),
    404: ("no such repository or file", "check HF_ENDPOINT"),
    407: ("the proxy wants a password", "check HTTPS_PROXY"),
}
UNREACHABLE: dict[type[Exception], str] = {
    socket.gaierror: "the name of the server cannot be resolved",
    ConnectionRefusedError: "the connection is refused",
    ssl.SSLError: "no secure connection",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where converted weights come from: an address or a file, its size in bytes, its sha256 (hex).

    ``revision`` is the commit of the repository. It is empty for a file from a folder, whose sha256
    was compared with nothing.
    """

    source: str
    size: int
    sha256: str
    revision: str = ""


def download_weights(
    name: str, folder: AnyPath | None = None, runtime: Runtime = DEFAULT_RUNTIME
) -> Origin | None:
    """Put the published weights ``name`` (a name of ``PUBLISHED``) into the cache folder.

    With ``folder`` the file is taken from there and the network is not used. ``None`` means that
    the weights were there already. ``runtime.progress`` gets the megabytes.

    Raises ``UsageError`` for an unknown name, ``MissingExtra``, ``NotFound`` if the file is not in
    ``folder``, ``DownloadFailed``, ``NoRoom``, and ``UnsafeWeights`` for a file with another size
    or sha256 than the hub states, or that is not what it should be. Such a download is deleted.
    """
    require_runtime(runtime)
    if name not in PUBLISHED:
        raise UsageError(f"weights {name!r}: choose {', '.join(PUBLISHED)}")
    weights = PUBLISHED[name]
    if weights.here:
        return None
    if name not in CONVERTERS:
        import_extra("torch", f"reading {weights.file}", "torch")  # before a long download
    if folder is not None:
        source = path_of(folder) / weights.file
        if not is_file(source):
            raise NotFound(source, "no such file", f"put it there: {weights.source}")
        origin = Origin(str(source), source.stat().st_size, file_sha256(source))
        _convert(weights, source, origin, runtime.progress)
        return origin
    hub = _Hub.of(weights)
    with hub.quiet(), _alone(hub.library, weights):
        return None if weights.here else _download(hub, runtime.progress)


def _download(hub: _Hub, progress: Progress) -> Origin:
    """Fetch, check and convert the file; delete it if it is not what the hub states."""
    weights, origin = hub.weights, hub.look_up()
    folder = cache_folder() / f"{weights.name}-{origin.sha256[:12]}.part"
    for other in cache_folder().glob(f"{weights.name}-*.part"):
        if other != folder:  # of an earlier revision
            shutil.rmtree(other, ignore_errors=True)
    path = folder / weights.file
    with _no_room(folder):
        folder.mkdir(parents=True, exist_ok=True)
    hub.fetch(origin, path, progress)
    try:
        if (digest := file_sha256(path)) != origin.sha256:
            why = f"its sha256 is {digest}, and the hub states {origin.sha256}"
            raise UnsafeWeights(path, why, "it was deleted; download it again")
        _convert(weights, path, origin, progress)
    except Damaged:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    return origin


def _convert(weights: Published, source: Path, origin: Origin, progress: Progress) -> None:
    """Write the weights in ``source`` into the cache folder."""
    progress("conversion", 0, 1)
    if converter := CONVERTERS.get(weights.name):
        converter(source, weights.path)
    else:
        _import(weights, source, origin)
    progress("conversion", 1, 1)


def _import(weights: Published, source: Path, origin: Origin) -> None:
    from placerec.models.checkpoints import import_checkpoint
    from placerec.models.model_file import save_model

    model = import_checkpoint(
        source, name=weights.name, training_data=weights.training_data, licence=weights.licence
    )
    revision = f"revision {origin.revision}" if origin.revision else "revision not stated"
    provenance = f"imported from {weights.source}, {revision}, sha256 {origin.sha256}"
    save_model(replace(model, provenance=provenance), weights.path)


@dataclass(frozen=True, slots=True)
class _Hub:
    """The hub of ``weights``, by the hub's own ``library`` and its HTTP ``client``."""

    library: Any
    client: Any
    weights: Published

    @classmethod
    def of(cls, weights: Published) -> _Hub:
        what = "downloading weights"
        import_extra("huggingface_hub.file_download", what, "download")
        library = import_extra("huggingface_hub", what, "download")
        return cls(library, import_extra("httpx2", what, "download"), weights)

    def look_up(self) -> Origin:
        """Return what the hub states of the file; ``source`` is its address at this revision."""
        repository, file = self.weights.repository, self.weights.file
        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
        url = self.library.hf_hub_url(repository, file, endpoint=endpoint)
        with self._typed(url):
            stated = self.library.get_hf_file_metadata(url, headers=HEADERS, endpoint=endpoint)
        revision, size, sha256 = stated.commit_hash, stated.size, stated.etag or ""
        if not revision:
            raise self._failed(url, "not the answer of a hub (perhaps the page of a proxy)")
        if not size or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise self._failed(url, "the hub states no size and sha256 of this file")
        url = self.library.hf_hub_url(repository, file, revision=revision, endpoint=endpoint)
        return Origin(url, size, sha256, revision)

    def fetch(self, origin: Origin, path: Path, progress: Progress) -> None:
        """Bring the file at ``path`` to its full size, in as many requests as it needs.

        A request that brings no byte ends this; what came before it stays for the next call.
        """
        have, size = _size(path), origin.size
        if (free := shutil.disk_usage(path.parent).free) < size - have:
            needed = f"{(size - have) / MEGABYTE:.1f} MB needed, {free / MEGABYTE:.1f} MB free"
            raise NoRoom(path.parent, needed)
        while have < size:
            before, broken = have, None
            try:
                with self._typed(origin.source):
                    self._receive(origin, path, have, progress)
            except DownloadFailed as error:
                broken = error
            if (have := _size(path)) <= before:
                what = f"the transfer stopped at {have} of {size} bytes"
                raise broken or self._failed(origin.source, what, AGAIN)

    def _receive(self, origin: Origin, path: Path, have: int, progress: Progress) -> None:
        """Write the rest of the file, of which ``have`` bytes are there, as far as it comes."""
        headers = self.library.utils.build_hf_headers(headers=HEADERS)
        if have:
            headers["range"] = f"bytes={have}-"
        seconds = self.library.constants.HF_HUB_DOWNLOAD_TIMEOUT
        session = self.library.utils.get_session()
        with session.stream("GET", origin.source, headers=headers, timeout=seconds) as answer:
            self.library.utils.hf_raise_for_status(answer)
            if answer.headers.get("content-type", "").startswith("text/html"):
                raise self._failed(origin.source, "a web page came in place of the file")
            goes_on = answer.status_code == 206  # else the file comes from its beginning
            have = have if goes_on else 0
            with _no_room(path), path.open("ab" if goes_on else "wb") as file:
                for block in answer.iter_bytes():
                    have += file.write(block[: origin.size - have])
                    progress(f"{self.weights.name}, MB", have // MEGABYTE, origin.size // MEGABYTE)
                    if have >= origin.size:
                        return

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Turn off the log and the telemetry of the library; the errors here say all."""
        logger, constants = logging.getLogger("huggingface_hub"), self.library.constants
        level, telemetry = logger.level, constants.HF_HUB_DISABLE_TELEMETRY
        logger.setLevel(logging.CRITICAL)
        constants.HF_HUB_DISABLE_TELEMETRY = True
        try:
            yield
        finally:
            logger.setLevel(level)
            constants.HF_HUB_DISABLE_TELEMETRY = telemetry

    @contextmanager
    def _typed(self, url: str) -> Iterator[None]:
        """Turn the errors of the library and of its client into ``DownloadFailed``."""
        offline = self.library.errors.OfflineModeIsEnabled
        try:
            yield
        except (self.client.HTTPError, self.client.InvalidURL, offline) as error:
            raise self._failed(url, *self._reason(error)) from error

    def _reason(self, error: Exception) -> tuple[str, str]:
        """Say what went wrong, and what to do."""
        if isinstance(error, self.library.errors.OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set, so nothing is downloaded", "unset it"
        if isinstance(error, self.library.errors.HfHubHTTPError):
            code = error.response.status_code
            what, remedy = HTTP.get(code, ("the server has an error", "try again later"))
            return f"{what} (HTTP {code})", remedy
        if isinstance(error, self.client.TimeoutException):
            return "no answer in time", AGAIN
        if isinstance(error, (self.client.InvalidURL, self.client.UnsupportedProtocol)):
            return f"not an address ({error!s:.160})", "check HF_ENDPOINT"
        causes = list(_causes(error))
        for kind, what in UNREACHABLE.items():
            if any(isinstance(cause, kind) for cause in causes):
                return f"{what} ({error!s:.160})", CHECK
        return f"the transfer failed ({error!s:.160})", AGAIN

    def _failed(self, url: str, what: str, remedy: str = CHECK) -> DownloadFailed:
        elsewhere = f"download {self.weights.file} on another machine and give its folder"
        return DownloadFailed(url, what, f"{remedy}, or {elsewhere}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _size(path: Path) -> int:
    return path.stat().st_size if is_file(path) else 0


@contextmanager
def _no_room(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoRoom(path, error) from error


@contextmanager
def _alone(library: Any, weights: Published) -> Iterator[None]:
    """Wait until no other process downloads these weights."""
    lock = cache_folder() / f"{weights.name}.lock"
    with _no_room(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with library.utils.WeakFileLock(lock):
        try:
            yield
        finally:  # the last act of the one who holds the lock; a waiting process makes a new one
            with suppress(OSError):
                lock.unlink()
