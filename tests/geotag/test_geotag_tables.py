"""CSV, GPX and GeoJSON of the photos that have a new position, read by their own readers."""

import csv
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from placerec.files import write_text
from placerec.geotag.locate import LOCATED, OUTSIDE, REVIEW, TAGGED, GeoTag
from placerec.geotag.tables import as_csv, as_features, as_gpx
from placerec.photos import read_positions
from placerec.records import Position

HERE, GUESS = Position(-33.9123456, 151.25), Position(1.0, 2.0)
TAKEN = datetime(2024, 5, 1, 12, 0, 0, 250_000)
ZONE = timezone(timedelta(hours=10))
HOSTILE = 'a,"b"\n<&>;=1+1.jpg'
GPX = "{http://www.topografix.com/GPX/1/1}"


def tags(name="in/a.jpg", taken=TAKEN):
    return [
        GeoTag(Path(name), LOCATED, HERE, 0.97312, 12.44, "street/1.jpg", taken),
        GeoTag(
            Path("b.jpg"), REVIEW, GUESS, 0.5, None, "street/2.jpg", None, "0.5 is less than 0.9"
        ),
        GeoTag(Path("c.jpg"), OUTSIDE, why="not in the map"),
        GeoTag(Path("d.jpg"), TAGGED, GUESS),
    ]


@pytest.mark.parametrize("name", ["in/a.jpg", HOSTILE, "caf\udce9.jpg", "東京.jpg"])
def test_a_table_gives_an_index_only_the_positions_that_are_sure(name, tmp_path):
    write_text(tmp_path / "t.csv", as_csv(tags(name)))
    positions = read_positions(tmp_path / "t.csv").by_name
    assert positions == {name: HERE}


def test_a_table_has_every_photo_with_its_status():
    rows = list(csv.DictReader(as_csv(tags()).splitlines()))
    assert [row["status"] for row in rows] == [LOCATED, REVIEW, OUTSIDE, TAGGED]
    assert rows[0] == {
        "image": "in/a.jpg", "latitude": "-33.9123456", "longitude": "151.2500000",
        "radius": "12.4", "confidence": "0.973", "status": LOCATED, "place": "street/1.jpg",
        "why": "",
    }  # fmt: skip
    assert [row["latitude"] for row in rows[1:]] == ["", "", ""]
    assert (rows[1]["confidence"], rows[1]["why"]) == ("0.500", "0.5 is less than 0.9")


@pytest.mark.parametrize(
    ("taken", "time"),
    [(TAKEN, None), (TAKEN.replace(tzinfo=ZONE), "2024-05-01T02:00:00.250000Z"), (None, None),
     (datetime(1, 1, 1, tzinfo=ZONE), None)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["in/a.jpg", HOSTILE, "caf\udce9\x01\uffff.jpg"])
def test_a_gpx_file_has_a_waypoint_of_each_new_position(name, taken, time):
    root = ET.fromstring(as_gpx(tags(name, taken)).encode())
    (point,) = root
    assert root.attrib == {"version": "1.1", "creator": "placerec"}
    assert (point.tag, point.attrib) == (f"{GPX}wpt", {"lat": "-33.9123456", "lon": "151.2500000"})
    children = {child.tag.removeprefix(GPX): child.text for child in point}
    assert children.pop("time", None) == time
    shown = {HOSTILE: r'a,"b"\n<&>;=1+1.jpg', "caf\udce9\x01\uffff.jpg": r"caf\xe9\x01\uffff.jpg"}
    assert children == {"name": shown.get(name, name), "desc": "sure 0.97, within 12 m"}


def test_geojson_has_a_feature_with_its_filename():
    (feature,) = as_features(tags("caf\udce9.jpg"))
    assert json.loads(json.dumps(feature)) == {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [151.25, -33.9123456]},
        "properties": {"filename": "caf\udce9.jpg", "confidence": 0.97312, "radius": 12.44,
                       "place": "street/1.jpg"},
    }  # fmt: skip


def test_without_a_new_position_the_files_are_empty_and_valid():
    assert len(ET.fromstring(as_gpx(tags()[1:]).encode())) == 0
    assert as_features(tags()[1:]) == []
    assert len(as_csv([]).splitlines()) == 1
