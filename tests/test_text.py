"""A name is shown on one line, and a terminal obeys nothing in it."""

import os

import pytest

from placerec.errors import NotFound, PhotoError, UsageError
from placerec.files import paths_of
from placerec.text import is_word, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb\tc.jpg", r"a\nb\tc.jpg"),
        ("\x1b[31mred\x1b[0m.jpg", r"\x1b[31mred\x1b[0m.jpg"),
        ("a\r\x00\x7f\x9b.jpg", r"a\r\x00\x7f\x9b.jpg"),
        ("line\u2028page\u2029.jpg", r"line\u2028page\u2029.jpg"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("\u2066a\u2069\u200f.jpg", r"\u2066a\u2069\u200f.jpg"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\xe9.jpg"),
        ("half\ud83d.jpg", r"half\ud83d.jpg"),
        ("lance:s3:/maps/town: sound", "lance:s3://maps/town: sound"),
        ("lance:s3://maps/town, lance:/maps", "lance:s3://maps/town, lance:/maps"),
        (
            "München 東京 🗼 <b>&amp;</b> [red]C:\\n.jpg",
            "München 東京 🗼 <b>&amp;</b> [red]C:\\n.jpg",
        ),
    ],
)
def test_a_name_is_one_line_and_nothing_else_changes(name, shown):
    assert printable(name) == shown
    assert printable(shown) == shown


def test_every_error_is_one_printable_line():
    name = "a\n\x1b[2J.jpg"
    for error in (NotFound(name, "no such photo"), PhotoError(name, "cut\noff"), UsageError(name)):
        assert r"a\n\x1b[2J.jpg" in str(error)
        assert str(error) == printable(error)
    assert str(PhotoError(name, "cut off").path) == name


def test_a_lone_path_is_one_path(tmp_path):
    assert paths_of("a string") == paths_of(["a string"]) == [type(tmp_path)("a string")]
    assert paths_of(tmp_path) == [tmp_path]
    assert paths_of(path for path in (tmp_path, "b")) == [tmp_path, type(tmp_path)("b")]


@pytest.mark.parametrize("name", ["a b", "a\tb", "a\nb", "a\u3000b", " a", "a ", "#a", "", " "])
def test_a_name_with_a_blank_or_a_comment_sign_in_front_is_no_word(name):
    assert not is_word(name)
    assert is_word("é/a#b,c.jpg")
