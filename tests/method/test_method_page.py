"""docs/METHOD.md is correct: its examples run, its functions exist, its numbers are right."""

import ast
import doctest
import re
from pathlib import Path

import pytest

from placerec.method.patches import patch_grid
from placerec.settings import CHOICES, METHODS
from placerec.trunks.vgg16 import layer_list

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "METHOD.md"
TEXT = " ".join(PAGE.read_text(encoding="utf-8").split())
FUNCTIONS = sorted(set(re.findall(r"`([a-z0-9_/]+\.py): (\w+)`", TEXT)))
MAP = 30, 40  # cells of a 480 x 640 photo
GRAPH_LAYERS, GRAPH_WIDTH = 18, 256
CLUSTERS, DEPTH, LONG = 16, 512, 4096


def says(text):
    return text in TEXT


def patches(size):
    rows, columns = patch_grid(MAP, (size, size), 1)
    return rows * columns


def products(sizes, dimensions):
    """Return the multiply-adds of all cosines between the patches of two photos."""
    return sum(patches(size) ** 2 for size in sizes) * dimensions


def graph_network(keypoints):
    """Return the multiply-adds of attention layers for both photos."""
    projections = 4 * keypoints * GRAPH_WIDTH**2
    perceptron = keypoints * (2 * GRAPH_WIDTH * 2 * GRAPH_WIDTH + 2 * GRAPH_WIDTH * GRAPH_WIDTH)
    assert projections + perceptron == 10 * keypoints * GRAPH_WIDTH**2
    attention = 2 * keypoints**2 * GRAPH_WIDTH
    return 2 * GRAPH_LAYERS * (projections + perceptron + attention)


def receptive_field(convolutions):
    """Return the pixels that a cell of VGG16 sees, its stride and its padding."""
    sees, stride, before, done = 1, 1, 0, 0
    for kind, _, _ in layer_list():
        if kind == "conv" and done == convolutions:
            break
        if kind == "conv":
            sees, before, done = sees + 2 * stride, before + stride, done + 1
        elif kind == "pool":
            sees, stride = sees + stride, 2 * stride
    return sees, stride, before


def test_the_examples_of_the_page_run():
    result = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert result.attempted > 20
    assert not result.failed


@pytest.mark.parametrize(("file", "name"), FUNCTIONS)
def test_every_function_that_the_page_names_exists(file, name):
    tree = ast.parse((ROOT / "src" / "placerec" / file).read_text(encoding="utf-8"))
    assert name in {getattr(node, "name", None) for node in tree.body}


def test_the_page_names_every_module_of_the_method():
    modules = {path.name for path in (ROOT / "src" / "placerec" / "method").glob("[a-z]*.py")}
    named = {file.removeprefix("method/") for file, _ in FUNCTIONS}
    # Not in the paper: ARCHITECTURE, CONFIDENCE, TRACK and GEOTAG describe them.
    other = {"local.py", "confidence.py", "where.py", "track.py", "travel.py"}
    assert modules - named == other


def test_both_readings_of_a_5x5_patch_in_pixels():
    sees, stride, before = receptive_field(13)
    assert (sees, stride, before) == (196, 16, 90)
    assert says(f"{sees} + 4 * {stride} = {sees + 4 * stride} pixels")
    earlier, stride, earlier_before = receptive_field(12)
    assert says(f"{earlier + 4 * stride} = {earlier} + 4 * {stride}")
    assert -before + (sees - 1) / 2 == -earlier_before + (earlier - 1) / 2 == 7.5


def test_the_operation_counts_are_those_of_the_shapes():
    sizes = (2, 5, 8)
    assert says("{} {}, {} and {} patches".format("have", *map(patches, sizes)))
    assert says(f"{products(sizes, 1):,} cosines")
    for row, count in (
        ("patches, 128 values, size 5", f"{products([5], 128) / 1e9:.2f}"),
        ("patches, 512 values, size 5", f"{products([5], 512) / 1e9:.2f}"),
        ("patches, 4096 values, sizes 2, 5, 8", f"{products(sizes, LONG) / 1e9:.1f}"),
        ("graph network, 1024 keypoints", f"{graph_network(1024) / 1e9:.1f}"),
        ("graph network, 2048 keypoints", f"{graph_network(2048) / 1e9:.1f}"),
    ):
        assert says(f"| {row} | {count} G |")
    even = next(n for n in range(10_000) if graph_network(n) > products(sizes, LONG))
    assert says(f"fewer than {even} keypoints per photo")
    count = sum(map(patches, sizes))
    assert says(f"{count * CLUSTERS * DEPTH * LONG / 1e9:.1f} G multiply-adds per photo")
    assert says(f"{count * LONG * 4 / 1e6:.1f} MB per photo")


def test_a_cell_of_a_wide_photo_shows_more_width_than_height():
    width, height = (16 / MAP[1], 9 / MAP[0])
    assert width / height == pytest.approx(4 / 3)
    assert 8 * height == pytest.approx(6 * width)
    assert says("4/3 times as much width as height. Then 8 x 6 cells")


def test_every_choice_is_on_the_page_and_the_presets_follow_the_program():
    for option, choices in (
        ("patch-sums", CHOICES["patch_sums"]), ("spatial-form", ("paper",)),
        ("fusion", CHOICES["fusion"]),
    ):  # fmt: skip
        assert all(says(f"`--{option} {choice}`") for choice in choices)
    assert all(says(f"| `{form}` ") for form in CHOICES["spatial_form"])
    for name, settings in METHODS.items():
        if name.startswith("paper-"):
            chosen = settings.patch_sums, settings.spatial_form, settings.fusion
            assert chosen == ("direct", "program", "z-score")
