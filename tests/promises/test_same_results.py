"""The same photos give the same index and the same answers: P7. And any name is a name: P5."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from promise_support import SETTINGS, MeanColours, draw, draw_folder, small_index, stored

from index.index_support import answers
from placerec import add_photos, build_index
from placerec.index import IndexReader, verify
from placerec.method.ranking import rerank, shortlist
from placerec.method.scores import match_candidates, score_matches
from placerec.models.model_file import load_model, model_bytes, save_model
from placerec.models.photo_source import fit_on_folder
from placerec.recognise import PlaceRecognizer
from placerec.records import Grid, PatchSet
from placerec.runtime import Runtime
from placerec.settings import Settings
from plain_methods import write_onnx_trunk

PROGRAM = """
import hashlib, sys
from pathlib import Path
from index.index_support import answers
from promise_support import MeanColours, pixels, small_index
from placerec.recognise import PlaceRecognizer
from placerec.runtime import Runtime

shared, folder, runtime = Path(sys.argv[1]), Path(sys.argv[2]), Runtime(threads=int(sys.argv[3]))
own = small_index(folder.parent / "a.placerec", folder, runtime=runtime)
told = []
for path in (shared, own):
    with PlaceRecognizer.open(path, model=MeanColours(), runtime=runtime) as recognizer:
        for seed in range(4):
            places = recognizer.query(pixels(seed)).places
            told += [(p.path, p.score, p.global_score, p.inliers) for p in places]
print(hashlib.sha256(repr((answers(own), told)).encode()).hexdigest())
"""


def test_threads_hash_seeds_processes_and_the_order_on_the_disk_change_nothing(tmp_path):
    shared = small_index(tmp_path / "a.placerec", draw_folder(tmp_path / "shared", 7))
    processes, order = [], list(range(12))
    for number, threads in enumerate((1, 7)):  # at the same time
        folder = tmp_path / str(number) / "town" / "photos"  # the model's name has the last two
        random.Random(number).shuffle(order)
        for photo in order:
            draw(folder / f"{photo:03}.png", photo)
        environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": str(number)
        }  # fmt: skip
        processes.append(
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", PROGRAM, shared, folder, str(threads)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                env={**os.environ, **environment},
            )
        )  # fmt: skip
    reports = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert reports[0] == reports[1]
    assert reports[0][1] == ""


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


def random_set(random: np.random.Generator, kind: str, like: PatchSet | None) -> PatchSet:
    """Patches of 1 x 1 to 6 x 6 cells: noise, few different ones, one only, blank, or equal."""
    if kind == "equal" and like is not None:
        return like
    rows, columns = random.integers(1, 7, 2).tolist()
    numbers = random.normal(size=(rows * columns, 6))
    if kind == "few":
        numbers = np.round(numbers)
    if kind == "one":
        numbers[:] = numbers[0]
    if kind == "blank":
        numbers[random.random(len(numbers)) < 0.6] = 0
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)
    descriptors = numbers / np.where(lengths == 0, 1, lengths)
    return PatchSet(Grid((2, 2), rows, columns, 1), descriptors.astype(np.float32))


def mutual_by_hand(query: PatchSet, database: PatchSet) -> list[tuple[int, int]]:
    """The mutual nearest patches by the definition; of equal ones the first counts."""
    cosines = query.descriptors @ database.descriptors.T
    first, pairs = [list(row).index(row.max()) for row in cosines], []
    for j, column in enumerate(cosines.T):
        nearest = [i for i in range(len(first)) if first[i] == j and column[i] == column.max()]
        pairs += [(i, j) for i in nearest[:1] if column[i] != 0]
    return pairs


def test_200_random_grids_are_matched_as_by_hand_and_scored_without_luck():
    random, kinds = np.random.default_rng(5), ("noise", "few", "one", "blank", "equal")
    for number in range(200):
        query = random_set(random, kinds[number % 4], None)
        candidates = [
            (random_set(random, random.choice(kinds), query),) for _ in range(random.integers(1, 6))
        ]
        candidates.append(candidates[0])  # a duplicated photo
        matched = match_candidates((query,), candidates)
        for (one,), (found,) in zip(candidates, matched, strict=True):
            assert [tuple(pair) for pair in found.pairs.tolist()] == mutual_by_hand(query, one)
        turn = random.permutation(len(candidates))
        settings = Settings(scorer=("displacement", "spatial")[number % 2])
        scores, _ = score_matches(matched, settings)
        turned, _ = score_matches([matched[place] for place in turn], settings)
        assert np.isfinite(scores).all()
        assert scores[0] == scores[-1]  # equal photos have equal scores,
        order, final = rerank(scores, len(scores))
        assert order.tolist().index(0) < order.tolist().index(len(scores) - 1)  # in their order
        assert (np.diff(final) <= 0).all()
        np.testing.assert_allclose(turned, scores[turn], rtol=1e-6, atol=1e-12)


def test_a_shortlist_of_equal_photos_is_in_their_order():
    rows = np.tile(np.float32([0.6, 0.8]), (50, 1))
    order, cosines = shortlist(rows[0], rows, 50)
    assert order.tolist() == list(range(50))
    assert len(set(cosines.tolist())) == 1
