"""Names that people and attackers give to photos, through every output of the program."""

import json
import os
import shutil
import sys

import pytest

from placerec.index.build import build_index
from placerec.settings import Settings
from placerec.text import printable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")

NAMES = (
    "new\nline.jpg", "\x1b[31mred\x1b[0m.jpg", "tab\tcr\r.jpg", "\u202egpj.exe.jpg",
    "<b>&amp;[red].jpg", os.fsdecode(b"caf\xe9.jpg"),
)  # fmt: skip
BROKEN = "bro\nken\x1b[2J.jpg"


@pytest.fixture(scope="module")
def named(town, tmp_path_factory):
    """A folder with the six photos under hostile names, a broken one, and an index of them."""
    folder = tmp_path_factory.mktemp("named")
    (folder / "photos").mkdir()
    for photo, name in zip(sorted((town / "database").iterdir()), NAMES, strict=True):
        shutil.copy(photo, folder / "photos" / name)
    (folder / "photos" / BROKEN).write_bytes(b"\xff\xd8\xff")
    small = Settings(image_size=(160, 224))
    build_index(folder / "a.placerec", folder / "photos", settings=small)
    return folder


def shown_lines(text):
    """The lines of an output, in which nothing needs an escape."""
    lines = text.removesuffix("\n").split("\n")
    assert [printable(line) for line in lines] == lines
    return lines


def test_a_query_shows_names_on_one_line_each(placerec, named):
    photos = [named / "photos" / name for name in NAMES]
    shown = placerec("query", named / "a.placerec", *photos, "--top", 2)
    lines = shown_lines(shown.stdout)
    assert len(lines) == len(NAMES) * 5
    for number, (name, photo) in enumerate(zip(NAMES, photos, strict=True)):
        assert lines[5 * number] == printable(photo)
        assert f"  {printable(name)}  " in lines[5 * number + 3]
    refused = placerec(
        "query", named / "a.placerec", *photos[:1], named / "photos" / BROKEN, code=5
    )
    assert printable(BROKEN) in shown_lines(refused.stderr)[1]


def test_json_geojson_and_the_picture_keep_the_true_names(placerec, named):
    photos = [named / "photos" / name for name in NAMES]
    words = ("--json", "--geojson", "a.geojson", "--picture", "drawn")
    answers = json.loads(placerec("query", named / "a.placerec", *photos, *words).stdout)
    assert [answer["query"] for answer in answers] == [str(path) for path in photos]
    assert [answer["places"][0]["path"] for answer in answers] == list(NAMES)
    features = json.loads((placerec.folder / "a.geojson").read_text())["features"]
    assert {feature["properties"]["path"] for feature in features} == set(NAMES)
    drawn = sorted(path.name[4:] for path in (placerec.folder / "drawn").iterdir())
    assert drawn == sorted(name.replace(".jpg", ".png") for name in NAMES)


def test_a_match_and_an_error_show_names_on_one_line(placerec, named):
    pair = [named / "photos" / name for name in (NAMES[0], NAMES[5])]
    lines = shown_lines(placerec("match", *pair).stdout)
    assert lines[:2] == [f"first: {printable(pair[0])}", f"second: {printable(pair[1])}"]
    for words, code in (((named / "photos" / BROKEN, pair[0]), 5), ((NAMES[1], pair[0]), 3)):
        (line,) = shown_lines(placerec("match", *words, code=code).stderr)
        assert printable(words[0]) in line


def test_the_list_of_an_index_and_of_skipped_photos_have_one_line_a_photo(placerec, named):
    words = ("b.placerec", named / "photos", "--image-size", "160,224")
    built = placerec("index", "build", *words, code=5)
    shown_lines(built.stdout)
    lines = shown_lines(built.stderr)
    assert any(line.startswith(f"  {printable(BROKEN)}: ") for line in lines)
    listed = shown_lines(placerec("index", "info", "b.placerec", "--photos").stdout)
    assert sorted(listed) == sorted(map(printable, NAMES))


def test_an_evaluation_shows_names_on_one_line(placerec, named):
    for side in ("database", "queries"):
        shutil.copytree(named / "photos", placerec.folder / "set" / side)
    rows = "".join(f'"{name}","{name}"\n' for name in NAMES)
    table = placerec.folder / "set" / "ground_truth.csv"
    table.write_bytes(f"query,database\n{rows}".encode(errors="surrogateescape"))
    lines = shown_lines(placerec("evaluate", "set", "--check").stdout)
    for name in NAMES:
        assert any(f"query {printable(name)} = " in line for line in lines)
