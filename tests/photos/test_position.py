"""Positions from tables."""

import os

import pytest

from placerec.errors import BadTable, NotFound
from placerec.photos import read_positions
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
    with pytest.raises(BadTable, match=r"line 1: the header needs one (image|longitude) or "):
        read(tmp_path, header)


def test_a_missing_table_and_a_folder_are_not_found(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(NotFound):
            read_positions(path)
