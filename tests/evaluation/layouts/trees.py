"""Miniature data sets, each in the layout and the file formats of its owner.

Places lie 100 m apart; a query stands 4 m beside a database photo and looks like it. ``published``
has the sets with a name, and ``TREES``: a miniature for every protocol.
"""

import csv
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

METRES_A_DEGREE = 6_371_008.8 * math.pi / 180
EAST, NORTH = 500_000.0, 5_000_000.0
SIZE = (128, 96)


def draw(path: Path, place: int, view: int = 0, exif=None) -> None:
    """Noise of a place's own, with a little of the view's; the same each time."""
    own = np.random.default_rng(place).integers(0, 256, (9, 12, 3))
    seen = np.random.default_rng(1000 * place + view + 1).integers(0, 40, (9, 12, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = Image.fromarray(np.clip(own * 0.8 + seen, 0, 255).astype(np.uint8))
    more = {} if exif is None else {"exif": exif}
    pixels.resize(SIZE, Image.Resampling.BICUBIC).save(path, **more)


def table(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def lines(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), "utf-8")


def sides(folder: Path, count: int = 4, queries: str = "queries") -> list[tuple[str, int, int]]:
    """Draw ``database/N.jpg`` and ``queries/N.jpg``: name, place, view."""
    names = [
        (f"{side}/{place}.jpg", place, view)
        for view, side in enumerate(("database", queries))
        for place in range(count)
    ]
    for name, place, view in names:
        draw(folder / name, place, view)
    return names


# General layouts


def folder(root: Path) -> Path:
    sides(root)
    table(
        root / "ground_truth.csv", [{"query": f"{n}.jpg", "database": f"{n}.jpg"} for n in range(4)]
    )
    return root


def coordinates(root: Path) -> Path:
    """Latitude and longitude near 0 N, 0 E; query 3 looks the other way."""
    rows = [
        {"image": name, "latitude": 0.0,
         "longitude": (100.0 * place + 4.0 * view) / METRES_A_DEGREE,
         "heading": 270 if (place, view) == (3, 1) else 90}
        for name, place, view in sides(root)
    ]  # fmt: skip
    table(root / "coordinates.csv", rows)
    return root


def map_coordinates(root: Path) -> Path:
    rows = [
        {"image": name, "easting": EAST + 100.0 * place + 4.0 * view, "northing": NORTH}
        for name, place, view in sides(root)
    ]
    table(root / "coordinates.csv", rows)
    return root


def utm_name(place: int, view: int, tile: str = "", pano: str = "", heading: str = "") -> str:
    east = f"{EAST + 100.0 * place + 4.0 * view:010.2f}"
    return f"@{east}@{NORTH:010.2f}@31@N@0.0@0.0@{pano}@{tile}@{heading}@@@@@@.jpg"


def utm_names(root: Path) -> Path:
    for view, side in enumerate(("database", "queries")):
        for place in range(4):
            draw(root / side / utm_name(place, view, heading="090"), place, view)
    return root


def gps(latitude: float, longitude: float) -> Image.Exif:
    def angle(degrees: float) -> tuple[IFDRational, ...]:
        return IFDRational(round(abs(degrees) * 1e8), 10**8), IFDRational(0, 1), IFDRational(0, 1)

    tags, exif = ExifTags.GPS, Image.Exif()
    ifd = exif.get_ifd(ExifTags.IFD.GPSInfo)
    ifd[tags.GPSLatitudeRef], ifd[tags.GPSLatitude] = "N", angle(latitude)
    ifd[tags.GPSLongitudeRef], ifd[tags.GPSLongitude] = "E", angle(longitude)
    return exif


def exif(root: Path) -> Path:
    for view, side in enumerate(("database", "queries")):
        for place in range(4):
            east = (100.0 * place + 4.0 * view) / METRES_A_DEGREE
            draw(root / side / f"{place}.jpg", place, view, gps(52.0, east))
    return root


def frames(root: Path) -> Path:
    """Nine frames; the queries 4 and 11 between and behind them."""
    for frame in range(2, 11):
        draw(root / "database" / f"left_{frame:04}.jpg", frame)
    for frame in (4, 11):
        draw(root / "queries" / f"frame{frame}.jpg", frame, 1)
    return root


def image_lists(root: Path) -> Path:
    """As the program ships Nordland: points (i, i) and a radius of 10."""
    for side, folder_ in (("index", "summer"), ("query", "winter")):
        names = [f"./nordland/{folder_}/images-{n:05}.png" for n in range(202, 222)]
        for n, name in enumerate(names):
            draw(root / name, n, side == "query")
        lines(root / "dataset_imagenames" / f"nordland_imageNames_{side}.txt", names)
    points = np.repeat(np.arange(20)[:, None], 2, axis=1)
    (root / "dataset_gt_files").mkdir()
    np.savez(root / "dataset_gt_files" / "nordland.npz", utmQ=points, utmDb=points, posDistThr=10)
    return root


# Poses: place p stands at (100 p, 0, 0); a query 4 m beside it, turned by 5 degrees about y.


def camera(place: int, view: int) -> tuple[list[float], list[float], list[float], np.ndarray]:
    """Quaternion and translation of world to camera, the camera's place, camera to world (4, 4)."""
    half = math.radians(5.0 * view) / 2
    turn = np.array([
        [math.cos(2 * half), 0, math.sin(2 * half)], [0, 1, 0],
        [-math.sin(2 * half), 0, math.cos(2 * half)],
    ])  # fmt: skip
    centre = np.array([100.0 * place + 4.0 * view, 1.5, -2.0])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn.T, centre
    quaternion = [math.cos(half), 0.0, math.sin(half), 0.0]
    return quaternion, (-turn @ centre).tolist(), centre.tolist(), pose


def text(values) -> str:
    return " ".join(f"{value:.12g}" for value in values)


def nvm_text(names: list[tuple[str, int, int]]) -> list[str]:
    rows = ["NVM_V3 ", "", str(len(names))]
    for name, place, view in names:
        quaternion, _, centre, _ = camera(place, view)
        rows.append(f"{name} 400.5 {text(quaternion)} {text(centre)} 0 0")
    return [*rows, "", "1", "0 0 1 255 255 255 1 0 0 1.5 2.5", "", "0"]


def nvm(root: Path) -> Path:
    lines(root / "model.nvm", nvm_text(sides(root)))
    return root


def colmap_text(root: Path) -> Path:
    rows = ["# Image list with two lines of data per image:", "#   IMAGE_ID, QW, QX, QY, QZ, ..."]
    for number, (name, place, view) in enumerate(sides(root), start=1):
        quaternion, translation, _, _ = camera(place, view)
        rows += [f"{number} {text(quaternion)} {text(translation)} 1 {name}",
                 "" if number == 1 else "10.5 20.5 -1"]  # fmt: skip
    lines(root / "sparse" / "0" / "images.txt", rows)
    return root


def colmap(root: Path) -> Path:
    names = sides(root)
    data = struct.pack("<Q", len(names))
    for number, (name, place, view) in enumerate(names, start=1):
        quaternion, translation, _, _ = camera(place, view)
        data += struct.pack("<I7dI", number, *quaternion, *translation, 1)
        data += name.encode() + b"\0" + struct.pack("<Q", 2) + struct.pack("<ddq", 1.5, 2.5, -1) * 2
    (root / "sparse").mkdir()
    (root / "sparse" / "images.bin").write_bytes(data)
    return root


def kapture(root: Path) -> Path:
    """The queries come from a rig that looks along its camera, 0.5 m to the side."""
    for view, side in enumerate(("mapping", "query")):
        sensors = root / side / "sensors"
        records, paths = [], []
        for place in range(4):
            name = f"cam0/{place:05}.jpg"
            draw(sensors / "records_data" / name, place, view)
            records.append(f"{place}, cam0, {name}")
            quaternion, translation, _, _ = camera(place, view)
            device = "car" if view else "cam0"
            if view:  # world to rig: the camera's own, moved on by half a metre
                translation = [translation[0] + 0.5, *translation[1:]]
            values = ", ".join(map(repr, [*quaternion, *translation]))
            paths.append(f"{place}, {device}, {values}")
        head = ["# kapture format: 1.1", "# timestamp, device_id, image_path"]
        lines(sensors / "records_camera.txt", head + records)
        lines(sensors / "trajectories.txt", [head[0], *paths])
        lines(
            sensors / "sensors.txt",
            [head[0], "cam0, , camera, SIMPLE_PINHOLE, 128, 96, 90, 64, 48"],
        )
        if view:
            lines(sensors / "rigs.txt", [head[0], "car, cam0, 1, 0, 0, 0, -0.5, 0, 0"])
    return root


@dataclass(frozen=True)
class Tree:
    """How a miniature is written, and the options that its protocol needs."""

    write: Callable[[Path], Path]
    options: dict[str, object] = field(default_factory=dict)
