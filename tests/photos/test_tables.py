"""Tables: blanks, empty lines, headers."""

import math

import pytest

from placerec.errors import BadTable, NotFound
from placerec.photos.tables import number_in, read_header, read_lines, read_table


def written(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text, "utf-8")
    return path


def test_blanks_around_cells_and_blank_lines_are_ignored(tmp_path):
    path = written(tmp_path, " name ,\tx\n a b.jpg ,1 \n   \n\n\tc.jpg,  \n")
    assert list(read_table(path, ("name", "x"))) == [
        (2, {"name": "a b.jpg", "x": "1"}), (5, {"name": "c.jpg", "x": ""}),
    ]  # fmt: skip


def test_other_space_characters_are_part_of_a_name(tmp_path):
    path = written(tmp_path, "name\n\u3000a.jpg\u2028\n")
    assert list(read_table(path, ("name",))) == [(2, {"name": "\u3000a.jpg\u2028"})]


def test_a_header_is_read_and_errors_name_the_file(tmp_path):
    assert read_header(written(tmp_path, " a , b\n1,2,3\n"), "a, b") == ["a", "b"]
    assert read_header(written(tmp_path, ""), "a, b") == []
    with pytest.raises(BadTable, match=r"table\.csv, line 1: not a CSV row"):
        read_header(written(tmp_path, "x" * 200_000), "a, b")
    with pytest.raises(NotFound, match="the columns a, b"):
        read_header(tmp_path / "none.csv", "a, b")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_header_shows_the_separator_and_may_have_capital_letters(tmp_path, separator):
    text = f'Name{separator} X \n"a{separator}b.jpg"{separator}1\n'
    assert list(read_table(written(tmp_path, text), ("name", "x"))) == [
        (2, {"name": f"a{separator}b.jpg", "x": "1"})
    ]
    assert read_header(written(tmp_path, text), "name, x") == ["name", "x"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-16-le"])
def test_the_encodings_of_spreadsheets_are_read(tmp_path, encoding):
    path = tmp_path / "table.csv"
    mark = "\ufeff" if encoding[-2:] in ("be", "le") else ""
    path.write_bytes(f"{mark}name\tx\r\nstraße 🦊.jpg\t1\r\n".encode(encoding))
    assert list(read_table(path, ("name", "x"))) == [(2, {"name": "straße 🦊.jpg", "x": "1"})]
    path.write_bytes(f"{mark}# comment\r\nstraße.jpg\r\n".encode(encoding))
    assert list(read_lines(path, "names"))[-1] == (2, "straße.jpg")


def test_half_a_character_of_utf_16_is_an_error_with_its_line(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes("name\na.jpg\n".encode("utf-16") + b"x")
    for read in (lambda: list(read_table(path, ("name",))), lambda: list(read_lines(path, "n"))):
        with pytest.raises(BadTable, match=r"line \d.*truncated data"):
            read()


def test_a_name_of_a_column_that_stands_first_in_the_list_counts(tmp_path):
    path = written(tmp_path, "file,FILENAME,x\na,b,1\n")
    others = {"image": ("path", "filename", "file")}
    assert list(read_table(path, ("image",), other_names=others)) == [(2, {"image": "b"})]
    with pytest.raises(BadTable, match="line 1: the header needs one y or why; it is 'file,"):
        list(read_table(path, ("y",), other_names={"y": ("why",)}))


def test_rows_of_empty_cells_are_skipped(tmp_path):
    path = written(tmp_path, "name;x\n;\na;1\n ; \n")
    assert [line for line, _ in read_table(path, ("name", "x"))] == [3]


@pytest.mark.parametrize(
    ("text", "limit", "number"),
    [("52,2058", 90, 52.2058), ("-0,5", math.inf, -0.5), ("52,123", 90, 52.123),
     ("302412,5", math.inf, 302412.5), ("302,4125", math.inf, 302.4125), ("1e1", 90, 10)],
)  # fmt: skip
def test_a_decimal_comma_is_read(tmp_path, text, limit, number):
    assert number_in(tmp_path, 2, {"x": text}, "x", limit) == number


@pytest.mark.parametrize("text", ["302,412", "-1,000", "1,2,3", "1.000,5", ",5", "5,"])
def test_a_comma_that_may_mean_thousands_is_refused(tmp_path, text):
    with pytest.raises(BadTable, match=r"line 2: x is '.*', not a number"):
        number_in(tmp_path, 2, {"x": text}, "x")
