"""Tables and lists that name photos: positions, ground truth, queries, tables of a data set.

UTF-8 (a byte order mark is ignored); a table is comma-separated, its columns in any order, others
ignored, blanks around a cell too. Names keep undecodable bytes as surrogates, as ``find`` does.
Whatever does not fit raises ``BadTable`` with its line.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from placerec.errors import BadTable, NotFound

BLANKS = " \t"  # no others: a name may begin or end with an odd one


def read_table(
    path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row with its line number; every row has all ``columns``, which may be empty.

    A column of ``optional`` may be missing, but stands at most once.
    """
    with _opened(path, ", ".join(columns)) as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = _cells(next(reader, []))
            wrong = [name for name in columns if header.count(name) != 1]
            wrong += [name for name in optional if header.count(name) > 1]
            if wrong:
                why = f"the header, separated by commas, needs one {', '.join(wrong)}"
                raise BadTable(path, 1, why)
            for values in map(_cells, reader):
                if values in ([], [""]):
                    continue  # an empty line
                if len(values) != len(header):
                    why = f"{len(values)} values for {len(header)} columns (a decimal comma?)"
                    raise BadTable(path, reader.line_num, why)
                yield reader.line_num, dict(zip(header, values, strict=True))
        except csv.Error as error:
            raise BadTable(path, reader.line_num, f"not a CSV row ({error})") from error


def read_header(path: Path, columns: str) -> list[str]:
    """The names of a table's columns, for tables of which there are several forms.

    ``columns`` says which belong there, for who finds it missing.
    """
    with _opened(path, columns) as stream:
        try:
            return _cells(next(csv.reader(stream, strict=True), []))
        except csv.Error as error:
            raise BadTable(path, 1, f"not a CSV row ({error})") from error


def number_in(
    path: Path, line: int, row: Mapping[str, str], column: str, limit: float = math.inf
) -> float:
    """The finite number in ``column``, at most ``limit`` away from zero."""
    try:
        number = float(row[column])
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or abs(number) > limit:
        wanted = "a number" if limit == math.inf else f"a number from {-limit:g} to {limit:g}"
        raise BadTable(path, line, f"{column} is {row[column]!r}, not {wanted}")
    return number


def read_lines(path: Path, form: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers, without blank ones and ``#`` comments.

    ``form`` says in a few words what the file is, for who finds it missing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except FileNotFoundError as error:
        raise NotFound(path, "no such file", f"{form} belongs there") from error
    except OSError as error:
        raise NotFound(path, f"cannot be read ({error.strerror})", f"it is {form}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()


def numbers_in(path: Path, line: int, texts: Sequence[str], count: int) -> list[float]:
    """``count`` finite numbers, or ``BadTable``."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError as error:
        raise BadTable(path, line, f"not {count} numbers ({error})") from error
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise BadTable(path, line, f"needs {count} finite numbers")
    return numbers


def _opened(path: Path, columns: str) -> TextIO:
    expected = f"a CSV file with the columns {columns} belongs there"
    try:
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except FileNotFoundError as error:
        raise NotFound(path, "no such file", expected) from error
    except OSError as error:
        raise NotFound(path, f"cannot be read ({error.strerror})", expected) from error


def _cells(values: Sequence[str]) -> list[str]:
    return [value.strip(BLANKS) for value in values]
