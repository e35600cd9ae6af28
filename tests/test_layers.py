"""The architecture as a test: imports point only up the list in docs/ARCHITECTURE.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "placerec"
MOST_LINES = 400


def layers(block: str = "layers") -> list[str]:
    """The first word of each line of a block of the page: rooms, or modules of a room, in order."""
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    found = re.search(rf"```layers\n# {block}\n(.*?)```", page, re.DOTALL)
    assert found, f"docs/ARCHITECTURE.md has no block {block}"
    return [line.split()[0].removesuffix("/") for line in found[1].splitlines() if line.strip()]


def room_of(path: Path, folder: Path = PACKAGE) -> str:
    return path.relative_to(folder).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """The dotted names below ``placerec`` that a file imports; ``""`` is the package itself."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        modules |= {name[9:] for name in names if f"{name}.".startswith("placerec.")}
    return modules


ROOMS = pytest.mark.parametrize(
    ("block", "folder", "inside"),
    [("layers", PACKAGE, ""), ("evaluation", PACKAGE / "evaluation", "evaluation.")],
)


@ROOMS
def test_every_room_is_on_the_page_and_every_line_of_the_page_is_a_room(block, folder, inside):
    rooms = {room_of(path, folder) for path in folder.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms == set(layers(block))


@ROOMS
def test_imports_point_only_to_a_line_above(block, folder, inside):
    order = layers(block)
    for path in folder.rglob("*.py"):
        room = room_of(path, folder)
        if room.startswith("__"):
            continue
        modules = [name for name in imported_modules(path) if name.startswith(inside)]
        for other in {name.removeprefix(inside).split(".")[0] for name in modules} - {room}:
            assert order.index(other) < order.index(room), f"{path} imports {other}"


def test_no_file_is_longer_than_400_lines():
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, path


def test_no_function_is_longer_than_60_lines():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"
