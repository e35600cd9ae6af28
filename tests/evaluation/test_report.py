"""The report of a run: one page that is whole, safe, and says what the scores say."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from placerec.errors import NoRoom
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import on_the_map, on_the_sphere
from placerec.evaluation.predictions import Prediction
from placerec.evaluation.report import write_report
from placerec.evaluation.report.map import Asked, Frame, Plane, query_map
from placerec.evaluation.report.markup import element, number, text
from placerec.evaluation.report.pictures import thumbnail
from placerec.evaluation.scoring.outcomes import outcomes, scores
from placerec.records import Position

COUNT = 12  # queries, and twice as many database photos: 2n and 2n + 1 answer query n
HOSTILE = "<script>alert('q\"')</script>&\u202egpj.\udcff.jpg"
FACTS = {
    "method": {"name": "default", "retrieval": {"name": "default", "settings": {"box": 7}}},
    "versions": {"placerec": "0.1"}, "machine": "Linux <x86_64>", "bytes_per_photo": 31560.4,
    "searches": {"": {"retrieval": {"fingerprint": "ab" * 32, "licence": "Apache-2.0"}}},
}  # fmt: skip
EMPTY = {"meta", "br", "img", "col"}


class Page(HTMLParser):
    """Every element with its attributes, its depth checked; ``words`` are all texts."""

    def __init__(self, source):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag, **attributes):
        return [
            found for name, found, _ in self.elements
            if name == tag and all(found.get(k.rstrip("_")) == v for k, v in attributes.items())
        ]  # fmt: skip


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    for n in range(3):
        Image.new("RGB", (160 + 40 * n, 120), (60 * n, 90, 120)).save(folder / f"{n}.jpg")
    return folder


def photos(folder, names, positions=None, **labels):
    paths = tuple(folder / f"{n % 3}.jpg" for n in range(len(names)))
    return Photos(tuple(names), paths, positions, **labels)


def a_set(folder, *, positions=True, names=None, searches=("",), conditions=()):
    names = names or [f"q{n}.jpg" for n in range(COUNT)]
    east = np.arange(COUNT) * 40.0
    here = on_the_map(east, east / 3) if positions else None
    there = on_the_map(np.repeat(east, 2) + 3, np.repeat(east / 3, 2)) if positions else None
    positives = tuple(frozenset({2 * n, 2 * n + 1}) for n in range(len(names)))
    return Dataset("town", Protocol("25 m", "within 25 m"), tuple(
        Search(name, photos(folder, names, here, conditions=conditions),
               photos(folder, [f"d{n}.jpg" for n in range(2 * COUNT)], there), positives)
        for name in searches
    ))  # fmt: skip


def answer(search, row, first):
    """All database photos, ``first`` at the head, then the right ones."""
    ranked = list(dict.fromkeys([first % (2 * COUNT), 2 * row, 2 * row + 1, *range(2 * COUNT)]))
    names = search.database.names
    return tuple((names[n], 1.0 - 0.1 * rank - 0.001 * row) for rank, n in enumerate(ranked))


def predicted(data, *, reranks=True):
    """Of each four queries: right, won, lost, wrong twice."""
    made = {}
    for search in data.searches:
        for row, name in enumerate(search.queries.names):
            right, wrong = answer(search, row, 2 * row), answer(search, row, 2 * row + 9)
            before, after = [(right, right), (wrong, right), (right, wrong), (wrong, wrong)][
                row % 4
            ]
            times = {"encode": 30.0, "search": 0.4} | ({"rerank": 120.0} if reranks else {})
            made[search.name, name] = Prediction(
                search.name, name, before, after if reranks else None, times
            )
    return made


def report(path, data, made, facts=FACTS, matched=None):
    found = outcomes(data, made)
    measured = scores(data, found)
    write_report(path, data, found, measured, facts, made, matched)
    return Page(path.read_text("utf-8")), measured


def coordinates(page):
    """(SVG, its width and height, x, y) of every point drawn with absolute coordinates."""
    size = None
    for tag, found, _ in page.elements:
        if tag == "svg":
            size = [float(value) for value in found["viewbox"].split()][2:]
        for across, down in (("x", "y"), ("x1", "y1"), ("x2", "y2"), ("cx", "cy")):
            if size and across in found and down in found:
                yield size, float(found[across]), float(found[down])
        for across, down in re.findall(r"[ML](\S+?) ([-\d.naif]+)", found.get("d", "")):
            yield size, float(across), float(down)


def test_the_page_is_whole_and_fetches_and_runs_nothing(drawn, tmp_path):
    page, _ = report(tmp_path / "r.html", a_set(drawn), predicted(a_set(drawn)))
    assert {"html", "head", "body", "table", "svg"} <= {tag for tag, _, _ in page.elements}
    assert not page.all("script")
    for tag, found, _ in page.elements:
        for name, value in found.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href"):
                assert value.startswith("data:image/jpeg;base64,")
    assert "http" not in (tmp_path / "r.html").read_text("utf-8").replace("http-equiv", "")
    assert not list(tmp_path.glob("*.partial"))


def test_the_numbers_are_those_of_the_scores(drawn, tmp_path):
    data = a_set(drawn, conditions=("day", "night") * (COUNT // 2))
    page, measured = report(tmp_path / "r.html", data, predicted(data))
    pooled = measured.pooled
    labels = {"pr_auc": "precision-recall, area",
              "recall_at_full_precision": "recall at 100 % precision"}  # fmt: skip
    for name in ("recall@1", "mAP@10", "positives_found@5", *labels):
        both = [
            f"{100 * one.value:.1f} {100 * one.low:.1f}–{100 * one.high:.1f}"
            for one in (pooled.retrieved[name], pooled.reranked[name])
        ]
        found = rf"{labels.get(name, name)} {both[0]}(?: \w)? {both[1]}"
        assert re.search(found, page.text), found
    for name, group in measured.conditions.items():
        found = group.retrieved["recall@1"]
        assert f"{name} 6 {100 * found.value:.1f} {100 * found.low:.1f}" in page.text
    for told in ("50.0 %", "150 ms", "Time of a query 30 ms 150 ms", "31.6 kB", data.hash, "box 7",
                 "25 m : within 25 m", "ab" * 32, "Apache-2.0", "Linux <x86_64>"):  # fmt: skip
        assert told in page.text


def test_a_measure_without_a_value_is_a_dash_with_its_reason(drawn, tmp_path):
    data = a_set(drawn)
    made = {
        key: replace(one, retrieved=one.retrieved[:7], reranked=one.reranked[:7])
        for key, one in predicted(data).items()
    }
    page, _ = report(tmp_path / "r.html", data, made)
    marked = re.search(r"recall@10 – (\w) – (\w) ", page.text)
    assert marked
    assert marked[1] == marked[2]
    assert f"{marked[1]} the lists end at 7." in page.text


def test_hostile_names_and_errors_are_shown_as_text(drawn, tmp_path):
    names = [HOSTILE, *(f"q{n}.jpg" for n in range(1, COUNT))]
    data = a_set(drawn, names=names, searches=("<b>one", '"two'), conditions=(HOSTILE,) * COUNT)
    made = predicted(data)
    made["<b>one", "q3.jpg"] = Prediction("<b>one", "q3.jpg", (), (), error=HOSTILE)
    made["<b>one", HOSTILE] = made["<b>one", "q1.jpg"]
    page, _ = report(tmp_path / "r.html", data, made, FACTS | {"note": HOSTILE, HOSTILE: [HOSTILE]})
    assert not page.all("script")
    assert not page.all("b")
    shown = "<script>alert('q\"')</script>&\\u202egpj.\\udcff.jpg"
    assert page.text.count(shown) > 5
    assert "\u202e" not in (tmp_path / "r.html").read_text("utf-8")


def test_markup_is_escaped_once_and_text_always():
    made = element("td", "a<b", element("i", 'c"'), title='"><x')
    assert made == '<td title="&quot;&gt;&lt;x">a&lt;b<i>c&quot;</i></td>'
    assert text(text("&")) == "&amp;"
    assert element("p", "\x00\x1b[1m é 日") == "<p>\\x00\\x1b[1m é 日</p>"
    assert [number(x) for x in (0.0, -0.001, 1.0, 100.0, 2.349)] == ["0", "0", "1", "100", "2.35"]


@pytest.mark.parametrize("reranks", [True, False])
def test_everything_that_is_drawn_lies_inside_its_picture(drawn, tmp_path, reranks):
    data = a_set(drawn)

    def matched(search, query, name):
        return np.array([[0, 0, 1, 1], [0.5, 2, -1, np.nan], [0.5, 2, -1, 0.5]], np.float32)

    page, _ = report(tmp_path / "r.html", data, predicted(data, reranks=reranks), matched=matched)
    points = list(coordinates(page))
    assert len(points) > 100
    for (width, height), x, y in points:
        assert 0 <= x <= width
        assert 0 <= y <= height
    assert page.all("line", stroke="#ff4d4d")


def test_a_curve_is_drawn_for_each_ranking(drawn, tmp_path):
    data = a_set(drawn)
    both, _ = report(tmp_path / "r.html", data, predicted(data))
    assert len(both.all("g", class_="global")) == len(both.all("g", class_="final")) == 2
    assert "Re-ranked" in both.text
    assert "Global ranking: 50.0 % at 1, 100.0 % at 5" in both.text
    for where in [i for i, one in enumerate(both.elements) if one[0] == "svg"]:
        assert both.elements[where + 1][0] == "title"  # for screen readers
    one, _ = report(tmp_path / "s.html", data, predicted(data, reranks=False))
    assert not one.all("g", class_="global")
    assert len(one.all("g", class_="final")) == 2
    assert "Re-ranked" not in one.text


def test_misses_losses_and_wins_are_shown_the_surest_first(drawn, tmp_path):
    data = a_set(drawn)
    page, _ = report(tmp_path / "r.html", data, predicted(data))
    for told in ("Wrong before and after re-ranking (3)", "Lost by re-ranking (3)",
                 "Won by re-ranking (3)"):  # fmt: skip
        assert told in page.text
    assert len(page.all("figure", class_="case")) == 9
    assert len(page.all("image")) == 27
    assert page.text.index("Query q3.jpg") < page.text.index("Query q7.jpg")
    assert "Answer d15.jpg wrong · 172 m away · rank 1, score 0.997" in page.text
    assert "Correct d6.jpg right · 3 m away · rank 2, score 0.897" in page.text
    retrieved, _ = report(tmp_path / "s.html", data, predicted(data, reranks=False))
    assert "Wrong answers (6)" in retrieved.text


def test_a_photo_that_is_gone_is_a_box_with_the_reason(drawn, tmp_path):
    data = a_set(drawn)
    search = data.searches[0]
    gone = replace(search.queries, paths=tuple(drawn / "gone.jpg" for _ in search.queries.paths))
    data = replace(data, searches=(replace(search, queries=gone),))
    page, _ = report(tmp_path / "r.html", data, predicted(data))
    assert "no such photo" in page.text
    assert len(page.all("rect", class_="missing")) == 9


def test_queries_without_an_answer_are_listed(drawn, tmp_path):
    data = a_set(drawn)
    made = predicted(data)
    made["", "q0.jpg"] = Prediction("", "q0.jpg", (), error="q0.jpg: empty file")
    del made["", "q1.jpg"]
    page, _ = report(tmp_path / "r.html", data, made)
    assert "2 of 12; each counts as not found." in page.text
    assert "q0.jpg: empty file" in page.text
    assert "no prediction" in page.text


def test_there_is_a_map_for_each_search_that_has_positions(drawn, tmp_path):
    data = a_set(drawn, searches=("cph", "sf"))
    page, _ = report(tmp_path / "r.html", data, predicted(data))
    assert len(page.all("svg", class_="map")) == 2
    assert "right first answer (6)" in page.text
    assert "taken for a place" in page.text
    data = a_set(drawn, positions=False)
    page, _ = report(tmp_path / "s.html", data, predicted(data))
    assert not page.all("svg", class_="map")


def test_points_of_the_sphere_keep_their_distances_and_north_is_up():
    places = [Position(52.2, 0.12), Position(52.201, 0.12), Position(52.2, 0.122)]
    points = on_the_sphere(places)
    flat = Plane.of(points, points).flat(points)
    assert np.linalg.norm(flat[1] - flat[0]) == pytest.approx(111.195, abs=0.01)
    assert flat[1, 1] > flat[0, 1]
    assert flat[2, 0] > flat[0, 0]
    placed = Frame.around(flat).place(flat)
    assert placed[1, 1] < placed[0, 1]
    assert placed[2, 0] > placed[0, 0]


def test_only_the_region_of_most_queries_is_drawn():
    points = np.concatenate(
        [on_the_map([0.0, 100.0], [0.0, 50.0], 31), on_the_map([0.0], [0.0], 32)]
    )
    flat = Plane.of(points, points).flat(points)
    assert flat[:2].tolist() == [[0, 0], [100, 50]]
    assert np.isnan(flat[2]).all()
    asked = [Asked(str(n), point, point, True) for n, point in enumerate(points)]
    assert "1 not drawn: no position here" in query_map("Queries", asked, points)


def test_a_large_map_has_a_bounded_size():
    random = np.random.default_rng(0)
    points = on_the_map(random.uniform(0, 5000, 60_000), random.uniform(0, 5000, 60_000))
    asked = [Asked(str(n), point, points[-n], n % 2 == 0) for n, point in enumerate(points[:3000])]
    drawn = query_map("Queries", asked, points)
    assert drawn.count("<title>") == 1 + 375
    assert len(drawn) < 300_000


def test_a_thumbnail_is_small_whatever_the_photo(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    small = thumbnail(tmp_path / "noise.png")
    assert (small.width, small.height) == (320, 320)
    assert len(small.data) < 20_000
    (tmp_path / "text.jpg").write_text("no photo")
    assert "not an image" in thumbnail(tmp_path / "text.jpg").reason


def test_the_same_run_gives_the_same_bytes(drawn, tmp_path):
    data = a_set(drawn)
    for name in ("a.html", "b.html"):
        report(tmp_path / name, data, predicted(data))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_page_that_cannot_be_written_is_a_named_error(drawn, tmp_path):
    data = a_set(drawn)
    (tmp_path / "none").touch()  # a file, where a folder is needed
    with pytest.raises(NoRoom, match=r"report\.html"):
        report(tmp_path / "none" / "report.html", data, predicted(data))


def test_a_set_whose_truth_is_hidden_has_a_page_without_map_and_pictures(drawn, tmp_path):
    data = a_set(drawn)
    hidden = replace(data.searches[0], positives=(frozenset(),) * COUNT)
    data = replace(data, searches=(hidden,))
    page, _ = report(tmp_path / "r.html", data, predicted(data))
    assert "12 without a positive" in page.text
    assert not page.all("figure")
