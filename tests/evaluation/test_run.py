"""What a run states as text, as JSON and on its page; and the file to submit."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from placerec.errors import UsageError
from placerec.evaluation.compare import compare
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.methods import Method
from placerec.evaluation.predictions import Prediction, PredictionFile
from placerec.evaluation.run_folder import (
    QUERIES,
    REPORT,
    SCORES,
    SUBMISSION,
    read_run,
    write_run_folder,
)
from placerec.evaluation.runner import evaluate, header, scored
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


def test_text_and_json_state_protocol_model_machine_and_cost(tmp_path):
    data = a_set(tmp_path / "photos")
    run = evaluate(data, METHOD, out=tmp_path / "run", runtime=Runtime(threads=1))
    values = json.loads(json.dumps(run.as_json(), allow_nan=False))
    assert (values["queries"], values["queries_with_positive"]) == (3, 2)
    assert values["queries_without_positive"] == 1
    assert values["protocol"] == {"name": "toy", "rule": "by hand", "hash": data.hash}
    assert values["fingerprints"] == ["a" * 64, "b" * 64]
    assert {"placerec", "numpy", "transformers"} <= set(values["versions"])
    assert values["threads"] == 1
    assert values["seconds"] > 0
    assert "cores" in values["machine"]
    assert values["notes"] == []
    text = "\n".join(run.as_text())
    for words in ("with a positive: 2, without: 1", "by hand", f"list {data.hash[:12]}",
                  "fingerprint aaaaaaaaaaaa + bbbbbbbbbbbb", "placerec ", "cores; 1 thread; ",
                  " s in total", "ms per query", "bytes per photo"):  # fmt: skip
        assert words in text
    write_run_folder(tmp_path / "run", run, METHOD, Runtime(threads=1))
    page = (tmp_path / "run" / REPORT).read_text("utf-8")
    for words in (data.hash, "a" * 64, values["machine"], "1 without a positive", "seconds"):
        assert words in page


@pytest.mark.parametrize(("wrong", "poorer"), [(0.99, True), (0.01, False)])
def test_a_run_says_if_the_reranked_score_is_the_poorer_sign(tmp_path, wrong, poorer):
    """3 of 4 queries are answered rightly; the score of the wrong answer is above or below."""
    queries, shown = ([Path(f"{side}{n}.jpg") for n in range(4)] for side in "qd")
    sides = [Photos(tuple(map(str, side)), tuple(side)) for side in (queries, shown)]
    truth = tuple(frozenset({n}) for n in range(4))
    data = Dataset("toy", Protocol("toy", "by hand"), (Search("town", *sides, truth),))
    right = {"retrieved": (("d0.jpg", 0.9),), "reranked": (("d0.jpg", 0.5),)}
    with PredictionFile(header(data, {"name": "toy"})) as file:
        for n in range(4):
            answers = {key: ((f"d{n}.jpg", rows[0][1]),) for key, rows in right.items()}
            if n == 3:
                answers = {"retrieved": (("d0.jpg", 0.1),), "reranked": (("d0.jpg", wrong),)}
            file.add(Prediction("town", f"q{n}.jpg", **answers))
        run = scored(data, file)
    write_run_folder(tmp_path, run)
    page, text = (tmp_path / REPORT).read_text("utf-8"), "\n".join(run.as_text())
    sentence = "recall at full precision is 0.000 re-ranked and 0.750 global"
    for shown in (page, text, json.dumps(run.as_json())):
        assert (sentence in shown) == poorer
        assert ("poorer sign" in shown) == poorer


def test_a_run_without_a_readable_query_still_has_a_text(tmp_path):
    data = a_set(tmp_path / "photos")
    for path in data.searches[0].queries.paths:
        path.write_bytes(b"")
    run = evaluate(data, METHOD)
    assert "unanswered: 3" in "\n".join(run.as_text())
    assert run.as_json()["ms_per_query"] is None


def test_a_hidden_ground_truth_gives_no_measure_anywhere(hidden, tmp_path):
    run = evaluate(hidden, METHOD, out=tmp_path / "run")
    write_run_folder(tmp_path / "run", run, METHOD)
    values = run.as_json()
    assert (values["queries_with_positive"], values["queries_without_positive"]) == (None, None)
    assert set(values["global"].values()) == set(values["reranked"].values()) == {None}
    scores = json.loads((tmp_path / "run" / SCORES).read_text("utf-8"))
    for ranking in ("retrieved", "reranked"):
        assert {estimate["value"] for estimate in scores["pooled"][ranking].values()} == {None}
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
    stored = read_run(tmp_path / "run")
    with pytest.raises(UsageError, match="no measure has a value in both"):
        compare(stored, stored)


def test_an_unreadable_query_prevents_neither_the_submission_nor_the_report(hidden, tmp_path):
    hidden.searches[0].queries.paths[1].write_bytes(b"no photo")
    run = evaluate(hidden, METHOD, out=tmp_path / "run")
    write_run_folder(tmp_path / "run", run, METHOD)
    lines = [line.split() for line in (tmp_path / "run" / SUBMISSION).read_text().splitlines()]
    assert [line[0] for line in lines] == ["x", "y", "z"]
    assert {len(line) for line in lines} == {1 + 5}
    assert lines[1][1:] == list("abcde")  # the database in its order: no answer, but valid photos
    assert (tmp_path / "run" / REPORT).is_file()
    (note,) = run.as_json()["notes"]
    assert "1 without an answer: the first photos of the database in it" in note
    assert note in run.as_text()
    assert len(run.skipped) == 1


def test_the_report_is_written_even_if_a_submission_cannot_express_a_name(tmp_path):
    data = a_set(tmp_path / "photos", hidden=True)
    shown = photos(tmp_path / "photos" / "more", "ab")
    names = ("one/a.png", "two/a.png")  # the same key
    search = Search(
        "town", data.searches[0].queries, Photos(names, shown.paths), (frozenset(),) * 3
    )
    data = Dataset("toy", data.protocol, (search,))
    run = evaluate(data, METHOD, out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"two/a\.png and one/a\.png would both be a "):
        write_run_folder(tmp_path / "run", run, METHOD)
    assert (tmp_path / "run" / REPORT).is_file()
    assert not (tmp_path / "run" / SUBMISSION).exists()
