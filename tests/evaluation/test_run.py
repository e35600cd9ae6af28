"""What a run says of itself, as text, JSON and page alike; and what is handed in."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from placerec.errors import UsageError
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.methods import Method
from placerec.evaluation.run_folder import REPORT, SUBMISSION, write_run_folder
from placerec.evaluation.runner import evaluate
from placerec.evaluation.scoring.compare import compare
from placerec.evaluation.scoring.score_files import QUERIES, SCORES, read_run
from placerec.runtime import Runtime
from plain_methods import Darkest, MeanColour

METHOD = Method(MeanColour(), Darkest(), 2)


def photos(folder: Path, names: str) -> Photos:
    for n, name in enumerate(names):
        folder.mkdir(parents=True, exist_ok=True)
        photo = Image.new("RGB", (64, 48), (20 * n, 90, 120))
        photo.paste((200, 30 * n, 40), (0, 0, 20, 20 + n))
        photo.save(folder / f"{name}.png")
    return Photos(tuple(f"{n}.png" for n in names), tuple(folder / f"{n}.png" for n in names))


def a_set(folder: Path, **protocol) -> Dataset:
    search = Search(
        "town", photos(folder / "queries", "xyz"), photos(folder / "database", "abcde"),
        (frozenset({0}), frozenset({1}), frozenset()),
    )  # fmt: skip
    return Dataset("toy", Protocol("toy", "by hand", **protocol), (search,))


@pytest.fixture
def hidden(tmp_path) -> Dataset:
    return a_set(tmp_path / "photos", hidden=True)


def test_text_and_json_say_by_which_protocol_with_what_and_at_what_cost(tmp_path):
    data = a_set(tmp_path / "photos")
    run = evaluate(data, METHOD, out=tmp_path / "run", runtime=Runtime(threads=1))
    told = json.loads(json.dumps(run.as_json(), allow_nan=False))
    assert (told["queries"], told["queries_with_positive"]) == (3, 2)
    assert told["queries_without_positive"] == 1
    assert told["protocol"] == {"name": "toy", "rule": "by hand", "hash": data.hash}
    assert told["fingerprints"] == ["a" * 64, "b" * 64]
    assert {"placerec", "numpy", "transformers"} <= set(told["versions"])
    assert told["threads"] == 1
    assert told["seconds"] > 0
    assert "cores" in told["machine"]
    assert told["notes"] == []
    text = "\n".join(run.as_text())
    for words in ("with a positive: 2, without: 1", "by hand", f"list {data.hash[:12]}",
                  "fingerprint aaaaaaaaaaaa + bbbbbbbbbbbb", "placerec ", "cores; 1 thread; ",
                  " s in all", "ms a query", "bytes a photo"):  # fmt: skip
        assert words in text
    write_run_folder(tmp_path / "run", run, METHOD, Runtime(threads=1))
    page = (tmp_path / "run" / REPORT).read_text("utf-8")
    for words in (data.hash, "a" * 64, told["machine"], "1 without a positive", "seconds"):
        assert words in page


def test_a_run_without_a_single_readable_query_still_has_its_text(tmp_path):
    data = a_set(tmp_path / "photos")
    for path in data.searches[0].queries.paths:
        path.write_bytes(b"")
    run = evaluate(data, METHOD)
    assert "unanswered: 3" in "\n".join(run.as_text())
    assert run.as_json()["ms_per_query"] is None


def test_where_the_owner_keeps_the_truth_there_is_no_measure_anywhere(hidden, tmp_path):
    run = evaluate(hidden, METHOD, out=tmp_path / "run")
    write_run_folder(tmp_path / "run", run, METHOD)
    told = run.as_json()
    assert (told["queries_with_positive"], told["queries_without_positive"]) == (None, None)
    assert set(told["global"].values()) == set(told["reranked"].values()) == {None}
    kept = json.loads((tmp_path / "run" / SCORES).read_text("utf-8"))
    for ranking in ("retrieved", "reranked"):
        assert {one["value"] for one in kept["pooled"][ranking].values()} == {None}
    with (tmp_path / "run" / QUERIES).open(encoding="utf-8", newline="") as file:
        assert [row["positives"] for row in csv.DictReader(file)] == ["", "", ""]
    assert read_run(tmp_path / "run").outcomes == run.outcomes
    text = "\n".join(run.as_text())
    assert "recall" not in text
    assert "positive" not in text
    page = (tmp_path / "run" / REPORT).read_text("utf-8")
    assert "0.0 %" not in page
    assert "3 without a positive" not in page
    assert "the owner keeps the truth" in page
    one = read_run(tmp_path / "run")
    with pytest.raises(UsageError, match="no measure has a value in both"):
        compare(one, one)


def test_a_query_that_cannot_be_read_costs_neither_the_submission_nor_the_report(hidden, tmp_path):
    hidden.searches[0].queries.paths[1].write_bytes(b"no photo")
    run = evaluate(hidden, METHOD, out=tmp_path / "run")
    write_run_folder(tmp_path / "run", run, METHOD)
    lines = [line.split() for line in (tmp_path / "run" / SUBMISSION).read_text().splitlines()]
    assert [line[0] for line in lines] == ["x", "y", "z"]
    assert {len(line) for line in lines} == {1 + 5}
    assert lines[1][1:] == list("abcde")  # the database in its order: no answer, but known to it
    assert (tmp_path / "run" / REPORT).is_file()
    (note,) = run.as_json()["notes"]
    assert "1 without an answer: the first photos of the database in it" in note
    assert note in run.as_text()
    assert len(run.skipped) == 1


def test_names_that_a_submission_cannot_carry_cost_no_report(tmp_path):
    data = a_set(tmp_path / "photos", hidden=True)
    shown = photos(tmp_path / "photos" / "more", "ab")
    names = ("one/a.png", "two/a.png")  # the same key
    search = Search(
        "town", data.searches[0].queries, Photos(names, shown.paths), (frozenset(),) * 3
    )
    data = Dataset("toy", data.protocol, (search,))
    run = evaluate(data, METHOD, out=tmp_path / "run")
    with pytest.raises(UsageError, match="the same key"):
        write_run_folder(tmp_path / "run", run, METHOD)
    assert (tmp_path / "run" / REPORT).is_file()
    assert not (tmp_path / "run" / SUBMISSION).exists()
