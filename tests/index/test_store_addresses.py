"""Which store an address names, and what is said without its packages."""

import os
import sys
from pathlib import Path

import pytest

from placerec.errors import MissingExtra, UsageError
from placerec.index import build, open_index
from placerec.index.build import build_index
from placerec.index.lance.place import Place
from placerec.index.store import SqliteStore, is_lance, store_of


@pytest.mark.parametrize("address", ["town.placerec", "/maps/lance:town", "./lance/town", "lance"])
def test_a_path_is_a_file_of_sqlite(address):
    assert isinstance(store_of(address), SqliteStore)
    assert not is_lance(Path(address))


@pytest.mark.parametrize("uri", ["s3://maps/a/town", "gs://maps/town"])
def test_an_address_of_lance_can_name_an_object_store(uri):
    place = Place.of(Path(f"lance:{uri}"))
    assert (place.uri, place.folder) == (uri, None)


def test_an_address_of_lance_can_name_a_folder(tmp_path):
    place = Place.of(Path(f"lance:{tmp_path}/town"))
    assert (place.uri, place.folder) == (str(tmp_path / "town"), tmp_path / "town")


def test_a_folder_is_relative_to_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Place.of(Path("lance:town")).folder == tmp_path / "town"
    with pytest.raises(UsageError, match="lance:town"):
        Place.of(Path("lance:"))


def test_a_photo_folder_is_stored_relative_to_a_folder_and_absolute_elsewhere(tmp_path):
    near = Place.of(Path(f"lance:{tmp_path}/town")).stored_root(tmp_path / "photos")
    far = Place.of(Path("lance:s3://maps/town")).stored_root(tmp_path / "photos")
    assert (near, far) == (b"photos", os.fsencode(tmp_path.resolve() / "photos"))


@pytest.mark.parametrize("name", ["notes.txt", "data/1.jpg", "data/more/1.jpg"])
def test_a_folder_with_files_of_a_person_is_occupied_and_keeps_them(name, tmp_path):
    place = Place.of(Path(f"lance:{tmp_path}/town"))
    for path in ("_versions/1.manifest", "_transactions/1.txn", "data/1.lance"):
        (place.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (place.folder / path).touch()
    assert not place.is_occupied()
    (place.folder / name).parent.mkdir(exist_ok=True)
    (place.folder / name).touch()
    assert place.is_occupied()
    place.drop()
    assert [file for file in place.folder.rglob("*") if file.is_file()] == [place.folder / name]
    (place.folder / name).unlink()
    for folder in sorted(place.folder.rglob("*"), reverse=True):
        folder.rmdir()
    place.drop()
    assert not place.folder.exists()


@pytest.fixture
def without_packages(monkeypatch):
    for name in ("lance", "pyarrow", "ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, None)


def test_without_its_packages_lance_names_the_extra(without_packages, tmp_path, command):
    with pytest.raises(MissingExtra, match=r"placerec\[lance\]"):
        open_index(f"lance:{tmp_path}/town")
    code, _, error = command("index", "info", f"lance:{tmp_path}/town")
    assert (code, error.count("\n")) == (2, 1)
    assert list(tmp_path.iterdir()) == []


def test_without_its_packages_ray_names_the_extra(without_packages, tmp_path):
    with pytest.raises(MissingExtra, match=r"placerec\[ray\]"):
        build_index(f"lance:{tmp_path}/town", tmp_path, engine="ray")


@pytest.mark.parametrize(
    ("options", "why"),
    [({"engine": "ray"}, "lance:FOLDER"), ({"engine": "spark"}, "threads or ray")],
)
def test_an_engine_that_cannot_build_is_refused_before_any_work(options, why, tmp_path):
    with pytest.raises(UsageError, match=why):
        build_index(tmp_path / "town.placerec", tmp_path, **options)
    assert not (tmp_path / "town.placerec").exists()


def test_the_command_offers_every_engine(command):
    out = command("index", "build", "--help")[1]
    assert f"[{'|'.join(build.ENGINES)}]" in out
