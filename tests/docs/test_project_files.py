"""The workflows, hooks and citation file are valid and agree with the project."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from placerec.version import __version__

yaml = pytest.importorskip("yaml", reason="the docs extra is not installed")

ROOT = Path(__file__).parent.parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMMANDS = (
    "python -m pip install ", "python -m pip wheel ", "python -m build", "python -m twine check ",
    'python -c "import ', "placerec --help", "placerec demo --out ",
)  # fmt: skip


def load(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def steps(workflow):
    return [step for job in load(workflow)["jobs"].values() for step in job["steps"]]


def test_there_is_a_workflow_for_tests_and_one_for_releases():
    assert [path.name for path in WORKFLOWS] == ["release.yml", "test.yml"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_make_targets_and_plain_python_commands_only(workflow):
    for step in steps(workflow):
        command = step.get("run")
        if command and command.startswith("make "):
            assert command.split()[1] in TARGETS, command
        elif command:
            assert command.startswith(COMMANDS), command
            tokens = shlex.shlex(command, posix=True, punctuation_chars=True)
            assert "\n" not in command
            assert not any(set(token) <= set(";&|<>()") for token in tokens), command


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_a_commit_and_named_by_its_version(workflow):
    uses = [step["uses"] for step in steps(workflow) if "uses" in step]
    text = workflow.read_text(encoding="utf-8")
    for action in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.search(re.escape(action) + r" # v\d+\.\d+\.\d+$", text, re.MULTILINE), action


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_only_publishing_proves_an_identity(workflow):
    content = load(workflow)
    assert content["permissions"] == {"contents": "read"}
    extra = {
        name: job["permissions"] for name, job in content["jobs"].items() if "permissions" in job
    }
    assert extra == ({"publish": {"id-token": "write"}} if workflow.name == "release.yml" else {})


def test_the_tests_run_on_three_systems_and_every_supported_python():
    matrix = load(".github/workflows/test.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"] == [f"3.{minor}" for minor in range(11, 15)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={matrix['python'][0]}"


def test_the_release_commands_are_documented():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    commands = [step["run"] for step in steps(".github/workflows/release.yml") if "run" in step]
    for command in commands[:3]:
        assert f"    {command}\n" in page


def test_the_commit_hooks_run_the_tools_of_make_check():
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    check = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ncheck:")[1].split("\n\n")[0]
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
        words = [
            word for word in hook["entry"].removeprefix(".venv/bin/").split() if word[0] != "-"
        ]
        assert f"$(BIN)/{' '.join(words)}" in check, hook["entry"]


def requirements(names):
    """Return all packages of these extras; an extra that names others has theirs too."""
    packages = set()
    for name in names:
        for requirement in PROJECT["optional-dependencies"][name]:
            inner = re.fullmatch(r"placerec\[(.*)\]", requirement)
            packages |= requirements(inner[1].split(",")) if inner else {requirement}
    return packages


def test_the_front_page_lists_every_extra_and_all_means_all_of_use():
    extras = set(PROJECT["optional-dependencies"])
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("Extras: ")[1].split("\n\n")[0]
    assert set(re.findall(r"`\[(\w+)\]`", text)) == extras
    large = {"lance", "ray"}  # several 100 MB, and only for an index beyond one machine
    assert requirements(["all"]) == requirements(extras - large - {"all", "docs", "dev"})
    assert requirements(["all", "docs"]) < requirements(["dev"])


def test_every_package_of_an_extra_has_a_fixed_version():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().splitlines()
    fixed = {line.split("==")[0].replace("_", "-") for line in lines}
    for requirement in requirements(["dev"]):
        assert re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-") in fixed, requirement


def test_the_demo_installs_the_plain_package_and_the_tests_the_rest():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    needs = dict(re.findall(r"^([\w$()]+): (.+)$", makefile, re.MULTILINE))
    rules = dict(re.findall(r"^(\$\(\w+\)): .*\n((?:\t.*\n)+)", makefile, re.MULTILINE))
    assert needs["demo"] == "$(READY)"
    assert "$(INSTALL) '.[heif]'" in rules["$(READY)"]
    assert {needs[name] for name in ("test", "check", "docs", "format", "results")} == {
        "$(READY_FOR_TESTS)"
    }
    assert needs["$(READY_FOR_TESTS)"] == "$(READY)"
    assert "$(INSTALL) '.[dev]'" in rules["$(READY_FOR_TESTS)"]


def test_git_ignores_what_the_commands_of_the_front_page_write():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    snippets = "\n".join(re.findall(r"```\w+\n(.*?)```", text, re.DOTALL))
    outputs = set(re.findall(r"(?:--out|--picture|index build) (\S+)", snippets))
    outputs |= set(re.findall(r'build_index\("(.+?)"', snippets)) | {"demo/x", ".venv/x"}
    assert {"match.png", "town.placerec"} < outputs
    for name in (*outputs, "town.placerec-journal", "town.placerec.partial"):
        command = ["git", "check-ignore", "--no-index", "-q", name]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, name


def test_the_citation_names_this_version_and_the_paper():
    citation = load("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["version"] == __version__
    (paper,) = citation["references"]
    assert paper["doi"] == "10.1109/CVPR46437.2021.01392"
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Hausler", "Garg", "Xu", "Milford", "Fischer"]
