"""One place prints, and it shows every name on one line."""

import ast
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import placerec.cli
from placerec.cli.output import list_skipped, print_facts, print_json, print_table, say, warn
from placerec.errors import PhotoError

CLI = Path(placerec.cli.__file__).parent
NAME, SHOWN = "a\n\x1b[31m\u202eb\t\udce9.jpg", r"a\n\x1b[31m\u202eb\t\xe9.jpg"


@pytest.mark.parametrize("path", sorted(CLI.glob("*.py")), ids=lambda path: path.name)
def test_only_one_file_prints(path):
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = {getattr(call, "attr", getattr(call, "id", "")) for call in calls}
    assert path.name == "output.py" or names.isdisjoint({"echo", "secho", "print", "write"})


def test_every_kind_of_text_shows_a_name_on_one_line(capsys):
    say(NAME, "two")
    print_facts({"first": NAME})
    print_table({"photo": False}, [(NAME,)])
    warn(NAME)
    list_skipped([PhotoError(NAME, "cut off")])
    printed = capsys.readouterr()
    lines = [line.rstrip(" ") for line in printed.out.split("\n")]
    assert lines == [SHOWN, "two", f"first: {SHOWN}", "photo", SHOWN, ""]
    assert printed.err == f"{SHOWN}\nskipped 1 photo:\n  {SHOWN}: cut off\n"


def test_json_keeps_the_true_name(capsys):
    print_json([NAME])
    assert json.loads(capsys.readouterr().out) == [NAME]


def test_a_usage_error_shows_a_name_on_one_line(placerec):
    for words in (("index", NAME), ("query", "a.placerec", "b.jpg", "--top", NAME)):
        error = placerec(*words, code=2).stderr
        assert "\x1b" not in error
        assert len(error.splitlines()) == 1
        assert error.startswith("error: ")


def test_a_terminal_that_cannot_show_a_letter_gets_an_escape(placerec, photos):
    (photos / "place_000.jpg").rename(photos / "東.jpg")
    placerec("index", "build", "a.placerec", photos)
    words = ("query", "a.placerec", photos / "東.jpg")
    lines = placerec(*words, env={"PYTHONIOENCODING": "latin-1"}).stdout.splitlines()
    assert lines[0].endswith(r"\u6771.jpg")
    assert r" \u6771.jpg " in lines[3]


def test_a_table_for_a_reader_that_is_gone_is_the_error_of_a_closed_pipe(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    stdout = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", stdout)
    with pytest.raises(BrokenPipeError):
        print_table({"rank": True}, [("1",)])
    with suppress(BrokenPipeError):
        stdout.close()
