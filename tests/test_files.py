"""A file is there as a whole or not at all."""

import os
import threading

import pytest

from placerec.errors import NoRoom
from placerec.files import atomic_write, write_text


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_file_appears_when_the_block_has_ended_and_not_before(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as partial:
        partial.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_block_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_what_a_killed_writer_left_is_replaced(tmp_path):
    (tmp_path / "a.txt.partial").write_text("half of it, and longer than the new one")
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert names(tmp_path) == ["a.txt"]


def test_no_room_is_named_with_the_path(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NoRoom, match=r"file/a\.txt"):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_undecodable_bytes_of_a_name_are_kept(tmp_path):
    write_text(tmp_path / "a.txt", os.fsdecode(b"caf\xe9\n"))
    assert (tmp_path / "a.txt").read_bytes() == b"caf\xe9\n"


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    path, ready = tmp_path / "a.txt", threading.Barrier(2)

    def write(letter):
        with atomic_write(path, durable=False) as partial:
            partial.write_text(letter)
            ready.wait(10)
            partial.write_text(letter * 1000)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in ("a" * 1000, "b" * 1000)
    assert names(tmp_path) == ["a.txt"]
