"""Which photos get a position: by look, with the photos before and after, and which are left."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from placerec import PlaceRecognizer
from placerec.errors import UsageError
from placerec.geotag import geotag_photos
from placerec.geotag.locate import LOCATED, OUTSIDE, REVIEW, TAGGED, Look, decide
from placerec.method.travel import Travel
from placerec.records import Answer, Place, Position, Where

DEGREE = 111_195  # metres of a degree of latitude


def at(metres, heading=None):
    """A position on a line to the north."""
    return Position(45 + metres / DEGREE, 30.0, heading)


LINE = Travel.over([at(metres) for metres in range(0, 10_000, 10)])


def answer(*places, in_map=True, where=None, note="", uncalibrated=""):
    """An answer of places (metres or None, confidence)."""
    rows = [
        Place(rank, f"{rank}.jpg", 1 / rank, 0.5, None if m is None else at(m), (), confidence)
        for rank, (m, confidence) in enumerate(places, start=1)
    ]
    return Answer("", tuple(rows), note, in_map, where, uncalibrated)


def locate(photos, zone=None, sure=0.9):
    """Decide on photos by name, each with an answer, the seconds of its time, and a position."""
    looks = [
        Look(Path(name), None if seconds is None else moment(seconds, zone), own, given)
        for name, (given, seconds, own) in photos.items()
    ]
    tags = decide(looks, LINE, sure)
    assert [tag.photo for tag in tags] == [look.photo for look in looks]
    return tags


def moment(seconds, zone=None):
    return datetime(2024, 5, 1, 12, tzinfo=zone) + timedelta(seconds=seconds)


def test_only_a_sure_photo_has_a_position_and_each_other_says_why():
    where = Where(at(104), 5.0, 12.0)
    tags = locate({
        "sure.jpg": (answer((100, 0.95), where=where), None, None),
        "unsure.jpg": (answer((100, 0.8)), None, None),
        "outside.jpg": (answer((100, 0.95), in_map=False), None, None),
        "blank.jpg": (answer(note="nothing to recognise", in_map=None), None, None),
        "early.jpg": (answer((100, None), in_map=None, uncalibrated="9 photos"), None, None),
        "nowhere.jpg": (answer((None, 0.95)), None, None),
        "own.jpg": (None, None, at(500)),
    })  # fmt: skip
    assert [tag.status for tag in tags] == [
        LOCATED,
        REVIEW,
        OUTSIDE,
        REVIEW,
        REVIEW,
        REVIEW,
        TAGGED,
    ]
    assert (tags[0].position, tags[0].radius, tags[0].place) == (at(104), 12.0, "1.jpg")
    assert tags[0].confidence == pytest.approx(0.95)
    assert tags[0].why == ""
    assert [tag.why for tag in tags[1:6]] == [
        "0.80 is less than 0.9", "not in the map", "nothing to recognise",
        "no confidence: 9 photos", "the most similar photos have no position",
    ]  # fmt: skip
    assert tags[1].position == at(100)  # a guess to look at
    assert tags[2].position is tags[2].confidence is None
    assert tags[6].position.latitude == pytest.approx(at(500).latitude)


def test_the_limit_is_a_setting():
    photos = {"a.jpg": (answer((100, 0.8)), None, None)}
    assert locate(photos, sure=0.8)[0].status == LOCATED


def test_places_of_one_spot_are_one_and_a_second_spot_takes_only_what_is_left():
    (tag,) = locate({"a.jpg": (answer((100, 0.93), (110, 0.9), (900, 0.6)), None, None)})
    assert tag.status == LOCATED
    assert tag.position == at(100)
    assert tag.confidence == pytest.approx(0.93)
    (tag,) = locate({"a.jpg": (answer((900, 0.3), (100, 0.7)), None, None)})
    assert (tag.status, tag.position, tag.place) == (REVIEW, at(100), "2.jpg")


@pytest.mark.parametrize("seconds", [-20, 20])
@pytest.mark.parametrize("anchor", ["tagged", "sure"])
def test_a_photo_taken_near_another_one_is_sure_where_their_places_are_near(seconds, anchor):
    near = (None, 0, at(100)) if anchor == "tagged" else (answer((100, 0.99)), 0, None)
    weak = answer((900, 0.5), (120, 0.45))
    tags = locate({"a.jpg": near, "b.jpg": (weak, seconds, None), "c.jpg": (weak, None, None)})
    assert (tags[1].position, tags[1].place) == (at(120), "2.jpg")
    assert tags[1].confidence > 0.8
    assert (tags[2].position, tags[2].confidence) == (at(900), pytest.approx(0.5))
    both = locate({"a.jpg": near, "b.jpg": (weak, 20, None), "c.jpg": (None, 40, at(150))})
    assert both[1].status == LOCATED
    assert both[1].confidence > tags[1].confidence


def test_a_position_of_an_earlier_call_is_an_anchor_only_as_far_as_its_look_is_sure():
    weak = answer((900, 0.5), (120, 0.45))
    for given, near in ((None, True), (answer((100, 0.99)), True), (answer((100, 0.5)), False),
                        (answer(note="nothing to recognise"), False)):  # fmt: skip
        before, tag = locate({"a.jpg": (given, 0, at(100)), "b.jpg": (weak, 1, None)})
        assert (before.status, before.position) == (TAGGED, at(100))
        assert tag.position == at(120 if near else 900)


def test_an_anchor_that_may_be_wrong_helps_less():
    photos = {"a.jpg": (answer((100, 0.92)), 0, None), "b.jpg": (answer((100, 0.5)), 1, None)}
    (_, tag) = locate(photos)
    right, wrong = 0.5 * 10 / (0.5 * 10 + 0.5), 0.5  # 10: the most that an anchor says
    assert tag.confidence == pytest.approx(0.92 * right + 0.08 * wrong)
    assert tag.status == REVIEW


def test_a_sure_photo_far_from_those_before_and_after_is_left_for_review():
    jump = {
        "a.jpg": (None, 0, at(100)),
        "b.jpg": (answer((9000, 0.95)), 20, None),
        "c.jpg": (None, 40, at(150)),
    }
    (_, tag, _) = locate(jump)
    assert tag.status == REVIEW
    assert tag.confidence < 0.5
    assert tag.why == "0.95 by its look, but the photos taken before and after are elsewhere"
    (_, later, _) = locate({**jump, "b.jpg": (answer((9000, 0.95)), 40_000, None)})
    assert later.status == LOCATED
    assert later.confidence > 0.9


def test_times_with_and_without_a_zone_are_not_compared():
    def look(name, zone, seconds, given):
        return Look(Path(name), moment(seconds, zone), None, given)

    sure, weak = answer((100, 0.99)), answer((900, 0.5), (120, 0.45))
    east = timezone(timedelta(hours=2))
    for zone, seconds, position in (
        (None, 9, at(900)),
        (UTC, 9 - 7200, at(120)),
        (UTC, 9, at(900)),
    ):
        photos = [look("a.jpg", east, 0, sure), look("b.jpg", zone, seconds, weak)]
        assert decide(photos, LINE, 0.9)[1].position == position


def test_a_far_look_alike_that_is_left_out_of_the_map_is_no_anchor():
    weak = answer((900, 0.5), (120, 0.45))
    tags = locate({
        "a.jpg": (answer((100, 0.99), in_map=False), 0, None),
        "b.jpg": (answer((100, 0.85)), 1, None),
        "c.jpg": (weak, 2, None),
    })  # fmt: skip
    assert (tags[2].position, tags[2].confidence) == (at(900), pytest.approx(0.5))


# --- how far people go -------------------------------------------------------------------------
def test_the_odds_of_a_distance_fall_with_it_and_fade_with_time():
    soon, far = LINE.odds(50, 10), LINE.odds(5000, 10)
    assert far == pytest.approx(0.1)
    assert 5 < soon <= 10
    assert LINE.odds(300, 20) > LINE.odds(5000, 20)  # by car
    assert [LINE.odds(metres, 1e6) for metres in (0, 9000)] == pytest.approx([1, 1])
    assert Travel.over([at(0)]).odds(0, 0) == pytest.approx(1)
    assert np.diff([LINE.odds(20, seconds) for seconds in range(0, 9000, 100)]).max() <= 1e-9


# --- a real index ------------------------------------------------------------------------------
def test_a_real_index_answers_only_with_photos_that_have_a_position(town, tmp_path):
    from placerec.index.build import build_index

    table = tmp_path / "where.csv"
    rows = [f"place_00{number}.jpg,45,30.00{number}" for number in range(1, 6)]
    table.write_text("\n".join(["image,latitude,longitude", *rows]) + "\n")
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in (town / "database").iterdir():
        Image.open(path).save(photos / path.name, exif=Image.Exif())  # without tags
    build_index(tmp_path / "a.placerec", photos, positions=table)
    with PlaceRecognizer.open(tmp_path / "a.placerec") as recognizer:
        for sure in (-0.1, 1.1, "0.9", None, float("nan"), True):
            with pytest.raises(UsageError, match="sure"):
                geotag_photos(recognizer, photos, sure=sure)
        report = geotag_photos(recognizer, [photos / "place_000.jpg", tmp_path / "gone.jpg"])
    ((tag,), (skipped,)) = report.tags, report.skipped
    assert tag.status == REVIEW
    assert tag.place != "place_000.jpg"
    assert "gone.jpg: no such photo" in str(skipped)


def test_an_index_without_positions_is_refused(town, tmp_path):
    from placerec.index.build import build_index

    Image.open(town / "database" / "place_000.jpg").save(tmp_path / "a.jpg", exif=Image.Exif())
    build_index(tmp_path / "a.placerec", tmp_path, names=["a.jpg"])
    with (
        PlaceRecognizer.open(tmp_path / "a.placerec") as recognizer,
        pytest.raises(UsageError, match="no photo of this index has a position"),
    ):
        geotag_photos(recognizer, tmp_path / "a.jpg")
