"""An endless street of house fronts that one number defines, and a camera in it.

Nothing is stored: a hash of (seed, side, lot) gives the properties of a house. The point where a
pixel's ray meets a front or the ground has a closed form, so any pose is exact. A front is
invisible from behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from placerec.errors import UsageError
from placerec.records import Array

VIEW = 1.5  # metres: the width of the view at a distance of 1 metre (74 degrees)
FRONT, KERB = 6.5, 4.4  # metres from the middle of the street
NORTH_LOT, SOUTH_LOT = 7.0, 9.0  # metres of street per house; a house begins at x = 0
TRIM = 0.93  # a grey; the colours below are in percent of red, green, blue
LAMP, GLASS = np.array([[100, 77, 42], [20, 27, 33]], np.float32)[..., None, None] / 100
DAY = np.array([[83, 88, 92], [33, 55, 83], [100, 100, 100]], np.float32)[..., None, None] / 100
NIGHT = np.array([[16, 19, 28], [5, 7, 15], [38, 43, 60]], np.float32)[..., None, None] / 100


@dataclass(frozen=True, slots=True)
class Pose:
    """Position (metres) and direction (degrees) of the camera; roll, then pitch, then yaw."""

    x: float  # east
    y: float  # north
    z: float  # above the ground
    yaw: float  # the compass heading, clockwise from north
    pitch: float = 0.0  # upwards
    roll: float = 0.0  # the right side goes down

    def rays(self, size: tuple[int, int]) -> Array:
        """Return east, north, up (3, H, W) of each pixel's ray, with length 1 along the view."""
        row, column = np.indices(size) + 0.5 - np.array(size)[:, None, None] / 2
        roll, pitch, yaw = np.exp(-1j * np.radians([self.roll, self.pitch, self.yaw]))
        rolled = (column - 1j * row) * VIEW / size[1] * roll  # right + i up
        tilted = (rolled.imag + 1j) * pitch  # up + i ahead
        turned = (rolled.real + 1j * tilted.imag) * yaw  # east + i north
        return np.stack([turned.real, turned.imag, tilted.real]).astype(np.float32)


def render(seed: int, pose: Pose, night: bool = False, size: tuple[int, int] = (480, 640)) -> Array:
    """Draw the street of ``seed`` along y = 0: (H, W, 3) uint8 RGB for ``size`` (H, W).

    Raises ``UsageError`` if the camera is not above the ground.
    """
    if pose.z <= 0:
        raise UsageError(f"pose: z is {pose.z}; the camera must be above the ground, at z = 0")
    east, north, rise = pose.rays(size)
    haze, zenith, light = NIGHT if night else DAY
    picture: Array = haze + (zenith - haze) * np.sqrt(np.minimum(np.abs(rise), 1))

    gap = FRONT - np.sign(north) * pose.y  # metres to the fronts on the ray's side
    slant = 1 / np.maximum(np.abs(north), 1e-4)
    depth = np.where(gap > 0, gap, 1e4) * slant  # no fronts ahead: the haze hides all
    x, up = pose.x + depth.astype(float) * east, pose.z + depth * rise
    blur = 1e-4 + depth * slant * np.hypot(east, north) * VIEW / size[1]  # metres per pixel
    front, glow, visible = _paint_fronts(seed, x, np.abs(up), north > 0, blur)
    front = front * np.where(north > 0, light, 0.8 * light) + night * glow * LAMP
    visible &= (up > 0) | night  # a wet street reflects the fronts
    _mix(picture, front, visible * np.exp(-depth / 200))

    depth = pose.z / np.maximum(-rise, 1e-4)
    x, y = pose.x + depth * east, pose.y + depth * north
    grain = chance(np.floor(5 * x), np.floor(5 * y)) * np.exp(-depth / 20)
    street = np.where(np.abs(y) > KERB, light * 0.6, light * 0.35) * (1 + 0.2 * grain)
    _mix(street, light * TRIM, _band(y, 0.1, depth * VIEW / size[1]) * (x % 6 < 3))
    _mix(picture, street, (up < 0) * np.exp(-depth / 200) * (0.8 if night else 1.0))
    if night:
        row, column = np.indices(size)
        lane = (2 * column + row // 4) // 3
        drop = np.floor(row / 30 + 9 * chance(lane))
        picture += 0.12 * (chance(lane, drop, int(8 * pose.x)) < 0.04)
    return (255 * picture.clip(0, 1) + 0.5).transpose(1, 2, 0).astype(np.uint8, order="C")


def _paint_fronts(seed: int, x: Array, up: Array, north: Array, blur: Array) -> tuple[Array, ...]:
    """Return the colours of points, their glow at night, and whether a house is there."""
    width = np.where(north, np.float32(NORTH_LOT), np.float32(SOUTH_LOT))
    lot = np.floor(x / width)
    along = (x / width - lot).astype(np.float32)  # 0 to 1
    traits = chance(seed, north, lot, np.arange(8)[:, None, None])
    paint, (rough, storeys, storey, bays, gable) = traits[:3], traits[3:]
    bays, storey = 2 + np.floor(3 * bays), 3 + 0.6 * storey
    bay, floor = np.floor(along * bays), np.floor(up / storey)
    aside = (along * bays - bay - 0.5) * width / bays  # metres from the middle of the bay
    high = up - floor * storey  # metres above the floor
    over = up - (2 + np.floor(3 * storeys)) * storey  # metres above the eaves
    door = (floor == 0) & (bay == 0)
    window = (over < 0) & ~door
    half = (0.54 + 0.3 * rough) / np.sqrt(bays)

    row = np.floor(up / 0.25)
    brick = (chance(lot, row, np.floor(along * width / 0.5 + row % 2 / 2)) - 0.5) * (rough < 0.6)
    colour = (0.3 + 0.25 * LAMP + 0.42 * paint) * (1 + 0.3 * brick * np.minimum(1, 0.15 / blur))
    glass = window * _band(aside, half, blur) * _band(high - 1.6, 0.85, blur)
    frame = window * _band(aside, half + 0.1, blur) * _band(high - 1.6, 0.95, blur)
    _mix(colour, TRIM, np.maximum(frame, _band(over, 0.15, blur)))  # and the cornice
    _mix(colour, GLASS, glass * (1 - _band(aside, 0.04, blur)))
    _mix(colour, 0.6 - 0.5 * paint, door * _band(aside, 0.55, blur) * _band(high, 2.2, blur))
    lit = chance(seed, north, lot, floor, bay) < 0.35
    return colour, glass * lit, over < np.where(gable < 0.4, 3 - np.abs(6 * along - 3), 0)


def _band(distance: Array, half: Array | float, blur: Array) -> Array:
    """Return 1 where ``distance`` is within ``half`` of 0, and 0 elsewhere, with a soft edge."""
    inside: Array = (half - np.abs(distance)) / blur + 0.5
    return np.clip(inside, 0, np.minimum(1, 2 * half / blur))


def _mix(colour: Array, other: Array | float, share: Array) -> None:
    colour += (other - colour) * share


def chance(*keys: Array | float) -> Array:
    """Hash whole numbers of any shapes to float32 in [0, 1)."""
    state = np.full(1, 0x9E3779B9, np.uint32)
    for key in keys:
        state = (state ^ np.asarray(key, np.int64).astype(np.uint32)) * np.uint32(0x85EBCA6B)
        state = (state ^ (state >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        state ^= state >> np.uint32(16)
    return (state >> np.uint32(8)).astype(np.float32) / 2**24
