"""The general layouts: a user's photos, and the formats of other programs."""

import math
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import trees
from trees import camera

from placerec.errors import BadTable, Damaged, NotFound, UsageError
from placerec.evaluation.geometry import within
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.layouts.poses import pose_in
from placerec.evaluation.photo_names import paths_in_tree

FORMATS = {
    "folder": trees.folder, "coordinates": trees.coordinates, "image-lists": trees.image_lists,
    "kapture": trees.kapture, "colmap": trees.colmap, "nvm": trees.nvm,
    "utm-names": trees.utm_names,
}  # fmt: skip
ONE_EACH = tuple(frozenset([n]) for n in range(4))


@pytest.mark.parametrize("name", FORMATS)
def test_a_layout_is_recognised_by_what_lies_there(tmp_path, name):
    folder = FORMATS[name](tmp_path / "set")
    dataset = open_dataset(folder)
    assert dataset.protocol.name.split(",")[0] == name
    assert dataset.hash == open_dataset(str(folder), name).hash


@pytest.mark.parametrize("name", ["folder", "colmap", "nvm", "utm-names", "kapture", "image-lists"])
def test_other_programs_know_photos_by_their_paths_below_the_folder(tmp_path, name):
    folder = FORMATS[name](tmp_path / "set")
    (search,) = open_dataset(folder).searches
    for photos, paths in zip((search.queries, search.database), paths_in_tree(search), strict=True):
        assert [folder / paths[name] for name in photos.names] == list(photos.paths)


def test_a_folder_takes_its_ground_truth_before_its_coordinates(tmp_path):
    trees.coordinates(trees.folder(tmp_path))
    dataset = open_dataset(tmp_path)
    (search,) = dataset.searches
    assert dataset.protocol.name == "folder"
    assert search.queries.names == ("0.jpg", "1.jpg", "2.jpg", "3.jpg")
    assert search.queries.positions.shape == (4, 3)  # for the map of a report
    assert open_dataset(tmp_path, radius=25.0).protocol.name == "coordinates, 25 m"


def test_another_ground_truth_file_is_another_protocol(tmp_path):
    trees.folder(tmp_path)
    shutil.copy(tmp_path / "ground_truth.csv", tmp_path / "strict.csv")
    usual = open_dataset(tmp_path)
    strict = open_dataset(tmp_path, ground_truth="strict.csv")
    elsewhere = open_dataset(tmp_path, ground_truth=tmp_path / "strict.csv")
    assert strict.protocol.name == "folder, strict.csv"
    assert usual.hash != strict.hash == elsewhere.hash
    (tmp_path / "ground_truth.csv").unlink()
    assert open_dataset(tmp_path, ground_truth="strict.csv").hash == strict.hash
    with pytest.raises(NotFound, match=rf"lax\.csv: no such file, neither .* nor in {tmp_path}"):
        open_dataset(tmp_path, ground_truth="lax.csv")


def test_names_of_a_ground_truth_may_begin_with_their_folder_and_have_blanks_around(tmp_path):
    plain = open_dataset(trees.folder(tmp_path / "a" / "set"))
    folder = trees.folder(tmp_path / "b" / "set")
    rows = [f"queries/{n}.jpg ,\tdatabase/{n}.jpg" for n in range(4)]
    trees.lines(folder / "ground_truth.csv", [" query , database", "  ", *rows])
    assert open_dataset(folder).hash == plain.hash


def test_a_name_of_a_ground_truth_means_the_photo_that_has_it_before_any_other(tmp_path):
    trees.folder(tmp_path)
    trees.draw(tmp_path / "queries" / "queries" / "1.jpg", 1, 2)
    trees.lines(tmp_path / "ground_truth.csv", ["query,database", "queries/1.jpg,3.jpg"])
    (search,) = open_dataset(tmp_path).searches
    assert search.answers["queries/1.jpg"] == {"3.jpg"}
    assert search.answers["1.jpg"] == frozenset()


def test_queries_with_the_same_positives_are_one_place(tmp_path):
    trees.sides(tmp_path)
    pairs = [(0, 0), (1, 0), (2, 1), (2, 0)]
    trees.table(tmp_path / "ground_truth.csv",
                [{"query": f"{q}.jpg", "database": f"{d}.jpg"} for q, d in pairs])  # fmt: skip
    (search,) = open_dataset(tmp_path).searches
    assert search.queries.place_labels == ("0.jpg", "0.jpg", "2.jpg", "3.jpg")
    assert search.positives == ({0}, {0}, {0, 1}, set())


def test_coordinates_judge_by_distance_and_angle(tmp_path):
    folder = trees.coordinates(tmp_path)
    (search,) = open_dataset(folder).searches
    assert search.positives == ONE_EACH
    narrow = open_dataset(folder, degrees=40.0)
    assert narrow.protocol.name == "coordinates, 25 m, 40 degrees"
    assert narrow.searches[0].positives == (*ONE_EACH[:3], frozenset())
    far = open_dataset(folder, radius=110.0).searches[0]
    assert far.positives == ({0, 1}, {0, 1, 2}, {1, 2, 3}, {2, 3})
    assert open_dataset(folder, radius=4.01).searches[0].positives == ONE_EACH
    assert not any(open_dataset(folder, radius=3.99).searches[0].positives)


def test_map_coordinates_work_as_degrees_do(tmp_path):
    assert open_dataset(trees.map_coordinates(tmp_path)).searches[0].positives == ONE_EACH


@pytest.mark.parametrize("header", ["image,breite,lon", "image,latitude", "latitude,longitude", ""])
def test_a_wrong_header_of_coordinates_names_both_forms(tmp_path, header):
    folder = trees.coordinates(tmp_path)
    (folder / "coordinates.csv").write_text(f"{header}\nqueries/0.jpg,1,2\n", "utf-8")
    both = r"line 1: .*image, latitude, longitude .*or image, easting, northing"
    with pytest.raises(BadTable, match=both) as caught:
        open_dataset(folder)
    assert (header or "empty") in str(caught.value)


def test_an_angle_needs_headings(tmp_path):
    with pytest.raises(UsageError, match="has no headings"):
        open_dataset(trees.map_coordinates(tmp_path), degrees=40.0)


def test_an_unknown_heading_excludes_no_photo(tmp_path):
    folder = trees.coordinates(tmp_path)
    table = folder / "coordinates.csv"
    table.write_text(table.read_text("utf-8").replace(",270", ","), "utf-8")
    assert open_dataset(folder, degrees=40.0).searches[0].positives == ONE_EACH


def test_the_panorama_rule_enters_name_and_hash(tmp_path):
    trees.sides(tmp_path)
    rows = [{"image": f"{side}/{n}.jpg", "easting": 100.0 * (n // 2), "northing": 0.0}
            for side in ("database", "queries") for n in range(4)]  # fmt: skip
    trees.table(tmp_path / "coordinates.csv", rows)
    plain, pairs = open_dataset(tmp_path), open_dataset(tmp_path, photos_a_panorama=2)
    assert pairs.protocol.name == "coordinates, 25 m, 2 photos a panorama"
    assert pairs.protocol.photos_a_panorama == 2
    assert plain.hash != pairs.hash
    for wrong in (3, 4):  # does not divide; two places
        with pytest.raises(UsageError, match="not complete panoramas"):
            open_dataset(tmp_path, photos_a_panorama=wrong)


def test_utm_names_give_positions_headings_and_zones(tmp_path):
    folder = trees.utm_names(tmp_path)
    (search,) = open_dataset(folder).searches
    assert search.positives == ONE_EACH
    assert np.allclose(search.queries.headings, 90.0)
    other = folder / "queries" / trees.utm_name(0, 1, heading="090")
    other.rename(other.with_name(other.name.replace("@31@", "@32@")))  # another map
    (search,) = open_dataset(folder).searches
    assert [len(numbers) for numbers in search.positives] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    "more",
    [
        "",
        "31@",
        "31@N@",
        "x@",
        "31@N@52.1@0.1@",
        "@@",
        "a b@17@90@",
        "1@2@3@4@5@6@7@8@9@10@11@12@13@",
    ],
)
def test_utm_names_need_east_and_north_alone(tmp_path, more):
    for view, side in enumerate(("database", "queries")):
        for place in range(3):
            east = 550_100.2 + 100 * place + 4 * view
            other = f"{place}@" if more == "x@" else more  # what it says is the owner's
            trees.draw(tmp_path / side / f"@{east}@4183000.5@{other}.jpg", place, view)
    dataset = open_dataset(tmp_path)
    assert dataset.protocol.name == "utm-names, 25 m"
    (search,) = dataset.searches
    assert search.positives == ONE_EACH[:3]
    assert np.allclose(search.queries.positions[0, :2], [550_104.2, 4_183_000.5])
    assert search.queries.headings is None


def test_a_zone_with_its_letter_parts_the_maps_of_short_utm_names_too(tmp_path):
    trees.draw(tmp_path / "database" / "@5@7@31@N@.jpg", 0)
    for number, zone in enumerate(("31@N@", "32@N@")):
        trees.draw(tmp_path / "queries" / f"@5@7@{zone}.jpg", number, 1)
    assert open_dataset(tmp_path).searches[0].positives == ({0}, set())


def test_a_zone_that_some_utm_names_leave_out_is_that_of_all(tmp_path):
    trees.draw(tmp_path / "database" / "@5@7@31@N@.jpg", 0)
    trees.draw(tmp_path / "queries" / "@5@7@.jpg", 0, 1)
    assert open_dataset(tmp_path).searches[0].positives == ({0},)
    trees.draw(tmp_path / "database" / "@5@7@32@N@.jpg", 1)
    several = r"queries/@5@7@\.jpg: its name has no zone, .* several \(31, 32\)"
    with pytest.raises(Damaged, match=several):
        open_dataset(tmp_path)


def test_exif_positions_judge(tmp_path):
    dataset = open_dataset(trees.exif(tmp_path), "exif")
    assert dataset.protocol.name == "exif, 25 m"
    # 4 m of longitude at 52 degrees north are 2.5 m
    assert dataset.searches[0].positives == ONE_EACH
    assert dataset.searches[0].queries.headings is None


def test_frames_count_by_the_number_in_the_name(tmp_path):
    (search,) = open_dataset(trees.frames(tmp_path), frames=2).searches
    assert search.queries.names == ("frame11.jpg", "frame4.jpg")
    names = [{search.database.names[n] for n in numbers} for numbers in search.positives]
    assert names == [
        {"left_0009.jpg", "left_0010.jpg"}, {f"left_{n:04}.jpg" for n in range(2, 7)}
    ]  # fmt: skip
    assert open_dataset(tmp_path, frames=0).searches[0].positives[0] == frozenset()
    with pytest.raises(UsageError, match="frames: give a number"):
        open_dataset(tmp_path, "frames")


@pytest.mark.parametrize(
    "write", [trees.colmap, trees.colmap_text, trees.nvm, trees.kapture], ids=lambda f: f.__name__
)
def test_every_format_of_poses_gives_the_same_cameras(tmp_path, write):
    dataset = open_dataset(write(tmp_path))
    (search,) = dataset.searches
    assert dataset.protocol.poses
    assert not dataset.protocol.hidden
    assert dataset.protocol.name.endswith("5 m, 10 degrees")
    for view, photos in enumerate((search.database, search.queries)):
        for place, pose in enumerate(photos.poses):
            assert np.allclose(pose, camera(place, view)[3], atol=1e-9)
    assert np.allclose(search.database.positions[1], [100.0, 1.5, -2.0])
    assert search.positives == ONE_EACH
    assert not any(open_dataset(tmp_path, radius=3.9).searches[0].positives)
    assert not any(open_dataset(tmp_path, degrees=4.9).searches[0].positives)
    assert open_dataset(tmp_path, degrees=5.1).searches[0].positives == ONE_EACH


def test_queries_without_poses_make_a_hidden_set(tmp_path):
    folder = trees.kapture(tmp_path)
    (folder / "query" / "sensors" / "trajectories.txt").unlink()
    dataset = open_dataset(folder)
    assert dataset.protocol.hidden
    assert dataset.searches[0].queries.poses is None
    assert not any(dataset.searches[0].positives)


def test_a_query_that_the_model_has_not_registered_has_no_positive(tmp_path):
    folder = trees.nvm(tmp_path)
    rows = (folder / "model.nvm").read_text("utf-8").split("\n")
    remaining = [row for row in rows if not row.startswith("queries/2.jpg")]
    remaining[2] = "7"
    (folder / "model.nvm").write_text("\n".join(remaining), "utf-8")
    dataset = open_dataset(folder)
    (search,) = dataset.searches
    assert not dataset.protocol.hidden
    assert np.isnan(search.queries.poses[2]).all()
    assert search.positives == (*ONE_EACH[:2], frozenset(), ONE_EACH[3])


def test_a_quaternion_turns_the_world_into_the_camera():
    def rotation(*quaternion):
        return pose_in(Path("poses.txt"), 3, [*quaternion, 0, 0, 0])[:3, :3].T

    half = math.sqrt(0.5)
    assert np.allclose(rotation(half, 0, 0, half) @ [1, 0, 0], [0, 1, 0])  # 90 degrees about z
    assert np.allclose(rotation(2, 0, 0, 0), np.eye(3))  # brought to unit length
    with pytest.raises(BadTable, match=r"poses\.txt, line 3: .*zero"):
        rotation(0, 0, 0, 0)


def test_image_lists_take_the_truth_that_is_named_where_there_are_two(tmp_path):
    folder = trees.image_lists(tmp_path)
    points = np.zeros((20, 2))
    np.savez(folder / "nordland_same.npz", utmQ=points, utmDb=points, posDistThr=np.array([[1.0]]))
    both = r"several ground truths \(dataset_gt_files/nordland\.npz, nordland_same\.npz\)"
    with pytest.raises(UsageError, match=both):
        open_dataset(folder)
    dataset = open_dataset(folder, ground_truth="nordland_same.npz")
    assert dataset.protocol.name == "image-lists, nordland_same.npz, radius 1"
    assert all(len(numbers) == 20 for numbers in dataset.searches[0].positives)
    wide = open_dataset(folder, ground_truth="dataset_gt_files/nordland.npz", radius=0.5)
    assert wide.searches[0].positives == tuple(frozenset([n]) for n in range(20))
    usual = open_dataset(folder, ground_truth="nordland.npz")  # in dataset_gt_files
    assert usual.protocol.name == "image-lists, nordland.npz, radius 10"


def test_an_npz_is_the_truth_of_lists_though_there_are_the_two_folders_too(tmp_path):
    folder = trees.image_lists(tmp_path)
    for side in ("database", "queries"):
        trees.draw(folder / side / "one.jpg", 0)
    (folder / "ground_truth.csv").write_text("query,database\none.jpg,one.jpg\n", "utf-8")
    assert open_dataset(folder).protocol.name == "folder"
    dataset = open_dataset(folder, ground_truth="nordland.npz")
    assert dataset.protocol.name == "image-lists, nordland.npz, radius 10"


def test_a_ground_truth_without_a_pair_is_an_error(tmp_path):
    for side in ("database", "queries"):
        trees.draw(tmp_path / side / "one.jpg", 0)
    (tmp_path / "ground_truth.csv").write_text("query,database\n", "utf-8")
    with pytest.raises(NotFound, match=r"ground_truth\.csv: no pair in it"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["tokyo247.npz", "nordland2.npz", "nord.npz"])
def test_a_ground_truth_of_other_lists_is_refused(tmp_path, name):
    folder = trees.image_lists(tmp_path)
    (folder / "dataset_gt_files" / "nordland.npz").rename(folder / name)
    with pytest.raises(UsageError, match=rf"{name}: its name belongs to no list of .*\(nordland\)"):
        open_dataset(folder, ground_truth=name)
    with pytest.raises(NotFound, match=r"nordland\.npz: no such file"):
        open_dataset(folder)


def test_a_ground_truth_belongs_to_the_list_with_the_longest_name(tmp_path):
    folder = trees.image_lists(tmp_path)
    lists = folder / "dataset_imagenames"
    for side in ("index", "query"):  # "nord" lists a photo that is not there
        trees.lines(lists / f"nord_imageNames_{side}.txt", ["none.jpg"])
        lists.joinpath(f"nordland_imageNames_{side}.txt").rename(
            lists / f"nord_land_imageNames_{side}.txt"
        )
    truths = folder / "dataset_gt_files"
    (truths / "nordland.npz").rename(truths / "nord_land_test.npz")
    assert open_dataset(folder).protocol.name == "image-lists, nord_land_test.npz, radius 10"


def test_tokyo_by_the_lists_of_the_program_keeps_one_of_twelve_cut_outs_as_it_does(tmp_path):
    for side, count in (("index", 24), ("query", 2)):
        names = [f"tokyo/{side}/{n:02}.png" for n in range(count)]
        for n, name in enumerate(names):
            trees.draw(tmp_path / name, n, side == "query")
        trees.lines(tmp_path / f"tokyo247_imageNames_{side}.txt", names)
    np.savez(
        tmp_path / "tokyo247.npz", posDistThr=25.0, utmQ=np.array([[0.0, 4.0], [100.0, 4.0]]),
        utmDb=np.array([[100.0 * (n // 12), 0.0] for n in range(24)]),
    )  # fmt: skip
    dataset = open_dataset(tmp_path)
    assert dataset.protocol.photos_a_panorama == 12
    name = "image-lists, tokyo247.npz, radius 25"
    assert dataset.protocol.name == f"{name}, 12 photos a panorama"
    without = open_dataset(tmp_path, photos_a_panorama=1)  # only where it is asked for
    assert (without.protocol.name, without.protocol.photos_a_panorama) == (name, 1)


@pytest.mark.parametrize(
    "option",
    [{"radius": -1.0}, {"radius": 0.0}, {"radius": math.nan}, {"radius": math.inf},
     {"degrees": 181.0}, {"degrees": math.nan}, {"frames": -1}, {"photos_a_panorama": 0}],
)  # fmt: skip
def test_an_invalid_number_is_refused(tmp_path, option):
    (name,) = option
    with pytest.raises(UsageError, match=name):
        open_dataset(trees.coordinates(tmp_path), **option)


def test_a_query_that_is_also_a_database_photo_is_refused(tmp_path):
    folder = trees.image_lists(tmp_path)
    index = folder / "dataset_imagenames" / "nordland_imageNames_index.txt"
    text = index.read_text("utf-8")
    index.write_text(text.replace("summer/images-00205", "winter/images-00205"), "utf-8")
    with pytest.raises(UsageError, match=r"winter/images-00205\.png: both a query and a database"):
        open_dataset(folder)


def test_a_photo_without_a_position_is_near_nothing(tmp_path):
    (search,) = open_dataset(trees.coordinates(tmp_path)).searches
    search.queries.positions[1] = np.nan
    search.database.positions[2] = np.nan
    rows = within(search.queries, search.database, 25.0)
    assert [len(numbers) for numbers in rows] == [1, 0, 0, 1]


def test_a_binary_model_that_is_cut_anywhere_is_an_error_that_names_it(tmp_path):
    folder = trees.colmap(tmp_path)
    path = folder / "sparse" / "images.bin"
    data = path.read_bytes()
    for length in range(0, len(data), 13):
        path.write_bytes(data[:length])
        with pytest.raises(Exception, match=r"images\.bin: not a complete COLMAP model"):
            open_dataset(folder)
    path.write_bytes(struct.pack("<Q", 2**60) + data[8:])
    with pytest.raises(Exception, match="not a complete COLMAP model"):
        open_dataset(folder)
