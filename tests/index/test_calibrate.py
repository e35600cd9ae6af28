"""The calibration of an index: what its answers say about confidence, the map and metres."""

import hashlib
import json
import shutil
import sqlite3
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from placerec.demo import demo_pose, render
from placerec.errors import DamagedIndex, UsageError
from placerec.index import IndexReader, calibrate, schema, verify
from placerec.index.build import build_index
from placerec.index.index_model import model_of_index
from placerec.index.update import refresh_index, remove_photos
from placerec.method.confidence import NEARER, USUAL_ODDS, Calibration, map_odds
from placerec.models.foreign import FILE, LEVELS, foreign_maps, pack, unpack
from placerec.models.resolve import AUTO
from placerec.photos.sphere import distance
from placerec.recognise import PlaceRecognizer
from placerec.records import Position
from placerec.runtime import Runtime
from placerec.settings import METHODS, Settings
from placerec.trunks import open_trunk

NOT_THE_DEFAULT = "only the default method has one, with none of its settings changed"
SEED, SIZE = 0, (120, 160)
TOO_FEW = "4 photos are too few; refit the index when it has 20 or more"
SPACING = 10.0  # metres: each photo has neighbours within 25 m
METRES = 111_195.0  # in a degree of latitude


def place(number):
    return Position(45.0 + number * SPACING / METRES, 30.0)


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """The index of 20 day photos, as few as can be calibrated, 10 m apart."""
    folder = tmp_path_factory.mktemp("street")
    (folder / "photos").mkdir()
    table = ["image,latitude,longitude"]
    for number in range(calibrate.FEWEST_PHOTOS):
        pixels = render(SEED, demo_pose(SEED, number, False), size=SIZE)
        Image.fromarray(pixels).save(folder / "photos" / f"{number:02}.png")
        at = place(number)
        table.append(f"{number:02}.png,{at.latitude:.7f},{at.longitude}")
    (folder / "positions.csv").write_text("\n".join(table) + "\n")
    path = folder / "street.placerec"
    build_index(
        path, folder / "photos", positions=folder / "positions.csv", runtime=Runtime(threads=2)
    )
    return path


@pytest.fixture(scope="module")
def nights(street):
    """The answers to the night photos of six places, in their order."""
    with PlaceRecognizer.open(street) as recognizer:
        return [
            recognizer.query(render(SEED, demo_pose(SEED, number, True), True, SIZE), top=20)
            for number in range(6)
        ]


def test_an_index_stores_the_odds_of_the_photos_from_elsewhere(street):
    with IndexReader.open(street) as reader:
        calibration = reader.info.calibration
    assert len(calibration.foreign) == 40
    assert list(calibration.foreign) == sorted(calibration.foreign)
    assert (calibration.photos, calibration.reason) == (20, "")


def test_a_night_photo_is_in_the_map_and_a_better_place_is_surer(street, nights):
    with IndexReader.open(street) as reader:
        places = calibrate.Places(reader.entries)
        rows = {entry.name: row for row, entry in enumerate(reader.entries)}
    for answer in nights:
        assert answer.in_map
        assert answer.uncalibrated == ""
        sure = np.array([place.confidence for place in answer.places])
        assert ((sure > 0) & (sure < 1)).all()
        listed = [rows[place.path] for place in answer.places]
        values = places.evidence(listed, np.array([place.score for place in answer.places]))
        assert sure.tolist() == Calibration().confidence(values).tolist()
        assert sure[0] == sure.max()
        assert sure[-1] < sure[0] / 2
    assert sum(answer.best.path == f"{n:02}.png" for n, answer in enumerate(nights)) >= 5


def test_a_pattern_is_not_in_the_map_and_no_place_is_sure(street):
    squares = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    pattern = squares.repeat(20, axis=0).repeat(20, axis=1)
    with PlaceRecognizer.open(street) as recognizer:
        answer = recognizer.query(pattern)
    assert answer.in_map is False
    assert answer.best.confidence < 0.05


def test_a_larger_share_of_false_alarms_accepts_more(street, nights):
    with IndexReader.open(street) as reader:
        calibration = reader.info.calibration
    odds = np.linspace(
        min(calibration.foreign) - 1, max(*calibration.foreign, *USUAL_ODDS) + 1, 200
    )
    weak, strong = (
        {n for n, value in enumerate(odds) if calibration.in_map(evidence_of(value), share)}
        for share in (0.5, 0.05)
    )
    assert strong < weak


def evidence_of(odds):
    """Evidence with these log-odds of "in the map"."""
    weights = Calibration().weights
    values = np.array([(odds - weights.offset) / weights.score, 0.0])
    assert map_odds(values) == pytest.approx(odds)
    return values


def test_positions_give_a_point_with_radii_in_metres(street, nights):
    with IndexReader.open(street) as reader:
        ((lowest, radius_68, radius_95),) = reader.info.calibration.radii
    assert lowest == 0.0
    assert 0.0 < radius_68 <= radius_95
    nearer = radius_68 * NEARER[0], radius_95 * NEARER[1]
    for answer in nights:
        assert (answer.where.radius_68, answer.where.radius_95) == nearer
    near = [distance(answer.where.position, place(n)) <= 25 for n, answer in enumerate(nights)]
    assert sum(near) >= 5


def test_a_calibration_made_again_with_any_number_of_threads_is_the_same(street, monkeypatch):
    monkeypatch.setattr(calibrate, "foreign_maps", lambda *which: foreign_maps(*which)[::10])
    monkeypatch.setattr(calibrate, "MOST_LEFT_OUT", 3)
    monkeypatch.setattr(calibrate, "radii", lambda *errors: tuple(map(tuple, errors)))
    with IndexReader.open(street) as reader:
        stored, one, three = (
            reader.info.calibration,
            *(
                calibrate.calibrate_index(
                    reader, model_of_index(reader, street, AUTO, runtime), runtime
                )
                for runtime in (Runtime(threads=1), Runtime(threads=3))
            ),
        )
    assert one == three
    assert len(one.foreign) == 4
    assert set(one.foreign) <= set(stored.foreign)
    assert [len(values) for values in one.radii] == [3, 3]


def test_too_few_photos_have_no_confidence_and_say_why(collection):
    with PlaceRecognizer.open(collection.index) as recognizer:
        answer = recognizer.query(collection.photos / "0.png")
    assert {place.confidence for place in answer.places} == {None}
    assert (answer.in_map, answer.where) == (None, None)
    assert answer.uncalibrated == TOO_FEW


def test_a_changed_setting_has_no_confidence_and_says_why(street):
    with PlaceRecognizer.open(street, scorer="spatial") as recognizer:
        answer = recognizer.query(street.parent / "photos" / "00.png")
    assert answer.best.path == "00.png"
    assert answer.best.confidence is None
    assert (answer.in_map, answer.where) == (None, None)
    assert answer.uncalibrated == NOT_THE_DEFAULT


def test_another_method_has_no_confidence_and_says_why(collection):
    path = collection.folder / "netvlad.placerec"
    build_index(path, collection.photos, settings=METHODS["netvlad"])
    with PlaceRecognizer.open(path) as recognizer:
        answer = recognizer.query(collection.photos / "0.png")
    assert answer.best.confidence is None
    assert answer.uncalibrated == NOT_THE_DEFAULT


def test_the_photos_from_elsewhere_are_for_the_default_trunk_and_size_only():
    trunk, size = open_trunk(Settings().trunk), Settings().image_size
    assert foreign_maps(trunk, size).shape == (40, 30, 40, trunk.channels)
    assert foreign_maps(trunk, (240, 320)) is None
    weights = files("placerec.models") / "weights"
    digest = hashlib.sha256((weights / FILE).read_bytes()).hexdigest()
    assert f"`{digest}`" in (weights / "README.md").read_text("utf-8")
    assert foreign_maps(SimpleNamespace(sha256="other"), size) is None


@pytest.mark.parametrize(
    "change",
    [
        {"radii": 7}, {"foreign": "abc"}, {"foreign": [1, None]}, {"weights": {"score": 1}},
        {"weights": 3}, {"more": 1}, {"photos": "few"}, {"radii": [["a", 1, 2]]}, {"radii": [3]},
    ],
)  # fmt: skip
def test_a_calibration_that_is_none_is_damage(collection, change):
    connection = sqlite3.connect(collection.index, isolation_level=None)
    try:
        row = schema.Collection.read(connection, collection.index)
        text = json.dumps({**json.loads(row.calibration), **change})
        row._replace(calibration=text).write(connection)
    finally:
        connection.close()
    with pytest.raises(DamagedIndex, match="not a calibration"):
        IndexReader.open(collection.index)
    (finding,) = verify(collection.index)
    assert "not a calibration" in finding


def test_packed_maps_come_back_within_half_a_step():
    maps = np.random.default_rng(2).uniform(-1, 3, (3, 4, 5, 6)).astype(np.float32)
    stored = pack(maps)
    assert stored["codes"].shape == (3, 4, 5, 3)
    assert stored["codes"].dtype == np.uint8
    step = (stored["high"] - stored["low"]) / LEVELS
    inside = (maps >= stored["low"]) & (maps <= stored["high"])
    error = np.abs(unpack(**stored) - maps)
    assert inside.mean() > 0.9
    assert (error <= step / 2 + 1e-6)[inside].all()


@pytest.mark.parametrize(
    ("calibration", "photos", "outgrown"),
    [
        (Calibration(photos=30), 59, False),
        (Calibration(photos=30), 60, True),
        (Calibration(photos=4, reason=TOO_FEW), 19, False),
        (Calibration(photos=4, reason=TOO_FEW), 20, True),
        (Calibration(photos=4, reason=NOT_THE_DEFAULT), 100, False),
    ],
)
def test_an_index_outgrows_its_calibration(calibration, photos, outgrown):
    assert calibrate.is_outgrown(calibration, photos) is outgrown


def test_adding_photos_says_that_the_index_has_outgrown_its_calibration(collection, tmp_path):
    index = tmp_path / "grown.placerec"
    shutil.copytree(collection.photos, tmp_path / "photos")
    build_index(index, tmp_path / "photos")
    photo = (tmp_path / "photos" / "0.png").read_bytes()
    for number in range(10, 10 + calibrate.FEWEST_PHOTOS - 4):
        (tmp_path / "photos" / f"{number}.png").write_bytes(photo)
    report = refresh_index(index)
    (notice,) = (notice for notice in report.notices if notice.kind == "outgrown")
    assert notice.text.endswith("refit it: 4 photos then, 20 now")


def test_an_index_that_has_become_too_small_has_no_confidence(street, tmp_path):
    path = Path(shutil.copy(street, street.parent / "small.placerec"))
    remove_photos(path, [f"{number:02}.png" for number in range(1, calibrate.FEWEST_PHOTOS)])
    with PlaceRecognizer.open(path) as recognizer:
        answer = recognizer.query(street.parent / "photos" / "05.png")
    assert answer.uncalibrated == TOO_FEW.replace("4 photos are", "1 photo is")
    assert (answer.in_map, answer.best.confidence) == (None, None)


def test_a_share_of_false_alarms_that_cannot_be_promised_is_refused(street):
    with pytest.raises(UsageError, match=r"40 photos from elsewhere cannot promise .* 0.024"):
        PlaceRecognizer.open(street, false_alarm=0.02)
