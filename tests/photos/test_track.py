"""Positions by capture time, from the track of a logger."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from placerec.errors import Damaged, NotFound, UsageError
from placerec.photos import Positions, read_positions
from placerec.records import Position

NOON = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)


def gpx(*points, version="1/1") -> str:
    """A track with a point for each (seconds after noon, latitude, longitude)."""
    lines = [
        f'<trkpt lat="{latitude}" lon="{longitude}"><ele>5</ele>'
        f"<time>{NOON + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}</time></trkpt>"
        for seconds, latitude, longitude in points
    ]
    return (
        f'<?xml version="1.0"?><gpx xmlns="http://www.topografix.com/GPX/{version}" creator="x">'
        f'<wpt lat="1" lon="1"/><trk><trkseg>{"".join(lines)}</trkseg></trk></gpx>'
    )


def track(tmp_path, text, **options):
    path = tmp_path / "walk.GPX"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_positions(path, **options)


WALK = gpx((0, 52.0, 0.0), (10, 52.001, 0.002), (70, 52.002, 0.004), (131, 52.1, 0.1))


@pytest.mark.parametrize("version", ["1/0", "1/1"])
def test_a_photo_lies_on_the_line_between_two_points(tmp_path, version):
    positions = track(tmp_path, WALK.replace("1/1", version))

    def at(seconds):
        return positions.of("any.jpg", NOON + timedelta(seconds=seconds))

    assert at(0) == Position(52.0, 0.0)
    assert at(2.5) == Position(pytest.approx(52.00025), pytest.approx(0.0005))
    assert at(70) == Position(52.002, 0.004)
    assert at(40) == Position(pytest.approx(52.0015), pytest.approx(0.003))
    assert at(131) == Position(52.1, 0.1)


def test_outside_the_track_and_in_a_gap_there_is_no_position(tmp_path):
    positions = track(tmp_path, WALK)
    for seconds in (-0.5, 71, 100, 130.9, 131.5):
        assert positions.of("any.jpg", NOON + timedelta(seconds=seconds)) is None
    assert positions.of("any.jpg", None) is None
    assert positions.unmatched(["a.jpg"]) == []
    assert positions.span == (NOON, NOON + timedelta(seconds=131))


def test_the_offset_is_added_to_a_clock_without_a_zone_and_to_no_other(tmp_path):
    local = datetime(2024, 5, 1, 14, 0, 10)
    assert track(tmp_path, WALK).of("1.jpg", local) is None
    positions = track(tmp_path, WALK, time_offset=-7200)
    assert positions.of("1.jpg", local) == Position(52.001, 0.002)
    summer = timezone(timedelta(hours=2))
    assert positions.of("1.jpg", local.replace(tzinfo=summer)) == Position(52.001, 0.002)
    utc = datetime(2024, 5, 1, 12, 0, 10)
    assert track(tmp_path, WALK).of("1.jpg", utc) == Position(52.001, 0.002)
    for end in (datetime.min, datetime.max):
        assert positions.of("1.jpg", end) is None


def test_points_in_any_order_and_without_a_time_are_read(tmp_path):
    text = gpx((10, 52.001, 0.002), (0, 52.0, 0.0)).replace(
        "<trkseg>", '<trkseg><trkpt lat="1" lon="1"/><trkpt lat="1" lon="1"><time/></trkpt>'
    )
    half = NOON + timedelta(seconds=5)
    assert track(tmp_path, text).of("", half) == Position(pytest.approx(52.0005), 0.001)


def test_a_track_over_the_date_line_goes_the_short_way(tmp_path):
    positions = track(tmp_path, gpx((0, 0.0, 179.9), (10, 0.0, -179.7)))
    longitudes = [positions.of("", NOON + timedelta(seconds=s)).longitude for s in (2, 5)]
    assert longitudes == [pytest.approx(179.98), pytest.approx(-179.9)]


@pytest.mark.parametrize(
    ("time", "moment"),
    [
        ("2024-04-30T24:00:00Z", datetime(2024, 5, 1, tzinfo=UTC)),
        ("2024-12-31T24:00:00.000Z", datetime(2025, 1, 1, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2017-01-01T00:59:60.5+01:00", datetime(2017, 1, 1, 0, 0, 0, 500_000, UTC)),
        (" 2024-05-01T12:00:00 ", NOON),
        ("2024-05-01T12:00:00.123456789Z", NOON.replace(microsecond=123_456)),
    ],
)
def test_every_time_of_iso_8601_is_read(tmp_path, time, moment):
    text = gpx((0, 52.0, 0.5)).replace("2024-05-01T12:00:00Z", time)
    assert track(tmp_path, text).of("", moment) == Position(52.0, 0.5)


def test_a_track_without_a_time_that_can_be_read_is_refused_with_the_first_one(tmp_path):
    text = gpx((0, 52.0, 0.5)).replace("2024-05-01T12:00:00Z", "9999-12-31T24:00:00Z")
    with pytest.raises(Damaged, match="no track points with a time; the first is '9999-12-31T24"):
        track(tmp_path, text)


# --- a clock in another time zone --------------------------------------------------------------
def walk(minutes):
    return gpx(*((60 * minute, 52 + minute / 1000, 0.0) for minute in range(minutes + 1)))


def clock(hours, *minutes):
    """Times without a zone: so many minutes after the start, on a clock hours ahead of UTC."""
    start = NOON.replace(tzinfo=None) + timedelta(hours=hours)
    return [start + timedelta(minutes=minute) for minute in minutes]


@pytest.mark.parametrize(
    ("hours", "offset"), [(2, -7200), (-5, 18000), (14, -50400), (5.5, -19800), (5.75, -20700)]
)
def test_the_time_zone_of_a_clock_is_a_hint(tmp_path, hours, offset):
    times = [*clock(hours, 1, 9, 25, 40), None, NOON]
    for wrong in (0, -offset):
        positions = track(tmp_path, walk(40), time_offset=wrong)
        assert positions.time_offsets(times) == [f"{offset} seconds (4 of 4)"]
    assert track(tmp_path, walk(40), time_offset=offset).time_offsets(times) == []


def test_the_number_in_a_hint_is_the_number_of_positions(tmp_path):
    text = gpx((0, 52.0, 0.0), (60, 52.1, 0.0), (121, 52.2, 0.0), (150, 52.3, 0.0))
    seconds = (-0.5, 0, 0.000_001, 60, 60.5, 120.999_999, 121, 149.5, 150, 150.000_001)
    times = clock(2, *(second / 60 for second in seconds))
    positions = track(tmp_path, text, time_offset=-7200)
    count = sum(positions.of("", time) is not None for time in times)
    assert count == 6
    assert track(tmp_path, text).time_offsets(times) == ["-7200 seconds (6 of 10)"]


def test_several_time_zones_may_fit_and_whole_hours_come_first(tmp_path):
    positions = track(tmp_path, walk(100))
    hints = positions.time_offsets(clock(3, 5, 30))
    assert hints == ["-7200 seconds (2 of 2)", "-10800 seconds (2 of 2)", "-9000 seconds (2 of 2)",
                     "-8100 seconds (2 of 2)", "-9900 seconds (2 of 2)"]  # fmt: skip


def test_there_is_no_hint_without_a_better_time_zone(tmp_path):
    positions = track(tmp_path, walk(100))
    assert positions.time_offsets(clock(0, 5, 30, 200)) == []  # the clock shows UTC
    assert positions.time_offsets(clock(30, 5, 30)) == []  # of another day
    assert positions.time_offsets([None, datetime.max]) == []
    assert Positions().time_offsets(clock(2, 5)) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("image,latitude,longitude", "not XML"),
        ("<gpx><trk/></gpx>", "no track points with a time"),
        ('<gpx><wpt lat="1" lon="1"><time>2024-05-01T12:00:00Z</time></wpt></gpx>', "no track"),
        (WALK[:-20], "not XML"),
        (WALK.replace('lat="52.0"', 'lat="91"'), "lies at 91, 0"),
        (WALK.replace('lat="52.0" ', ""), "no lat or no lon"),
        ('<?xml version="1.0" encoding="foo"?><gpx/>', "not XML"),
        ('<?xml version="1.0" encoding="Shift_JIS"?><gpx/>', "not XML"),
        ("<!DOCTYPE gpx>" + WALK.partition("?>")[2], "document type"),
        ('<!DOCTYPE x [<!ENTITY e "x">]><gpx>&e;</gpx>'.encode("utf-16"), "document type"),
    ],
)
def test_a_file_that_is_no_track_is_refused(tmp_path, text, why):
    with pytest.raises(Damaged, match=rf"walk\.GPX: not a GPX track \(.*{why}"):
        track(tmp_path, text)


def test_a_missing_track_and_an_endless_offset_are_refused(tmp_path):
    with pytest.raises(NotFound, match="a GPX track is needed"):
        read_positions(tmp_path / "none.gpx")
    for offset in (float("nan"), float("inf"), 1e10):
        with pytest.raises(UsageError, match="time offset: at most"):
            track(tmp_path, WALK, time_offset=offset)
