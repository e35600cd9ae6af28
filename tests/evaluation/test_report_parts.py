"""Parts of the report: escaping, units, the position map, thumbnails."""

import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from PIL import Image

from placerec.evaluation.geometry import on_the_map, on_the_sphere
from placerec.evaluation.report.cases import thumbnail
from placerec.evaluation.report.position_map import Frame, on_plane, query_map
from placerec.evaluation.report.rendering import environment, quantity, render
from placerec.records import Position


def test_text_is_escaped_once_and_numbers_are_short():
    template = environment().from_string('<td title="{{ a }}">{{ b }}{{ c }}</td>')
    written = template.render(a='"><x', b="a<b", c=Markup("<i>&quot;</i>"))
    assert written == '<td title="&#34;&gt;&lt;x">a&lt;b<i>&quot;</i></td>'
    show = environment().from_string("{{ value }}")
    assert show.render(value="\x00\x1b[1m é 日") == "\\x00\\x1b[1m é 日"
    assert [show.render(value=x) for x in (0.0, -0.001, 1.0, 100.0, 2.349)] == [
        "0", "0", "1", "100", "2.35"
    ]  # fmt: skip
    with pytest.raises(UndefinedError):
        show.render()


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [(0.42, "milliseconds", "0.4 ms"), (152.3, "milliseconds", "152 ms"),
     (12_345, "milliseconds", "12.3 s"), (None, "milliseconds", "–"), (548, "bytes", "548 bytes"),
     (31_560.4, "bytes", "31.6 kB"), (46.3e6, "bytes", "46.3 MB"), ("many", "bytes", "–"),
     (0.44, "metres", "0.4 m"), (3.0, "metres", "3 m"), (25.4, "metres", "25 m"),
     (2000, "metres", "2 km"), (1234, "metres", "1.2 km"), (45_678, "metres", "46 km")],
)  # fmt: skip
def test_a_quantity_has_a_unit_that_fits_it(value, kind, text):
    assert quantity(value, kind) == text


def test_points_of_the_sphere_keep_their_distances_and_north_is_up():
    places = [Position(52.2, 0.12), Position(52.201, 0.12), Position(52.2, 0.122)]
    points = on_the_sphere(places)
    flat, _, _ = on_plane(points, points, points)
    assert np.linalg.norm(flat[1] - flat[0]) == pytest.approx(111.195, abs=0.01)
    assert flat[1, 1] > flat[0, 1]
    assert flat[2, 0] > flat[0, 0]
    placed = Frame.around(flat).place(flat)
    assert placed[1, 1] < placed[0, 1]
    assert placed[2, 0] > placed[0, 0]


def test_only_the_region_of_most_queries_is_drawn():
    points = np.concatenate(
        [on_the_map([0.0, 100.0], [0.0, 50.0], 31), on_the_map([0.0], [0.0], 32)]
    )
    flat, _, _ = on_plane(points, points, points)
    assert flat[:2].tolist() == [[0, 0], [100, 50]]
    assert np.isnan(flat[2]).all()
    drawn = query_map(["a", "b", "c"], points, points, np.ones(3, np.bool_), points)
    assert "1 not drawn: no position" in render("position_map.html", map=drawn)


def test_a_large_map_has_a_bounded_size():
    random = np.random.default_rng(0)
    points = on_the_map(random.uniform(0, 5000, 60_000), random.uniform(0, 5000, 60_000))
    queries, answers = points[:3000], points[-np.arange(3000)]
    names = [str(n) for n in range(3000)]
    drawn = render(
        "position_map.html",
        map=query_map(names, queries, answers, np.arange(3000) % 2 == 0, points),
    )
    assert drawn.count("<title>") == 1 + 375
    assert len(drawn) < 300_000


def test_a_thumbnail_of_any_photo_is_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    small = thumbnail(tmp_path / "noise.png")
    assert (small.width, small.height) == (320, 320)
    assert len(small.data) < 20_000
    (tmp_path / "text.jpg").write_text("no photo")
    assert "not an image" in thumbnail(tmp_path / "text.jpg").reason
