"""Tables: blanks, empty lines, headers, separators."""

import math
import re

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


def test_the_error_of_a_header_names_all_missing_and_repeated_columns(tmp_path):
    path = written(tmp_path, "file,x,x\na,1,2\n")
    others = {"y": ("why", "ypsilon")}
    why = "line 1: the header needs one x and one y (or why, ypsilon); it is 'file,x,x'"
    with pytest.raises(BadTable, match=re.escape(why)):
        list(read_table(path, ("file", "x", "y"), other_names=others))


@pytest.mark.parametrize("text", ["a.jpg,52.2,0.1\n", "a.jpg 52.2 0.1\n", "1;a.jpg;0,1\n"])
def test_a_table_without_a_header_is_refused_with_the_line_to_add(tmp_path, text):
    why = r"there is no header: put a first line with a name for each column, such as image,x,y"
    with pytest.raises(BadTable, match=rf"line 1: {why}"):
        list(read_table(written(tmp_path, text), ("image", "x", "y")))


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=; "])
def test_the_first_line_of_excel_states_the_separator(tmp_path, first):
    path = written(tmp_path, f"{first}\nname;x,y\na b.jpg;1\n")
    assert list(read_table(path, ("name", "x,y"))) == [(3, {"name": "a b.jpg", "x,y": "1"})]
    assert read_header(path, "name") == ["name", "x,y"]
    with pytest.raises(BadTable, match="line 2: the header needs one z"):
        list(read_table(path, ("z",)))


def test_a_table_separated_by_blanks_is_read(tmp_path):
    path = written(tmp_path, 'name  x y\n"a b.jpg" 1   2\n')
    assert list(read_table(path, ("name", "y"))) == [(2, {"name": "a b.jpg", "y": "2"})]
    one_column = written(tmp_path, "name\na b.jpg\n")
    assert list(read_table(one_column, ("name",))) == [(2, {"name": "a b.jpg"})]


def test_bytes_that_are_not_utf_8_are_named_with_the_remedy(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes("name;größe\na;1\n".encode("cp1252"))
    assert list(read_table(path, ("name",))) == [(2, {"name": "a"})]
    remedy = "not UTF-8: save the table as CSV UTF-8"
    with pytest.raises(BadTable, match=f"line 1: the header needs one x; .*{remedy}"):
        list(read_table(path, ("x",)))
    with pytest.raises(BadTable, match=rf"line 7: x is '52.*b0', not a number .*{remedy}"):
        number_in(path, 7, {"x": b"52\xb0".decode("utf-8", "surrogateescape")}, "x")


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


@pytest.mark.parametrize("text", ["302,412", "-1,000", "1,2,3", "1.000,5", ",5", "5,", "5_2"])
def test_a_sign_that_may_mean_thousands_is_refused(tmp_path, text):
    with pytest.raises(BadTable, match=r"line 2: x is '.*', not a number"):
        number_in(tmp_path, 2, {"x": text}, "x")
