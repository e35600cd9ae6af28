"""The leakage check finds twins of a photo, and no neighbours."""

import shutil

import numpy as np
import trees
from PIL import Image

from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.leakage import Leak, leaks
from placerec.runtime import Runtime


def test_clean_sets_have_no_leak(tmp_path):
    assert leaks(open_dataset(trees.folder(tmp_path))) == []


def test_equal_files_equal_pixels_and_photos_encoded_anew_are_told(tmp_path):
    trees.folder(tmp_path)
    database, queries = tmp_path / "database", tmp_path / "queries"
    shutil.copy(database / "2.jpg", queries / "0.jpg")
    with Image.open(database / "3.jpg") as photo:
        photo.save(queries / "copy.png")
        small = photo.resize((110, 84), Image.Resampling.LANCZOS)
        small.save(queries / "small.jpg", quality=50)
        photo.point(lambda value: value * 0.8).save(queries / "dark.jpg")
    found = leaks(open_dataset(tmp_path))
    assert [(leak.query, leak.database, leak.kind) for leak in found] == [
        ("0.jpg", "2.jpg", "file"), ("copy.png", "3.jpg", "pixels"), ("dark.jpg", "3.jpg", "near"),
        ("small.jpg", "3.jpg", "near"),
    ]  # fmt: skip
    assert isinstance(found[0], Leak)
    assert found[0].alike == 1.0
    assert 0.99 <= found[3].alike < 1.0


def test_the_next_view_of_a_place_is_no_leak(tmp_path):
    trees.folder(tmp_path)
    with Image.open(tmp_path / "database" / "1.jpg") as photo:
        photo.crop((12, 8, 128, 96)).save(tmp_path / "queries" / "1.jpg", quality=95)
    assert leaks(open_dataset(tmp_path)) == []


def test_black_and_broken_photos_are_not_like_each_other(tmp_path):
    trees.folder(tmp_path)
    for side, shade in (("database", 3), ("queries", 4)):
        noise = np.random.default_rng(shade).integers(0, 3, (96, 128, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / side / "black.png")
        (tmp_path / side / "broken.jpg").write_bytes(b"no photo")
    assert leaks(open_dataset(tmp_path)) == []


def test_the_result_does_not_depend_on_threads_and_progress_is_told(tmp_path):
    trees.folder(tmp_path)
    shutil.copy(tmp_path / "database" / "2.jpg", tmp_path / "queries" / "0.jpg")
    told = []
    dataset = open_dataset(tmp_path)
    many = leaks(dataset, runtime=Runtime(threads=3, progress=lambda *step: told.append(step)))
    assert many == leaks(dataset, runtime=Runtime(threads=1))
    assert told[-1][1:] == (4, 4)
    assert len(told) == 8
