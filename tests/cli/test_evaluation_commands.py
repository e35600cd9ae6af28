"""``placerec evaluate``, ``compare`` and ``predictions`` from a shell."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from placerec.cli import cli

SMALL = ("--image-size", "160,224")  # a quarter of the work


def test_evaluate_json_has_the_documented_keys(placerec, town):
    result = json.loads(placerec("evaluate", town, "--json", *SMALL).stdout)
    assert set(result) == {
        "queries", "queries_with_positive", "queries_without_positive", "global", "reranked",
        "scorer", "model", "ms_per_query", "bytes_per_photo", "method", "protocol", "fingerprints",
        "versions", "machine", "threads", "seconds", "notes", "scores",
    }  # fmt: skip
    assert result["method"] == "default"
    assert set(result["protocol"]) == {"name", "rule", "hash"}
    assert len(result["fingerprints"][0]) == 64
    assert result["queries"] == result["queries_with_positive"] == 6
    for part in ("global", "reranked"):
        assert set(result[part]) == {f"recall@{n}" for n in (1, 5, 10, 20, 50, 100)}
        assert all(0.0 <= value <= 1.0 for value in result[part].values())
        assert result[part]["recall@10"] == 1.0  # six photos
    retrieval = json.loads(placerec("evaluate", town, "--json", "--candidates", 0, *SMALL).stdout)
    assert retrieval["reranked"] is None
    assert retrieval["scorer"] is None
    assert retrieval["global"] == result["global"]


def test_evaluate_asks_only_the_listed_half(placerec, town, tmp_path):
    table = tmp_path / "halves.csv"
    table.write_text("query,half\nnight_000.jpg,validation\nnight_001.jpg,test\n")
    words = ("evaluate", town, "--json", "--queries-list", table, *SMALL)
    assert json.loads(placerec(*words).stdout)["queries"] == 2
    assert json.loads(placerec(*words, "--half", "test").stdout)["queries"] == 1


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("night_009.jpg,place_000.jpg", "night_009.jpg"),
        ("night_000.jpg,place_9.jpg", "place_9.jpg"),
    ],
)
def test_an_unknown_name_in_the_ground_truth_is_named_with_its_line(
    placerec, town, tmp_path, row, why
):
    truth = tmp_path / "truth.csv"
    truth.write_text(f"query,database\nnight_000.jpg,place_000.jpg\n{row}\n")
    refused = placerec("evaluate", town, "--ground-truth", truth, code=4)
    assert "truth.csv, line 3" in refused.stderr
    assert why in refused.stderr


def test_a_query_without_a_positive_is_left_out_of_the_denominator(placerec, town, tmp_path):
    truth = tmp_path / "truth.csv"
    truth.write_text("query,database\nnight_000.jpg,place_000.jpg\n")
    result = placerec("evaluate", town, "--ground-truth", truth, *SMALL).stdout
    assert "queries: 6, with a positive: 1" in result


@pytest.fixture(scope="module")
def finished_run(town, tmp_path_factory) -> Path:
    """A finished run of retrieval alone. Do not change it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    words = ["evaluate", town, "--method", "netvlad", "--out", folder, *SMALL]
    result = CliRunner().invoke(cli, [*map(str, words)])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def run(placerec, finished_run) -> Path:
    """A copy of the finished run, in the folder ``run``."""
    return Path(shutil.copytree(finished_run, placerec.folder / "run"))


def test_a_run_leaves_predictions_scores_queries_and_a_report(run):
    names = {path.name for path in run.iterdir()}
    assert names == {"predictions.jsonl", "scores.json", "queries.csv", "report.html", "work"}
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    assert scores["facts"]["protocol"]["hash"] == scores["hash"]
    assert len((run / "queries.csv").read_text(encoding="utf-8").splitlines()) == 1 + 6


def rankings(run):
    """What was answered, without the times."""
    lines = (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    predictions = [line for line in map(json.loads, lines) if "query" in line]
    return {row["query"]: (row["retrieved"], row["reranked"]) for row in predictions}


def test_a_run_that_was_killed_goes_on_and_answers_the_same(placerec, town, run):
    words = ("evaluate", str(town), "--method", "netvlad", "--out", "killed", *SMALL)
    with subprocess.Popen(
        [sys.executable, "-m", "placerec", *words], cwd=placerec.folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        path = placerec.folder / "killed" / "predictions.jsonl"
        while process.poll() is None:
            if path.is_file() and path.read_bytes().count(b"\n") >= 4:  # header, begun, two answers
                process.kill()
            time.sleep(0.002)
    placerec(*words)
    assert rankings(placerec.folder / "killed") == rankings(run)
    assert len(rankings(run)) == 6


def test_a_run_in_a_folder_of_another_run_is_refused_and_changes_nothing(placerec, town, run):
    before = {path.name: path.read_bytes() for path in run.glob("*.*")}
    refused = placerec("evaluate", town, "--out", "run", *SMALL, code=2)
    assert "another method" in refused.stderr
    assert {path.name: path.read_bytes() for path in run.glob("*.*")} == before


def test_compare_has_a_title_and_a_line_a_measure_that_begins_with_its_name(placerec, town, run):
    placerec("evaluate", town, "--out", "other", *SMALL)
    title, *lines = placerec("compare", "run", "other").stdout.splitlines()
    assert title.startswith("other minus run, 6 queries: difference [95 % interval]")
    assert [re.split(" [+-]", line)[0] for line in lines] == [
        "recall@1", "recall@5", "recall@10", "global recall@1", "global recall@5",
        "global recall@10",
    ]  # fmt: skip
    _, *lines = placerec("compare", "run", "other", "--all").stdout.splitlines()
    result = json.loads(placerec("compare", "run", "other", "--json").stdout)
    names = [line.split()[0] for line in lines if not line.startswith("global")]
    assert names == list(result["measures"])
    assert set(names) == {line.split()[1] for line in lines if line.startswith("global")}
    assert result["queries"] == 6


def test_runs_of_different_protocols_are_not_compared(placerec, town, run):
    placerec("evaluate", town, "--method", "netvlad", "--queries", 3, "--out", "few", *SMALL)
    refused = placerec("compare", "run", "few", code=2)
    assert "3 queries, seed 0" in refused.stderr
    placerec("compare", "run", "nothing", code=3)


def test_predictions_leave_and_come_back_with_the_same_recall(placerec, town, run):
    for form in ("hloc", "kapture", "text"):
        placerec("predictions", "export", town, "run", f"{form}.txt", "--form", form)
        placerec("predictions", "import", town, f"{form}.txt", "--form", form, "--out", form)
        result = json.loads(placerec("compare", "run", form, "--json").stdout)
        assert all(measure["difference"] == 0.0 for measure in result["measures"].values())
    refused = placerec(
        "predictions", "export", town, "run", "x.txt", "--form", "hloc", "--queries", 2, code=2
    )
    assert "2 queries" in refused.stderr
    assert not (placerec.folder / "x.txt").exists()


def test_check_names_a_query_that_is_in_the_database_too(placerec, town, tmp_path):
    copy = Path(shutil.copytree(town, tmp_path / "town"))
    assert placerec("evaluate", copy, "--check").stdout.startswith("0 equal")
    shutil.copy(copy / "queries" / "night_002.jpg", copy / "database" / "again.jpg")
    result = placerec("evaluate", copy, "--check").stdout
    assert "night_002.jpg" in result
    assert "again.jpg" in result
    (pair,) = json.loads(placerec("evaluate", copy, "--check", "--json").stdout)
    assert pair["query"] == "night_002.jpg"


def test_an_unknown_protocol_or_method_is_named_with_the_choices(placerec, town):
    assert "folder" in placerec("evaluate", town, "--protocol", "fodler", code=2).stderr
    assert "netvlad" in placerec("evaluate", town, "--method", "netvald", code=2).stderr
    truth = town / "ground_truth.csv"
    refused = placerec("evaluate", town, "--radius", 10, "--ground-truth", truth, code=3)
    assert "ground_truth, radius" in refused.stderr
    assert "x.csv" in placerec("evaluate", town, "--ground-truth", "x.csv", code=3).stderr


def test_options_that_change_nothing_are_refused_by_name(placerec, town):
    for words, name in (
        (("--rerank", "none", "--scorer", "ransac"), "scorer"),
        (("--method", "vlad", "--image-size", "48,64"), "image_size"),
        (("--method", "netvlad", "--torch-module", "mynet:build"), "method 'netvlad'"),
        (("--check", "--method", "netvlad", "--out", "run"), "--method, --out"),
        (("--check", "--foreign", town), "--foreign"),
        (("--method", "netvlad", "--foreign", town), "foreign"),
    ):
        assert name in placerec("evaluate", town, *words, code=2).stderr
    assert not list(placerec.folder.iterdir())


def test_a_corrected_file_is_not_imported_into_the_run_of_the_old_one(placerec, town):
    path = placerec.folder / "theirs.txt"
    words = ("predictions", "import", town, "theirs.txt", "--form", "hloc", "--out", "theirs")
    path.write_text("night_000.jpg place_001.jpg\n", "utf-8")
    placerec(*words)
    path.write_text("night_000.jpg place_000.jpg\n", "utf-8")
    refused = placerec(*words, code=2).stderr
    assert "files" in refused
    assert "another output folder" in refused


def test_only_retrieval_has_no_reranked_recalls(placerec, town):
    result = json.loads(placerec("evaluate", town, "--rerank", "none", "--json", *SMALL).stdout)
    assert result["reranked"] is None
    assert result["scorer"] is None
