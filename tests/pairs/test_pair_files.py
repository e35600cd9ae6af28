"""What is written is what hloc, COLMAP and pycolmap read."""

import os
import shutil
import sys

import numpy as np
import pytest

from placerec.errors import MissingExtra, NotFound, UsageError
from placerec.index.build import build_index
from placerec.method.vlad import normalise
from placerec.pairs import export_pairs
from placerec.pairs import files as pair_files


def test_a_line_has_two_names_with_one_blank(walk_index, tmp_path):
    graph = export_pairs(walk_index, tmp_path / "pairs.txt", top=2)
    text = (tmp_path / "pairs.txt").read_text(encoding="utf-8")
    assert text == "".join(f"{pair.first} {pair.second}\n" for pair in graph.pairs)
    assert text.startswith("p0/v0.png p0/v1.png\np0/v0.png p0/v2.png\n")
    assert len(text.splitlines()) == 9


def test_an_h5_file_has_a_group_per_photo_as_hloc_reads_it(walk_index, recognizer, tmp_path):
    h5py = pytest.importorskip("h5py", reason="the paper extra is not installed")
    export_pairs(walk_index, tmp_path / "p.txt", top=1, descriptors=tmp_path / "d.h5")
    groups = []
    with h5py.File(tmp_path / "d.h5", "r", libver="latest") as file:
        file.visititems(
            lambda _, node: (
                groups.append(node.parent.name.strip("/"))
                if isinstance(node, h5py.Dataset)
                else None
            )
        )
        rows = np.stack([file[name]["global_descriptor"].__array__() for name in groups])
    assert groups == [entry.name for entry in recognizer.index.entries]
    assert rows.dtype == np.float32
    assert np.array_equal(rows, normalise(recognizer.global_descriptors[:]))


def test_an_npy_file_has_its_names_beside_it(walk_index, recognizer, tmp_path):
    export_pairs(walk_index, tmp_path / "p.txt", top=1, descriptors=tmp_path / "d.npy")
    assert np.array_equal(np.load(tmp_path / "d.npy"), normalise(recognizer.global_descriptors[:]))
    names = (tmp_path / "d.txt").read_text(encoding="utf-8").splitlines()
    assert names == [entry.name for entry in recognizer.index.entries]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.npy", "d.txt", "p.txt"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a b.png", "'a b.png': a blank in it"),
        ("#a.png", "a # in front"),
        (b"a\xe9.png", "not UTF-8"),
    ],
)
def test_a_name_that_cannot_be_written_is_refused_before_any_work(
    name, why, walk, recognizer, tmp_path, monkeypatch
):
    folder, index = tmp_path / "photos", tmp_path / "a.placerec"
    folder.mkdir()
    shutil.copy(walk / "p0" / "v0.png", folder / os.fsdecode(name))
    build_index(index, folder, settings=recognizer.settings)
    monkeypatch.setattr(pair_files, "find_pairs", None)
    with pytest.raises(UsageError, match=f"{why}.*; rename or move the photo, then build"):
        export_pairs(index, tmp_path / "p.txt", descriptors=tmp_path / "d.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.placerec", "photos"]


def test_a_photo_outside_of_the_folder_is_refused(walk, recognizer, tmp_path):
    index, names = tmp_path / "a.placerec", ["v0.png", "../p1/v0.png"]
    build_index(index, walk / "p0", names=names, settings=recognizer.settings)
    with pytest.raises(UsageError, match=r"'\.\./p1/v0\.png': outside of the photo folder"):
        export_pairs(index, tmp_path / "p.txt")


def test_what_cannot_be_written_is_refused_before_any_work(walk_index, tmp_path, monkeypatch):
    monkeypatch.setattr(pair_files.PlaceRecognizer, "open", None)
    out = tmp_path / "p.txt"
    with pytest.raises(UsageError, match=r"d\.csv: descriptors are an \.h5 file"):
        export_pairs(walk_index, out, descriptors=tmp_path / "d.csv")
    for paths in ((tmp_path / "no" / "p.txt", None), (out, tmp_path / "no" / "d.npy")):
        with pytest.raises(NotFound, match="no such folder"):
            export_pairs(walk_index, paths[0], descriptors=paths[1])
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"placerec\[paper\]"):
        export_pairs(walk_index, out, descriptors=tmp_path / "d.h5")
    assert list(tmp_path.iterdir()) == []


def test_pycolmap_reads_the_pairs_and_matches_the_photos(walk, walk_index, tmp_path):
    pycolmap = pytest.importorskip("pycolmap", reason="pip install pycolmap")
    pairs, database = tmp_path / "pairs.txt", tmp_path / "colmap.db"
    graph = export_pairs(walk_index, pairs, top=2)
    pycolmap.extract_features(database, walk, camera_mode=pycolmap.CameraMode.SINGLE)
    options = pycolmap.ImportedPairingOptions()
    options.match_list_path = pairs
    pycolmap.match_image_pairs(database, pairing_options=options)
    with pycolmap.Database.open(database) as opened:
        names = {image.image_id: image.name for image in opened.read_all_images()}
        numbers, geometries = opened.read_two_view_geometries()
    matched = {
        tuple(sorted(names[image] for image in pycolmap.pair_id_to_image_pair(number))): len(
            geometry.inlier_matches
        )
        for number, geometry in zip(numbers, geometries, strict=True)
    }
    assert set(matched) == {(pair.first, pair.second) for pair in graph.pairs}
    assert min(matched.values()) >= 15
