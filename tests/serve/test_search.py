"""The page's answers: stages, values, exports, photos, and an index that changes meanwhile."""

import io
import sys
import threading
from queue import Queue

import numpy as np
import pytest
from PIL import Image

from placerec.index.update import add_photos, remove_photos
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.records import Answer, Grid, Match, Place
from placerec.serve import search
from placerec.serve.align import alignment
from serve.serve_support import answer_of, get, post, running

STAGES = ["wait", "describe", "shortlist", "compare patches", "decide"]


@pytest.fixture
def photo(town):
    return (town / "queries" / "night_000.jpg").read_bytes()


def test_a_search_says_its_stages_and_then_the_answer_of_the_library(server, photo, town_index):
    *stages, last = post(server, photo).lines
    assert [line["stage"] for line in stages] == STAGES
    with PlaceRecognizer.open(town_index) as recognizer, Image.open(io.BytesIO(photo)) as image:
        expected = recognizer.query(image, top=9)
    places = last["answer"]["places"]
    assert [place["path"] for place in places] == [place.path for place in expected.places]
    assert places[0]["score"] == pytest.approx(expected.best.score, abs=1e-6)
    assert places[0]["number"] == 0
    assert list(last["answer"]["milliseconds"]) == STAGES[1:]
    assert all(value >= 0 for value in last["answer"]["milliseconds"].values())


def number_of(reply):
    return reply.lines[-1]["answer"]["number"]


def test_an_answer_is_kept_for_its_address_and_for_another_tab(server, photo):
    number = number_of(post(server, photo))
    assert number_of(post(server, photo)) == number + 1
    assert get(server, f"/api/answers/{number}").json["places"][0]["path"] == "place_000.jpg"
    assert get(server, f"/query/{number}").headers["Content-Type"] == "image/jpeg"
    pair = get(server, f"/api/answers/{number}/pairs/1").json
    assert pair["query_size"] == pair["photo_size"] == [640, 480]
    assert 6 <= len(pair["lines"]) <= 40
    assert np.array(pair["lines"]).shape[1] == 8
    assert get(server, f"/api/answers/{number}/pairs/7").status == 404


def test_only_the_last_answers_are_kept(town_index, answers, photo, monkeypatch):
    monkeypatch.setattr(search, "KEPT_ANSWERS", 2)
    answers(answer_of("place_000.jpg"))
    with running(town_index) as server:
        assert [number_of(post(server, photo)) for _ in range(3)] == [1, 2, 3]
        forgotten = get(server, "/api/answers/1")
        assert get(server, "/api/answers/2").status == 200
    assert forgotten.status == 404
    assert "ask for the photo again" in forgotten.json["error"]


@pytest.mark.parametrize(
    "answer",
    [
        answer_of("place_002.jpg", "place_000.jpg"),
        answer_of("place_002.jpg", in_map=False, sure=0.02),
        answer_of("place_002.jpg", in_map=None, sure=None, uncalibrated="too few photos"),
        Answer("asked.jpg", (), "nothing to recognise"),
    ],
    ids=["here", "not in map", "uncalibrated", "blank"],
)
def test_exports_have_the_values_of_the_answer(server, photo, answers, answer):
    answers(answer)
    number = number_of(post(server, photo))
    reply = get(server, f"/api/answers/{number}.json")
    assert reply.headers["Content-Disposition"] == f'attachment; filename="answer_{number}.json"'
    content = reply.json
    assert content["in_map"] is answer.in_map
    assert content["uncalibrated"] == answer.uncalibrated
    assert [p["confidence"] for p in content["places"]] == [p.confidence for p in answer.places]
    geojson = get(server, f"/api/answers/{number}.geojson").json
    points = [feature["geometry"]["coordinates"] for feature in geojson["features"]]
    expected = [[p.position.longitude, p.position.latitude] for p in answer.places]
    if answer.where:
        assert content["where"]["radius_95"] == 12.0
        assert geojson["features"][0]["properties"]["radius_68"] == 7.0
        expected.insert(0, [30.001, 45.0])
    assert points == expected


def test_photos_come_without_exif_and_in_the_size_asked_for(server, town):
    with Image.open(town / "database" / "place_000.jpg") as image:
        assert image.getexif()
    for path, size in {"/photo/0": (640, 480), "/photo/0/small": (240, 180)}.items():
        image = Image.open(io.BytesIO(get(server, path).body))
        assert (image.size, dict(image.getexif()), image.info.get("comment")) == (size, {}, None)


def test_the_map_has_every_photo_with_its_number_and_position(server):
    content = get(server, "/api/map").json
    assert [photo[:2] for photo in content["photos"]] == [
        [number, f"place_{number:03}.jpg"] for number in range(6)
    ]
    assert content["photos"][1][2:] == pytest.approx([44.9999838, 30.0005082], abs=1e-6)
    assert (content["index"], content["tiles"]) == ("town.placerec", "")


def test_numbers_stay_while_the_index_changes(own_index, photo):
    index, photos = own_index
    remove_photos(index, [photos / "place_001.jpg"])
    with running(index) as server:
        before = {name: number for number, name, *_ in get(server, "/api/map").json["photos"]}
        add_photos(index, [photos / "place_001.jpg"])
        remove_photos(index, [photos / "place_004.jpg"])
        answer = post(server, photo).lines[-1]["answer"]
        content = get(server, "/api/map").json
        after = {name: number for number, name, *_ in content["photos"]}
    assert answer["version"] == content["version"] == 1
    assert "place_004.jpg" not in after
    assert after["place_001.jpg"] == 5
    assert {name: after[name] for name in before if name in after} == {
        name: number for name, number in before.items() if name != "place_004.jpg"
    }


def test_every_search_is_answered_while_photos_are_added(own_index, photo):
    index, photos = own_index
    remove_photos(index, [photos / "place_000.jpg", photos / "place_001.jpg"])
    with running(index) as server:
        adding = threading.Thread(target=add_photos, args=(index, [photos]))
        adding.start()
        during = [post(server, photo).lines[-1]["answer"]["places"] for _ in range(3)]
        adding.join()
        after = post(server, photo).lines[-1]["answer"]["places"]
    assert {len(places) for places in during} <= {4, 6}
    assert after[0]["path"] == "place_000.jpg"


def test_a_deleted_index_is_named_and_the_page_stays(own_index, photo):
    index, _ = own_index
    with running(index) as server:
        index.unlink()
        assert "own.placerec" in post(server, photo).lines[-1]["error"]
        assert get(server, "/").status == 200


def test_a_bug_is_said_once_and_the_next_search_works(town_index, photo, answers, monkeypatch):
    said = []
    with running(town_index, log=said.append) as server:
        monkeypatch.setattr(PlaceRecognizer, "query", lambda *_: 1 / 0)
        assert "a bug in placerec" in post(server, photo).lines[-1]["error"]
        answers(answer_of("place_000.jpg"))
        assert post(server, photo).lines[-1]["answer"]["places"]
    assert said == ["a bug in placerec (ZeroDivisionError: division by zero)"]


def place_with(source, target, size):
    """A place whose matches join cells ``source`` and ``target`` (n,) of two grids of one size."""
    grid = Grid((1, 1), *size, 1)
    pairs = np.stack((target, source), axis=1)
    return Place(1, "x.jpg", 1.0, 1.0, None, (Match(1.0, pairs, grid, grid),))


def test_photos_are_laid_over_each_other_in_spite_of_wrong_matches():
    rows, columns = 48, 64
    row, column = np.mgrid[0:20, 0:30:3].reshape(2, -1)
    source = row * columns + column
    target = (row + 9) * columns + column + 14
    target[::7] = (row[::7] * 5) % rows * columns  # one in seven is wrong
    matrix = alignment(place_with(source, target, (rows, columns)), (640, 480), (320, 240))
    # Half the size, so twice as large: 14 cells of 10 pixels to the right, 9 down.
    assert matrix == pytest.approx([2, 0, 0, 2, 140, 90], abs=0.05 * 140)


def test_too_few_matches_lay_nothing_over():
    five = np.arange(5)
    assert alignment(place_with(five, five, (10, 10)), (640, 480), (640, 480)) is None
    same = np.zeros(9, np.int64)
    assert alignment(place_with(same, same, (10, 10)), (640, 480), (640, 480)) is None
    assert alignment(Place(1, "x.jpg", 1.0, 1.0), (640, 480), (640, 480)) is None


def interrupted(_):
    raise KeyboardInterrupt


@pytest.fixture
def opened(monkeypatch):
    """The addresses that the command opens; the page then ends as by Ctrl-C."""
    addresses = Queue()
    monkeypatch.setattr("webbrowser.open", addresses.put)
    monkeypatch.setattr("placerec.serve.PageServer.serve_forever", interrupted)
    return addresses


def test_the_command_says_where_the_page_is_and_opens_it(command, town_index, opened):
    code, out, err = command("serve", town_index, "--port", "0")
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"page: {opened.get(timeout=20)}", "Ctrl-C ends it.", "ended"]


def test_the_command_opens_no_browser_where_none_is_wanted(
    command, town_index, opened, monkeypatch
):
    monkeypatch.setattr(sys.modules["placerec.cli.serve"], "Thread", None)
    code, out, _ = command("serve", town_index, "--port", "0", "--no-browser")
    assert (code, out.splitlines()[-1]) == (0, "ended")


def test_the_command_refuses_what_is_no_index(command, town, opened):
    code, _, err = command("serve", town / "poses.csv")
    assert (code, opened.qsize()) == (3, 0)
    assert "not a placerec index" in err
