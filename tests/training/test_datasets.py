"""Training data on disk: each layout in its real file formats, and the refused folders."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from training_support import (
    at,
    draw_photo,
    write_evaluation_format,
    write_folder,
    write_msls,
    write_table,
)

from placerec.errors import BadTable, Damaged, NotFound
from placerec.evaluation.geometry import EARTH_RADIUS, neighbours, on_the_sphere
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.layouts.msls import TRAIN_CITIES
from placerec.evaluation.layouts.netvlad_sets import read_dbstruct
from placerec.records import Position
from placerec.training.datasets import open_training_data

MATLAB = Path(__file__).parent.parent / "evaluation" / "layouts"


def write_pittsburgh(folder):
    for name in ("pitts30k_train.mat", "pitts30k_val.mat"):
        (folder / "datasets").mkdir(parents=True, exist_ok=True)
        shutil.copy(MATLAB / name, folder / "datasets" / name)
        struct = read_dbstruct(folder / "datasets" / name)
        for photo in (*struct.database, *(f"queries_real/{query}" for query in struct.queries)):
            (folder / photo).parent.mkdir(parents=True, exist_ok=True)
            (folder / photo).touch()
    return folder


def test_mapillary_is_read_without_panoramas_and_with_its_validation_cities(tmp_path):
    data = open_training_data(write_msls(tmp_path))
    assert data.preset == "mapillary"
    assert len(data.queries) == len(data.database) == 10  # 2 cities, 5 of 6
    names = [path.name for path in data.queries.paths]
    assert names[0] == "trondheim_query_0.jpg"
    assert all(path.is_file() for path in data.database.paths)
    assert not any("5.jpg" in name for name in names)  # the panorama
    (search,) = data.validation
    assert {name.split("/")[1] for name in search.queries.names + search.database.names} == {"cph"}
    assert search.positives == tuple(frozenset([n]) for n in range(5))


def test_mapillary_cities_with_equal_coordinates_are_never_neighbours(tmp_path):
    data = open_training_data(write_msls(tmp_path))
    near = neighbours(data.queries.positions, data.database.positions, 25.0)
    assert [n.tolist() for n in near] == [[n] for n in range(10)]


def test_mapillary_draws_night_and_sideways_queries_more_often_as_published(tmp_path):
    data = open_training_data(write_msls(tmp_path))
    # 10 queries, 2 by night, 2 sideways: weight 1 + 10 / 2.
    assert data.weights.tolist() == [1, 6, 6, 1, 1] * 2


def test_all_22_published_training_cities_are_known():
    assert len(set(TRAIN_CITIES)) == 22
    assert not {"cph", "sf", "miami"} & set(TRAIN_CITIES)


def test_pittsburgh_is_read_from_its_matlab_files(tmp_path):
    data = open_training_data(write_pittsburgh(tmp_path))
    assert data.preset == "pittsburgh"
    assert data.database.paths[3] == tmp_path / "000/000003_pitch1_yaw1.jpg"
    assert data.queries.paths[3] == tmp_path / "queries_real/000/000003_pitch1_yaw1.jpg"
    apart = data.queries.positions - data.database.positions[:6]
    assert np.allclose(apart, [[4.0, 0.0, 0.0]])
    (validation,) = data.validation
    assert len(validation.database) == 5
    assert validation.positives == tuple(frozenset([n]) for n in range(4))


@pytest.mark.parametrize("name", ["pitts30k_train.mat", "pitts30k_val.mat"])
def test_a_truncated_matlab_file_is_an_error_that_names_it(tmp_path, name):
    content = (MATLAB / name).read_bytes()
    path = tmp_path / "cut.mat"
    for length in (0, 97, len(content) // 2, len(content) - 12):
        path.write_bytes(content[:length])
        with pytest.raises(Damaged, match=r"cut\.mat"):
            read_dbstruct(path)


def test_a_matlab_file_of_another_format_says_which(tmp_path):
    path = tmp_path / "new.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(Damaged, match=r"7\.3.*-v7"):
        read_dbstruct(path)


def test_a_folder_with_coordinates_is_its_own_database(tmp_path):
    data = open_training_data(write_folder(tmp_path, places=3))
    assert data.preset == "photos"
    assert data.queries is data.database
    assert [path.name for path in data.queries.paths[:2]] == ["p00_0.jpg", "p00_1.jpg"]
    assert data.queries.headings.tolist() == [90.0] * 6
    assert data.validation == ()


def on_a_map(folder, names):
    """Draw photos 50 m apart, with their positions in their names."""
    for number, name in enumerate(names):
        draw_photo(folder / name.format(f"@{5e5 + 50 * number:.1f}@7000000@"), number, 0)


def test_a_folder_of_photos_with_positions_in_their_names_needs_no_table(tmp_path):
    on_a_map(tmp_path, ["a/{}.jpg", "a/{}31@N@.jpg", "b/{}.jpg"])
    (tmp_path / "a" / "notes.txt").touch()
    data = open_training_data(tmp_path)
    assert data.preset == "photos"
    assert data.queries is data.database
    assert sorted(data.queries.positions[:, 0]) == [5e5, 5e5 + 50, 5e5 + 100]


@pytest.mark.parametrize("root", ["", "images/train"])
def test_both_sides_with_positions_in_their_names_train(tmp_path, root):
    on_a_map(tmp_path / root, [f"{side}/{{}}.jpg" for side in ("database", "queries", "database")])
    data = open_training_data(tmp_path)
    assert data.database.positions[:, 0].tolist() == [5e5, 5e5 + 100]
    assert data.queries.positions[:, 0].tolist() == [5e5 + 50]
    assert {path.parent.name for path in data.queries.paths} == {"queries"}


def tagged(path, longitude):
    """Save a photo with the EXIF tags of a position, and of a heading to the east."""
    tags, exif = ExifTags.GPS, Image.Exif()
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[tags.GPSLatitudeRef], gps[tags.GPSLatitude] = "N", (52.0, 0.0, 0.0)
    gps[tags.GPSLongitudeRef], gps[tags.GPSLongitude] = "E", (longitude, 0.0, 0.0)
    gps[tags.GPSImgDirectionRef], gps[tags.GPSImgDirection] = "T", 90.0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(path, exif=exif)


@pytest.mark.parametrize("sides", [("", ""), ("database/", "queries/")])
def test_photos_with_positions_in_their_tags_need_no_table(tmp_path, sides):
    for number, side in enumerate(sides):
        tagged(tmp_path / f"{side}{number}.jpg", 0.25 * number)
    data = open_training_data(tmp_path)
    for photos in (data.queries, data.database):
        degrees = [Position(52.0, 0.25 * int(path.stem)) for path in photos.paths]
        assert np.allclose(photos.positions, on_the_sphere(degrees), atol=1e-3)
        assert set(photos.headings) == {90.0}
    assert len(data.queries) == (1 if sides[0] else 2)


def test_a_table_overrides_names_and_tags_and_a_photo_without_position_is_named(tmp_path):
    write_folder(tmp_path / "table", places=2)
    on_a_map(tmp_path / "table", ["{}.jpg"])
    assert len(open_training_data(tmp_path / "table").queries) == 4
    draw_photo(tmp_path / "none" / "1.jpg", 0, 0)
    with pytest.raises(NotFound, match=r"1\.jpg: no GPS position .*coordinates\.csv"):
        open_training_data(tmp_path / "none")
    on_a_map(tmp_path / "some", ["{}.jpg", "x{}.jpg", "@x@y@.jpg"])
    with pytest.raises(Damaged, match=r"@x@y@\.jpg: 'x' in its name is not a number"):
        open_training_data(tmp_path / "some")


def test_the_evaluation_format_trains_and_validates(tmp_path):
    folder = write_evaluation_format(tmp_path, places=4)
    data = open_training_data(folder)
    assert {path.parent.name for path in data.queries.paths} == {"queries"}
    assert {path.parent.name for path in data.database.paths} == {"database"}
    assert data.queries.headings is None
    (search,) = open_dataset(folder).searches
    assert search.positives == tuple(frozenset([n]) for n in range(4))


def test_distances_are_metres_everywhere_on_earth():
    for latitude in (0.0, 52.2, -89.9):
        places = [Position(latitude, 0.12), Position(latitude + 1e-4, 0.12),
                  Position(latitude, 0.12 + 1e-4)]  # fmt: skip
        points = on_the_sphere(places)
        north, east = np.linalg.norm(points[1:] - points[0], axis=1)
        step = np.radians(1e-4) * EARTH_RADIUS
        assert north == pytest.approx(step, abs=1e-4)
        assert east == pytest.approx(step * np.cos(np.radians(latitude)), abs=1e-4)


def test_neighbours_equal_a_comparison_of_all_pairs():
    rng = np.random.default_rng(0)
    queries, database = rng.uniform(-60, 60, (40, 3)), rng.uniform(-60, 60, (200, 3))
    database[0] = queries[0] + [25.0, 0.0, 0.0]  # exactly at the radius, which counts
    near = neighbours(queries, database, 25.0)
    distance = np.linalg.norm(queries[:, None] - database, axis=2)
    for query, numbers in enumerate(near):
        assert numbers.tolist() == np.flatnonzero(distance[query] <= 25.0).tolist()
    assert 0 in near[0]


def test_the_error_for_a_folder_without_training_data_names_the_layouts(tmp_path):
    with pytest.raises(NotFound, match=r"coordinates\.csv.*TRAINING"):
        open_training_data(tmp_path)
    with pytest.raises(NotFound, match="no such folder"):
        open_training_data(tmp_path / "nowhere")


def test_a_missing_photo_of_a_table_is_named(tmp_path):
    write_folder(tmp_path, places=2)
    (tmp_path / "photos" / "p01_1.jpg").unlink()
    with pytest.raises(NotFound, match=r"p01_1\.jpg"):
        open_training_data(tmp_path)


def city(folder):
    return write_msls(folder) / "train_val" / "london" / "query"


def test_missing_and_malformed_files_of_a_city_are_named_with_their_line(tmp_path):
    folder = city(tmp_path)
    raw, table = folder / "raw.csv", folder / "postprocessed.csv"
    good = table.read_text("utf-8")
    table.write_text(good.replace("500104.0", "east"), "utf-8")
    with pytest.raises(
        BadTable, match=r"postprocessed\.csv, line 3: easting is 'east', not a number"
    ):
        open_training_data(tmp_path)
    table.write_text(good.replace("night", "nacht"), "utf-8")
    with pytest.raises(BadTable, match="needs one night"):
        open_training_data(tmp_path)
    table.write_text(good, "utf-8")
    write_table(raw, [{"key": "other", "pano": False}])
    with pytest.raises(BadTable, match=r"london_query_0 is not in raw\.csv"):
        open_training_data(tmp_path)
    raw.unlink()
    with pytest.raises(NotFound, match=r"london.*raw\.csv"):
        open_training_data(tmp_path)


def test_a_mapillary_folder_without_training_cities_is_refused(tmp_path):
    (tmp_path / "train_val").mkdir()
    with pytest.raises(NotFound, match="none of the 22"):
        open_training_data(tmp_path)


def test_a_coordinates_file_without_rows_is_refused(tmp_path):
    write_table(tmp_path / "coordinates.csv", [{"image": "x.jpg", **at(0.0)}])
    text = (tmp_path / "coordinates.csv").read_text("utf-8").splitlines()[0]
    (tmp_path / "coordinates.csv").write_text(text + "\n", "utf-8")
    with pytest.raises(NotFound, match="lists no photo"):
        open_training_data(tmp_path)
