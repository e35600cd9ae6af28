"""Which files of a folder are photos, and in what order."""

import os
import socket
import sys
from pathlib import Path

import pytest

from placerec.errors import NotFound, PlacerecError
from placerec.photos import find_photos

linux = pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux only")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_photos_are_found_below_all_folders_and_other_files_are_ignored(tmp_path):
    touch(tmp_path, "b.JPG", "a/1.jpg", "b/1.jpg", "c.heic", "raw.DNG", "x/y/z.tiff", "q.jpeg")
    touch(tmp_path, "poses.csv", "notes.txt", "jpg", "a/photo.jpg.part")
    expected = ["a/1.jpg", "b.JPG", "b/1.jpg", "c.heic", "q.jpeg", "raw.DNG", "x/y/z.tiff"]
    assert find_photos(tmp_path) == expected


def test_names_are_sorted_by_bytes_for_any_order_on_the_disk(tmp_path, monkeypatch):
    touch(tmp_path, "é.jpg", "z.jpg", "a b.jpg", "a/b.jpg", "a.jpg", "B.jpg", "10.jpg", "9.jpg")
    names = find_photos(tmp_path)
    assert names == sorted(names, key=os.fsencode)
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *a, **k: ((w, d, f[::-1]) for w, d, f in walk(*a, **k)))
    assert find_photos(tmp_path) == names


def test_hidden_files_and_folders_are_ignored_but_a_hidden_root_is_not(tmp_path):
    touch(tmp_path, ".cache/seen.jpg", ".cache/.hidden.jpg", ".cache/.thumbs/1.jpg", "1.jpg")
    assert find_photos(tmp_path) == ["1.jpg"]
    assert find_photos(tmp_path / ".cache") == ["seen.jpg"]


def test_unusual_names_are_kept(tmp_path):
    names = ["new\nline.jpg", "tab\t.jpg", "-dash.jpg", "🦊.jpg", "%s.jpg", "<script>.jpg", " .jpg"]
    names += ["é.jpg", "e\u0301.jpg", "x" * 251 + ".jpg"]
    touch(tmp_path, *names)
    assert sorted(find_photos(tmp_path)) == sorted(names)


@linux
def test_undecodable_names_are_kept_as_surrogates(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    touch(tmp_path, name)
    assert find_photos(tmp_path) == [name]
    assert (tmp_path / name).is_file()


def test_links_to_folders_are_not_followed_so_a_loop_ends(tmp_path):
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a/loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "album.jpg").symlink_to(tmp_path / "a", target_is_directory=True)
    assert find_photos(tmp_path) == ["a/1.jpg"]


def test_links_to_files_are_followed_and_broken_ones_are_listed(tmp_path):
    touch(tmp_path, "outside/1.jpg", "photos/2.jpg")
    (tmp_path / "photos/in.jpg").symlink_to(tmp_path / "outside/1.jpg")
    (tmp_path / "photos/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "photos/self.jpg").symlink_to(tmp_path / "photos/self.jpg")
    assert find_photos(tmp_path / "photos") == ["2.jpg", "gone.jpg", "in.jpg", "self.jpg"]


@linux
def test_pipes_and_sockets_are_ignored(tmp_path, monkeypatch):
    touch(tmp_path, "1.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        assert find_photos(Path()) == ["1.jpg"]


def test_a_missing_folder_and_a_file_have_different_errors(tmp_path):
    with pytest.raises(NotFound, match="no such folder"):
        find_photos(tmp_path / "missing")
    touch(tmp_path, "1.jpg")
    with pytest.raises(NotFound, match="is a file, not a folder"):
        find_photos(tmp_path / "1.jpg")


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    touch(tmp_path, "1.jpg", "locked/2.jpg")
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root may read a folder of mode 0
    with pytest.raises(PlacerecError, match=r"locked.*Permission denied"):
        find_photos(tmp_path)
