"""The same photos give the same index and the same answers: P7. And any name is a name: P5."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from promise_support import SETTINGS, MeanColours, draw, draw_folder, small_index, stored

from index.index_support import answers
from placerec.index import IndexReader, verify
from placerec.index.build import add_photos, build_index
from placerec.models.model_file import load_model, model_bytes, save_model
from placerec.models.photo_source import fit_on_folder
from placerec.recognise import PlaceRecognizer
from placerec.runtime import Runtime
from plain_methods import write_onnx_trunk

PROGRAM = """
import hashlib, sys
from pathlib import Path
from index.index_support import answers
from promise_support import MeanColours, pixels, small_index
from placerec.recognise import PlaceRecognizer
from placerec.runtime import Runtime

path, folder, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
runtime = Runtime(threads=threads)
small_index(path, folder, runtime=runtime)
with PlaceRecognizer.open(path, model=MeanColours(), runtime=runtime) as recognizer:
    asked = [recognizer.query(pixels(seed)).places for seed in range(4)]
told = [(p.path, p.score, p.global_score, p.inliers) for places in asked for p in places]
print(hashlib.sha256(repr((answers(path), told)).encode()).hexdigest())
"""


def test_threads_hash_seeds_processes_and_the_order_on_the_disk_change_nothing(tmp_path):
    seen, order = set(), list(range(12))
    for number, (threads, seed) in enumerate(((1, 0), (2, 1), (7, 2))):
        folder = tmp_path / str(number) / "town" / "photos"  # the model's name has both
        random.Random(number).shuffle(order)
        for photo in order:
            draw(folder / f"{photo:03}.png", photo)
        folders = os.pathsep.join(filter(None, sys.path))
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM, folder.parent / "a.placerec", folder,
             str(threads)],
            capture_output=True, text=True, check=False, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": folders, "PYTHONHASHSEED": str(seed)},
        )  # fmt: skip
        assert (result.returncode, result.stderr) == (0, "")
        seen.add(result.stdout)
    assert len(seen) == 1


def test_a_build_and_a_model_file_have_the_same_bytes_each_time(tmp_path):
    folder = draw_folder(tmp_path / "photos", 6)
    first, second = (small_index(tmp_path / name, folder) for name in ("a.plr", "b.plr"))
    assert first.read_bytes() == second.read_bytes()
    models = [fit_on_folder(folder, model=MeanColours(), settings=SETTINGS)[0] for _ in range(8)]
    assert len({model_bytes(model) for model in models}) == 1


def test_photos_added_one_by_one_in_any_order_equal_photos_added_at_once(tmp_path):
    folder, more = draw_folder(tmp_path / "photos", 4), draw_folder(tmp_path / "more", 9)
    first = small_index(tmp_path / "a.plr", folder)
    second = Path(shutil.copy(first, tmp_path / "b.plr"))
    add_photos(first, [more], model=MeanColours(), runtime=Runtime(threads=3))
    photos = sorted(more.iterdir())
    random.Random(4).shuffle(photos)
    for photo in photos:
        add_photos(second, [photo], model=MeanColours(), runtime=Runtime(threads=1))
    assert answers(first) == answers(second)


@pytest.mark.parametrize("raw", [b"caf\xe9", b"a\nb \x1b[31m", "東京".encode(), b"%s {} $HOME"])
def test_a_folder_a_model_and_a_trunk_of_any_name_work(tmp_path, raw):
    folder = draw_folder(tmp_path / os.fsdecode(raw), 3)
    index = small_index(tmp_path / "a.placerec", folder)
    assert verify(index) == []
    with IndexReader.open(index) as reader:
        assert reader.info.root == folder.resolve()
        assert reader.info.model.isprintable()
    fitted, _ = fit_on_folder(folder, model=MeanColours(), settings=SETTINGS)
    assert fitted.training_data.isprintable()
    network = folder / os.fsdecode(raw + b".onnx")
    write_onnx_trunk(network)
    build_index(index, folder, model=str(network), settings=SETTINGS, replace=True)
    assert add_photos(index, folder.glob("*.png"), model=str(network)).unchanged == 3
    with PlaceRecognizer.open(index, model=str(network)) as recognizer:
        assert recognizer.query(folder / "001.png").best.path == "001.png"
    other = folder / os.fsdecode(raw + b".safetensors")
    save_model(fit_on_folder(folder, settings=SETTINGS)[0], other)
    assert load_model(other).name.isprintable()
    assert len(stored(index)) == 3
