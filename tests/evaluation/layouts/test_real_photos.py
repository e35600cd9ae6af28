"""The protocols on real photos, where they lie beside the repository."""

import math
from pathlib import Path

import pytest

from placerec.evaluation.layouts import open_dataset
from placerec.photos.position import read_positions

DATA = Path(__file__).parents[4] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real photos are not here")
GSV = DATA / "gsv_cambridge_test"


def truth(dataset):
    (search,) = dataset.searches
    names = search.database.names
    return {
        query: {names[n] for n in numbers}
        for query, numbers in zip(search.queries.names, search.positives, strict=True)
    }


def test_25_metres_are_the_published_ground_truth():
    written, computed = open_dataset(GSV), open_dataset(GSV, "coordinates")
    assert truth(written) == truth(computed)
    assert sum(map(len, truth(computed).values())) == 8096
    assert (computed.queries, len(computed.searches[0].database)) == (496, 796)
    assert len(set(computed.searches[0].queries.place_labels)) == 124  # panoramas


def test_same_heading_within_12_metres_is_the_strict_ground_truth_to_a_centimetre():
    """Its distances were computed on another figure of the earth: up to 6 mm of 12 m differ."""
    strict = truth(open_dataset(GSV, ground_truth="ground_truth_strict.csv"))
    inside = truth(open_dataset(GSV, radius=11.99, degrees=40.0))
    around = truth(open_dataset(GSV, radius=12.01, degrees=40.0))
    assert sum(map(len, strict.values())) == 796
    assert all(inside[query] <= strict[query] <= around[query] for query in strict)


def test_every_panorama_of_four_views_is_one_place():
    dataset = open_dataset(GSV, "coordinates", photos_a_panorama=4)
    assert dataset.protocol.name == "coordinates, 25 m, 4 photos a panorama"


def test_positions_in_file_names_give_the_same_truth(tmp_path):
    """On a plane that touches the earth in Cambridge."""
    for name, at in read_positions(GSV / "coordinates.csv").by_name.items():
        side, photo = name.split("/")
        east = 6_371_008.8 * math.radians(at.longitude - 0.12) * math.cos(math.radians(at.latitude))
        north = 6_371_008.8 * math.radians(at.latitude - 52.2)
        fields = (
            f"@{east + 5e5:.3f}@{north + 5e6:.3f}@31@U@@@{photo[:-4]}@@{at.heading:.0f}@@@@@@.jpg"
        )
        (tmp_path / side).mkdir(exist_ok=True)
        (tmp_path / side / fields).symlink_to(GSV / name)
    dataset = open_dataset(tmp_path)
    assert dataset.protocol.name == "utm-names, 25 m"
    plain = {
        query.split("@")[7] + ".jpg": {name.split("@")[7] + ".jpg" for name in names}
        for query, names in truth(dataset).items()
    }
    assert plain == truth(open_dataset(GSV))


def test_two_frames_either_side_are_the_published_ground_truth_of_the_corridor():
    written = open_dataset(DATA / "corridor")
    computed = open_dataset(DATA / "corridor", frames=2)
    assert truth(written) == truth(computed)
    assert sum(map(len, truth(written).values())) == 549


def test_photos_by_night_of_one_webcam_are_one_place():
    (search,) = open_dataset(DATA / "amos_day_night").searches
    assert len(set(search.queries.place_labels)) == 17
