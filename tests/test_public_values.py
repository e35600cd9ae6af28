"""Every public function refuses a wrong value with a sentence: a ``PlacerecError``, no bare one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import placerec
from drawn_video import write_video
from placerec import Runtime, Settings
from placerec.cli import cli
from placerec.cli.outputs import write_geojson
from placerec.errors import (
    LimitReached,
    NoRoom,
    NotFound,
    PlacerecError,
    UsageError,
    import_package,
)
from placerec.files import path_of, paths_of
from placerec.records import Place, Position
from placerec.settings import METHODS, PublishedSettings, as_written

NO_PATHS = [None, 3, b"a", 2.5, {"a": 1}, ""]
NO_SETTINGS = [{}, {"candidates": 3}, "default", 3, ()]
NO_MODELS = [3, None, {}, object(), "", "no-such-model"]
NO_RUNTIMES = [3, None, "cpu", {}]
IMPOSSIBLE = {
    "a part is too long": ("a" * 256, "File name too long"),
    "all is too long": ("a/" * 3000 + "b", "File name too long"),
    "NUL": ("a\0b", "null"),
    "no text that can be encoded": ("a\ud800", "surrogates"),
    "empty": ("", "an empty path"),
}
WRONG = {
    "image_size": [(0, 0), (-1, -1), (480, 0), (480,), (1, 2, 3), 480, "480,640", None, (1.5, 2)],
    "patch_sizes": [3, (2, 5), ((0, 2),), "2", None, ((2, 2), [2, 2]), ((True, 2),)],
    "scale_weights": [3, "1", (0.5,), ("a",), (-1, 2), (True,), (float("nan"),)],
    "candidates": [-1, True, "5", 2.5, None, [3]],
    "clusters": [0, -1, "64", 64.0, None],
    "box": [2, 0, -1, 999, "7"],
    "whitening": [-0.1, 1.1, "a", "0.5", None, True, float("nan"), float("inf"), 10**400],
    "scorer": [3, None, "best", ["ransac"], np.zeros(2)],
    "trunk": [3, None],
    "no_such_setting": [1],
}
RUNTIMES = {
    "threads": ["2", 2.5, -1, True, 10**6, [1]], "device": [3, None], "precision": [3, "float64"],
    "progress": [3, None],
}  # fmt: skip


@pytest.fixture(scope="module")
def home(town, town_index, tmp_path_factory) -> Path:
    """A folder with an index, a photo, a table and a data set."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(town_index, folder / "a.placerec")
    shutil.copy(town / "queries" / "night_000.jpg", folder / "a.jpg")
    write_video(folder / "a.mkv", [np.zeros((48, 64, 3), np.uint8)])
    (folder / "where.csv").write_text("image,latitude,longitude\n")
    (folder / "town").symlink_to(town)
    return folder


def calls(home: Path):
    """Each public function with its arguments, and the wrong values of each."""
    index, photo, photos = home / "a.placerec", home / "a.jpg", home / "town" / "database"
    new, model = home / "new.placerec", home / "new.safetensors"
    pixels, place = np.zeros((9, 9, 3), np.uint8), Place(1, "a", 0.5, 0.5)
    paths, names = NO_PATHS, [None, 3, [3], b"a", [""]]
    described = {"model": NO_MODELS, "settings": NO_SETTINGS, "runtime": NO_RUNTIMES}
    changed = {"index": paths, "model": NO_MODELS, "runtime": NO_RUNTIMES}
    tables = [*paths[1:], {"a.jpg": (52.0, 0.1)}, {3: Position(52.0, 0.1)}]
    placed = {"positions": tables, "time_offset": ["a", None, float("nan"), 60.0]}
    return {
        "build_index": ({"index": new, "folder": photos},
                        {"index": paths, "folder": paths, "names": names[1:]} | described | placed),
        "add_photos": ({"index": index, "photos": photos}, {"photos": names} | changed | placed),
        "remove_photos": ({"index": index, "photos": "a"}, {"index": paths, "photos": names}),
        "refresh_index": ({"index": index}, {"folder": paths[1:]} | changed),
        "refit_index": ({"index": index}, changed),
        "convert_index": (
            {"index": index, "out": home / "new.plr", "preset": "compact"},
            {"index": paths, "out": paths[1:], "preset": ["tiny", None, 3]} | changed,
        ),
        "verify": ({"path": index}, {"path": paths}),
        "fit_on_folder": ({"photos": photos}, {"photos": paths} | described),
        "save_model": ({"model": None, "path": model}, {"model": [None, 3, "generic"]}),
        "load_model": ({"path": model}, {"path": paths, "runtime": NO_RUNTIMES}),
        "match_photos": ({"first": photo, "second": photo},
                         {"first": paths, "second": paths, "bgr": [True, 3]} | described),
        "draw_match": ({"query": pixels, "database": pixels, "place": place,
                        "out": home / "a.png"},
                       {"query": [None, 3, pixels[0, 0], [[1]]], "database": [None, pixels / 2],
                        "place": [None, 3], "out": [*paths, "a.txt"]}),
        "read_video": ({"path": home / "a.mkv"},
                       {"path": paths, "every": [-1, "1s", None, float("nan")]}),
        "open_dataset": ({"folder": home / "town"},
                         {"folder": paths, "protocol": [3, ["exif"], "no"], "radius": ["a", -1],
                          "degrees": ["a", 0], "frames": ["a", -1, 1.5], "ground_truth": paths[1:],
                          "photos_a_panorama": [0, "a"]}),
        "follow": ({"recognizer": None, "answers": []}, {"recognizer": [None, 3, "a.placerec"]}),
        "evaluate": ({"dataset": "town"}, {"dataset": [None, 3, "town"]}),
    }  # fmt: skip


OTHERS = {"LoopDetector", "PlaceRecognizer", "Runtime", "Settings", "__version__"}


def test_every_public_function_has_its_row(home) -> None:
    assert set(calls(home)) == set(placerec.__all__) - OTHERS


@pytest.mark.parametrize("name", sorted(set(placerec.__all__) - OTHERS))
def test_a_wrong_value_is_refused_with_a_sentence(name, home) -> None:
    arguments, wrong = calls(home)[name]
    before = sorted(path.name for path in home.iterdir())
    for argument, values in wrong.items():
        for value in values:
            with pytest.raises(PlacerecError) as error:
                getattr(placerec, name)(**arguments | {argument: value})
            assert error.value.exit_code in (2, 3), (argument, value)
    assert sorted(path.name for path in home.iterdir()) == before


def test_a_data_set_is_evaluated_only_by_a_method_in_a_folder(home) -> None:
    dataset = placerec.open_dataset(home / "town")
    for wrong in ({"method": 3}, {"method": "no"}, {"out": ""}, {"out": 3}, {"runtime": 3}):
        with pytest.raises(PlacerecError):
            placerec.evaluate(dataset, **wrong)


def test_a_recogniser_refuses_wrong_values(home) -> None:
    opening = {"index": NO_PATHS, "model": NO_MODELS, "runtime": NO_RUNTIMES, "no_such": [1],
               "candidates": WRONG["candidates"], "box": WRONG["box"]}  # fmt: skip
    for argument, values in opening.items():
        for value in values:
            with pytest.raises(PlacerecError):
                placerec.PlaceRecognizer.open(**{"index": home / "a.placerec", argument: value})
    with placerec.PlaceRecognizer.open(home / "a.placerec") as recognizer:
        for top in (0, -1, "5", 2.5, True, None):
            with pytest.raises(UsageError, match="top: must be a whole number of at least 1"):
                recognizer.query(home / "a.jpg", top)
        for path in ("", "a" * 300, "a\0"):
            with pytest.raises(NotFound):
                recognizer.query(path)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("form", [Settings, PublishedSettings])
def test_a_setting_of_another_kind_is_refused_by_its_name(form, name) -> None:
    for value in WRONG[name]:
        with pytest.raises(UsageError, match=f"{name}: must be "):
            form().replace(**{name: value})


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_of_another_kind_is_refused_by_its_name(name) -> None:
    for value in RUNTIMES[name]:
        with pytest.raises(UsageError, match=name):
            Runtime(**{name: value})


def test_lists_and_numbers_of_numpy_are_the_same_settings() -> None:
    expected = METHODS["patch-netvlad"].replace(scale_weights=(0.5, 0.25, 0.25), whitening=1.0)
    given = METHODS["patch-netvlad"].replace(
        image_size=list(np.array(expected.image_size)), whitening=np.float32(1),
        patch_sizes=[list(size) for size in expected.patch_sizes],
        scale_weights=[0.5, 0.25, np.float64(0.25)], candidates=np.int16(100),
    )  # fmt: skip
    assert given == expected
    assert repr(given) == repr(expected)  # a fingerprint is made of it
    assert given.to_json() == expected.to_json()


def test_a_value_is_shown_as_a_person_writes_it(home) -> None:
    assert as_written(((2, 2), (5, 5))) == "2x2,5x5"
    assert [as_written(value) for value in ((0.5, 0.5), None, (), 3)] == [
        "0.5,0.5", "none", "none", "3",
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"image_size: .* built with 480,640, so 240,320 is not"):
        placerec.PlaceRecognizer.open(home / "a.placerec", image_size=(240, 320))


@pytest.mark.parametrize(("path", "why"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_path_that_no_file_can_have_is_an_input_error(path, why) -> None:
    for given in (path, Path(path)) if path else (path,):
        with pytest.raises(NotFound, match=why) as error:
            path_of(given)
        assert error.value.exit_code == 3
        assert len(str(error.value)) < 300
        with pytest.raises(NotFound):
            paths_of([given])


@pytest.mark.parametrize("path", [path for path, _ in IMPOSSIBLE.values()], ids=IMPOSSIBLE)
def test_a_command_refuses_such_a_path(path, home) -> None:
    index, photo = str(home / "a.placerec"), str(home / "a.jpg")
    for arguments in (
        ["query", path, photo], ["query", index, path], ["query", index, photo, "--picture", path],
        ["index", "build", index, path], ["index", "add", index, path], ["index", "info", path],
        ["match", photo, path], ["evaluate", path],
    ):  # fmt: skip
        error = CliRunner().invoke(cli, arguments).exception
        assert isinstance(error, NotFound), arguments
    # remove shows the same error, and how to list the names of the index
    removed = CliRunner().invoke(cli, ["index", "remove", index, path], standalone_mode=False)
    assert removed.return_value == NotFound.exit_code
    assert removed.stderr.endswith(f"placerec index info {index} --photos\n")


def test_an_index_with_the_longest_name_is_read_and_no_build_takes_it(home, tmp_path) -> None:
    index = tmp_path / ("a" * 255)
    shutil.copy(home / "a.placerec", index)
    assert placerec.verify(index) == []
    with placerec.PlaceRecognizer.open(index) as recognizer:
        assert len(recognizer.query(home / "a.jpg")) == 5
    with pytest.raises(NoRoom, match="File name too long"):  # no place for a partial file beside it
        placerec.build_index(index, home / "town" / "database", replace=True)
    with pytest.raises(NoRoom):
        placerec.remove_photos(index, "place_000.jpg")


def test_a_folder_above_that_may_not_be_searched_is_an_input_error(tmp_path, monkeypatch) -> None:
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.lstat", refuse)
    with pytest.raises(NotFound, match="Permission denied"):
        path_of(tmp_path / "locked" / "a.jpg")


def test_a_package_that_finds_no_memory_to_load_is_a_limit(monkeypatch) -> None:
    def fail(module):
        raise ImportError(f"{module}.so: failed to map segment from shared object")

    monkeypatch.setattr("placerec.errors.import_module", fail)
    with pytest.raises(
        LimitReached, match=r"package onnxruntime: .*Cannot allocate memory"
    ) as error:
        import_package("onnxruntime")
    assert error.value.exit_code == 6


def test_photos_that_are_out_of_reach_end_no_command(home, tmp_path, monkeypatch) -> None:
    index, stat = str(home / "a.placerec"), Path.stat

    def refusing(path, **options):
        if path.name.startswith("place_"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refusing)
    monkeypatch.setattr("os.path.isfile", lambda path: "place_" not in str(path))
    facts = CliRunner().invoke(cli, ["index", "info", index, "--json"], catch_exceptions=False)
    assert len(json.loads(facts.output)["missing"]) == 6
    write_geojson(tmp_path / "a.geojson", [])  # a result that may be replaced
    written = ["query", index, str(home / "a.jpg"), "--geojson", str(tmp_path / "a.geojson")]
    assert CliRunner().invoke(cli, written, catch_exceptions=False).exit_code == 0
