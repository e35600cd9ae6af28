"""Random views of photos: a quadrilateral of the photo, at night or almost as it is.

A view has known coordinates: ``quadrilaterals`` gives the map (a homography) from a view to its
photo, so a place in one view can be looked up in another (``places_in``). Coordinates (x, y) are
-1..1 from the left and upper to the right and lower border. The numbers are those of the schedule.
All randomness comes from the generator; equal seeds give equal views.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from placerec.schedule import InvarianceSchedule, Range

Tensor = torch.Tensor
CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
COARSE = 1 / 3  # of the resolution
SHADES = (4, 5)  # rows and columns of random shades, which are interpolated


class Views:
    """Views of ``size`` (height, width) in pixels by the numbers of ``schedule``."""

    def __init__(
        self, size: tuple[int, int], schedule: InvarianceSchedule, generator: torch.Generator
    ) -> None:
        self._size, self._schedule, self._generator = size, schedule, generator
        self._points = grid(size, generator.device)

    def quadrilaterals(self, count: int, side: Range) -> Tensor:
        """Return maps (n, 3, 3) from a view to its photo; ``side`` is their share of the photo."""
        numbers = self._schedule
        scale, aspect = self._draw(count, side), self._draw(count, numbers.aspect)
        sides = torch.cat((scale * aspect.sqrt(), scale / aspect.sqrt()), 1).clamp(max=1.0)
        centres = (1 - sides) * self._uniform((count, 2), -1.0, 1.0)
        corners = torch.tensor(CORNERS, device=self._points.device).expand(count, -1, -1)
        moved = corners + 2 * self._uniform((count, 4, 2), -numbers.corner, numbers.corner)
        inside = centres[:, None] + sides[:, None] * moved
        return homographies(corners, inside.clamp(-1.0, 1.0))

    def cut(self, photos: Tensor, maps: Tensor) -> Tensor:
        """Return what ``maps`` (n, 3, 3) show of ``photos`` (n, 3, h, w): (n, 3, height, width)."""
        points = transformed(maps, self._points.expand(len(maps), -1, -1))
        return functional.grid_sample(
            photos,
            points.reshape(len(maps), *self._size, 2),
            padding_mode="reflection",
            align_corners=False,
        )

    def night(self, views: Tensor) -> Tensor:
        """Return ``views`` (n, 3, height, width) in 0..1 as a camera might see them at night."""
        numbers, count = self._schedule, len(views)
        dark = self._with_share(count, numbers.dark)
        gamma = torch.where(
            dark, self._of_photo(count, numbers.gamma), self._of_photo(count, numbers.day_gamma)
        )
        exposure = torch.where(
            dark, self._of_photo(count, numbers.exposure),
            self._of_photo(count, numbers.day_exposure),
        )  # fmt: skip
        colour = torch.cat(
            [self._of_photo(count, part) for part in (numbers.red, numbers.green, numbers.blue)], 1
        )
        lit = views**gamma * exposure * colour + self._lamps(count) * dark
        lit = lit * self._shades(count)
        changes = (
            (numbers.grey, lambda x: x.mean(1, keepdim=True).expand_as(x)),
            (numbers.blur, lambda x: _smooth(_smooth(x, 5), 3)),
            (numbers.coarse, self._coarse),
        )
        for share, change in changes:
            lit = torch.where(self._with_share(count, share), change(lit), lit)
        return self._with_noise(lit, numbers.noise)

    def mild(self, views: Tensor) -> Tensor:
        """Return ``views`` (n, 3, height, width) in 0..1 as another camera sees them by day."""
        numbers, count = self._schedule, len(views)
        lit = views ** self._of_photo(count, numbers.mild_gamma)
        lit = lit * self._of_photo(count, numbers.mild_exposure)
        return self._with_noise(lit, numbers.mild_noise)

    def _lamps(self, count: int) -> Tensor:
        """Return glows (n, 3, height, width) at random places, reddish as lamps are."""
        numbers = self._schedule
        x, y = self._points.reshape(*self._size, 2).unbind(2)
        light = torch.zeros((count, 3, *self._size), device=x.device)
        for _ in range(numbers.lamps):
            across, down = (self._of_photo(count, (-1.0, 1.0)) for _ in range(2))
            radius = self._of_photo(count, numbers.lamp_radius)
            glow = torch.exp(-((x - across) ** 2 + (y - down) ** 2) / (2 * radius**2))
            colour = torch.cat([self._of_photo(count, (low, 1.0)) for low in (0.9, 0.7, 0.4)], 1)
            strength = self._of_photo(count, numbers.lamp_light) * self._with_share(count, 0.5)
            light = light + glow * colour * strength
        return light

    def _shades(self, count: int) -> Tensor:
        """Return smooth factors (n, 1, height, width) around 1."""
        random = torch.randn(
            (count, 1, *SHADES), generator=self._generator, device=self._points.device
        )
        smooth = functional.interpolate(random, self._size, mode="bicubic", align_corners=False)
        return torch.exp(smooth * self._of_photo(count, self._schedule.shade))

    def _coarse(self, views: Tensor) -> Tensor:
        small = functional.interpolate(views, scale_factor=COARSE, mode="bilinear")
        return functional.interpolate(small, self._size, mode="bilinear")

    def _with_noise(self, views: Tensor, deviation: Range) -> Tensor:
        noise = torch.randn(views.shape, generator=self._generator, device=views.device)
        return (views + noise * self._of_photo(len(views), deviation)).clamp(0.0, 1.0)

    def _of_photo(self, count: int, limits: Range) -> Tensor:
        return self._draw(count, limits)[..., None, None]

    def _with_share(self, count: int, share: float) -> Tensor:
        return self._of_photo(count, (0.0, 1.0)) < share

    def _draw(self, count: int, limits: Range) -> Tensor:
        return self._uniform((count, 1), *limits)

    def _uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        random = torch.rand(shape, generator=self._generator, device=self._points.device)
        return low + (high - low) * random


def grid(size: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Return the centres (x, y) of the pixels of an image, or of the cells of a map, row by row."""
    rows, columns = ((2 * torch.arange(count, device=device) + 1) / count - 1 for count in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y), 2).flatten(0, 1)


def transformed(maps: Tensor, points: Tensor) -> Tensor:
    """Return where ``maps`` (n, 3, 3) take ``points`` (n, p, 2)."""
    moved = points @ maps[:, :, :2].transpose(1, 2) + maps[:, None, :, 2]
    return moved[..., :2] / moved[..., 2:]


def places_in(first: Tensor, second: Tensor, points: Tensor) -> Tensor:
    """Return where ``points`` (p, 2) of views ``first`` lie in views ``second``: (n, p, 2).

    Both are maps (n, 3, 3) from a view to the same photos. A place outside is beyond -1..1.
    """
    return transformed(torch.linalg.inv(second) @ first, points.expand(len(first), -1, -1))


def homographies(source: Tensor, target: Tensor) -> Tensor:
    """Return the maps (n, 3, 3) that take four points (n, 4, 2) to four others."""
    x, y = source.unbind(2)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = []
    for axis, affine in ((0, (x, y, one, zero, zero, zero)), (1, (zero, zero, zero, x, y, one))):
        to = target[..., axis]
        rows.append(torch.stack((*affine, -x * to, -y * to), 2))
    values = torch.cat((target[..., 0], target[..., 1]), 1)
    solved = torch.linalg.solve(torch.cat(rows, 1), values)
    return torch.cat((solved, torch.ones_like(solved[:, :1])), 1).reshape(-1, 3, 3)


def _smooth(views: Tensor, side: int) -> Tensor:
    padded = functional.pad(views, [side // 2] * 4, mode="replicate")
    return functional.avg_pool2d(padded, side, 1)
