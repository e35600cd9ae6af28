"""Plain words as a test: the library names settings, not flags, and variables name the thing."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "placerec"
FILES = sorted(PACKAGE.rglob("*.py"))
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
FLAGS_OF_OTHER_PROGRAMS = {"--no-deps", "--nproc-per-node"}  # of pip and torchrun
VAGUE = {"told", "found", "known", "mine", "theirs"}


def nodes(path):
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def flags(path):
    """Command line flags in the strings and docstrings of a file."""
    texts = [n.value for n in nodes(path) if isinstance(n, ast.Constant) and type(n.value) is str]
    return set(FLAG.findall("\n".join(texts))) - FLAGS_OF_OTHER_PROGRAMS


def variables(path):
    """The names that a file assigns, and its parameters."""
    for node in nodes(path):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_names_its_flags(path):
    if path.relative_to(PACKAGE).parts[0] != "cli":
        assert flags(path) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_variable_has_a_vague_name(path):
    assert VAGUE.isdisjoint(variables(path))
