"""What a method answered: the first of the two phases, kept in one file a run.

``predictions.jsonl``: the first line is the header (what was asked of what by which method), each
further line is one query's ``Prediction``, or says when the answers to one search began or ended.
Lines are only ever added, so a killed run goes on behind the last whole line. Lines hold the
seconds that their search has taken so far, in all sessions. Scores are computed from this file
alone (``scoring``).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from placerec.errors import BadTable, NoRoom, NotFound, UsageError

Ranking = tuple[tuple[str, float], ...]  # database photos by name, best first, each with its score
MOST_TOLD = 3  # differences that an error lists


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one query.

    ``retrieved`` is the global ranking (scores: cosine), ``reranked`` the final one (``None`` for a
    method that only retrieves). ``milliseconds`` are wall-clock, by stage: ``encode`` (file to
    descriptors), ``search``, ``rerank``. ``error`` says why a photo could not be used; then there
    is no ranking, and the query counts as not found.
    """

    search: str
    query: str
    retrieved: Ranking = field(repr=False)
    reranked: Ranking | None = field(default=None, repr=False)
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


class PredictionFile:
    """The predictions of a run, in memory and, with a path, on disk.

    ``begun`` and ``ended`` say of each search what answers it, and what that took; ``spent`` holds
    the seconds of each that are known of all sessions.
    """

    def __init__(self, header: Mapping[str, Any], path: Path | None = None) -> None:
        """Start a file, or go on with the one at ``path``, whose header must be the same."""
        self.header = json.loads(json.dumps(header))
        self.predictions: dict[tuple[str, str], Prediction] = {}
        self.begun: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.spent: dict[str, float] = {}
        self._file: BinaryIO | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            _alone(self._file, path)
            length = self._go_on(path)
            self._file.truncate(length)
        except OSError as error:
            self.close()
            raise NoRoom(path, error.strerror or str(error)) from error
        except Exception:
            self.close()
            raise
        if not length:
            self._write({"header": self.header})

    @property
    def key(self) -> str:
        """Of the header: what belongs to another run has another one."""
        told = json.dumps(self.header, sort_keys=True)
        return hashlib.sha256(told.encode("ascii")).hexdigest()[:16]

    def begin(self, search: str, facts: Mapping[str, Any], seconds: float = 0.0) -> None:
        """Note what answers the queries of ``search``; other facts than before are refused."""
        known = self.begun.get(search)
        if known is None:
            self.begun[search] = dict(facts)
            self._write({"begun": search, "facts": facts, "seconds": seconds})
        elif known != facts:
            told = "; ".join(_differences(known, facts))
            raise UsageError(
                f"{search}: not what this run began with ({told}); choose another --out"
            )

    def add(self, prediction: Prediction, seconds: float | None = None) -> None:
        """Keep the answer to one query, as it reads back; ``seconds`` its search took so far."""
        line = _as_json(prediction)
        self.predictions[prediction.search, prediction.query] = _from_json(line)
        self._write(line if seconds is None else line | {"seconds": round(seconds, 3)})

    def pause(self, search: str, seconds: float) -> None:
        """Note what ``search`` took so far, before it is ended."""
        self._write({"paused": search, "seconds": seconds})

    def end(self, search: str, facts: Mapping[str, Any]) -> None:
        """Note that all queries of ``search`` are answered, and what that took."""
        self.ended[search] = dict(facts)
        self._write({"ended": search, "facts": facts})

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _go_on(self, path: Path) -> int:
        """Read what is there; returns the length in bytes of its whole lines."""
        length = 0
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                break  # a killed run was writing it
            try:
                self._take(json.loads(line), path)
            except (ValueError, KeyError, TypeError) as error:
                raise BadTable(path, number, f"not a line of a run ({error})") from error
            length += len(line)
        return length

    def _take(self, line: dict[str, Any], path: Path) -> None:
        if "header" in line:
            self._check(line["header"], path)
        elif "begun" in line:
            self.begun[line["begun"]] = line["facts"]
            self.spent[line["begun"]] = line.get("seconds", 0.0)
        elif "paused" in line:
            self.spent[line["paused"]] = line["seconds"]
        elif "ended" in line:
            self.ended[line["ended"]] = line["facts"]
            self.spent[line["ended"]] = line["facts"]["seconds"]
        else:
            one = _from_json(line)
            self.predictions[one.search, one.query] = one
            if "seconds" in line:
                self.spent[one.search] = line["seconds"]

    def _check(self, header: dict[str, Any], path: Path) -> None:
        """Refuse to go on with a run of another header."""
        if header == self.header:
            return
        changed = [k for k in {**header, **self.header} if header.get(k) != self.header.get(k)]
        if "format" in changed:
            changed = ["format"]  # of which the rest follows
        pairs = ((k, header.get(k), self.header.get(k)) for k in changed)
        told = [one for name, then, now in pairs for one in _differences(then, now, name)]
        more = ", ..." if len(told) > MOST_TOLD else ""
        raise UsageError(
            f"{path}: made with another {', '.join(changed)} ({'; '.join(told[:MOST_TOLD])}{more})"
            "; choose another --out, or delete this folder"
        )

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line).encode("ascii") + b"\n")
            self._file.flush()
        except OSError as error:
            raise NoRoom(self._file.name, error.strerror or str(error)) from error


def read_predictions(path: Path) -> PredictionFile:
    """The predictions of a finished or unfinished run."""
    if not path.is_file():
        raise NotFound(path, "no such run", "placerec evaluate DATASET --out DIR makes one")
    with path.open("rb") as file:
        first = file.readline()
    try:
        header = json.loads(first)["header"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadTable(path, 1, f"not the header of a run ({error})") from error
    found = PredictionFile(header)
    found._go_on(path)
    return found


def _alone(file: BinaryIO, path: Path) -> None:
    """Refuse to write what another process writes; the lock ends with the process, however."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UsageError(
            f"{path}: another process is writing this run; wait for it, or choose another --out"
        ) from error


def _differences(then: Any, now: Any, name: str = "") -> Iterator[str]:
    """What differs between two objects of JSON: ``method model: a.onnx, now b.onnx``."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in {**then, **now}:
            if then.get(key) != now.get(key):
                yield from _differences(then.get(key), now.get(key), f"{name} {key}".strip())
    else:
        yield f"{name}: {_brief(then)}, now {_brief(now)}"


def _brief(value: Any) -> str:
    """A value as an error shows it; of a sha256 the first 12 digits."""
    if isinstance(value, list):
        return ", ".join(map(_brief, value)) or "none"
    told = "none" if value is None else str(value)
    if len(told) == 64 and not set(told) - set("0123456789abcdef"):
        return told[:12]
    return told if len(told) <= 60 else f"{told[:57]}..."


def _as_json(one: Prediction) -> dict[str, Any]:
    return {
        "search": one.search, "query": one.query,
        "retrieved": _short(one.retrieved),
        "reranked": None if one.reranked is None else _short(one.reranked),
        "milliseconds": {stage: round(ms, 3) for stage, ms in one.milliseconds.items()},
        "error": one.error,
    }  # fmt: skip


def _short(ranking: Ranking) -> list[list[Any]]:
    """Scores to 7 digits: what float32 holds; null for one that another program did not give."""
    return [
        [name, float(f"{score:.7g}") if math.isfinite(score) else None] for name, score in ranking
    ]


def _from_json(line: Mapping[str, Any]) -> Prediction:
    def ranking(items: Any) -> Ranking:
        return tuple(
            (str(name), math.nan if score is None else float(score)) for name, score in items
        )

    reranked = line["reranked"]
    return Prediction(
        line["search"], line["query"], ranking(line["retrieved"]),
        None if reranked is None else ranking(reranked), line["milliseconds"], line["error"],
    )  # fmt: skip
