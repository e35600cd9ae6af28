"""The pages of promises name tests that exist; one of them has forty numbers."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE, SCALE = (
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("PROMISES.md", "SCALE.md")
)
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE + SCALE)


def names_in(file: str) -> set[str]:
    """The functions and classes of a test file, and the names that it assigns at its top."""
    names = set()
    for node in ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_every_test_that_the_page_names_exists():
    missing = [f"{file}::{name}" for file, name in NAMED if name not in names_in(file)]
    assert missing == []
    assert len(set(NAMED)) > 80


def test_every_number_has_a_line_with_a_test():
    lines = re.findall(r"^\| (\d+) \| .*`[\w/]+\.py::\w+`.*\|$", PAGE, re.MULTILINE)
    assert [int(number) for number in lines if int(number) <= 40] == list(range(1, 41))


def test_every_promise_has_a_test():
    promises = re.findall(r"^\| P(\d+) \|.*\| (.*) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in promises] == list(range(1, 14))
    for _, tests in promises:
        for folder in re.findall(r"`(tests/\w+/)`", tests):
            assert (ROOT / folder).is_dir()
        for number in re.findall(r"\d+", tests):
            assert 1 <= int(number) <= 40
