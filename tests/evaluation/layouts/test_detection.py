"""Which protocol a folder is read by where it is not named, and what is said where none is sure."""

import shutil

import pytest
import trees
from published import TREES, berton, cmu, msls, msls_test, nordland_berton

from placerec.errors import NotFound, UsageError
from placerec.evaluation.layouts import PROTOCOLS, open_dataset
from placerec.evaluation.layouts.cmu import TEST_SLICES, TRAIN_SLICES
from placerec.evaluation.layouts.utm_folder import protocols_that_fit

ONE_EACH = tuple(frozenset([n]) for n in range(4))


def found(folder, **options):
    return open_dataset(folder, **options).protocol.name.split(",")[0]


def test_frames_are_recognised_by_their_option(tmp_path):
    folder = trees.frames(tmp_path)
    assert open_dataset(folder, frames=1).protocol.name == "frames, 1 either side"


def test_photos_with_gps_tags_are_recognised_where_nothing_else_tells(tmp_path):
    folder = trees.exif(tmp_path)
    assert open_dataset(folder).protocol.name == "exif, 25 m"
    assert open_dataset(folder, radius=3.0).protocol.name == "exif, 3 m"
    trees.table(folder / "ground_truth.csv", [{"query": "0.jpg", "database": "0.jpg"}])
    assert found(folder) == "folder"


def test_two_folders_of_photos_and_nothing_more_are_told_what_would_do(tmp_path):
    trees.sides(tmp_path)
    with pytest.raises(NotFound, match="nothing tells who answers whom") as caught:
        open_dataset(tmp_path)
    for name in ("ground_truth.csv", "coordinates.csv", "sparse/", "--frames", "exif"):
        assert name in str(caught.value)
    assert "msls" not in str(caught.value)


def test_an_option_that_nothing_takes_is_named_with_what_fits(tmp_path):
    folder = trees.folder(tmp_path)
    with pytest.raises(NotFound, match=r"no data set for degrees: what lies there fits folder;"):
        open_dataset(folder, degrees=40.0)
    with pytest.raises(NotFound, match=r"no data set for radius: what lies there fits tokyo247;"):
        open_dataset(TREES["tokyo247"].write(tmp_path / "tokyo"), radius=10.0)


def test_an_empty_folder_says_everything_that_was_looked_for(tmp_path):
    with pytest.raises(NotFound, match=r"ground_truth\.csv.*kapture.*DATASETS\.md") as caught:
        open_dataset(tmp_path)
    assert "nordland-2760: query/ + ref/" in str(caught.value)
    with pytest.raises(NotFound, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="'pits': choose one of nordland-27592"):
        open_dataset(tmp_path, "pits")


@pytest.mark.parametrize("number", [3, 6, 8, 13, 20, 21, 25])
def test_one_slice_of_extended_cmu_is_recognised(tmp_path, number):
    whole = cmu(tmp_path / "whole")
    known = number in TRAIN_SLICES
    source, slice_ = (7 if known else 2), tmp_path / "part" / f"slice{number}"
    shutil.copytree(whole / f"slice{source}", slice_)
    for path in [*slice_.glob("*.txt")]:
        path.rename(path.with_name(path.name.replace(f"slice{source}", f"slice{number}")))
    name, count = "extended-cmu-seasons", len(TEST_SLICES)
    if known:
        name, count = f"{name}-train", len(TRAIN_SLICES)
    assert open_dataset(tmp_path / "part").protocol.name == f"{name}, 1 of {count} slices"


@pytest.mark.parametrize("city", ["trondheim", "boston", "manila"])
def test_one_training_city_of_mapillary_is_recognised(tmp_path, city):
    whole = msls(tmp_path / "whole")
    shutil.copytree(whole / "train_val" / "london", tmp_path / "part" / "train_val" / city)
    assert open_dataset(tmp_path / "part").protocol.name == "msls-train, 1 of 22 cities"


@pytest.mark.parametrize("city", ["athens", "kampala"])
def test_one_test_city_of_mapillary_is_recognised(tmp_path, city):
    whole = msls_test(tmp_path / "whole")
    shutil.copytree(whole / "test" / "miami", tmp_path / "part" / "test" / city)
    assert found(tmp_path / "part") == "msls-test"


@pytest.mark.parametrize("city", ["cph", "sf"])
def test_one_validation_city_of_mapillary_fits_three_protocols_which_are_named(tmp_path, city):
    whole = msls(tmp_path / "whole")
    shutil.copytree(whole / "train_val" / city, tmp_path / "part" / "train_val" / city)
    with pytest.raises(UsageError, match=r"choose one of msls-val, msls-val-40, msls-val-all$"):
        open_dataset(tmp_path / "part")


def in_bertons_form(root):
    """As any set of street photos, four places."""
    trees.utm_names(root / "images" / "test")
    return root


def test_positions_judge_a_folder_in_bertons_form_that_could_be_no_published_set(tmp_path):
    folder = in_bertons_form(tmp_path)
    assert open_dataset(folder).protocol.name == "utm-names, 25 m"
    assert open_dataset(folder, radius=3.0).protocol.name == "utm-names, 3 m"
    direct = open_dataset(folder / "images" / "test")
    assert open_dataset(folder).searches[0].positives == direct.searches[0].positives == ONE_EACH


def test_panoramas_in_bertons_form_fit_several_protocols_which_are_named(tmp_path):
    folder = berton(tmp_path)
    with pytest.raises(UsageError, match=r"choose one of pitts30k-test, tokyo247, utm-names$"):
        open_dataset(folder)
    assert found(folder, radius=10.0) == "utm-names"  # the others take no radius


def test_frames_in_bertons_form_fit_the_nordland_protocols_which_are_named(tmp_path):
    names = "nordland-27592, nordland-27592-program, nordland-2760, utm-names"
    with pytest.raises(UsageError, match=f"choose one of {names}$"):
        open_dataset(nordland_berton(tmp_path))


def test_bertons_form_with_all_photos_of_one_published_set_is_that_set(tmp_path):
    counts = {name: reader.counts for name, reader in PROTOCOLS.items()}
    folder = berton(tmp_path)  # 2 queries, 24 database photos
    for name in ("pitts30k-test", "tokyo247"):
        assert protocols_that_fit(folder, {**counts, name: (2, 24)}) == (name, "utm-names")


def test_photos_with_other_names_are_not_bertons_form(tmp_path):
    trees.sides(tmp_path / "images" / "test")
    assert protocols_that_fit(tmp_path, {}) == ()
    with pytest.raises(NotFound, match="no data set that is known"):
        open_dataset(tmp_path)
