"""Read text files that name photos: positions, ground truth, queries, tables of a data set.

Files are UTF-8; a byte order mark is ignored. A table is comma-separated. Its columns may have any
order; other columns are ignored, and so are blanks around a cell. Undecodable bytes in names are
kept as surrogates, as ``find`` does. An invalid row raises ``BadTable`` with its line.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from placerec.errors import BadTable, NotFound

BLANKS = " \t"  # only these: a name may begin or end with another space character


def read_table(
    path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row with its line number; every row has all ``columns``, which may be empty.

    A column of ``optional`` may be missing, but must not appear twice.
    """
    rows = _rows(path, ", ".join(columns))
    _, header = next(rows, (1, []))
    wrong = [name for name in columns if header.count(name) != 1]
    wrong += [name for name in optional if header.count(name) > 1]
    if wrong:
        reason = f"the header, separated by commas, needs one {', '.join(wrong)}"
        raise BadTable(path, 1, reason)
    for line, values in rows:
        if values in ([], [""]):
            continue  # an empty line
        if len(values) != len(header):
            reason = f"{len(values)} values for {len(header)} columns (a decimal comma?)"
            raise BadTable(path, line, reason)
        yield line, dict(zip(header, values, strict=True))


def read_header(path: Path, columns: str) -> list[str]:
    """Return the column names of a table, for tables that have several forms.

    ``columns`` names the expected columns in the message for a missing file.
    """
    return next(_rows(path, columns), (1, []))[1]


def _rows(path: Path, columns: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each row, the header included."""
    with _open(path, f"a CSV file with the columns {columns}", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            for values in reader:
                yield reader.line_num, [value.strip(BLANKS) for value in values]
        except csv.Error as error:
            raise BadTable(path, reader.line_num, f"not a CSV row ({error})") from error


def finite(value: Any) -> float | None:
    """Return ``value`` as a finite number, or ``None`` if it is not one."""
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None


def number_in(
    path: Path, line: int, row: Mapping[str, str], column: str, limit: float = math.inf
) -> float:
    """Return the finite number in ``column``, from ``-limit`` to ``limit``."""
    number = finite(row[column])
    if number is None or abs(number) > limit:
        expected = "a number" if limit == math.inf else f"a number from {-limit:g} to {limit:g}"
        raise BadTable(path, line, f"{column} is {row[column]!r}, not {expected}")
    return number


def read_lines(path: Path, form: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers, without blank lines and ``#`` comments.

    ``form`` describes the file in the message for a missing file.
    """
    with _open(path, form) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip() and not line.startswith("#"):
                yield number, line.strip()


def numbers_in(path: Path, line: int, texts: Sequence[str | float], count: int) -> list[float]:
    """Return ``texts`` as ``count`` finite numbers, or raise ``BadTable``."""
    numbers = [number for number in map(finite, texts) if number is not None]
    if len(texts) != count or len(numbers) != count:
        given = " ".join(map(str, texts))
        raise BadTable(path, line, f"needs {count} finite numbers, not {given!r:.200}")
    return numbers


def _open(path: Path, form: str, newline: str | None = None) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        problem = "no such file" if missing else f"cannot be read ({error.strerror})"
        raise NotFound(path, problem, f"{form} is needed") from error
