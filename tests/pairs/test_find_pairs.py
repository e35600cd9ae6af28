"""Which photos are paired, what the pairs connect, and what is refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from placerec.errors import NotFound, UsageError
from placerec.index.build import build_index
from placerec.pairs import Pair, find_pairs
from placerec.pairs.graph import islands_of, look_alikes
from placerec.recognise import PlaceRecognizer
from placerec.records import Answer
from placerec.runtime import Runtime
from placerec.workers import single_threaded_blas

WITHIN = [
    (f"p{place}/v{one}.png", f"p{place}/v{two}.png")
    for place in range(3)
    for one, two in ((0, 1), (0, 2), (1, 2))
]


def names(pairs):
    return [(pair.first, pair.second) for pair in pairs]


def with_confidence(monkeypatch, confidence):
    """Let each place have the confidence that ``confidence`` gives to it."""
    answer = PlaceRecognizer.answer

    def answered(self, *arguments):
        result = answer(self, *arguments)
        places = [replace(place, confidence=confidence(place)) for place in result.places]
        return replace(result, places=tuple(places))

    monkeypatch.setattr(PlaceRecognizer, "answer", answered)


def test_photos_of_a_place_are_paired_once_in_the_order_of_names(recognizer):
    graph = find_pairs(recognizer, top=2)
    assert names(graph.pairs) == WITHIN
    assert all(pair.score > 0.2 and pair.metres < 5 for pair in graph.pairs)
    assert [pair.confidence for pair in graph.pairs] == [None] * 9


def test_islands_are_the_places_and_joins_connect_them(recognizer):
    graph = find_pairs(recognizer, top=2)
    assert graph.islands == tuple(
        tuple(f"p{place}/v{view}.png" for view in range(3)) for place in range(3)
    )
    asked = {name for pair in names(graph.joins) for name in pair if not name.startswith("p0")}
    assert asked == {name for island in graph.islands[1:] for name in island}
    all_names = [entry.name for entry in recognizer.index.entries]
    assert islands_of(all_names, names(graph.pairs + graph.joins)) == (tuple(all_names),)
    scores = [pair.score for pair in graph.joins]
    assert scores == sorted(scores, reverse=True)
    assert max(scores) < min(pair.score for pair in graph.pairs)
    joined = find_pairs(recognizer, top=2, join=True)
    assert set(joined.pairs) == {*graph.pairs, *graph.joins}
    assert names(joined.pairs) == sorted(names(joined.pairs))
    assert (joined.islands, joined.joins) == ((tuple(all_names),), ())
    everything = find_pairs(recognizer, top=8)
    assert len(everything.pairs) == 9 * 8 / 2
    assert (len(everything.islands), everything.joins) == (1, ())


def test_of_two_directions_the_higher_score_counts(recognizer):
    index, scores = recognizer.index, {}
    with single_threaded_blas():
        for row, entry in enumerate(index.entries):
            for place in recognizer.answer("", recognizer.stored(row), 8, {row}).places:
                scores[entry.name, place.path] = place.score
    for pair in find_pairs(recognizer, top=8).pairs:
        both = scores[pair.first, pair.second], scores[pair.second, pair.first]
        assert pair.score == max(both)


def test_rows_that_are_left_out_are_as_if_they_were_not_in_the_index(walk, recognizer, tmp_path):
    kept = [entry.name for entry in recognizer.index.entries if entry.name != "p0/v1.png"]
    build_index(tmp_path / "less.placerec", walk, names=kept, settings=recognizer.settings)
    query = recognizer.model.describe(recognizer.read(walk / "p0" / "v0.png").pixels, stride=1)
    with PlaceRecognizer.open(tmp_path / "less.placerec") as less:
        expected = [(place.path, place.score) for place in less.answer("", query, 9).places]
    assert "p0/v1.png" in [place.path for place in recognizer.answer("", query, 3).places]
    places = recognizer.answer("", query, 9, {1}).places
    assert [(place.path, place.score) for place in places] == expected
    assert len(expected) == 8


def test_a_sequence_joins_neighbours_of_a_folder(recognizer):
    graph = find_pairs(recognizer, top=1, sequence=1)
    neighbours = [(f"p{p}/v{v}.png", f"p{p}/v{v + 1}.png") for p in range(3) for v in range(2)]
    assert set(neighbours) <= set(names(graph.pairs)) <= set(WITHIN)
    assert names(find_pairs(recognizer, top=1, sequence=9).pairs) == WITHIN


def test_a_pair_of_a_sequence_alone_has_no_score(recognizer, monkeypatch):
    with_confidence(monkeypatch, lambda place: 0.5)
    monkeypatch.setattr(PlaceRecognizer, "answer", lambda *_: Answer("", ()))
    graph = find_pairs(recognizer, sequence=2)
    assert names(graph.pairs) == WITHIN
    assert {(pair.score, pair.confidence) for pair in graph.pairs} == {(None, None)}
    assert graph.joins == ()
    assert len(graph.islands) == 3


def test_only_sure_answers_are_pairs_and_a_sequence_stays(recognizer, monkeypatch):
    with_confidence(monkeypatch, lambda place: 0.9 if place.path.startswith("p0") else 0.2)
    graph = find_pairs(recognizer, top=2, sure=0.5)
    assert names(graph.pairs) == WITHIN[:3]
    assert [pair.confidence for pair in graph.pairs] == [0.9] * 3
    assert [len(island) for island in graph.islands] == [3, 1, 1, 1, 1, 1, 1]
    assert {pair.confidence for pair in graph.joins} == {None}
    assert islands_of(graph.islands[0], names(graph.pairs)) == graph.islands[:1]
    both = find_pairs(recognizer, top=2, sure=0.5, sequence=1)
    assert names(both.pairs) == [*WITHIN[:3], *(WITHIN[n] for n in (3, 5, 6, 8))]
    assert [pair.confidence for pair in both.pairs] == [0.9] * 3 + [0.2] * 4


def test_sure_needs_a_calibrated_index(recognizer):
    with pytest.raises(UsageError, match=r"have no confidence \(only the default method"):
        find_pairs(recognizer, sure=0.9)


def test_an_answer_without_confidence_after_the_first_is_not_sure(recognizer, monkeypatch):
    with_confidence(monkeypatch, lambda place: 0.9 if place.rank == 1 else None)
    graph = find_pairs(recognizer, top=8, sure=0)
    assert {pair.confidence for pair in graph.pairs} == {0.9, None}
    assert {pair.confidence for pair in find_pairs(recognizer, sure=0.5).pairs} == {0.9}


def test_only_sure_answers_need_the_photos(walk, recognizer, tmp_path, monkeypatch):
    folder, index = shutil.copytree(walk, tmp_path / "walk"), tmp_path / "a.placerec"
    build_index(index, folder, settings=recognizer.settings)
    (folder / "p0" / "v0.png").unlink()
    with PlaceRecognizer.open(index) as copy:
        assert names(find_pairs(copy, top=2).pairs) == WITHIN
        with_confidence(monkeypatch, lambda place: 1.0)
        with pytest.raises(NotFound, match=r"p0/v0\.png"):
            find_pairs(copy, sure=0.5)


def test_a_photo_without_structure_is_in_no_pair(walk, recognizer, tmp_path):
    folder = shutil.copytree(walk, tmp_path / "walk")
    Image.fromarray(np.zeros((240, 320, 3), np.uint8)).save(folder / "p1" / "dark.png")
    build_index(tmp_path / "a.placerec", folder, settings=recognizer.settings)
    with PlaceRecognizer.open(tmp_path / "a.placerec") as darker:
        graph = find_pairs(darker, top=9, sequence=9)
    assert graph.blank == ("p1/dark.png",)
    assert len(graph.pairs) == 9 * 8 / 2
    assert not any("dark" in name for pair in names(graph.pairs) for name in pair)


def test_the_pairs_are_equal_for_any_number_of_threads(walk_index, recognizer):
    with PlaceRecognizer.open(walk_index, runtime=Runtime(threads=3)) as other:
        assert find_pairs(other, top=4) == find_pairs(recognizer, top=4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"top": 0}, {"top": "5"}, {"sequence": -1}, {"sequence": 1.5}, {"sure": 1.1},
        {"sure": "a"}, {"far": -1}, {"far": None},
    ],
)  # fmt: skip
def test_a_wrong_number_is_refused_by_its_name(recognizer, wrong):
    with pytest.raises(UsageError, match=f"^{next(iter(wrong))}: must be "):
        find_pairs(recognizer, **wrong)


def test_islands_are_ordered_by_size_and_name():
    assert islands_of("abcdef", ["fd", "db", "ac"]) == (("b", "d", "f"), ("a", "c"), ("e",))
    assert islands_of("ba", []) == (("b",), ("a",))


def test_a_look_alike_scores_as_high_as_photos_of_one_place():
    near = [Pair("a", "b", 0.5, None, 3.0), Pair("c", "d", 0.3, None, 20.0)]
    far = [Pair("a", "e", 0.3, None, 500.0), Pair("c", "e", 0.41, None, 101.0)]
    others = [Pair("a", "c", 0.6, None, 60.0), Pair("a", "d", 0.9), Pair("b", "e", None, None, 9e3)]
    assert look_alikes([*near, *far, *others], far=100) == (far[1],)  # the median is 0.4
    assert look_alikes([*near, *far, *others], far=50) == (others[0], far[1])
    assert look_alikes([near[1], *far]) == (far[1], far[0])
    assert look_alikes([*far, *others]) == ()
