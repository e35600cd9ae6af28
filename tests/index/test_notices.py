"""What a build says about photos and rows that a person should look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from index_support import draw
from PIL import ExifTags, Image

from placerec import add_photos, build_index, refresh_index
from placerec.errors import NotFound, PhotoError, UsageError
from placerec.index import IndexReader
from placerec.index.build import Report
from placerec.index.notices import KINDS, Notice
from placerec.models.photo_source import fit_on_folder
from placerec.records import Position
from placerec.settings import Settings

TABLE = """image,latitude,longitude
sub\\good.png,1.5,2.5
tpyo.png,1,2
gone/0.png,3,4
far.jpg,10,20
near.jpg,52.501,13.25
broken.jpg,5,6
"""


def tagged(path: Path, degrees: tuple[float, float, float]) -> None:
    """Draw a photo with a GPS tag at latitude ``degrees``, longitude 13.25 E."""
    draw(path.with_suffix(".png"), len(path.name))
    image, exif = Image.open(path.with_suffix(".png")), Image.Exif()
    tag = ExifTags.GPS
    exif[ExifTags.IFD.GPSInfo] = {
        tag.GPSLatitudeRef: "N", tag.GPSLatitude: degrees,
        tag.GPSLongitudeRef: "E", tag.GPSLongitude: (13.0, 15.0, 0.0),
    }  # fmt: skip
    image.save(path, exif=exif)
    path.with_suffix(".png").unlink()


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> tuple[Path, Path, Report]:
    """A folder of everything that a build mentions, its index, and the report."""
    folder = tmp_path_factory.mktemp("odd")
    photos, index = folder / "photos", folder / "odd.placerec"
    draw(photos / "sub" / "good.png", 0)
    (photos / "sub" / "same.png").write_bytes((photos / "sub" / "good.png").read_bytes())
    tagged(photos / "far.jpg", (52.0, 30.0, 0.0))
    tagged(photos / "near.jpg", (52.0, 30.0, 0.0))
    tagged(photos / "wrong.jpg", (52.0, 75.0, 0.0))
    for name, colour in (("black.png", "black"), ("sky.png", (120, 160, 220))):
        Image.new("RGB", (160, 120), colour).save(photos / name)
    Image.new("RGB", (1, 1), "red").save(photos / "dot.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    for name in ("clip.mp4", "._far.jpg", ".hidden.jpg"):
        (photos / name).write_bytes(b"x")
    (photos / "@eaDir").mkdir()
    draw(photos / "@eaDir" / "thumb.png", 3)
    table = folder / "positions.csv"
    table.write_text(TABLE)
    return photos, index, build_index(index, photos, positions=str(table))


def names_of(report: Report, kind: str) -> tuple[str, ...]:
    (notice,) = (notice for notice in report.notices if notice.kind == kind)
    return notice.names


def test_rows_that_name_no_photo_are_counted_and_named(odd) -> None:
    _, index, report = odd
    rows = ("line 3: tpyo.png", "line 4: gone/0.png")
    assert names_of(report, "rows_without_photo") == rows
    with IndexReader.open(index) as reader:
        positions = {entry.name: entry.position for entry in reader.entries}
    assert positions["sub/good.png"].latitude == 1.5  # the row has a backslash


def test_damaged_gps_tags_are_named_and_stored(odd) -> None:
    _, index, report = odd
    assert names_of(report, "gps_damaged") == ("wrong.jpg",)
    with IndexReader.open(index) as reader:
        damaged = [entry for entry in reader.entries if entry.gps_damaged]
    assert [(entry.name, entry.position) for entry in damaged] == [("wrong.jpg", None)]


def test_photos_that_say_nothing_are_named_and_stored_as_zeros(odd) -> None:
    _, index, report = odd
    assert names_of(report, "blank") == ("black.png", "dot.png", "sky.png")
    with IndexReader.open(index) as reader:
        blank = np.array([entry.blank for entry in reader.entries])
        lengths = np.linalg.norm(reader.global_descriptors()[:], axis=1)
        patches = [reader.patches(number) for number in np.flatnonzero(blank)]
    assert lengths.astype(bool).tolist() == (~blank).tolist()
    assert not any(size.descriptors.any() for photo in patches for size in photo)


def test_equal_files_are_named_in_pairs(odd) -> None:
    assert names_of(odd[2], "equal_files") == ("sub/same.png = sub/good.png",)
    text = Notice("equal_files", ("a = b", "c = b")).text
    assert text == (
        "2 photos are copies of others; each takes a place among the answers, and lowers the "
        "others' scores: a = b, c = b"
    )


def test_a_table_that_disagrees_with_exif_by_more_than_1_km_is_mentioned(odd) -> None:
    _, index, report = odd
    assert names_of(report, "far_from_exif") == ("far.jpg",)
    with IndexReader.open(index) as reader:
        position = next(e.position for e in reader.entries if e.name == "far.jpg")
    assert (position.latitude, position.longitude) == (10, 20)


def test_what_the_folder_walk_left_out_is_counted_and_all_counts_add_up(odd) -> None:
    photos, _, report = odd
    text = next(notice.text for notice in report.notices if notice.kind == "left_out")
    assert text.startswith("left out: ")
    for part in ("videos (1: clip.mp4)", "thumbnail folders (1: @eaDir)", ".hidden.jpg"):
        assert part in text
    left_out = 4  # clip.mp4, ._far.jpg, .hidden.jpg, @eaDir
    assert (report.added, len(report.skipped)) == (8, 1)
    assert report.added + len(report.skipped) + left_out == len(list(photos.iterdir())) + 1


def test_add_compares_with_the_photos_of_the_index(collection) -> None:
    table = collection.folder / "positions.csv"
    table.write_text("image,latitude,longitude\n0.png,1,2\nnew.png,3,4\nno.png,5,6\n")
    new = collection.photos / "new.png"
    new.write_bytes((collection.photos / "1.png").read_bytes())
    report = add_photos(collection.index, new, positions=table)
    assert names_of(report, "rows_without_photo") == ("line 4: no.png",)
    assert names_of(report, "equal_files") == ("new.png = 1.png",)
    report = add_photos(collection.index, collection.photos, positions=table)
    assert (report.changed, report.unchanged, report.located) == (1, 4, 1)
    assert [notice.kind for notice in report.notices] == ["rows_without_photo"]
    assert add_photos(collection.index, collection.photos).notices == []


def test_a_track_gives_positions_by_time(collection) -> None:
    path = collection.photos / "timed.jpg"
    image, exif = Image.open(draw(collection.folder / "a.png", 5)), Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.DateTimeOriginal: "2024:05:01 12:00:00"}
    image.save(path, exif=exif)
    track = collection.folder / "walk.gpx"
    points = ((52.5, "09:59:40"), (52.7, "10:00:20"))
    track.write_text(
        '<gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>'
        + "".join(
            f'<trkpt lat="{lat}" lon="13.0"><time>2024-05-01T{at}Z</time></trkpt>'
            for lat, at in points
        )
        + "</trkseg></trk></gpx>"
    )
    report = add_photos(collection.index, path, positions=track)
    assert (report.located, names_of(report, "outside_track")) == (0, ("timed.jpg",))
    assert names_of(report, "clock_off") == ("-7200 seconds (1 of 1)",)
    report = add_photos(collection.index, path, positions=track, time_offset=-7200)
    assert (report.changed, report.located, report.notices) == (1, 1, [])
    with IndexReader.open(collection.index) as reader:
        (position,) = (e.position for e in reader.entries if e.name == "timed.jpg")
    assert position.latitude == pytest.approx(52.6)
    other = add_photos(collection.index, draw(collection.photos / "new.png", 6), positions=track)
    assert names_of(other, "outside_track") == ("new.png",)


@pytest.mark.parametrize("seconds", [7200.0, float("nan"), float("inf"), 1e300])
def test_a_time_offset_that_means_nothing_is_refused(collection, seconds: float) -> None:
    before = collection.index.read_bytes()
    with pytest.raises(UsageError, match=r"time.offset"):
        add_photos(collection.index, collection.photos, time_offset=seconds)
    table = collection.folder / "positions.csv"
    table.write_text("image,latitude,longitude\n0.png,1,2\n")
    with pytest.raises(UsageError, match=r"time.offset"):
        add_photos(collection.index, collection.photos, positions=table, time_offset=seconds)
    assert collection.index.read_bytes() == before


def test_blank_photos_take_no_part_in_a_fit(many_photos, tmp_path) -> None:
    settings = Settings(image_size=(96, 128), clusters=4, local_dim=8, pca_dim=8)
    for path in sorted(many_photos.iterdir())[:12]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    plain, _ = fit_on_folder(tmp_path, model="efficientnet-lite0", settings=settings)
    for number in range(3):
        Image.new("RGB", (160, 120), "black").save(tmp_path / f"{number}.png")
    mixed, _ = fit_on_folder(tmp_path, model="efficientnet-lite0", settings=settings)
    assert mixed.fingerprint == plain.fingerprint


def test_a_folder_of_blank_photos_alone_gets_the_generic_model(tmp_path) -> None:
    Image.new("RGB", (160, 120), "black").save(tmp_path / "a.png")
    assert build_index(tmp_path / "a.placerec", tmp_path).model == "generic"
    for fit in (
        lambda: build_index(tmp_path / "b.placerec", tmp_path, model="efficientnet-lite0"),
        lambda: fit_on_folder(tmp_path, model="efficientnet-lite0"),
    ):
        with pytest.raises(PhotoError, match="none of its photos has anything to recognise"):
            fit()
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="no photo in this folder"):
        fit_on_folder(tmp_path / "empty")


def test_a_notice_is_one_sentence_with_a_count_and_the_first_names() -> None:
    one = Notice("gps_damaged", ("a.jpg",))
    four = Notice("gps_damaged", ("a.jpg", "b.jpg", "c.jpg", "d.jpg"))
    assert one.text == "1 photo has a GPS tag that cannot be right: a.jpg"
    assert four.text == "4 photos have a GPS tag that cannot be right: a.jpg, b.jpg, c.jpg, ..."
    assert Notice("rows_without_photo", ("line 2: a",)).exit_code == 5
    codes = {kind: Notice(kind, ("a",)).exit_code for kind in KINDS}
    skips = {"rows_without_photo", "unreadable_folders"}
    assert codes == {kind: 5 if kind in skips else 0 for kind in KINDS}


def test_a_changed_photo_keeps_its_position_or_the_change_is_named(collection) -> None:
    def stored(name: str) -> Position | None:
        with IndexReader.open(collection.index) as reader:
            return next(entry.position for entry in reader.entries if entry.name == name)

    table = collection.folder / "positions.csv"
    table.write_text("image,latitude,longitude\n0.png,1,2\nb.jpg,5,6\n")
    photo = collection.photos / "b.jpg"
    tagged(photo, (52.0, 30.0, 0.0))
    add_photos(collection.index, collection.photos, positions=table)
    draw(collection.photos / "0.png", 7)
    report = refresh_index(collection.index)
    assert (report.changed, report.located, report.notices) == (1, 1, [])
    assert stored("0.png") == Position(1, 2)
    tagged(photo, (52.0, 15.0, 0.0))
    report = refresh_index(collection.index)
    assert (report.changed, names_of(report, "position_from_file")) == (1, ("b.jpg",))
    assert stored("b.jpg") == Position(52.25, 13.25)
    assert add_photos(collection.index, photo, positions=table).located == 1
    assert stored("b.jpg") == Position(5, 6)
