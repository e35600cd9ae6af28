"""``placerec query --track FILE``: the path through photos as GPX and CSV."""

import csv
import json
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from PIL import ExifTags, Image

from placerec import PlaceRecognizer
from placerec.photos import track as gpx_reader
from placerec.recognise import track
from placerec.recognise.forms import track_as_csv, track_as_gpx
from placerec.recognise.track import TrackPoint
from placerec.records import Answer, Place, Position

GPX = "{http://www.topografix.com/GPX/1/1}"
NOON = datetime(2024, 5, 1, 12)
OFF = "x"  # begins the name of a photo that is off the map


def at(number):
    return Position(45.0 + number / 10_000, 30.0)


def answered(self, photo, top=5, **_):
    """The place is the last digit of the photo's name; a second place is far away."""
    number, in_map = int(Path(photo.path).stem[-1]), Path(photo.path).name[0] != OFF
    score, cosine = (0.3, 0.5) if in_map else (0.001, 0.1)
    places = [
        Place(1, f"place_00{number}.jpg", score, cosine, at(number), (), 0.9 if in_map else 0.05),
        Place(2, f"place_00{(number + 3) % 6}.jpg", score / 2, cosine, at(900), (), 0.05),
    ]
    return Answer(photo.path, tuple(places[:top]), in_map=in_map)


@pytest.fixture
def query(command, town_index, tmp_path, monkeypatch):
    """Run ``query`` on photos of these names, taken in this order; the index is calibrated."""
    monkeypatch.setattr(PlaceRecognizer, "query", answered)
    monkeypatch.setattr(track, "require_confidence", lambda recognizer: None)
    monkeypatch.chdir(tmp_path)

    def run(*names, words=(), code=0, taken=True):
        for n, name in enumerate(names):
            exif, tag = Image.Exif(), ExifTags.Base
            if taken:
                time = f"{NOON + timedelta(seconds=10 * n):%Y:%m:%d %H:%M:%S}"
                exif[ExifTags.IFD.Exif] = {
                    tag.DateTimeOriginal: time,
                    tag.OffsetTimeOriginal: "+00:00",
                }
            Image.new("RGB", (64, 48), "grey").save(tmp_path / name, exif=exif)
        result, out, err = command("query", town_index, *(words or names))
        assert result == code, (result, out, err)
        return out, err

    return run


def rows_of(path):
    return list(csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines()))


def test_a_table_has_every_frame_in_the_order_of_capture_times(query):
    out, _ = query("c1.jpg", "b2.jpg", "a3.jpg", words=("--track", "t.csv", "--top", "1", "."))
    assert out.splitlines()[-1] == "track: t.csv"
    ranks = [line.split()[0] for line in out.splitlines() if line.split()[0] in "12"]
    assert ranks == ["1"] * 3  # only the top is printed
    rows = rows_of("t.csv")
    assert [row["query"] for row in rows] == ["c1.jpg", "b2.jpg", "a3.jpg"]
    assert rows[1]["time"] == "2024-05-01T12:00:10+00:00"
    assert (rows[1]["place"], rows[1]["alone"]) == ("place_002.jpg", "place_002.jpg")
    assert (rows[1]["latitude"], rows[1]["longitude"]) == ("45.0002000", "30.0000000")
    assert 0.5 < float(rows[1]["confidence"]) <= 1


def test_frames_without_capture_times_are_in_the_order_of_their_names(query):
    query("c1.jpg", "b2.jpg", words=("--track", "t.csv", "."), taken=False)
    assert [(row["query"], row["time"]) for row in rows_of("t.csv")] == [
        ("b2.jpg", ""), ("c1.jpg", ""),
    ]  # fmt: skip


def test_a_stretch_off_the_map_ends_a_segment_and_is_in_the_table_without_a_place(query):
    names = ("a1.jpg", "b2.jpg", "x3.jpg", "x4.jpg", "x5.jpg", "f4.jpg")
    query(*names, words=("--track", "t.gpx", *names))
    query(*names, words=("--track", "t.csv", *names))
    rows = rows_of("t.csv")
    assert [row["place"] for row in rows] == [
        "place_001.jpg", "place_002.jpg", "", "", "", "place_004.jpg",
    ]  # fmt: skip
    assert (rows[2]["latitude"], rows[2]["alone"]) == ("", "place_003.jpg")
    root = ET.fromstring(Path("t.gpx").read_bytes())
    segments = [[p.attrib["lat"] for p in part] for part in root.iter(f"{GPX}trkseg")]
    assert segments == [["45.0001000", "45.0002000"], ["45.0004000"]]
    assert [name.text for name in root.iter(f"{GPX}name")] == ["a1.jpg", "b2.jpg", "f4.jpg"]


def test_a_gpx_track_is_read_as_one(query):
    query("a1.jpg", "b2.jpg", "c3.jpg", words=("--track", "t.gpx", "."))
    walk = gpx_reader.read_track(Path("t.gpx"))
    assert [time.replace(tzinfo=None) - NOON for time in walk.times] == [
        timedelta(seconds=10 * n) for n in range(3)
    ]
    assert walk.points == ((45.0001, 30.0), (45.0002, 30.0), (45.0003, 30.0))


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--track", "t.txt", "a1.jpg"), 2, "a track has the suffix .csv or .gpx; choose one"),
        (("--track", "a1.jpg", "a1.jpg"), 2, "already exists"),
        (("--track", "nowhere/t.gpx", "a1.jpg"), 3, "no such folder"),
        (("--track", "t.gpx", "--geojson", "t.gpx", "a1.jpg"), 2, "one name for two results"),
    ],
)
def test_a_wrong_file_is_refused_before_any_work(query, tmp_path, words, code, why):
    out, err = query("a1.jpg", words=words, code=code)
    assert out == ""
    assert why in err
    assert [path.name for path in tmp_path.iterdir()] == ["a1.jpg"]


def test_one_file_in_two_spellings_is_one_name_for_two_results(query, tmp_path):
    words = ("--track", "t.gpx", "--geojson", str(tmp_path / "t.gpx"), "a1.jpg")
    assert "one name for two results" in query("a1.jpg", words=words, code=2)[1]


def test_a_small_index_is_refused_before_any_photo_is_asked(command, town_index, town, tmp_path):
    code, out, err = command("query", town_index, town / "queries", "--track", tmp_path / "t.gpx")
    assert (code, out) == (2, "")
    assert "6 photos are too few" in err
    assert list(tmp_path.iterdir()) == []


def test_json_stays_json_and_a_photo_that_cannot_be_read_is_no_frame(query, tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"no photo")
    words = ("--track", "t.csv", "--json", "a1.jpg", "b.jpg")
    out, err = query("a1.jpg", words=words, code=5)
    assert [answer["query"] for answer in json.loads(out)] == ["a1.jpg"]
    assert "b.jpg" in err
    assert [row["query"] for row in rows_of("t.csv")] == ["a1.jpg"]


def test_a_track_without_positions_is_an_empty_gpx_file_and_a_warning(query, monkeypatch):
    monkeypatch.setitem(globals(), "at", lambda number: None)
    _, err = query("a1.jpg", words=("--track", "t.gpx", "a1.jpg"))
    assert "it has no point" in err
    assert list(ET.fromstring(Path("t.gpx").read_bytes())) == []


def test_seconds_are_in_the_table_and_not_in_the_gpx_file():
    place = Place(1, "a.jpg", 0.3, 0.5, at(1), (), 0.9)
    points = [TrackPoint("walk.mp4#t=2.500", 2.5, place, 0.9, at(1), place)]
    (row,) = csv.DictReader(track_as_csv(points).splitlines())
    assert (row["query"], row["time"]) == ("walk.mp4#t=2.500", "2.500")
    assert "<time>" not in track_as_gpx(points)
