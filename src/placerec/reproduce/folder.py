"""The result folder of a table: resumable, never mixed, nothing half-written.

``NAME.json`` says what the table is of: options, versions, and for each set its query list,
database and model; and on how many threads it was made, which a later run may change. It is
written with the first rows that are kept; from then on a run with others is refused. Whatever took
long lies in ``cache``, under names that tell what it is of.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from placerec.errors import NoRoom, UsageError
from placerec.evaluation.machine import versions
from placerec.files import write_text

Row = dict[str, Any]


class ResultFolder:
    """The folder ``out`` as far as the table ``name`` is concerned."""

    def __init__(
        self,
        out: Path,
        name: str,
        options: dict[str, object],
        sets: list[str],
        threads: int = 1,
    ) -> None:
        self.path, self.name, self._threads = out, name, threads
        self.cache = out / "cache"
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NoRoom(out, error.strerror or str(error)) from error
        self._facts: dict[str, Any] = {
            "table": name, "options": json.loads(json.dumps(options)), "versions": versions(),
            "threads": [], "data sets": sets, "sets": {},
        }  # fmt: skip
        known = self._known()
        if known:
            for key in ("table", "options", "versions", "data sets"):
                self._same(key, known.get(key), self._facts[key])
            self._facts = known

    def remember_set(self, set_name: str, **facts: object) -> None:
        """Note what a set is (hashes); refuse one that has changed since."""
        known = self._facts["sets"].setdefault(set_name, {})
        for key, value in facts.items():
            self._same(f"{key} of {set_name}", known.setdefault(key, value), value)

    def told(self) -> list[str]:
        """What the models of each set were fitted on, as notes."""
        lines = [
            f"{set_name}: {value}."
            for set_name, facts in self._facts["sets"].items()
            for key, value in facts.items()
            if key.startswith("training")
        ]
        return list(dict.fromkeys(lines))

    def once(self, key: str, compute: Callable[[], list[Row]]) -> list[Row]:
        """The rows of ``compute``, which runs only where no earlier run has kept them."""
        path = self.cache / self.name / f"{file_name(key)}.json"
        if path.is_file():
            kept: list[Row] = json.loads(path.read_text(encoding="utf-8"))
            return kept
        rows = json.loads(json.dumps(compute()))
        if self._threads not in self._facts["threads"]:
            self._facts["threads"].append(self._threads)
        write_text(self._json, json.dumps(self._facts, indent=2) + "\n")
        write_text(path, json.dumps(rows))
        return list(rows)

    def write(
        self,
        columns: Sequence[str],
        rows: list[Row],
        notes: Callable[[list[dict[str, str]]], list[str]],
    ) -> None:
        """Write ``NAME.csv`` and, made from it, ``NAME.md`` with its ``notes`` below the table."""
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(row.get(key)) for key in columns} for row in rows)
        write_text(self.csv, text.getvalue())
        lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
        written = self.rows()
        lines += [" | ".join(row[key] or "-" for key in columns) for row in written]
        table = "\n".join(f"| {line} |" for line in lines)
        told = "\n".join(f"- {note}" for note in [*notes(written), *self.told()])
        write_text(self.path / f"{self.name}.md", f"# {self.name}\n\n{table}\n\n{told}\n")

    @property
    def csv(self) -> Path:
        """The table itself."""
        return self.path / f"{self.name}.csv"

    def rows(self) -> list[dict[str, str]]:
        """The rows of the table as written: every value as text."""
        with self.csv.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _same(self, what: str, was: object, now: object) -> None:
        if was == now:
            return
        parts = [f"{was} then, {now} now"]
        if isinstance(was, dict) and isinstance(now, dict):
            parts = [f"{k} {was.get(k)} then, {now.get(k)} now"
                     for k in {**was, **now} if was.get(k) != now.get(k)]  # fmt: skip
        raise UsageError(
            f"{self._json}: this folder has {self.name} with other {what} ({'; '.join(parts)}); "
            f"choose another --out, or the same as then"
        )

    @property
    def _json(self) -> Path:
        return self.path / f"{self.name}.json"

    def _known(self) -> dict[str, Any]:
        if not self._json.is_file():
            return {}
        known: dict[str, Any] = json.loads(self._json.read_text(encoding="utf-8"))
        older = known["options"].pop("threads", None)  # where folders had them at first
        known.setdefault("threads", [] if older is None else [older])
        return known


def digest(items: Iterable[str]) -> str:
    """12 hex digits that name a list of texts."""
    text = "\n".join(items).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:12]


def file_name(text: str) -> str:
    """``text`` as a file name."""
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in text)


def _cell(value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
