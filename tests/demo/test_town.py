"""The demo town: reproducible from its seed, exact geometry, correct EXIF."""

import csv

import numpy as np
import pytest

from placerec.demo import Pose, demo_pose, position_of, render, write_demo_photos
from placerec.demo.town import FRONT, NORTH_LOT, VIEW
from placerec.errors import NoRoom, UsageError
from placerec.photos import decode, find_photos

SMALL = (60, 80)


def table(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo_photos(folder, places=2)
    return folder


def test_the_same_seed_gives_the_same_bytes_and_more_places_change_none(folder, tmp_path):
    write_demo_photos(tmp_path, places=3)
    for name in find_photos(folder):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name
    assert (render(0, Pose(0, 0, 2, 60)) != render(1, Pose(0, 0, 2, 60))).any()


def test_a_folder_holds_photos_truth_and_poses(folder):
    days, nights = ([f"{name}_00{i}.jpg" for i in (0, 1)] for name in ("place", "night"))
    names = [f"database/{day}" for day in days] + [f"queries/{night}" for night in nights]
    assert find_photos(folder) == names
    assert {row["image"] for row in table(folder / "poses.csv")} == set(names)
    truth = [{"query": night, "database": day} for night, day in zip(nights, days, strict=True)]
    assert table(folder / "ground_truth.csv") == truth


def test_exif_gives_the_pose_to_a_centimetre(folder):
    for row in table(folder / "poses.csv"):
        image = row.pop("image")
        expected = position_of(Pose(**{name: float(value) for name, value in row.items()}))
        photo = decode(folder / image)
        assert photo.pixels.shape == (480, 640, 3)
        assert photo.position is not None
        assert photo.position.latitude == pytest.approx(expected.latitude, abs=1e-7)
        assert photo.position.longitude == pytest.approx(expected.longitude, abs=1e-7)
        assert photo.position.heading == pytest.approx(expected.heading, abs=5e-4)


def test_a_query_is_from_another_lane_and_heading_and_other_places_are_far():
    days, nights = ([demo_pose(5, i, night) for i in range(200)] for night in (False, True))
    for day, night in zip(days, nights, strict=True):
        assert 1.5 <= abs(night.y - day.y) <= 3
        assert abs(night.x - day.x) <= 1.5
        assert 4.999 < abs(night.yaw - day.yaw) < 8.001
    assert np.diff([day.x for day in days]).min() > 25


def test_rays_follow_the_axes_of_a_pose():
    def middle(**angles):
        return Pose(0, 0, 2, **angles).rays((3, 3))[:, 1, 1]

    assert middle(yaw=0) == pytest.approx([0, 1, 0], abs=1e-6)  # north
    assert middle(yaw=90) == pytest.approx([1, 0, 0], abs=1e-6)  # east
    assert middle(yaw=0, pitch=30) == pytest.approx([0, 0.75**0.5, 0.5], abs=1e-6)  # up
    right = Pose(0, 0, 2, yaw=0).rays((2, 2000))[:, 0, -1]
    assert right[0] == pytest.approx(VIEW / 2, rel=1e-3)  # east lies to the right of north
    rolled = Pose(0, 0, 2, yaw=0, roll=90).rays((2, 2000))[:, 0, -1]
    assert rolled[2] == pytest.approx(-VIEW / 2, rel=1e-3)  # the right side went down


@pytest.mark.parametrize("y", [-3, 0, 2.5])
def test_a_front_is_where_a_pinhole_camera_sees_it(y):
    picture = render(1, Pose(NORTH_LOT - 1, y, 1.5, yaw=0)).astype(int)
    focal = 640 / VIEW / (FRONT - y)  # pixels a metre at the front
    foot, edge = 240 + 1.5 * focal, 320 + 1 * focal
    grey = np.ptp(picture[240:], axis=2).max(axis=1) < 6  # the ground is grey, a house is not
    assert 240 + np.argmax(grey) == pytest.approx(foot, abs=1)
    wall = np.median(picture[int(foot - 0.6 * focal) : int(foot)], axis=0)
    near = int(edge) - 10  # but not at a door
    steps = np.abs(np.diff(wall[near : near + 20], axis=0)).sum(axis=1)
    assert near + 1 + np.argmax(steps) == pytest.approx(edge, abs=1)


def test_a_picture_rolled_by_half_a_turn_is_upside_down():
    upright, rolled = (
        render(0, Pose(3, -2, 2, 80, 5, roll), size=SMALL).astype(int) for roll in (0, 180)
    )
    assert (
        np.abs(rolled[::-1, ::-1] - upright) > 2
    ).mean() < 0.01  # edges may be rounded differently


@pytest.mark.parametrize("night", [False, True])
@pytest.mark.parametrize(
    "pose", [Pose(0, -20, 2, 90), Pose(-4e5, 9, 3, 271, -90, 20), Pose(7, -9, 1, 0, 90)]
)
def test_any_pose_gives_a_picture_without_a_warning(pose, night):
    picture = render(9, pose, night, size=(61, 83))  # an odd height: a ray along the horizon
    assert picture.shape == (61, 83, 3)
    assert picture.dtype == np.uint8


def test_a_place_at_night_is_most_similar_to_itself_by_day():
    edges = {False: [], True: []}
    for night in edges:
        for place in range(6):
            picture = render(0, demo_pose(0, place, False), night, size=(120, 160))
            slope = np.abs(np.diff(picture.mean(axis=2)[:75], axis=1))  # over the ground
            edges[night].append(((slope - slope.mean()) / slope.std()).ravel())
    similarity = np.array(edges[True]) @ np.array(edges[False]).T
    assert (similarity.argmax(axis=1) == np.arange(6)).all()


def test_night_is_darker_and_bluer_than_day():
    day, night = (render(0, Pose(0, 0, 2, 60), dark, SMALL) for dark in (False, True))
    assert night.mean() < 0.5 * day.mean()
    assert np.median(night[..., 2]) > np.median(night[..., 0])


def test_invalid_arguments_are_refused(tmp_path):
    with pytest.raises(UsageError, match="places: 0"):
        write_demo_photos(tmp_path, places=0)
    with pytest.raises(UsageError, match="above the ground"):
        render(0, Pose(0, 0, 0, 0), size=SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(NoRoom, match="file"):
        write_demo_photos(tmp_path / "file", places=1)
