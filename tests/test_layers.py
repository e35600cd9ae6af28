"""The architecture as a test: imports point only up the list in docs/ARCHITECTURE.md."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "placerec"
MOST_LINES = 400


def layers() -> list[str]:
    """The rooms in the order of the page: the first word of each line of its ``layers`` block."""
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = re.search(r"```layers\n(.*?)```", page, re.DOTALL)
    assert block, "docs/ARCHITECTURE.md has no layers block"
    return [line.split()[0].removesuffix("/") for line in block[1].splitlines() if line.strip()]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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


def imported_rooms(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imported_modules(path)}


def test_every_room_is_on_the_page_and_every_line_of_the_page_is_a_room():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms == set(layers())


def test_imports_point_only_to_a_line_above():
    order = layers()
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        if room.startswith("__"):
            continue
        for other in imported_rooms(path) - {room}:
            assert order.index(other) < order.index(room), f"{path} imports {other}"


def test_no_file_is_longer_than_400_lines():
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, path


def test_no_function_is_longer_than_60_lines():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"
