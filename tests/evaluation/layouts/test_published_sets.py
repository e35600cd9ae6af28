"""The published sets: each protocol reads its layout, and means what its owner means."""

import numpy as np
import pytest
from published import (
    TREES,
    berton,
    camera,
    msls,
    nordland_berton,
    tokyo247,
)

from placerec.errors import UsageError
from placerec.evaluation.layouts import PROTOCOLS, open_dataset


def opened(name, root):
    tree = TREES[name]
    return open_dataset(tree.write(root), name, **tree.options)


def counts(dataset):
    return [[len(numbers) for numbers in search.positives] for search in dataset.searches]


def test_every_protocol_has_a_miniature_and_reads_it(tmp_path):
    assert list(TREES) == list(PROTOCOLS)
    told = set()
    for name in TREES:
        dataset = opened(name, tmp_path / name)
        assert dataset.protocol.name.startswith(name)
        assert dataset.protocol.rule
        told.add(dataset.protocol.name)
        for search in dataset.searches:
            assert len(search.positives) == len(search.queries)
            assert all(path.is_file() for path in (*search.queries.paths, *search.database.paths))
    assert len(told) == len(PROTOCOLS)


def test_reading_twice_gives_the_same_hash_wherever_the_folder_lies(tmp_path):
    hashes = {}
    for name in ("tokyo247", "msls-val", "robotcar-seasons-v2-train", "exif"):
        here, there = opened(name, tmp_path / "a" / name), opened(name, tmp_path / "b" / name)
        assert here.hash == there.hash
        hashes[here.hash] = name
    assert len(hashes) == 4


def test_a_published_set_whose_photos_were_changed_says_so_in_its_name(tmp_path):
    name = opened("pitts30k-test", tmp_path).protocol.name
    wanted = "altered (4 queries for 6816, 4 database photos for 10000)"
    assert name == f"pitts30k-test, {wanted}"


def test_nordland_counts_frames_of_the_list_not_of_the_folder(tmp_path):
    (search,) = opened("nordland-27592", tmp_path).searches
    assert search.queries.names[0] == "winter/images-00002.png"
    assert search.database.names[-1] == "summer/images-00032.png"
    assert len(search.database) == 30  # two of 32 are stops
    for query, numbers in enumerate(search.positives):
        assert numbers == {n for n in range(30) if abs(n - query) <= 10}


def test_the_ten_of_the_programs_nordland_file_is_seven_frames(tmp_path):
    (search,) = opened("nordland-27592-program", tmp_path / "named").searches
    (lists,) = opened("image-lists", tmp_path / "lists").searches
    for query in range(20):
        inside = {n for n in range(20) if abs(n - query) <= 7}
        assert lists.positives[query] == inside
        assert search.positives[query] & set(range(20)) == inside
    assert max(map(len, search.positives)) == 15


def test_every_tenth_summer_frame_searches_all_of_winter(tmp_path):
    (search,) = opened("nordland-2760", tmp_path).searches
    assert search.queries.names == ("query/0.jpg", "query/1.jpg", "query/2.jpg")
    assert search.database.names[9:11] == ("ref/9.jpg", "ref/10.jpg")  # by number, not by text
    assert search.positives == ({0, 1}, {9, 10, 11}, {19, 20, 21})


def test_olids_sections_are_one_line_of_frames_with_two_either_side(tmp_path):
    (search,) = opened("nordland-3450", tmp_path).searches
    assert search.queries.names[4] == "test/winter_images_test/section2/4.png"
    assert search.database.names[10] == "test/summer_images_test/section3/10.png"
    assert search.positives[3] == {1, 2, 3, 4, 5}


def test_nordland_in_bertons_form_is_read_by_its_frame_field(tmp_path):
    (search,) = open_dataset(nordland_berton(tmp_path / "full"), "nordland-27592").searches
    assert search.positives[12] == set(range(2, 23))
    (search,) = open_dataset(nordland_berton(tmp_path / "some", 10), "nordland-2760").searches
    assert search.positives == ({0, 1}, {9, 10, 11}, {19, 20, 21})


def test_pittsburgh_reads_the_files_of_another_program_and_ours(tmp_path):
    (search,) = opened("pitts30k-val", tmp_path / "val").searches
    assert search.positives == tuple(frozenset([n]) for n in range(4))
    (search,) = opened("pitts30k-test", tmp_path / "test").searches
    assert search.queries.names[0] == "queries_real/000/000000_pitch1_yaw1.jpg"
    assert search.positives == ({0, 1}, {0, 1}, set(), set())
    assert search.queries.place_labels == ("0", "0", "2", "2")  # two views of a panorama: one trial
    assert np.allclose(search.queries.positions[0] - search.database.positions[0], [4, 0, 0])


def test_bertons_form_of_pittsburgh_and_tokyo_gives_the_same_truth(tmp_path):
    for name in ("pitts30k-test", "tokyo247"):
        (search,) = open_dataset(berton(tmp_path / name), name).searches
        assert search.positives == (set(range(12)), set(range(12, 24)))


def test_tokyo_keeps_one_of_twelve_cut_outs_and_its_315_of_1125_queries(tmp_path):
    dataset = opened("tokyo247", tmp_path)
    (search,) = dataset.searches
    assert dataset.protocol.photos_a_panorama == 12
    assert search.database.names[1] == "03814/381430.0_139.7_012_30.png"  # the list says .jpg
    assert len(search.queries) == 3
    assert search.positives == (set(range(12)), set(range(12, 24)), set())


def test_cut_outs_that_are_not_one_after_the_other_are_refused(tmp_path):
    folder = berton(tmp_path)
    database = folder / "images" / "test" / "database"
    one = sorted(database.iterdir())[0]
    one.rename(one.with_name(one.name.replace("0500000.00", "0500900.00")))
    with pytest.raises(UsageError, match="not complete panoramas"):
        open_dataset(folder, "tokyo247")


def test_the_official_mapillary_list_leaves_out_what_the_evaluator_does(tmp_path):
    dataset = opened("msls-val", tmp_path)
    assert [search.name for search in dataset.searches] == ["cph", "sf"]
    for search in dataset.searches:
        # not 4 (another subtask), 5 (panorama), 6 (nothing within 25 m)
        assert [name[-5] for name in search.queries.names] == ["0", "1", "2", "3"]
        assert [name[-5] for name in search.database.names] == ["0", "1", "2", "3", "4", "6"]
        assert search.positives == tuple(frozenset([n]) for n in range(4))
        assert search.queries.conditions == ("day", "night", "day", "day")
    assert search.queries.names[0] == "train_val/sf/query/images/sf_query_0.jpg"


def test_with_40_degrees_the_same_queries_are_asked_and_fewer_answers_are_right(tmp_path):
    folder = msls(tmp_path)
    wide, narrow = open_dataset(folder, "msls-val"), open_dataset(folder, "msls-val-40")
    assert [s.queries.names for s in wide.searches] == [s.queries.names for s in narrow.searches]
    assert counts(narrow) == [[1, 1, 0, 1]] * 2  # 2 looks sideways, 90 degrees off
    assert wide.hash != narrow.hash


def test_all_mapillary_queries_means_those_without_an_answer_too(tmp_path):
    assert counts(opened("msls-val-all", tmp_path)) == [[1, 1, 1, 1, 1, 0]] * 2


def test_the_mapillary_challenge_is_hidden_and_asks_its_subtask(tmp_path):
    dataset = opened("msls-test", tmp_path)
    assert dataset.protocol.hidden
    assert counts(dataset) == [[0, 0, 0]] * 2
    assert dataset.searches[1].queries.names[2] == "test/athens/query/images/athens_query_3.jpg"


def test_a_training_search_says_how_many_of_its_cities_are_there(tmp_path):
    assert opened("msls-train", tmp_path).protocol.name == "msls-train, 1 of 22 cities"


def test_robotcar_has_poses_conditions_and_hidden_queries(tmp_path):
    dataset = opened("robotcar-seasons-v2", tmp_path)
    (search,) = dataset.searches
    assert dataset.protocol.hidden
    assert dataset.protocol.poses
    assert search.queries.names == ("night/rear/2002.jpg", "snow/rear/2003.jpg")
    assert search.queries.conditions == ("night", "snow")
    assert search.queries.poses is None
    assert search.database.names[0] == "overcast-reference/rear/1000.jpg"  # the model says .png
    for place, pose in enumerate(search.database.poses):
        assert np.allclose(pose, camera(place, 0)[3])


def test_the_training_queries_of_robotcar_are_judged_by_their_poses(tmp_path):
    dataset = opened("robotcar-seasons-v2-train", tmp_path)
    (search,) = dataset.searches
    assert not dataset.protocol.hidden
    assert search.positives == ({0}, {1})
    assert search.queries.conditions == ("night", "rain")
    assert np.allclose(search.queries.poses[1], camera(1, 1)[3])


def test_cmu_slices_are_one_search_in_which_another_slice_is_never_right(tmp_path):
    hidden = opened("extended-cmu-seasons", tmp_path / "hidden")
    assert hidden.protocol.name == "extended-cmu-seasons, 2 of 14 slices"
    assert (len(hidden.searches), hidden.queries, len(hidden.searches[0].database)) == (1, 4, 6)
    known = opened("extended-cmu-seasons-train", tmp_path / "known")
    (search,) = known.searches
    assert search.positives == ({0}, {1}, {3}, {4})
    assert search.queries.conditions[:2] == ("sunny, foliage", "low sun, no foliage, snow")
    assert search.database.conditions == ("sunny, no foliage",) * 6
    assert np.allclose(search.queries.poses[1], camera(1, 1)[3])


@pytest.mark.parametrize("option", [{"radius": 10.0}, {"photos_a_panorama": 4}, {"frames": 2}])
def test_the_numbers_of_a_published_protocol_cannot_be_changed(tmp_path, option):
    with pytest.raises(UsageError, match="the protocol tokyo247 does not take it"):
        open_dataset(tokyo247(tmp_path), "tokyo247", **option)
