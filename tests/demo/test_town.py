"""The demo town: the same from the same seed, exact in its geometry, honest in its EXIF."""

import csv

import numpy as np
import pytest

from placerec.demo import (
    FIELD_OF_VIEW,
    Pose,
    Town,
    demo_pose,
    position_of,
    render,
    write_demo_photos,
)
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
    write_demo_photos(tmp_path, places=1, seed=1)
    name = "database/place_000.jpg"
    assert (folder / name).read_bytes() != (tmp_path / name).read_bytes()


def test_a_folder_holds_photos_truth_and_poses(folder):
    names = [f"database/place_00{i}.jpg" for i in (0, 1)] + [
        f"queries/night_00{i}.jpg" for i in (0, 1)
    ]
    assert find_photos(folder) == names
    assert {row["image"] for row in table(folder / "poses.csv")} == set(names)
    truth = table(folder / "ground_truth.csv")
    assert truth == [{"query": f"night_00{i}.jpg", "database": f"place_00{i}.jpg"} for i in (0, 1)]


def test_exif_tells_the_pose_to_a_centimetre(folder):
    for row in table(folder / "poses.csv"):
        image = row.pop("image")
        expected = position_of(Pose(**{name: float(value) for name, value in row.items()}))
        photo = decode(folder / image)
        assert photo.pixels.shape == (480, 640, 3)
        assert photo.position is not None
        assert photo.position.latitude == pytest.approx(expected.latitude, abs=1e-7)
        assert photo.position.longitude == pytest.approx(expected.longitude, abs=1e-7)
        assert photo.position.heading == pytest.approx(expected.heading, abs=5e-4)


def test_a_query_is_from_another_lane_and_direction_and_other_places_are_far():
    town = Town(5)
    poses = [(demo_pose(town, i, False), demo_pose(town, i, True)) for i in range(200)]
    for day, night in poses:
        assert 1.4 < np.hypot(night.x - day.x, night.y - day.y) < 3.5
        turn = (night.yaw - day.yaw + 180) % 360 - 180
        assert 4.999 < abs(turn) < 8.001
    points = np.array([(day.x, day.y) for day, _ in poses])
    gaps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert gaps.min() > 25


def test_rays_follow_the_axes_of_a_pose():
    half = np.tan(np.radians(FIELD_OF_VIEW / 2))

    def middle(**angles):
        return Pose(0, 0, 2, **angles).rays((3, 3))[1, 1]

    assert middle(yaw=0) == pytest.approx([0, 1, 0], abs=1e-6)  # north
    assert middle(yaw=90) == pytest.approx([1, 0, 0], abs=1e-6)  # east
    assert middle(yaw=0, pitch=30) == pytest.approx([0, 0.75**0.5, 0.5], abs=1e-6)  # up
    right = Pose(0, 0, 2, yaw=0).rays((2, 2000))[0, -1]
    assert right[0] == pytest.approx(half, rel=1e-3)  # east lies to the right of north
    rolled = Pose(0, 0, 2, yaw=0, roll=90).rays((2, 2000))[0, -1]
    assert rolled[2] == pytest.approx(-half, rel=1e-3)  # the right side went down


def test_a_picture_rolled_by_half_a_turn_is_upside_down():
    town = Town()
    upright = render(town, Pose(3, -20, 2, 80, 5, 0), size=SMALL).astype(int)
    rolled = render(town, Pose(3, -20, 2, 80, 5, 180), size=SMALL).astype(int)
    assert (np.abs(rolled[::-1, ::-1] - upright) > 2).mean() < 0.01  # edges may fall either way


@pytest.mark.parametrize("night", [False, True])
@pytest.mark.parametrize(
    "pose", [Pose(0, -20, 2, 90), Pose(-4e5, 9, 3, 271, -90, 20), Pose(7, -9, 1, 0, 90)]
)
def test_any_pose_gives_a_picture_without_a_warning(pose, night):
    picture = render(Town(9), pose, night, size=(61, 83))  # an odd height: a ray along the horizon
    assert picture.shape == (61, 83, 3)
    assert picture.dtype == np.uint8


def test_places_differ_and_a_place_stays_itself_at_night():
    town = Town()
    edges = {}
    for night in (False, True):
        for place in range(6):
            pose = demo_pose(town, place, False)
            grey = render(town, pose, night, size=(120, 160)).mean(axis=2)[:75]  # over the ground
            slope = np.abs(np.diff(grey, axis=1))
            edges[night, place] = (slope - slope.mean()) / slope.std()
    alike = np.array(
        [[(edges[True, q] * edges[False, d]).mean() for d in range(6)] for q in range(6)]
    )
    assert (alike.argmax(axis=1) == np.arange(6)).all()
    assert render(town, pose, True, SMALL).mean() < 0.6 * render(town, pose, False, SMALL).mean()


def test_what_cannot_be_meant_is_refused(tmp_path):
    with pytest.raises(UsageError, match="places: 0"):
        write_demo_photos(tmp_path, places=0)
    with pytest.raises(UsageError, match="over the ground"):
        render(Town(), Pose(0, 0, 0, 0), size=SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(NoRoom, match="file"):
        write_demo_photos(tmp_path / "file", places=1)
