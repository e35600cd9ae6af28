"""Which files of a folder are photos, and in what order."""

import os
import socket
import sys
from pathlib import Path

import pytest

from placerec.errors import NotFound
from placerec.photos import find_photos, look_through
from placerec.photos.find import UNREADABLE_FOLDERS

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
        seen = look_through(Path())
    assert seen.photos == ["1.jpg"]
    assert seen.left_out == {"pipes and devices": ["pipe.jpg", "socket.jpg"]}


def test_a_missing_folder_and_a_file_have_different_errors(tmp_path):
    with pytest.raises(NotFound, match="no such folder"):
        find_photos(tmp_path / "missing")
    touch(tmp_path, "1.jpg")
    with pytest.raises(NotFound, match="is a file, not a folder"):
        find_photos(tmp_path / "1.jpg")


def test_a_folder_inside_that_cannot_be_read_is_left_out(tmp_path, lock):
    touch(tmp_path, "1.jpg", "a/locked/2.jpg", "locked/3.jpg", "z.jpg")
    lock(tmp_path / "a" / "locked")
    lock(tmp_path / "locked")
    seen = look_through(tmp_path)
    assert seen.photos == ["1.jpg", "z.jpg"]
    assert seen.left_out == {UNREADABLE_FOLDERS: ["a/locked", "locked"]}
    with pytest.raises(NotFound, match=r"locked: the folder cannot be read"):
        find_photos(tmp_path)  # its callers list no folder


def test_the_folder_itself_must_be_readable(tmp_path, lock):
    touch(tmp_path, "locked/1.jpg")
    lock(tmp_path / "locked")
    for walk in (look_through, find_photos):
        with pytest.raises(NotFound, match=r"locked: .*Permission denied"):
            walk(tmp_path / "locked")


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    touch(tmp_path, "IMG_1.HEIC", "IMG_1.MOV", "img_2.jpg", "IMG_2.mp4", "a/IMG_1.mov", "film.WebM")
    touch(
        tmp_path, "IMG_3.jpg", "IMG_3.xmp", "IMG_3.jpg.xmp", "burst/IMG_4_BURST1.jpg", "notes.txt"
    )
    touch(tmp_path, "._IMG_1.HEIC", ".IMG_5.HEIC.icloud", ".DS_Store", "a/.nomedia", ".git/x/y.jpg")
    touch(
        tmp_path, "@eaDir/IMG_1/thumb.jpg", "a/.thumbnails/1.jpg", "__MACOSX/._1.jpg", "__MACOSX/2"
    )
    touch(tmp_path, "#recycle/old.jpg", "$RECYCLE.BIN/old.jpg", "B.AVIF", "c.hif", "d.heif")
    (tmp_path / "linked").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / ".hidden link").symlink_to(tmp_path / "a", target_is_directory=True)
    seen = look_through(tmp_path)
    assert seen.photos == [
        "B.AVIF", "IMG_1.HEIC", "IMG_3.jpg", "burst/IMG_4_BURST1.jpg", "c.hif", "d.heif",
        "img_2.jpg",
    ]  # fmt: skip
    assert seen.left_out == {
        "hidden files": [".DS_Store", "a/.nomedia"],
        "hidden folders": [".git", ".hidden link"],
        "iCloud placeholders": [".IMG_5.HEIC.icloud"],
        "linked folders": ["linked"],
        "macOS resource files": ["._IMG_1.HEIC"],
        "macOS resource folders": ["__MACOSX"],
        "other files": ["IMG_3.jpg.xmp", "IMG_3.xmp", "notes.txt"],
        "recycle bins": ["#recycle", "$RECYCLE.BIN"],
        "thumbnail folders": ["@eaDir", "a/.thumbnails"],
        "videos": ["a/IMG_1.mov", "film.WebM"],
        "videos of live photos": ["IMG_1.MOV", "IMG_2.mp4"],
    }


def test_a_folder_of_photos_only_leaves_nothing_out(tmp_path):
    touch(tmp_path / "@eaDir", "1.jpg")
    assert look_through(tmp_path / "@eaDir").left_out == {}
    assert look_through(tmp_path / "@eaDir").photos == ["1.jpg"]  # the folder itself was asked for


def test_a_folder_that_is_left_out_is_not_looked_at(tmp_path, monkeypatch):
    touch(tmp_path, "1.jpg", ".git/2.jpg", "@eaDir/3.jpg")
    read = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (read.append(Path(path)), scan(path))[1])
    look_through(tmp_path)
    assert read == [tmp_path]
