"""``placerec pairs`` from a shell."""

import shutil
import tempfile

import pytest
from PIL import Image


def test_an_index_gives_pairs_and_a_report(placerec, town_index):
    result = placerec("pairs", town_index, "--out", "p.txt", "--top", 5, "--far", 0)
    assert result.stdout == "pairs: p.txt\n"
    lines = (placerec.folder / "p.txt").read_text().splitlines()
    assert lines[:2] == ["place_000.jpg place_001.jpg", "place_000.jpg place_002.jpg"]
    assert len(lines) == 6 * 5 / 2
    report = result.stderr.splitlines()
    assert report[-4:] == [
        "15 pairs of 6 photos",
        "look-alikes far apart: 0",
        "islands: 1",
        "  6 photos: place_000.jpg, place_001.jpg, place_002.jpg, ...",
    ]


@pytest.fixture
def copies(town, tmp_path):
    """A folder of two photos: one in two equal files, the other in colour and in grey."""
    folder = tmp_path / "copies"
    folder.mkdir()
    for place, letter in enumerate("ab"):
        with Image.open(town / "database" / f"place_00{place}.jpg") as image:
            small = image.resize((160, 120))
            small.save(folder / f"{letter}0.png")
            small.convert("RGB" if letter == "a" else "L").save(folder / f"{letter}1.png")
    return folder


def test_a_folder_is_indexed_and_its_islands_are_listed(placerec, copies, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "here"))
    (copies / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    result = placerec("pairs", copies, "--out", "p.txt", "--top", 1, code=5)
    assert (placerec.folder / "p.txt").read_text() == "a0.png a1.png\nb0.png b1.png\n"
    assert "look-alikes far apart: unknown, because no two photos" in result.stderr
    islands = "islands: 2\n  2 photos: a0.png, a1.png\n  2 photos: b0.png, b1.png\n"
    assert islands in result.stderr
    assert "pairs that would join the islands: 2\n  a" in result.stderr
    placerec("pairs", copies, "--out", "q.txt", "--top", 1, "--join", code=5)
    joined = (placerec.folder / "q.txt").read_text().splitlines()
    assert {line[0] + line[7] for line in joined} == {"aa", "ab", "bb"}
    assert "1 photo is a copy of another one" in result.stderr
    assert "skipped 1 photo:\n  " in result.stderr
    assert [path.name for path in placerec.folder.iterdir() if path.suffix != ".txt"] == []
    assert len(list(copies.iterdir())) == 5


def test_a_name_with_a_blank_is_refused_before_a_folder_is_indexed(placerec, copies, monkeypatch):
    monkeypatch.setattr("placerec.index.build.build_index", None)
    (copies / "a0.png").rename(copies / "a 0.png")
    result = placerec("pairs", copies, "--out", "p.txt", code=2)
    assert "'a 0.png': a blank in it" in result.stderr
    assert list(placerec.folder.iterdir()) == []


def test_look_alikes_far_apart_are_listed(placerec, copies):
    table = placerec.folder / "where.csv"
    rows = ("a0.png,45,30", "a1.png,45.001,30", "b0.png,45,31", "b1.png,45,31")
    table.write_text("\n".join(("image,latitude,longitude", *rows)))
    placerec("index", "build", "a.placerec", copies, "--positions", table)
    for far, count in ((100, 1), (112, 0)):
        result = placerec("pairs", "a.placerec", "--out", f"{far}.txt", "--top", 1, "--far", far)
        assert f"look-alikes far apart: {count}\n" in result.stderr
        assert ("  a0.png a1.png (score 1.0" in result.stderr) == bool(count)
        assert ("111 m apart" in result.stderr) == bool(count)


def test_descriptors_are_a_second_result(placerec, town_index):
    result = placerec("pairs", town_index, "--out", "p.txt", "--descriptors", "d.npy")
    assert result.stdout == "pairs: p.txt\ndescriptors: d.npy\n"
    assert sorted(path.name for path in placerec.folder.iterdir()) == ["d.npy", "d.txt", "p.txt"]


def test_no_result_replaces_another_one(placerec, town_index):
    (placerec.folder / "d.txt").write_text("mine")
    words = ("pairs", town_index, "--out")
    for out, descriptors, why in (
        ("p.txt", "d.npy", "d.txt: already exists"),
        ("e.txt", "e.npy", "e.txt: one name for two results"),
        ("e.npy", "e.npy", "e.npy: one name for two results"),
        ("p.txt", "d.csv", "d.csv: descriptors are an .h5 file"),
    ):
        result = placerec(*words, out, "--descriptors", descriptors, code=2)
        assert why in result.stderr
    assert [path.name for path in placerec.folder.iterdir()] == ["d.txt"]
    assert (placerec.folder / "d.txt").read_text() == "mine"


def test_what_is_no_index_and_an_index_without_confidence_are_named(placerec, town, town_index):
    shutil.copy(town / "ground_truth.csv", placerec.folder / "a.csv")
    assert "not a placerec index" in placerec("pairs", "a.csv", "--out", "p.txt", code=3).stderr
    assert "nowhere" in placerec("pairs", "nowhere", "--out", "p.txt", code=3).stderr
    result = placerec("pairs", town_index, "--out", "p.txt", "--sure", 0.9, code=2)
    assert result.stderr.splitlines()[-1].startswith("error: sure: the answers of this index have")
    assert not (placerec.folder / "p.txt").exists()
