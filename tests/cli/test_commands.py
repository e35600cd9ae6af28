"""What a help shows first, and what a mistyped command may mean."""

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import placerec
from placerec.cli import cli
from placerec.cli.commands import SECTIONS, Command, Group


def all_commands(group=cli, path=()):
    for name, command in group.commands.items():
        if isinstance(command, Group):
            yield from all_commands(command, (*path, name))
        else:
            yield (*path, name), command


def sections(path):
    """The sections of a help, by title, in their order."""
    output = CliRunner().invoke(cli, [*path, "--help"]).output
    parts = [part.partition("ptions:\n") for part in output.split("\n\n") if "ptions:\n" in part]
    return {f"{title}ptions": text for title, _, text in parts}


@pytest.mark.parametrize(("path", "command"), list(all_commands()))
def test_every_help_has_the_everyday_options_first(path, command):
    assert isinstance(command, Command)
    shown = sections(path)
    titles = list(shown)
    assert titles == [title for title in ("Options", *SECTIONS) if title in titles]
    assert "--help" in shown["Options"]
    assert "--threads" not in shown["Options"]
    assert "--model " not in shown["Options"]


def test_the_options_of_a_query_stand_in_their_sections():
    shown = sections(["query"])
    assert list(shown) == ["Options", "Method options", "Runtime options"]
    for title, flags in (
        ("Options", ("--top", "--json", "--geojson", "--picture")),
        ("Method options", ("--model", "--scorer", "--candidates", "--fusion")),
        ("Runtime options", ("--threads", "--device")),
    ):
        assert all(f"  {flag} " in shown[title] for flag in flags)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["build"], "placerec index build"),
        (["add", "a.placerec", "b.jpg"], "placerec index add"),
        (["info"], "placerec index info or placerec weights info"),
        (["index", "bild"], "placerec index build"),
        (["index", "query"], "placerec query"),
        (["querry"], "placerec query"),
        (["predictions", "imprt"], "placerec predictions import or placerec weights import"),
    ],
)
def test_a_mistyped_command_names_the_command_that_is_meant(words, meant):
    result = CliRunner().invoke(cli, words, prog_name="placerec")
    assert result.exit_code == 2
    assert f"did you mean: {meant}?" in result.output


def test_a_command_like_no_other_has_no_suggestion():
    output = CliRunner().invoke(cli, ["xyzzy"], prog_name="placerec").output
    assert "no such command 'xyzzy'" in output
    assert "did you mean" not in output


def shown_texts(path):
    """The texts of a source file that are not docstrings; ``X`` stands for each value in them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
              for part in node.values}  # fmt: skip
    for node in ast.walk(tree):
        if id(node) in docstrings | inside:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(getattr(part, "value", "X")) if isinstance(part, ast.Constant)
                          else "X" for part in node.values)  # fmt: skip
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_a_command_in_a_remedy_has_its_arguments():
    commands = {" ".join(path): command for path, command in all_commands()}
    texts = [text for path in Path(placerec.__file__).parent.rglob("*.py")
             for text in shown_texts(path)]  # fmt: skip
    remedies = 0
    for command in re.findall(r"(?:: |then )placerec ([\w./ ]+)", "\n".join(texts)):
        name = next((name for name in commands if f"{command} ".startswith(f"{name} ")), None)
        if name is not None:
            given = [word for word in command.removeprefix(name).split() if word[0].isupper()]
            kinds = [param.param_type_name for param in commands[name].params]
            assert len(given) >= kinds.count("argument"), command
            remedies += 1
    assert remedies > 8
