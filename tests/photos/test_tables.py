"""Tables: blanks, empty lines, headers."""

import pytest

from placerec.errors import BadTable, NotFound
from placerec.photos.tables import read_header, read_table


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
