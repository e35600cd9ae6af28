"""The distance of two positions, against known ones."""

import math

import numpy as np
import pytest

from placerec.photos.sphere import EARTH_RADIUS, distance, distances
from placerec.records import Position

DEGREE = EARTH_RADIUS * math.pi / 180  # metres of a degree on a great circle


@pytest.mark.parametrize(
    ("first", "second", "metres"),
    [
        ((52.5, 13.25), (52.5, 13.25), 0.0),
        ((0.0, 0.0), (0.0, 1.0), DEGREE),
        ((60.0, 179.5), (60.0, -179.5), 55_596.9),  # half a degree of the equator, a bit less
        ((90.0, 0.0), (90.0, 77.0), 0.0),
        ((0.0, 0.0), (0.0, 180.0), 180 * DEGREE),
        ((1e-7, 0.0), (0.0, 0.0), 1e-7 * DEGREE),
    ],
)
def test_the_distance_is_that_on_a_great_circle(first, second, metres):
    assert distance(Position(*first), Position(*second)) == pytest.approx(metres, abs=1.0, rel=1e-6)


def test_many_distances_are_those_of_each_pair():
    points = [(52.2, 0.12), (-33.9, 151.2), (90.0, 0.0), (52.2, -179.9)]
    expected = [[distance(Position(*one), Position(*two)) for two in points] for one in points[:3]]
    metres = distances(np.array(points[:3]), np.array([*points, (math.nan, math.nan)]))
    assert metres[:, :-1] == pytest.approx(np.array(expected), rel=1e-9, abs=1e-6)
    assert np.isnan(metres[:, -1]).all()
