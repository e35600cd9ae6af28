"""Random views: places lie where the maps say, and the seed decides everything."""

import torch

from placerec.schedule import INVARIANCE
from placerec.training.views import Views, grid, homographies, places_in, transformed

SIZE = (64, 96)


def views(seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    return Views(SIZE, INVARIANCE.replace(**changes), generator)


def test_a_homography_takes_four_points_to_four_others():
    source = torch.tensor([[[-1.0, -1], [1, -1], [1, 1], [-1, 1]]])
    target = torch.tensor([[[-0.9, -0.5], [0.7, -0.8], [0.6, 0.9], [-0.4, 0.8]]])
    assert torch.allclose(transformed(homographies(source, target), source), target, atol=1e-6)


def test_a_marked_place_of_the_photo_lies_in_both_views_where_the_maps_say():
    """A bright spot: its brightest pixel in one view is taken to the other view."""
    x, y = grid((128, 192)).reshape(128, 192, 2).unbind(2)
    photos = torch.exp(-((x - 0.1) ** 2 + (y + 0.2) ** 2) / 0.002).expand(3, 3, -1, -1)
    view = views()
    clean, night = (view.quadrilaterals(3, side) for side in ((0.75, 1.0), (0.55, 1.0)))
    spots = []
    for maps in (clean, night):
        brightest = view.cut(photos, maps)[:, 0].flatten(1).argmax(1)
        spots.append(grid(SIZE)[brightest])
    assert (spots[0] - spots[1]).abs().max() > 0.1  # the views differ
    pixel = torch.tensor([2 / SIZE[1], 2 / SIZE[0]])
    mark = torch.tensor([0.1, -0.2])
    for row in range(3):
        one = slice(row, row + 1)
        assert ((transformed(clean[one], spots[0][one, None])[0, 0] - mark).abs() < pixel).all()
        there = places_in(clean[one], night[one], spots[0][one])[0, 0]
        assert ((there - spots[1][row]).abs() < 2 * pixel).all()


def test_a_quadrilateral_lies_inside_the_photo():
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]).expand(50, -1, -1)
    inside = transformed(views().quadrilaterals(50, (0.55, 1.0)), corners)
    assert inside.abs().max() <= 1 + 1e-5
    assert inside.abs().amax((1, 2)).min() < 0.9


def test_a_night_view_is_dark_and_the_seed_decides_it():
    photos = torch.rand((12, 3, *SIZE), generator=torch.Generator().manual_seed(1))
    night = views(3, dark=1.0).night(photos)
    assert torch.equal(night, views(3, dark=1.0).night(photos))
    assert not torch.equal(night, views(4, dark=1.0).night(photos))
    assert night.min() >= 0
    assert night.max() <= 1
    mild = views(3).mild(photos)
    assert float(night.mean()) < 0.7 * float(mild.mean())
    assert 0.4 < float(mild.mean()) < 0.6
