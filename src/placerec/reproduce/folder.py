"""The result folder of a table: a run resumes in it, and never mixes two tables.

``NAME.json`` stores what the table depends on: parameters, versions, and the query list, database
and model of each data set. It also lists the numbers of threads, which may change. The file is
written with the first stored rows. From then on a run with other values is refused. ``cache`` holds
everything that takes long to compute, under names that identify the content.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from placerec.errors import UsageError
from placerec.evaluation.predictions import changed_values
from placerec.evaluation.run import versions
from placerec.files import write_text, writing
from placerec.settings import Size

Row = dict[str, Any]
TextRow = dict[str, str]  # a row as written


class ResultFolder:
    """The files of the table ``name`` in the folder ``out``."""

    def __init__(
        self, out: Path, name: str, options: dict[str, object], sets: list[str], threads: int = 1
    ) -> None:
        self.path, self.name, self._threads = out, name, threads
        self.cache = out / "cache"
        with writing(out):
            self.cache.mkdir(parents=True, exist_ok=True)
        facts = {"table": name, "options": options, "versions": versions(), "threads": [],
                 "data sets": sets, "sets": {}}  # fmt: skip
        self._facts: dict[str, Any] = json.loads(json.dumps(facts))
        if self._json.is_file():
            stored = json.loads(self._json.read_text(encoding="utf-8"))
            for key in ("table", "options", "versions", "data sets"):
                self._check_same(key, stored.get(key), self._facts[key])
            self._facts = stored

    @property
    def csv(self) -> Path:
        """The file of the table."""
        return self.path / f"{self.name}.csv"

    @property
    def _json(self) -> Path:
        return self.path / f"{self.name}.json"

    def remember_set(self, set_name: str, **facts: object) -> None:
        """Store facts of a data set; raise ``UsageError`` if one differs from a stored fact."""
        stored = self._facts["sets"].setdefault(set_name, {})
        for key, value in facts.items():
            self._check_same(f"{key} of {set_name}", stored.setdefault(key, value), value)

    def once(self, key: str, compute: Callable[[], list[Row]]) -> list[Row]:
        """Return the rows of ``compute``, which is called only if no run has stored them yet."""
        path = self.cache / self.name / f"{file_name(key)}.json"
        if not path.is_file():
            rows = compute()
            if self._threads not in self._facts["threads"]:
                self._facts["threads"].append(self._threads)
            write_text(self._json, json.dumps(self._facts, indent=2) + "\n")
            write_text(path, json.dumps(rows))
        stored: list[Row] = json.loads(path.read_text(encoding="utf-8"))
        return stored

    def write(
        self, columns: Sequence[str], rows: list[Row], notes: Callable[[list[TextRow]], list[str]]
    ) -> None:
        """Write ``NAME.csv`` and, from its rows, ``NAME.md`` with ``notes`` below the table."""
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(row.get(key)) for key in columns} for row in rows)
        write_text(self.csv, text.getvalue())
        written = self.rows()
        cells = [columns, ["---"] * len(columns)]
        cells += [[row[key] or "-" for key in columns] for row in written]
        table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
        below = "\n".join(f"- {note}" for note in [*notes(written), *self._training_notes()])
        write_text(self.path / f"{self.name}.md", f"# {self.name}\n\n{table}\n\n{below}\n")

    def rows(self) -> list[TextRow]:
        """Return the rows of the written table; every value is text."""
        with self.csv.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _training_notes(self) -> list[str]:
        """On which photos the models of each data set were fitted."""
        lines = [
            f"{set_name}: {value}."
            for set_name, facts in self._facts["sets"].items()
            for key, value in facts.items()
            if key.startswith("training")
        ]
        return list(dict.fromkeys(lines))

    def _check_same(self, what: str, stored: object, value: object) -> None:
        changes = "; ".join(changed_values(stored, value, what))
        if changes:
            raise UsageError(
                f"{self._json}: this folder holds {self.name} with other values ({changes}); "
                f"choose another output folder, or the stored values"
            )


def digest(items: Iterable[str]) -> str:
    """Return 12 hex digits that identify a list of texts."""
    text = "\n".join(items).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:12]


def file_name(text: str) -> str:
    """Return ``text`` as a file name: other characters become underscores."""
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in text)


def size_label(sizes: Sequence[Size]) -> str:
    """Return ``2,5,8`` or ``2x5``: one number for a square patch size."""
    return ",".join(str(h) if h == w else f"{h}x{w}" for h, w in sizes)


def _cell(value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
