"""What a method answered: the first of the two phases, kept in one file a run.

``predictions.jsonl``: the first line is the header (what was asked of what by which method), each
further line is one query's ``Prediction``. Lines are only ever added, so a killed run goes on
behind the last whole line. Scores are computed from this file alone (``scoring``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from placerec.errors import BadTable, NoRoom, NotFound, UsageError

Ranking = tuple[tuple[str, float], ...]  # database photos by name, best first, each with its score


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

    ``begun`` and ``ended`` say of each search what answers it, and what that took.
    """

    def __init__(self, header: Mapping[str, Any], path: Path | None = None) -> None:
        """Start a file, or go on with the one at ``path``, whose header must be the same."""
        self.header = json.loads(json.dumps(header))
        self.predictions: dict[tuple[str, str], Prediction] = {}
        self.begun: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self._file: BinaryIO | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            length = self._go_on(path) if path.exists() else 0
            self._file = path.open("r+b" if length else "wb")
            self._file.truncate(length)
            self._file.seek(length)
        except OSError as error:
            raise NoRoom(path, error.strerror or str(error)) from error
        if not length:
            self._write({"header": self.header})

    def begin(self, search: str, facts: Mapping[str, Any]) -> None:
        """Note what answers the queries of ``search``; other facts than before are refused."""
        if search in self.begun and self.begun[search] != facts:
            changed = [key for key, value in facts.items() if self.begun[search].get(key) != value]
            raise UsageError(
                f"{', '.join(changed)}: not what this run began with; choose another --out"
            )
        if search not in self.begun:
            self.begun[search] = dict(facts)
            self._write({"begun": search, "facts": facts})

    def add(self, prediction: Prediction) -> None:
        """Keep the answer to one query, as it reads back."""
        line = _as_json(prediction)
        self.predictions[prediction.search, prediction.query] = _from_json(line)
        self._write(line)

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
            if line["header"] != self.header:
                changed = [k for k in self.header if line["header"].get(k) != self.header[k]]
                raise UsageError(
                    f"{path}: made with another {', '.join(changed)}; choose another --out, or "
                    f"delete this folder"
                )
        elif "begun" in line:
            self.begun[line["begun"]] = line["facts"]
        elif "ended" in line:
            self.ended[line["ended"]] = line["facts"]
        else:
            one = _from_json(line)
            self.predictions[one.search, one.query] = one

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
