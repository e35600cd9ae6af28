"""The report of a run: one complete, safe page that shows the scores."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from page_support import Page, coordinates
from PIL import Image

from placerec.errors import NoRoom
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import on_the_map
from placerec.evaluation.predictions import Prediction
from placerec.evaluation.report import cases, write_report
from placerec.evaluation.report.cases import Thumbnail
from placerec.evaluation.scoring.outcomes import foreign_outcomes, outcomes
from placerec.evaluation.scoring.scores import scores

COUNT = 12  # queries, and twice as many database photos: 2n and 2n + 1 answer query n
HOSTILE = "<script>alert('q\"')</script>\n'\"/><b x=\"&amp;\u202egpj.\udcff.jpg"
SHOWN = "<script>alert('q\"')</script>\\n'\"/><b x=\"&amp;\\u202egpj.\\xff.jpg"
FACTS = {
    "method": {"name": "default", "retrieval": {"name": "default", "settings": {"box": 7}}},
    "versions": {"placerec": "0.1"}, "machine": "Linux <x86_64>", "bytes_per_photo": 31560.4,
    "searches": {"": {"retrieval": {"fingerprint": "ab" * 32, "licence": "Apache-2.0"}}},
}  # fmt: skip


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for n in range(3):
        Image.new("RGB", (160 + 40 * n, 120), (60 * n, 90, 120)).save(folder / f"{n}.jpg")
    return folder


def photos(folder, names, positions=None, **labels):
    paths = tuple(folder / f"{n % 3}.jpg" for n in range(len(names)))
    return Photos(tuple(names), paths, positions, **labels)


def town(folder, *, positions=True, names=None, searches=("",), conditions=()):
    names = names or [f"q{n}.jpg" for n in range(COUNT)]
    east = np.arange(COUNT) * 40.0
    queries = on_the_map(east, east / 3) if positions else None
    database = on_the_map(np.repeat(east, 2) + 3, np.repeat(east / 3, 2)) if positions else None
    positives = tuple(frozenset({2 * n, 2 * n + 1}) for n in range(len(names)))
    return Dataset("town", Protocol("25 m", "within 25 m"), tuple(
        Search(name, photos(folder, names, queries, conditions=conditions),
               photos(folder, [f"d{n}.jpg" for n in range(2 * COUNT)], database), positives)
        for name in searches
    ))  # fmt: skip


def answer(search, row, first):
    """Rank all database photos: ``first``, then the right ones, then the others."""
    ranked = list(dict.fromkeys([first % (2 * COUNT), 2 * row, 2 * row + 1, *range(2 * COUNT)]))
    names = search.database.names
    return tuple((names[n], 1.0 - 0.1 * rank - 0.001 * row) for rank, n in enumerate(ranked))


def predicted(dataset, *, reranks=True):
    """Predict, for each four queries: right, won, lost, wrong twice."""
    predictions = {}
    for search in dataset.searches:
        for row, name in enumerate(search.queries.names):
            right, wrong = answer(search, row, 2 * row), answer(search, row, 2 * row + 9)
            pairs = [(right, right), (wrong, right), (right, wrong), (wrong, wrong)]
            before, after = pairs[row % 4]
            times = {"encode": 30.0, "search": 0.4} | ({"rerank": 120.0} if reranks else {})
            predictions[search.name, name] = Prediction(
                search.name, name, before, after if reranks else None, times
            )
    return predictions


def report(path, dataset, predictions, facts=FACTS, matched=None, foreign=None):
    results = outcomes(dataset, predictions)
    measured = scores(dataset, results, foreign_outcomes(foreign or {}))
    write_report(path, dataset, results, measured, facts, predictions, matched, foreign)
    return Page(path.read_text("utf-8")), measured


def test_the_page_is_complete_and_loads_and_runs_nothing(folder, tmp_path):
    page, _ = report(tmp_path / "r.html", town(folder), predicted(town(folder)))
    assert {"html", "head", "body", "table", "svg"} <= {tag for tag, _ in page.elements}
    assert not page.all("script")
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href"):
                assert value.startswith("data:image/jpeg;base64,")
    assert "http" not in (tmp_path / "r.html").read_text("utf-8").replace("http-equiv", "")
    assert not list(tmp_path.glob("*.partial"))


def test_the_numbers_are_those_of_the_scores(folder, tmp_path):
    dataset = town(folder, conditions=("day", "night") * (COUNT // 2))
    page, measured = report(tmp_path / "r.html", dataset, predicted(dataset))
    pooled = measured.pooled
    labels = {"pr_auc": "precision-recall, area",
              "recall_at_full_precision": "recall at 100 % precision"}  # fmt: skip
    for name in ("recall@1", "mAP@10", "positives_found@5", *labels):
        first, second = (
            f"{100 * estimate.value:.1f} {100 * estimate.low:.1f}–{100 * estimate.high:.1f}"
            for estimate in (pooled.retrieved[name], pooled.reranked[name])
        )
        assert re.search(rf"{labels.get(name, name)} {first}(?: \w)? {second}", page.text), name
    for name, group in measured.conditions.items():
        recall = group.retrieved["recall@1"]
        assert f"{name} 6 {100 * recall.value:.1f} {100 * recall.low:.1f}" in page.text
    for text in ("50.0 %", "150 ms", "Time per query 30 ms 150 ms", "31.6 kB", dataset.hash,
                 "25 m : within 25 m", "ab" * 32, "Apache-2.0", "box 7",
                 "Linux <x86_64>"):  # fmt: skip
        assert text in page.text


def test_a_measure_without_a_value_is_a_dash_with_its_reason(folder, tmp_path):
    dataset = town(folder)
    predictions = {
        key: replace(entry, retrieved=entry.retrieved[:7], reranked=entry.reranked[:7])
        for key, entry in predicted(dataset).items()
    }
    page, _ = report(tmp_path / "r.html", dataset, predictions)
    marked = re.search(r"recall@10 – (\w) – (\w) ", page.text)
    assert marked
    assert marked[1] == marked[2]
    assert f"{marked[1]} the lists end at 7." in page.text


def page_with_names(path, folder, prefix):
    """A page on which every text that a user can choose starts with ``prefix``."""
    dataset = town(folder, names=[f"{prefix}query{n}" for n in range(COUNT)],
                   searches=(f"{prefix}search1", f"{prefix}search2"),
                   conditions=(f"{prefix}condition",) * COUNT)  # fmt: skip
    searches = tuple(
        replace(search, database=replace(
            search.database, names=tuple(f"{prefix}{name}" for name in search.database.names)
        ))
        for search in dataset.searches
    )  # fmt: skip
    protocol = Protocol(f"{prefix}protocol", f"{prefix}rule")
    dataset = replace(dataset, name=f"{prefix}dataset", protocol=protocol, searches=searches)
    predictions = {
        key: replace(entry, milliseconds={f"{prefix}stage": 1.0})
        for key, entry in predicted(dataset).items()
    }
    key = f"{prefix}search1", f"{prefix}query4"
    predictions = with_confidence(predictions)
    predictions[key] = Prediction(*key, (), (), error=f"{prefix}error")
    foreign = {
        key: replace(answer, retrieved=((f"{prefix}place", 0.3),))
        for key, answer in foreign_answers([f"{prefix}foreign{n}" for n in range(3)]).items()
    }
    facts = {"method": {"name": f"{prefix}method"}, "notes": [f"{prefix}note"],
             "photos": f"{prefix}photos", f"{prefix}fact": {f"{prefix}key": [f"{prefix}value"]},
             "bytes_per_photo": f"{prefix}bytes"}  # fmt: skip
    page, _ = report(path, dataset, predictions, facts, foreign=foreign)
    return page


def test_hostile_text_is_shown_as_text_in_every_place(folder, tmp_path, monkeypatch):
    for prefix, name in (("", "harmless"), (HOSTILE, "hostile")):
        box = Thumbnail(320, 240, b"", f"{prefix} reason")
        monkeypatch.setattr(cases, "thumbnail", lambda path, box=box: box)
        page_with_names(tmp_path / f"{name}.html", folder, prefix)
    harmless, hostile = (
        Page((tmp_path / f"{name}.html").read_text("utf-8")) for name in ("harmless", "hostile")
    )
    for place in ("query3", "d6", "search1", "search2", "condition", "protocol", "rule", "dataset",
                  "stage", "error", "method", "note", "photos", "fact", "key", "value",
                  "bytes", "foreign2", "place"):  # fmt: skip
        assert f"{SHOWN}{place}" in hostile.text, place
    # Apart from the lines of the reason, no name adds, ends or changes an element.
    structures = [
        [(tag, sorted(attributes)) for tag, attributes in page.elements if tag != "text"]
        for page in (harmless, hostile)
    ]
    assert structures[0] == structures[1]
    assert not re.search("[\u202e\udcff]", (tmp_path / "hostile.html").read_text("utf-8"))


@pytest.mark.parametrize("reranks", [True, False])
def test_everything_that_is_drawn_lies_inside_its_picture(folder, tmp_path, reranks):
    dataset = town(folder)
    predictions = predicted(dataset, reranks=reranks)

    def matched(search, query, name):
        return np.array([[0, 0, 1, 1], [0.5, 2, -1, np.nan], [0.5, 2, -1, 0.5]], np.float32)

    page, _ = report(tmp_path / "r.html", dataset, predictions, matched=matched)
    points = list(coordinates(page))
    assert len(points) > 100
    for (width, height), x, y in points:
        assert 0 <= x <= width
        assert 0 <= y <= height
    assert page.all("line", stroke="hsl(0, 100%, 65%)")


def test_a_curve_is_drawn_for_each_ranking(folder, tmp_path):
    dataset = town(folder)
    page, _ = report(tmp_path / "r.html", dataset, predicted(dataset))
    assert len(page.all("g", class_="global")) == len(page.all("g", class_="final")) == 2
    assert "Re-ranked" in page.text
    assert "Global ranking: 50.0 % at 1, 100.0 % at 5" in page.text
    for (tag, _), (following, _) in pairwise(page.elements):
        assert tag != "svg" or following == "title"  # for screen readers
    page, _ = report(tmp_path / "s.html", dataset, predicted(dataset, reranks=False))
    assert not page.all("g", class_="global")
    assert len(page.all("g", class_="final")) == 2
    assert "Re-ranked" not in page.text


def test_misses_losses_and_wins_are_shown_highest_score_first(folder, tmp_path):
    dataset = town(folder)
    page, _ = report(tmp_path / "r.html", dataset, predicted(dataset))
    for heading in ("Wrong before and after re-ranking (3)", "Lost by re-ranking (3)",
                    "Won by re-ranking (3)"):  # fmt: skip
        assert heading in page.text
    assert len(page.all("figure", class_="case")) == 9
    assert len(page.all("image")) == 27
    assert page.text.index("Query q3.jpg") < page.text.index("Query q7.jpg")
    assert "Answer d15.jpg wrong · 172 m away · rank 1, score 0.997" in page.text
    assert "Correct d6.jpg right · 3 m away · rank 2, score 0.897" in page.text
    page, _ = report(tmp_path / "s.html", dataset, predicted(dataset, reranks=False))
    assert "Wrong answers (6)" in page.text


def test_a_positive_outside_the_list_is_the_nearest_one(folder, tmp_path):
    dataset = town(folder)
    predictions = {
        key: replace(entry, retrieved=entry.retrieved[:1], reranked=entry.reranked[:1])
        for key, entry in predicted(dataset).items()
    }
    page, _ = report(tmp_path / "r.html", dataset, predictions)
    assert "Correct d6.jpg right · 3 m away · not in the list" in page.text


def test_a_missing_photo_is_a_box_with_the_reason(folder, tmp_path):
    dataset = town(folder)
    search = dataset.searches[0]
    paths = tuple(folder / "missing.jpg" for _ in search.queries.paths)
    queries = replace(search.queries, paths=paths)
    dataset = replace(dataset, searches=(replace(search, queries=queries),))
    page, _ = report(tmp_path / "r.html", dataset, predicted(dataset))
    assert "no such photo" in page.text
    assert len(page.all("rect", class_="missing")) == 9


def test_queries_without_an_answer_are_listed(folder, tmp_path):
    dataset = town(folder)
    predictions = predicted(dataset)
    predictions["", "q0.jpg"] = Prediction("", "q0.jpg", (), error="q0.jpg: empty file")
    del predictions["", "q1.jpg"]
    page, _ = report(tmp_path / "r.html", dataset, predictions)
    assert "2 of 12; each counts as not found." in page.text
    assert "q0.jpg: empty file" in page.text
    assert "no prediction" in page.text


def test_there_is_a_map_for_each_search_that_has_positions(folder, tmp_path):
    dataset = town(folder, searches=("cph", "sf"))
    page, _ = report(tmp_path / "r.html", dataset, predicted(dataset))
    assert len(page.all("svg", class_="map")) == 2
    assert "right first answer (6)" in page.text
    assert "q3.jpg: the answer is 172 m away" in page.text
    dataset = town(folder, positions=False)
    page, _ = report(tmp_path / "s.html", dataset, predicted(dataset))
    assert not page.all("svg", class_="map")


def test_the_same_run_gives_the_same_bytes(folder, tmp_path):
    dataset = town(folder)
    for name in ("a.html", "b.html"):
        report(tmp_path / name, dataset, predicted(dataset))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_page_that_cannot_be_written_is_a_named_error(folder, tmp_path):
    dataset = town(folder)
    (tmp_path / "file").touch()  # in place of a folder
    with pytest.raises(NoRoom, match=r"report\.html"):
        report(tmp_path / "file" / "report.html", dataset, predicted(dataset))


def with_confidence(predictions):
    """Every second answer is .95 sure, the others .45; half of all answers are right."""
    return {
        key: replace(answer, confidence=0.95 if row % 2 else 0.45, in_map=row % 4 != 1)
        for row, (key, answer) in enumerate(predictions.items())
    }


def foreign_answers(names, search=""):
    return {
        (search, f"/foreign/{name}"): Prediction(
            search, f"/foreign/{name}", (("d0.jpg", 0.3),), None, {}, "", 0.2 + 0.1 * n, n > 1
        )
        for n, name in enumerate(names)
    }


def test_the_page_shows_how_sure_the_answers_are(folder, tmp_path):
    dataset = town(folder)
    foreign = foreign_answers(["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    predictions = with_confidence(predicted(dataset))
    page, measured = report(tmp_path / "r.html", dataset, predictions, foreign=foreign)
    for label, name in (("calibration error", "calibration_error"),
                        ("right answers above wrong ones (AUC)", "auc_right_wrong"),
                        ("precision of the surest 75 %", "precision_at_coverage_0.75"),
                        ("right answers refused as not in the map", "right_refused")):  # fmt: skip
        estimate = measured.pooled.confidence[name]
        low, high = 100 * estimate.low, 100 * estimate.high
        assert f"{label} {100 * estimate.value:.1f} {low:.1f}–{high:.1f}" in page.text, name
    # Of the answers of queries 0, 4, 8 (.45) and 1, 5, 9 (.95, refused) all are right.
    assert measured.pooled.confidence["calibration_error"].value == pytest.approx(0.25)
    assert "right answers refused as not in the map 50.0" in page.text
    assert "Photos from elsewhere (4)" in page.text
    assert "foreign photos called in the map 50.0" in page.text
    assert "right answers above foreign photos (AUC) 87.5" in page.text
    assert "Foreign photos called in the map (2)" in page.text
    assert "d.jpg d0.jpg 50.0 c.jpg d0.jpg 40.0" in page.text
    assert "Right queries: 50 % at 45 %, 50 % at 95 %" in page.text
    assert "Right answers: 50.0 % of the surest 50 %" in page.text
    assert len(page.all("g", class_="ideal")) == 1
    assert len(page.all("circle", r="6.45")) == 2  # each bin has half of the answers
    assert (
        "Answer d15.jpg wrong · 172 m away · confidence 95.0 % · rank 1, score 0.997" in page.text
    )
    for (width, height), x, y in coordinates(page):
        assert 0 <= x <= width
        assert 0 <= y <= height


@pytest.mark.parametrize("sure", [True, False])
def test_the_page_says_of_confidence_only_what_there_is(folder, tmp_path, sure):
    dataset = town(folder)
    predictions = predicted(dataset)
    predictions = with_confidence(predictions) if sure else predictions
    page, measured = report(tmp_path / "r.html", dataset, predictions)
    assert ("How sure" in page.text) == sure
    assert "elsewhere" not in page.text
    assert "called in the map" not in page.text
    assert measured.open_set is None


def test_queries_without_positives_have_a_page_without_map_and_pictures(folder, tmp_path):
    dataset = town(folder)
    search = replace(dataset.searches[0], positives=(frozenset(),) * COUNT)
    dataset = replace(dataset, searches=(search,))
    page, _ = report(tmp_path / "r.html", dataset, predicted(dataset))
    assert "12 without a positive" in page.text
    assert not page.all("figure")
