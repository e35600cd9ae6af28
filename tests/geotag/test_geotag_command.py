"""``placerec geotag`` from a shell: what it prints, what it writes, what it leaves alone."""

import json
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from placerec import PlaceRecognizer
from placerec.geotag import geotag_photos
from placerec.photos import read_position, read_positions
from placerec.records import Answer, Place, Position, Where

HERE = Position(45.5, 30.25)
ANSWERS = {  # by the first letter of a photo's name: in_map, confidence
    "s": (True, 0.97), "u": (True, 0.5), "o": (False, 0.01), "n": (None, None),
}  # fmt: skip


def answered(self, photo, top):
    in_map, confidence = ANSWERS[Path(photo.path).name[0]]
    place = Place(1, "place_000.jpg", 0.5, 0.5, HERE, (), confidence)
    where = Where(HERE, 5.0, 12.0) if in_map else None
    return Answer(photo.path, (place,), "", in_map, where, "" if confidence else "only 6 photos")


@pytest.fixture
def geotag(command, town_index, tmp_path, monkeypatch):
    """Run ``geotag`` on photos of these names; return stdout and stderr."""
    monkeypatch.setattr(PlaceRecognizer, "query", answered)
    monkeypatch.chdir(tmp_path)

    def run(*words, code=0):
        result, out, err = command("geotag", town_index, *words)
        assert result == code, (result, out, err)
        return out, err

    run.folder = tmp_path
    for name in ("sure.jpg", "unsure.jpg", "outside.jpg"):
        Image.new("RGB", (64, 48), "grey").save(tmp_path / name)
    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_without_a_result_nothing_is_written_and_each_photo_has_a_line(geotag):
    before = contents(geotag.folder)
    out, err = geotag(".")
    header, *rows, counts = out.splitlines()
    assert header.split() == ["status", "confidence", "position", "within", "photo"]
    assert [row.split() for row in rows] == [
        ["outside", "-", "-", "-", "outside.jpg"],
        ["located", "0.970", "45.500000,30.250000", "12", "m", "sure.jpg"],
        ["review", "0.500", "45.500000,30.250000", "12", "m", "unsure.jpg"],
    ]
    assert counts == "1 located, 1 review, 1 outside, 0 tagged"
    assert err.endswith("for review:\n  unsure.jpg: 0.50 is less than 0.9 (like place_000.jpg)\n")
    assert contents(geotag.folder) == before


def test_every_result_is_written_and_read_back(geotag):
    out, _ = geotag(
        ".", "--xmp", "--csv", "t.csv", "--gpx", "t.gpx", "--geojson", "t.geojson", "--sure", "0.96"
    )
    lines = ["csv: t.csv", "gpx: t.gpx", "geojson: t.geojson", "xmp: sure.jpg.xmp"]
    assert out.splitlines()[-4:] == lines
    assert read_position(Path("sure.jpg")) == Position(pytest.approx(45.5), pytest.approx(30.25))
    assert read_position(Path("unsure.jpg")) is read_position(Path("outside.jpg")) is None
    assert read_positions("t.csv").by_name == {"sure.jpg": HERE}
    assert 'lat="45.5000000"' in Path("t.gpx").read_text("utf-8")
    (feature,) = json.loads(Path("t.geojson").read_text("utf-8"))["features"]
    assert feature["properties"]["filename"] == "sure.jpg"
    out, _ = geotag(".", "--geojson", "t.geojson")
    assert "1 tagged" in out
    assert json.loads(Path("t.geojson").read_text("utf-8"))["features"] == []


def test_json_has_every_photo(geotag):
    geotag("sure.jpg", "--xmp", "--json")
    out, err = geotag("sure.jpg", "unsure.jpg", "--json")
    assert "review" not in err
    assert json.loads(out) == [
        {"photo": "sure.jpg", "status": "tagged", "latitude": pytest.approx(45.5),
         "longitude": pytest.approx(30.25), "confidence": None, "radius": None, "place": "",
         "taken": None, "why": ""},
        {"photo": "unsure.jpg", "status": "review", "latitude": 45.5, "longitude": 30.25,
         "confidence": 0.5, "radius": 12.0, "place": "place_000.jpg", "taken": None,
         "why": "0.50 is less than 0.9"},
    ]  # fmt: skip


def test_an_existing_side_car_is_named_and_stays_until_force_merges_it(geotag):
    Path("sure.jpg.xmp").write_text(
        '<x xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:RDF><rdf:Description '
        'rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"/></rdf:RDF></x>'
    )
    before = contents(geotag.folder)
    out, err = geotag(".", "--xmp", code=2)
    assert "xmp: " not in out
    assert "no side-car for 1 photo (--force merges the position into an existing one):" in err
    assert "  sure.jpg.xmp: the photo has this side-car; merge the position into it" in err
    assert contents(geotag.folder) == before
    out, _ = geotag(".", "--xmp", "--force")
    assert "xmp: sure.jpg.xmp" in out
    assert 'xmp:Rating="4"' in Path("sure.jpg.xmp").read_text("utf-8")


def test_an_index_without_calibration_leaves_all_for_review(geotag):
    Path("sure.jpg").rename("none.jpg")
    out, err = geotag("none.jpg", "--xmp")
    assert "0 located, 1 review" in out
    assert "  none.jpg: no confidence: only 6 photos\n" in err
    assert not Path("none.jpg.xmp").exists()


def test_a_photo_that_cannot_be_read_is_listed_and_the_only_one_is_an_error(geotag):
    Path("broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    out, err = geotag("sure.jpg", "broken.jpg", "gone.jpg", code=5)
    assert "1 located" in out
    assert "skipped 2 photos:" in err
    out, err = geotag("broken.jpg", code=5)
    assert (out, err.count("\n")) == ("", 1)
    geotag("gone.jpg", code=3)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--force",), "--force: changes nothing without --xmp"),
        (("--sure", "1.5"), "1.5 is not in the range"),
        (("--csv", "sure.jpg"), "sure.jpg: already exists"),
        (("--csv", "a.csv", "--gpx", "a.csv"), "a.csv: one name for two results"),
        (("--csv", "sure.jpg.xmp", "--xmp"), "sure.jpg.xmp: one name for two results"),
    ],
)
def test_a_wrong_option_is_refused_before_any_work(geotag, words, why):
    before = contents(geotag.folder)
    out, err = geotag("sure.jpg", *words, code=2)
    assert out == ""
    assert why in err
    assert contents(geotag.folder) == before


def test_positions_that_it_wrote_make_no_other_photo_surer_at_the_next_call(geotag):
    for second, name in enumerate(("sure.jpg", "unsure.jpg")):
        exif = Image.Exif()
        exif[ExifTags.IFD.Exif] = {36867: f"2024:05:01 12:00:0{second}"}
        Image.new("RGB", (64, 48), "grey").save(name, exif=exif)
    first, second = (json.loads(geotag(".", "--xmp", "--json")[0]) for _ in range(2))
    assert [photo["status"] for photo in first] == ["outside", "located", "review"]
    assert [photo["status"] for photo in second] == ["outside", "tagged", "review"]
    assert 0.5 < first[2]["confidence"] == second[2]["confidence"]


def test_a_photo_that_is_named_twice_is_one(geotag):
    out, _ = geotag(".", "sure.jpg", "./sure.jpg", "--xmp")
    assert "1 located, 1 review, 1 outside" in out
    assert out.count("xmp: ") == 1


def test_swapped_arguments_are_named(command, geotag, town_index):
    code, _, err = command("geotag", "sure.jpg", town_index)
    assert (code, f"did you mean: placerec geotag {town_index} sure.jpg?" in err) == (2, True)


def test_the_library_call_reports_progress(geotag, town_index):
    calls = []
    with PlaceRecognizer.open(town_index) as recognizer:
        geotag_photos(recognizer, ["sure.jpg", "unsure.jpg"], progress=lambda *a: calls.append(a))
    assert calls == [("photos", 1, 2), ("photos", 2, 2)]
