"""The pages are true: examples run, commands are listed, figures come from results."""

import csv
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from placerec.cli import cli
from placerec.demo import write_demo_photos

ROOT = Path(__file__).parent.parent.parent
MODULES = {"training": "training_run"}  # results files whose module has a different name
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(page, language):
    """Return the fenced blocks of a page that are in ``language``."""
    return re.findall(rf"^```{language}\n(.*?)^```", read(page), re.DOTALL | re.MULTILINE)


PAGES_WITH_PYTHON = [
    f"docs/{page.name}" for page in PAGES if page.parent == ROOT / "docs" and blocks(page, "python")
]


def benchmark(name):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    write_demo_photos(folder / "demo" / "photos", 4)
    return folder


def run_python(code, folder):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_example_of_the_front_page_is_short_and_finds_the_place(demo_folder):
    (example,) = blocks("README.md", "python")
    assert len(example.strip().splitlines()) <= 5
    # Of 4 photos no answer has a confidence.
    assert run_python(example, demo_folder).startswith("place_000.jpg None Position(")


@pytest.mark.parametrize("page", PAGES_WITH_PYTHON)
def test_the_python_examples_of_a_page_run_in_their_order(page, demo_folder):
    assert run_python("\n".join(blocks(page, "python")), demo_folder)


def test_the_command_line_examples_run_twice(demo_folder, monkeypatch, command):
    monkeypatch.chdir(demo_folder)
    shutil.copytree("demo/photos/database", "photos")
    shutil.copy("demo/photos/queries/night_000.jpg", "where.jpg")
    lines = [line for block in blocks("README.md", "sh")[1:] for line in block.splitlines()]
    assert 2 < len(lines) <= 7
    for line in 2 * lines:
        program, *words = shlex.split(line, comments=True)
        assert program == ".venv/bin/placerec"
        code, _, error = command(*words)
        assert code == 0, error
    assert Path("match.png").is_file()
    assert Path("where.png").is_file()


def test_the_two_start_commands_are_targets():
    for line in blocks("README.md", "sh")[0].splitlines():
        target = line.split()[1]
        assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE)


def test_every_command_is_on_the_page_and_has_help():
    page = read("docs/COMMANDS.md")
    for name, command in cli.commands.items():
        assert command.help
        for child in getattr(command, "commands", {None: None}):
            assert f"`{name}{' ' + child if child else ''}" in page, (name, child)


def test_the_page_and_the_help_name_the_same_functions():
    table = read("docs/COMMANDS.md").split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z -]+?)(?: [A-Z].*?)?` \| (.+) \|$", table, re.MULTILINE)
    calls = {name: call for name, call in reversed(rows) if " --" not in name}
    assert len(calls) > 20
    for name, call in calls.items():
        command = cli
        for word in name.split():
            command = command.commands[word]
        functions = re.findall(r"placerec(?:\.\w+)+", " ".join(command.help.split()))
        assert functions, name
        for function in functions:
            assert function.rpartition(".")[2] in call, name


def test_every_exit_code_is_on_the_page():
    import placerec.errors as errors

    codes = {e.exit_code for e in vars(errors).values() if hasattr(e, "exit_code")}
    page = read("docs/PROMISES.md")
    assert all(f"| {code} |" in page for code in codes)


@pytest.mark.parametrize(
    "name",
    [
        "table",
        "choices",
        "patch_sums",
        "kmeans",
        "training",
        "training_export",
        "invariance_run",
        "methods",
        "structure",
        "setup",
        "scale",
        "geotag",
        "loops",
        "track",
    ],
)
def test_a_measured_table_on_a_page_is_its_results_file(name):
    module = benchmark(MODULES.get(name, name))
    with (ROOT / "results" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        table = module.markdown(list(csv.DictReader(file)))
    assert table in module.PAGE.read_text(encoding="utf-8")


def test_the_tables_of_the_speed_are_those_of_their_results_file():
    module = benchmark("speed")
    table = module.markdown(module.read_results())
    assert f"<!-- speed:start -->\n{table}\n<!-- speed:end -->" in read("docs/SPEED.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_no_page_names_a_home_folder():
    for page in PAGES:
        assert os.sep + "home" + os.sep not in page.read_text(encoding="utf-8")


def test_the_front_page_and_the_summary_are_the_results_of_the_methods():
    module = benchmark("methods")
    rows = module.read_rows(module.TABLE)
    assert module.front(rows) in module.FRONT_PAGE.read_text(encoding="utf-8")
    assert module.summary(rows) in module.SUMMARY_PAGE.read_text(encoding="utf-8")


def test_the_front_page_has_at_most_100_lines():
    assert len(read("README.md").splitlines()) <= 100
