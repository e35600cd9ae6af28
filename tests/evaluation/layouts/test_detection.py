"""Which general protocol a folder is read by, and that published sets need a name."""

import shutil

import pytest
import trees
from published import TREES, berton, cmu, msls, msls_test

from placerec.errors import NotFound, UsageError
from placerec.evaluation.layouts import PUBLISHED, open_dataset
from placerec.evaluation.layouts.seasons import TEST_SLICES, TRAIN_SLICES

ONE_EACH = tuple(frozenset([n]) for n in range(4))


def test_frames_are_recognised_by_their_option(tmp_path):
    folder = trees.frames(tmp_path)
    assert open_dataset(folder, frames=1).protocol.name == "frames, 1 either side"


def test_photos_with_gps_tags_are_recognised_if_no_file_decides(tmp_path):
    folder = trees.exif(tmp_path)
    assert open_dataset(folder).protocol.name == "exif, 25 m"
    assert open_dataset(folder, radius=3.0).protocol.name == "exif, 3 m"
    trees.table(folder / "ground_truth.csv", [{"query": "0.jpg", "database": "0.jpg"}])
    assert open_dataset(folder).protocol.name == "folder"


def test_two_folders_of_photos_and_nothing_more_get_a_list_of_what_is_missing(tmp_path):
    trees.sides(tmp_path)
    with pytest.raises(NotFound, match="not a data set") as caught:
        open_dataset(tmp_path)
    for name in ("ground_truth.csv", "coordinates.csv", "GPS tags"):
        assert name in str(caught.value)


def test_a_setting_that_no_fitting_protocol_takes_is_named_with_what_fits(tmp_path):
    folder = trees.folder(tmp_path)
    with pytest.raises(NotFound, match=r"degrees: the folder fits folder;"):
        open_dataset(folder, degrees=40.0)


def test_an_empty_folder_says_first_what_is_wanted_and_briefly(tmp_path):
    wanted = r"^.*: not a data set: give a folder with database/ and queries/, and with ground_t"
    with pytest.raises(NotFound, match=wanted) as caught:
        open_dataset(tmp_path)
    assert len(str(caught.value)) < len(str(tmp_path)) + 250
    with pytest.raises(NotFound, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="'pits': choose one of nordland-27592"):
        open_dataset(tmp_path, "pits")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_set_is_never_detected_and_the_error_leads_to_its_protocol(tmp_path, name):
    folder = TREES[name].write(tmp_path)
    with pytest.raises(NotFound, match=r"docs/DATASETS\.md has .* each published data set$"):
        open_dataset(folder)
    assert open_dataset(folder, name).protocol.name.startswith(name)


@pytest.mark.parametrize("number", [3, 6, 8, 13, 20, 21, 25])
def test_one_slice_of_extended_cmu_is_enough(tmp_path, number):
    complete = cmu(tmp_path / "complete")
    published = number in TRAIN_SLICES
    source, slice_ = (7 if published else 2), tmp_path / "part" / f"slice{number}"
    shutil.copytree(complete / f"slice{source}", slice_)
    for path in [*slice_.glob("*.txt")]:
        path.rename(path.with_name(path.name.replace(f"slice{source}", f"slice{number}")))
    name, count = "extended-cmu-seasons", len(TEST_SLICES)
    if published:
        name, count = f"{name}-train", len(TRAIN_SLICES)
    dataset = open_dataset(tmp_path / "part", name)
    assert dataset.protocol.name == f"{name}, 1 of {count} slices"


@pytest.mark.parametrize("city", ["trondheim", "boston", "manila"])
def test_one_training_city_of_mapillary_is_enough(tmp_path, city):
    source = msls(tmp_path / "all") / "train_val" / "london"
    shutil.copytree(source, tmp_path / "part" / "train_val" / city)
    dataset = open_dataset(tmp_path / "part", "msls-train")
    assert dataset.protocol.name == "msls-train, 1 of 22 cities"


@pytest.mark.parametrize("city", ["athens", "kampala"])
def test_one_test_city_of_mapillary_is_enough(tmp_path, city):
    shutil.copytree(msls_test(tmp_path / "all") / "test" / "miami", tmp_path / "part/test" / city)
    (search,) = open_dataset(tmp_path / "part", "msls-test").searches
    assert all(name.startswith(f"test/{city}/") for name in search.queries.names)


@pytest.mark.parametrize("city", ["cph", "sf"])
@pytest.mark.parametrize("name", ["msls-val", "msls-val-40", "msls-val-all"])
def test_one_validation_city_of_mapillary_is_enough(tmp_path, city, name):
    source = msls(tmp_path / "all") / "train_val" / city
    shutil.copytree(source, tmp_path / "part" / "train_val" / city)
    dataset = open_dataset(tmp_path / "part", name)
    assert dataset.protocol.name.startswith(f"{name}, 1 of 2 cities")


@pytest.mark.parametrize("name", ["msls-train", "msls-val", "msls-test", "extended-cmu-seasons"])
def test_a_named_protocol_says_which_parts_are_missing(tmp_path, name):
    with pytest.raises(NotFound, match=rf"{tmp_path}.*(none of the cities|unpack a slice)"):
        open_dataset(tmp_path, name)


def test_a_folder_in_bertons_form_is_read_by_its_positions(tmp_path):
    trees.utm_names(tmp_path / "images" / "test")
    assert open_dataset(tmp_path).protocol.name == "utm-names, 25 m"
    assert open_dataset(tmp_path, radius=3.0).protocol.name == "utm-names, 3 m"
    direct = open_dataset(tmp_path / "images" / "test")
    assert open_dataset(tmp_path).searches[0].positives == direct.searches[0].positives == ONE_EACH


def test_a_published_set_in_bertons_form_is_read_by_the_protocol_that_is_named(tmp_path):
    folder = berton(tmp_path)
    assert open_dataset(folder).protocol.name == "utm-names, 25 m"
    for name in ("pitts30k-test", "tokyo247", "utm-names"):
        assert open_dataset(folder, name).protocol.name.startswith(name)


def test_photos_with_other_names_are_not_bertons_form(tmp_path):
    trees.sides(tmp_path / "images" / "test")
    with pytest.raises(NotFound, match="not a data set"):
        open_dataset(tmp_path)
