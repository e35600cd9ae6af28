"""Positions from tables."""

import os
import sys
import unicodedata

import pytest

from placerec.errors import BadTable, MissingExtra, NotFound
from placerec.photos import Positions, read_positions
from placerec.records import Position


def read(tmp_path, text: str | bytes):
    path = tmp_path / "positions.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_positions(path).by_name


def test_columns_may_have_any_order_and_others_are_ignored(tmp_path):
    text = "\ufeffheading,note,longitude,image, latitude \r\n-90,x,2.5,a/1.jpg,48\r\n\n,,0,b.jpg,0"
    assert read(tmp_path, text) == {
        "a/1.jpg": Position(48.0, 2.5, 270.0),
        "b.jpg": Position(0.0, 0.0, None),
    }


def test_heading_is_optional_and_is_from_0_to_360(tmp_path):
    assert read(tmp_path, "image,latitude,longitude\nx.jpg,-90,180\n") == {
        "x.jpg": Position(-90.0, 180.0)
    }
    rows = read(tmp_path, "image,latitude,longitude,heading\na,0,0,720.5\nb,0,0,-1e-17\nc,0,0,360")
    assert [rows[name].heading for name in "abc"] == [0.5, 0.0, 0.0]


def test_unusual_names_in_a_table_are_kept(tmp_path):
    data = b'image,latitude,longitude\ncaf\xe9.jpg,1,2\n"a,b\nc"".jpg",3,4\n'
    assert list(read(tmp_path, data)) == [os.fsdecode(b"caf\xe9.jpg"), 'a,b\nc".jpg']


def test_a_row_may_be_repeated_but_not_contradicted(tmp_path):
    head = "image,latitude,longitude\nx.jpg,1,2\n"
    assert len(read(tmp_path, head + "x.jpg,1.0,2.0\n")) == 1
    with pytest.raises(BadTable, match=r"line 3: 'x\.jpg' has two rows"):
        read(tmp_path, head + "x.jpg,1,2.1\n")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("x.jpg,north,2", "latitude is 'north'"),
        ("x.jpg,nan,2", "latitude is 'nan'"),
        ("x.jpg,inf,2", "latitude is 'inf'"),
        ("x.jpg,,2", "latitude is empty; fill it, or empty both"),
        ("x.jpg,90.01,2", "latitude is '90.01', not a number from -90 to 90"),
        ("x.jpg,0,-180.5", "longitude is '-180.5', not a number from -180 to 180"),
        ("x.jpg,48,5,2,5", "5 values for 3 columns .a decimal comma"),
        ("x.jpg,48", "2 values for 3 columns"),
        (",1,2", "no image name"),
        ('"x.jpg,1,2', "not a CSV row"),
    ],
)
def test_the_error_for_an_invalid_row_names_its_line(tmp_path, row, why):
    with pytest.raises(BadTable, match=why) as caught:
        read(tmp_path, f"image,latitude,longitude\ngood.jpg,1,2\n{row}\n")
    assert caught.value.line in (3, 4)  # an open quote ends with the file
    assert "positions.csv, line" in str(caught.value)


def test_the_error_for_an_invalid_heading_names_it(tmp_path):
    with pytest.raises(BadTable, match="line 2: heading is 'NW', not a number"):
        read(tmp_path, "image,latitude,longitude,heading\nx,1,2,NW\n")


@pytest.mark.parametrize(
    "header",
    ["", "image,latitude\n", "image|latitude|longitude\n", "image,image,latitude,longitude"],
)
def test_the_error_names_a_missing_or_repeated_column(tmp_path, header):
    with pytest.raises(BadTable, match=r"line 1: the header needs one (image|.*longitude) \(or "):
        read(tmp_path, header)


def test_a_missing_table_and_a_folder_are_not_found(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(NotFound):
            read_positions(path)


# --- tables of other programs ------------------------------------------------------------------
HERE = Position(52.2058, 0.1218, None)


@pytest.mark.parametrize(
    "text",
    [
        "image;latitude;longitude\na.jpg;52,2058;0,1218\n",
        "image\tlatitude\tlongitude\na.jpg\t52.2058\t0,1218\n",
        " Image , LATITUDE,Longitude\na.jpg,52.2058,0.1218\n",
        "filename,lat,lon\na.jpg,52.2058,0.1218\n",
        "file,Lat,LNG\na.jpg,52.2058,0.1218\n",
        "name,lat,long\na.jpg,52.2058,0.1218\n",
        "file_name,lat,lon\na.jpg,52.2058,0.1218\n",
        "photo;path;lat;lon\nno;a.jpg;52.2058;0.1218\n",
        "SourceFile,GPSLatitude,GPSLongitude\n./a.jpg,52.2058,0.1218\n",
        "image,lat,lon\na.jpg,52.2058°,+0.1218 deg\n",
        "image;lat;lon\na.jpg;52,2058 °;0.1218º\n",
        'SourceFile,GPSLatitude,GPSLongitude\na.jpg,"52 deg 12\' 20.88"" N",0 deg 7.308\' E\n',
        'SourceFile,lat,GPSLatitudeRef,lon\na.jpg,"52 deg 12\' 20.88""",North,0.1218\n',
        "image,lat,GPSLatitudeRef,lon,GPSLongitudeRef\na.jpg,52.2058,N,0.1218,E\n",
        "image;latitude;longitude\na.jpg;52° 12,348' N;E 0° 7′ 18,48″\n",
        "image;latitude;longitude\na.jpg;52.2058 N;0 7 18.48\n",
    ],
)  # fmt: skip
def test_the_forms_of_other_programs_are_read(tmp_path, text):
    position = read(tmp_path, text)["a.jpg"]
    assert position.latitude == pytest.approx(HERE.latitude, abs=1e-12)
    assert position.longitude == pytest.approx(HERE.longitude, abs=1e-12)


@pytest.mark.parametrize(
    ("latitude", "reference", "degrees"),
    [
        ('33 deg 55\' 12.00"" S', "", -33.92),
        ('-33 deg 55\' 12.00""', "", -33.92),
        ('33 deg 55\' 12.00""', "South", -33.92),
        ("-33.92°", "", -33.92),
        ("-33.92", "S", -33.92),
        ("33.92", "S", -33.92),
        ('0 deg 0\' 0.00"" S', "", 0.0),
    ],
)
def test_the_south_is_negative(tmp_path, latitude, reference, degrees):
    text = f'image,latitude,longitude,GPSLatitudeRef\na.jpg,"{latitude}",0,{reference}\n'
    assert read(tmp_path, text)["a.jpg"] == Position(pytest.approx(degrees, abs=1e-12), 0.0)


@pytest.mark.parametrize(
    ("latitude", "reference"),
    [
        ('52 deg 75\' 0.00"" N', ""),
        ('52 deg 12\' 60"" N', ""),
        ("52.5 deg 12' N", ""),
        ('91 deg 0\' 0"" N', ""),
        ('52 deg 12\' 20"" E', ""),
        ('52 deg 12\' 20"" N', "S"),
        ("N 52 12 20 S", ""),
        ("-33.92", "N"),
        ("33.92", "unknown"),
        ("90.5°", ""),
        ("5212'", ""),
    ],
)
def test_an_angle_that_cannot_be_right_is_refused(tmp_path, latitude, reference):
    text = f'image,latitude,longitude,GPSLatitudeRef\na.jpg,"{latitude}",0,{reference}\n'
    with pytest.raises(BadTable, match=r"line 2: latitude is .*, not a"):
        read(tmp_path, text)


def test_bearing_and_the_direction_of_exif_are_headings(tmp_path):
    for name in ("Bearing", "GPSImgDirection"):
        rows = read(tmp_path, f"image;lat;lon;{name}\na;1;2;270,5\nb;1;2;\n")
        assert [rows[name].heading for name in "ab"] == [270.5, None]


def positions_of(tmp_path, text, **options):
    (tmp_path / "positions.csv").write_text(text, "utf-8")
    return read_positions(tmp_path / "positions.csv", **options)


def test_a_row_with_both_cells_empty_has_no_position(tmp_path):
    table = positions_of(tmp_path, "image,latitude,longitude\na.jpg,,\nb.jpg,1,2\nb.jpg,,\n")
    assert table.of("a.jpg", None) is None
    assert table.of("b.jpg", None) == Position(1.0, 2.0)
    assert table.unmatched(["a.jpg", "b.jpg"]) == []


def test_rows_that_name_no_photo_are_listed_in_the_order_of_the_table(tmp_path):
    table = positions_of(
        tmp_path, "image,latitude,longitude\nz.jpg,1,2\nsub\\ok.jpg,1,2\nok.jpg,1,2\na/1.jpg,,\n"
    )
    assert table.of("sub/ok.jpg", None) == Position(1.0, 2.0)
    assert table.unmatched(["sub/ok.jpg", "1.jpg"]) == [
        "line 2: z.jpg", "line 4: ok.jpg", "line 5: a/1.jpg (did you mean 1.jpg?)",
    ]  # fmt: skip
    assert table.of("1.jpg", None) is None  # the base name alone is no match


NFC, NFD = (unicodedata.normalize(form, "Zürich/Müller é.jpg") for form in ("NFC", "NFD"))
MIXED = NFC[:7] + NFD[8:]


@pytest.mark.parametrize("row", [NFC, NFD, MIXED, f".\\{NFD}"])
@pytest.mark.parametrize("photo", [NFC, NFD, MIXED])
def test_a_name_is_the_same_in_every_unicode_form(tmp_path, row, photo):
    table = positions_of(tmp_path, f"image,latitude,longitude\n{row},1,2\n")
    assert table.of(photo) == Position(1.0, 2.0)
    assert table.unmatched([photo]) == []


def test_two_photos_that_differ_only_in_the_unicode_form_keep_their_own_rows(tmp_path):
    text = f"image,latitude,longitude\n{NFD},3,4\n{NFC},1,2\n"
    table = positions_of(tmp_path, text)
    assert [table.of(name).latitude for name in (NFC, NFD)] == [1.0, 3.0]
    assert table.unmatched([NFC, NFD]) == []
    assert Positions.from_dict({NFC: HERE}).of(NFD) is None  # the exact names of an index


@pytest.mark.parametrize(
    ("row", "photos", "hint"),
    [
        ("x.jpg", ["a.jpg", "street/x.jpg"], "street/x.jpg"),
        ("x.jpg", ["north/x.jpg", "south/x.jpg"], ""),
        ("old/south/x.jpg", ["north/x.jpg", "south/x.jpg", "x.jpg.jpg"], "south/x.jpg"),
        ("south\\x.jpg", ["north/x.jpg", "town/south/x.jpg"], "town/south/x.jpg"),
        ("Street/X.JPG", ["street/x.jpg", "x.jpg"], "street/x.jpg"),
        ("STRASSE.jpg", ["straße.JPG"], "straße.JPG"),
        ("x.jpg", ["x.JPG", "X.jpg"], ""),
        ("x", ["x.jpg", "y.jpg"], "x.jpg"),
        ("a/x.HEIC", ["a/x.jpg"], "a/x.jpg"),
        (NFD.upper(), [NFC], NFC),
        ("y.jpg", ["x.jpg"], ""),
        ("..", ["x.jpg"], ""),
    ],
)
def test_a_row_that_means_one_photo_by_another_name_has_a_hint(tmp_path, row, photos, hint):
    table = positions_of(tmp_path, f"image,latitude,longitude\n{row},1,2\n")
    hint = f" (did you mean {hint}?)" if hint else ""
    assert table.unmatched(photos) == [f"line 2: {row}{hint}"]
    assert not any(map(table.of, photos))  # only a hint


def test_a_photo_with_a_row_of_its_own_is_no_hint(tmp_path):
    table = positions_of(tmp_path, "image,latitude,longitude\nx.jpg,1,2\na/x.jpg,1,2\n")
    assert table.unmatched(["a/x.jpg"]) == ["line 2: x.jpg"]


def test_rows_that_are_not_utf_8_come_first_with_the_remedy(tmp_path):
    text = "image;latitude;longitude\ntypo.jpg;1;2\nMüller.jpg;1;2\n"
    (tmp_path / "positions.csv").write_bytes(text.encode("cp1252"))
    table = read_positions(tmp_path / "positions.csv")
    assert table.unmatched(["Müller.jpg"]) == [
        "line 3: M\udcfcller.jpg (not UTF-8: save the table as CSV UTF-8)", "line 2: typo.jpg",
    ]  # fmt: skip
    (tmp_path / "positions.csv").write_bytes("image;lat;lon\na;52° 12';1\n".encode("cp1252"))
    with pytest.raises(BadTable, match=r"line 2: latitude is .*not UTF-8: save the table as CSV"):
        read_positions(tmp_path / "positions.csv")


def test_a_path_is_compared_after_it_is_normalised(tmp_path):
    table = positions_of(tmp_path, "image,latitude,longitude\n.\\a//b/../1.jpg,1,2\n")
    assert table.of("a/1.jpg", None) == Position(1.0, 2.0)
    with pytest.raises(BadTable, match=r"line 3.*two rows"):
        positions_of(tmp_path, "image,latitude,longitude\na/1.jpg,1,2\na\\1.jpg,1,3\n")


def test_an_absolute_path_and_one_from_the_current_folder_name_a_photo(tmp_path, monkeypatch):
    root = tmp_path / "town" / "photos"
    (root / "photos").mkdir(parents=True)
    for name in ("1.jpg", "2.jpg", "photos/1.jpg"):
        (root / name).touch()
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(root.parent)
    head = "SourceFile,latitude,longitude\n"
    text = f"{head}{root}/1.jpg,1,1\nphotos/2.jpg,2,2\n{tmp_path}/3.jpg,3,3\nphotos/1.jpg,4,4\n"
    for folder in (root, "photos", tmp_path / "link"):
        table = positions_of(tmp_path, text, root=folder)
        names = ["1.jpg", "2.jpg", "photos/1.jpg"]
        assert [table.of(name, None).latitude for name in names] == [1.0, 2.0, 4.0]
        assert table.unmatched(names) == [f"line 4: {tmp_path}/3.jpg"]
    assert positions_of(tmp_path, text).of("1.jpg", None) is None


@pytest.mark.parametrize("name", ["x" * 5000 + ".jpg", "/a\0b/c.jpg", "a\0.jpg"])
def test_a_name_that_no_file_can_have_is_only_unmatched(tmp_path, name):
    table = positions_of(tmp_path, f"image,latitude,longitude\n{name},1,2\n", root=tmp_path)
    assert table.unmatched(["a.jpg"]) == [f"line 2: {name}"]


def test_positions_may_come_from_a_dict_or_be_empty():
    assert Positions().of("a.jpg", None) is None
    assert Positions().unmatched(["a.jpg"]) == []
    assert Positions.from_dict({"a/1.jpg": HERE}).of("a/1.jpg", None) == HERE


# --- UTM ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "cells",
    ["easting;northing;zone\na.jpg;630084,0;4833438,0;17T",
     "Easting;Northing;Zone\na.jpg;630084;4833438;17 N",
     "easting;northing;zone;hemisphere\na.jpg;630084.0;4833438;17;north"],
)  # fmt: skip
def test_utm_coordinates_become_degrees(tmp_path, cells):
    tower = read(tmp_path, f"image;{cells}\n")["a.jpg"]  # the CN Tower in Toronto
    assert tower.latitude == pytest.approx(43 + 38 / 60 + 33.24 / 3600, abs=1e-5)
    assert tower.longitude == pytest.approx(-(79 + 23 / 60 + 13.7 / 3600), abs=1e-5)


@pytest.mark.parametrize("zone", ["56H;", "56 south;", "56;S"])
def test_utm_south_of_the_equator(tmp_path, zone):
    text = f"image;easting;northing;zone;hemisphere\na.jpg;334368.6;6250948.3;{zone}\n"
    position = read(tmp_path, text)["a.jpg"]
    assert position.latitude == pytest.approx(-33.86880, abs=1e-4)
    assert position.longitude == pytest.approx(151.20930, abs=1e-4)


@pytest.mark.parametrize(
    ("zone", "hemisphere", "north"),
    [("31U", "N", True), ("31u", "north", True), ("31 north", "N", True), ("31S", "N", True),
     ("31S", "S", False), ("31H", "South", False), ("31", "s", False)],
)  # fmt: skip
def test_a_zone_and_a_hemisphere_that_agree_are_read(tmp_path, zone, hemisphere, north):
    text = f"image,easting,northing,zone,hemisphere\na,500000,5000000,{zone},{hemisphere}\n"
    assert (read(tmp_path, text)["a"].latitude > 0) == north


@pytest.mark.parametrize(
    ("zone", "hemisphere"), [("31U", "S"), ("31H", "north"), ("31N", "S"), ("31", "west")]
)
def test_a_zone_and_a_hemisphere_that_disagree_are_refused(tmp_path, zone, hemisphere):
    text = f"image,easting,northing,zone,hemisphere\na,500000,5000000,{zone},{hemisphere}\n"
    with pytest.raises(BadTable, match=f"line 2: zone is '{zone}' and hemisphere '{hemisphere}'"):
        read(tmp_path, text)


@pytest.mark.parametrize("zone", ["30", "30S", "30I", "", "thirty"])
def test_a_zone_without_a_clear_hemisphere_is_refused(tmp_path, zone):
    text = f"image,easting,northing,zone\na.jpg,630084,4833438,{zone}\n"
    with pytest.raises(BadTable, match=r"line 2: zone is .*such as 30 north or 30 south"):
        read(tmp_path, text)


@pytest.mark.parametrize("cells", ["630084,4833438,61 north", "630.084,4833438,30 north"])
def test_utm_coordinates_out_of_range_are_refused(tmp_path, cells):
    with pytest.raises(BadTable, match="line 2: not UTM coordinates"):
        read(tmp_path, f"image,easting,northing,zone\na.jpg,{cells}\n")


def test_utm_without_a_zone_or_without_its_package_names_the_remedy(tmp_path, monkeypatch):
    with pytest.raises(BadTable, match="line 1: the header needs one zone"):
        read(tmp_path, "image,easting,northing\na.jpg,630084,4833438\n")
    monkeypatch.setitem(sys.modules, "utm", None)
    with pytest.raises(MissingExtra, match=r"placerec\[utm\]"):
        read(tmp_path, "image,easting,northing,zone\na.jpg,630084,4833438,30U\n")
