"""Read text files that name photos: positions, ground truth, queries, tables of a data set.

Files are UTF-8, with or without a byte order mark, or UTF-16 with one, as spreadsheets write it. A
table is separated by commas, semicolons, tabs or blanks; a line ``sep=;`` above its header states
by which, or else the header shows it. Its columns may have any order; in their names, capital
letters, blanks, ``_``, ``-`` and a first ``#`` do not count. Other columns are ignored, and so are
blanks around a cell. Undecodable bytes in names are kept as surrogates, as ``find`` does. An
invalid row raises ``BadTable`` with its line.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from placerec.errors import BadTable, NotFound

BLANKS = " \t"  # only these: a name may begin or end with another space character
SEPARATORS = ",;\t"  # or a blank, in a header that has none of these
STATED_SEPARATOR = re.compile(r'"?sep=([,;\t|])"?\s*', re.IGNORECASE)  # as Excel takes it
OTHER_FILES = {  # what a file is that begins so
    "a spreadsheet or an archive": re.compile("PK\x03\x04"),
    "JSON": re.compile(r"\s*[\[{]"),
    "XML": re.compile(r"\s*<"),
    "NMEA": re.compile(r"\$G[A-Z]"),
    "not text": re.compile(".*\0", re.DOTALL),
}
LONGEST_HEADER = 1 << 17  # characters
UNDECODABLE = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8 (PEP 383)
NO_OTHER_NAMES: Mapping[str, Sequence[str]] = MappingProxyType({})
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}")


def read_table(
    path: Path,
    columns: tuple[str, ...],
    optional: tuple[str, ...] = (),
    other_names: Mapping[str, Sequence[str]] = NO_OTHER_NAMES,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row with its line number; every row has all ``columns``, which may be empty.

    A column of ``optional`` may be missing, but must not appear twice. ``other_names`` has more
    names of a column; if a table has several of them, the first one counts, the column's own name
    before all others.
    """
    rows = _rows(path, ", ".join(columns))
    start, header = next(rows, (1, []))
    names = [_plain(name) for name in header]
    places, wanted = {}, []
    for column in (*columns, *optional):
        accepted = [_plain(name) for name in (column, *other_names.get(column, ()))]
        name = next((name for name in accepted if name in names), accepted[0])
        if names.count(name) > 1 or (column in columns and name not in names):
            others = ", ".join(other_names.get(column, ()))
            wanted.append(f"one {column} (or {others})" if others else f"one {column}")
        elif name in names:
            places[column] = names.index(name)
    if wanted:
        raise BadTable(path, start, _header_fault(header, columns, wanted))
    for line, values in rows:
        if not any(values):
            continue  # an empty line
        if len(values) != len(header):
            counts = f"{len(values)} values for {len(header)} columns"
            raise BadTable(path, line, f"{counts} (a decimal comma, or another separator?)")
        yield line, {column: values[place] for column, place in places.items()}


def read_header(path: Path, columns: str) -> list[str]:
    """Return the plain column names of a table, for tables that have several forms.

    ``columns`` names the expected columns in the message for a missing file.
    """
    return [_plain(name) for name in next(_rows(path, columns), (1, []))[1]]


def _plain(column: str) -> str:
    """Return the name of a column in small letters, without blanks, ``_``, ``-``, a first ``#``."""
    return re.sub(r"^#|[\s_-]", "", column).lower()


def _rows(path: Path, columns: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each row, the header included."""
    with _open(path, f"a CSV file with the columns {columns}", newline="") as stream:
        line = 0
        try:
            line, header, separator = _start(stream)
            _refuse_other_files(path, header)
            above = line
            blanks = separator == " "  # any number of them separates
            reader = csv.reader(
                chain([header], stream), strict=True, delimiter=separator, skipinitialspace=blanks
            )
            for values in reader:
                line = above + reader.line_num
                yield line, [value.strip(BLANKS) for value in values]
        except (csv.Error, UnicodeError) as error:
            raise BadTable(path, line + 1, f"not a CSV row ({error})") from error


def _start(stream: TextIO) -> tuple[int, str, str]:
    """Read to the header; return the number of lines above it, its first line, the separator.

    The separator is stated above the header, or it is the one that makes the most columns.
    """
    header = stream.readline(LONGEST_HEADER)
    stated = STATED_SEPARATOR.fullmatch(header)
    if stated:
        header = stream.readline(LONGEST_HEADER)
    if len(header) == LONGEST_HEADER:
        raise csv.Error(f"a header of {LONGEST_HEADER} characters or more")

    def columns(separator: str) -> int:
        return len(next(csv.reader([header], delimiter=separator), []))

    best = max(SEPARATORS, key=columns)
    if columns(best) == 1 < columns(" "):
        best = " "
    return (1, header, stated[1]) if stated else (0, header, best)


def _refuse_other_files(path: Path, header: str) -> None:
    for kind, start in OTHER_FILES.items():
        if start.match(header):
            remedy = "save it as CSV UTF-8, or a track as GPX with the suffix .gpx"
            raise BadTable(path, 1, f"the file is {kind}; {remedy}")


def _header_fault(header: Sequence[str], columns: Sequence[str], wanted: Sequence[str]) -> str:
    """Return why a header is refused; ``wanted`` are the columns that it has not exactly once."""
    text = ",".join(header)
    if any(finite(name) is not None for name in header):
        example = ",".join(columns)
        reason = f"put a first line with a name for each column, such as {example}"
        return f"there is no header: {reason}; the file begins with {text!r:.200}{not_utf8(text)}"
    needs = " and ".join(wanted)
    return f"the header needs {needs}; it is {text or 'empty'!r:.200}{not_utf8(text)}"


def not_utf8(text: str) -> str:
    """Return what to do if ``text`` has bytes that are not UTF-8, or else nothing."""
    return " (not UTF-8: save the table as CSV UTF-8)" if UNDECODABLE.search(text) else ""


def bad_cell(path: Path, line: int, column: str, text: str, why: str) -> BadTable:
    """Return the error of a cell: ``why`` goes on after "latitude is '95', "."""
    return BadTable(path, line, f"{column} is {text!r}, {why}{not_utf8(text)}")


def finite(value: Any) -> float | None:
    """Return ``value`` as a finite number, or ``None`` if it is not one."""
    if isinstance(value, str) and "_" in value:
        return None  # a digit separator of Python
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None


def number_in(
    path: Path, line: int, row: Mapping[str, str], column: str, limit: float = math.inf
) -> float:
    """Return the finite number in ``column``, from ``-limit`` to ``limit``.

    A comma is a decimal comma, but not in a text such as "302,412" that may also mean thousands.
    """
    text = row[column]
    if DECIMAL_COMMA.fullmatch(text) and (limit < 1000 or not THOUSANDS.fullmatch(text)):
        text = text.replace(",", ".")
    number = finite(text)
    if number is None or abs(number) > limit:
        expected = "a number" if limit == math.inf else f"a number from {-limit:g} to {limit:g}"
        raise bad_cell(path, line, column, row[column], f"not {expected}")
    return number


def read_lines(path: Path, form: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers, without blank lines and ``#`` comments.

    ``form`` describes the file in the message for a missing file.
    """
    number = 0
    with _open(path, form) as stream:
        try:
            for number, line in enumerate(stream, start=1):
                if line.strip() and not line.startswith("#"):
                    yield number, line.strip()
        except UnicodeError as error:
            raise BadTable(path, number + 1, f"not a line of text ({error})") from error


def numbers_in(path: Path, line: int, texts: Sequence[str | float], count: int) -> list[float]:
    """Return ``texts`` as ``count`` finite numbers, or raise ``BadTable``."""
    numbers = [number for number in map(finite, texts) if number is not None]
    if len(texts) != count or len(numbers) != count:
        given = " ".join(map(str, texts))
        raise BadTable(path, line, f"needs {count} finite numbers, not {given!r:.200}")
    return numbers


def _open(path: Path, form: str, newline: str | None = None) -> TextIO:
    try:
        with path.open("rb") as stream:
            wide = stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        if wide:
            return path.open(encoding="utf-16", newline=newline)
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        problem = "no such file" if missing else f"cannot be read ({error.strerror})"
        raise NotFound(path, problem, f"{form} is needed") from error
