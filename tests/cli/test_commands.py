"""What a help shows first, and what a mistyped command may mean."""

import pytest
from click.testing import CliRunner

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
