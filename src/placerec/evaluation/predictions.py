"""The predictions of a method: the first phase of an evaluation, one file per run.

The first line of ``predictions.jsonl`` is the header: the data set, the protocol and the method.
Each further line is the ``Prediction`` of one query, or says that a search began, paused or ended.
Lines are only appended, so a killed run resumes after the last complete line. A line has the
seconds that its search has taken so far, over all starts of the run. Scores are computed from this
file alone (``scoring``).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from placerec.errors import BadTable, NoRoom, NotFound, UsageError
from placerec.files import writing

Ranking = tuple[tuple[str, float], ...]  # names of database photos, best first, with their scores
MAX_DIFFERENCES = 3  # in an error message
FOREIGN = "/foreign/"  # no query of a data set begins with a slash


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one query.

    ``retrieved`` is the global ranking (scores: cosine). ``reranked`` is the final one, or ``None``
    if the method only retrieves. ``milliseconds`` are wall-clock times by stage: ``encode`` (file
    to descriptors), ``search``, ``rerank``. ``error`` says why a photo cannot be read; then there
    is no ranking, and the query counts as not found. ``confidence`` is the probability that the
    first place of the final ranking is right, and ``in_map`` whether the query shows a place of the
    map; ``None`` without a calibration. The query of a foreign photo begins with ``FOREIGN``.
    """

    search: str
    query: str
    retrieved: Ranking = field(repr=False)
    reranked: Ranking | None = field(default=None, repr=False)
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    confidence: float | None = None
    in_map: bool | None = None

    @property
    def final(self) -> Ranking:
        """The final ranking of the method."""
        return self.retrieved if self.reranked is None else self.reranked


class PredictionFile(AbstractContextManager["PredictionFile"]):
    """The predictions of a run, in memory and, with a path, on disk.

    ``predictions`` are the answers to the queries of the data set, and ``foreign`` those to foreign
    photos, by the names of search and query.

    All of these are by the name of the search: ``begun`` says what answers it, ``ended`` what that
    took, and ``spent`` is the known number of seconds over all starts of the run.
    """

    def __init__(self, header: Mapping[str, Any], path: Path | None = None) -> None:
        """Start a file, or resume the one at ``path``, which must have the same header."""
        self.header = json.loads(json.dumps(header))
        self.predictions: dict[tuple[str, str], Prediction] = {}
        self.foreign: dict[tuple[str, str], Prediction] = {}
        self.begun: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.spent: dict[str, float] = {}
        self._file: BinaryIO | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            _lock(self._file, path)
            length = self._read(path)
            self._file.truncate(length)
        except OSError as error:
            self.close()
            raise NoRoom(path, error) from error
        except Exception:
            self.close()
            raise
        if not length:
            self._append({"header": self.header})

    @property
    def key(self) -> str:
        """A digest of the header, which distinguishes what belongs to different runs."""
        text = json.dumps(self.header, sort_keys=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]

    def begin(self, search: str, facts: Mapping[str, Any], seconds: float = 0.0) -> None:
        """Record what answers the queries of ``search``; it must be the same at every start."""
        recorded = self.begun.get(search)
        if recorded is None:
            self._append({"begun": search, "facts": dict(facts), "seconds": seconds})
        elif recorded != facts:
            changes = "; ".join(changed_values(recorded, facts))
            raise UsageError(
                f"{search}: not what this run began with ({changes}); choose another output folder"
            )

    def add(self, prediction: Prediction, seconds: float | None = None) -> None:
        """Store the answer to one query; ``seconds`` is what its search has taken so far."""
        line = _as_json(prediction)
        self._append(line if seconds is None else line | {"seconds": round(seconds, 3)})

    def pause(self, search: str, seconds: float) -> None:
        """Record what ``search`` has taken so far, because the process is about to end."""
        self._append({"paused": search, "seconds": seconds})

    def end(self, search: str, facts: Mapping[str, Any]) -> None:
        """Record that all queries of ``search`` are answered, and what that took."""
        self._append({"ended": search, "facts": dict(facts)})

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, path: Path) -> int:
        """Read the complete lines, and return their length in bytes."""
        length = 0
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                break  # the run was killed while it wrote this line
            try:
                values = json.loads(line)
                if "header" in values:
                    _check_header(values["header"], self.header, path)
                self._apply(values)
            except (ValueError, KeyError, TypeError) as error:
                raise BadTable(path, number, f"not a line of a run ({error})") from error
            length += len(line)
        return length

    def _apply(self, line: Mapping[str, Any]) -> None:
        """Update the attributes with the content of one line."""
        if "begun" in line:
            self.begun[line["begun"]] = line["facts"]
            self.spent[line["begun"]] = line["seconds"]
        elif "paused" in line:
            self.spent[line["paused"]] = line["seconds"]
        elif "ended" in line:
            self.ended[line["ended"]] = line["facts"]
            self.spent[line["ended"]] = line["facts"]["seconds"]
        elif "header" not in line:
            prediction = _from_json(line)
            is_foreign = prediction.query.startswith(FOREIGN)
            answers = self.foreign if is_foreign else self.predictions
            answers[prediction.search, prediction.query] = prediction
            if "seconds" in line:
                self.spent[prediction.search] = line["seconds"]

    def _append(self, line: Mapping[str, Any]) -> None:
        self._apply(line)
        if self._file is None:
            return
        with writing(self._file.name):
            self._file.write(json.dumps(line).encode("ascii") + b"\n")
            self._file.flush()


def read_predictions(path: str | Path) -> PredictionFile:
    """Return the predictions of a finished or unfinished run."""
    path = Path(path)
    if not path.is_file():
        raise NotFound(path, "no such run", "give the output folder of placerec evaluate")
    with path.open("rb") as file:
        first = file.readline()
    try:
        header = json.loads(first)["header"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadTable(path, 1, f"not the header of a run ({error})") from error
    run = PredictionFile(header)
    run._read(path)
    return run


def _check_header(recorded: dict[str, Any], header: dict[str, Any], path: Path) -> None:
    """Raise ``UsageError`` if the run at ``path`` was started with another header."""
    keys = [key for key in {**recorded, **header} if recorded.get(key) != header.get(key)]
    if "format" in keys:
        keys = ["format"]  # the other differences follow from it
    differences = [
        text for key in keys for text in changed_values(recorded.get(key), header.get(key), key)
    ]
    if differences:
        more = ", ..." if len(differences) > MAX_DIFFERENCES else ""
        raise UsageError(
            f"{path}: made with another {', '.join(keys)} "
            f"({'; '.join(differences[:MAX_DIFFERENCES])}{more}); choose another output folder, "
            f"or delete this one"
        )


def _lock(file: BinaryIO, path: Path) -> None:
    """Raise ``UsageError`` if another process writes the file; the lock ends with the process."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UsageError(
            f"{path}: another process is writing this run; wait for it, or choose another output "
            f"folder"
        ) from error


def changed_values(recorded: Any, value: Any, name: str = "") -> Iterator[str]:
    """Yield what differs in two JSON values, such as ``method model: a.onnx, now b.onnx``."""
    if isinstance(recorded, Mapping) and isinstance(value, Mapping):
        for key in {**recorded, **value}:
            yield from changed_values(recorded.get(key), value.get(key), f"{name} {key}".strip())
    elif recorded != value:
        yield f"{name}: {_brief(recorded)}, now {_brief(value)}"


def _brief(value: Any) -> str:
    """Return a value as an error message shows it; a sha256 is cut to 12 digits."""
    if isinstance(value, list):
        return ", ".join(map(_brief, value)) or "none"
    text = "none" if value is None else str(value)
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= 60 else f"{text[:57]}..."


def _as_json(prediction: Prediction) -> dict[str, Any]:
    reranked = prediction.reranked
    return {
        **asdict(prediction),
        "retrieved": _short(prediction.retrieved),
        "reranked": None if reranked is None else _short(reranked),
        "milliseconds": {stage: round(ms, 3) for stage, ms in prediction.milliseconds.items()},
        "confidence": _number(prediction.confidence),
    }


def _short(ranking: Ranking) -> list[list[Any]]:
    return [[name, _number(score)] for name, score in ranking]


def _number(value: float | None) -> float | None:
    """Return a number with 7 digits, the precision of float32; null if it is not known."""
    return float(f"{value:.7g}") if value is not None and math.isfinite(value) else None


def _from_json(line: Mapping[str, Any]) -> Prediction:
    def ranking(key: str) -> Ranking:
        return tuple(
            (str(name), math.nan if score is None else float(score)) for name, score in line[key]
        )

    reranked = None if line["reranked"] is None else ranking("reranked")
    labels = line["search"], line["query"]
    confidence, in_map = line.get("confidence"), line.get("in_map")  # formats 1 and 2 have none
    return Prediction(
        *labels, ranking("retrieved"), reranked, line["milliseconds"], line["error"],
        None if confidence is None else float(confidence), None if in_map is None else bool(in_map),
    )  # fmt: skip
