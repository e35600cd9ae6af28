"""Data sets: the files of this folder read layouts, each line of the tables is a protocol.

A new data set needs one reader and one line. Nothing is downloaded; docs/DATASETS.md says where to
get each set and which folders it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from placerec.errors import NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Search
from placerec.evaluation.layouts.coordinates import has_exif, read_with_coordinates, read_with_exif
from placerec.evaluation.layouts.folder import read_folder
from placerec.evaluation.layouts.frames import read_frames, read_nordland
from placerec.evaluation.layouts.general import (
    SIDES,
    General,
    Overrides,
    detect_protocol,
    find_ground_truth,
)
from placerec.evaluation.layouts.image_lists import read_image_lists
from placerec.evaluation.layouts.models import read_colmap, read_kapture, read_nvm
from placerec.evaluation.layouts.msls import read_msls, read_msls_test
from placerec.evaluation.layouts.netvlad_sets import read_netvlad_set
from placerec.evaluation.layouts.seasons import read_cmu, read_robotcar
from placerec.evaluation.layouts.utm_names import read_utm_names
from placerec.files import is_folder, path_of

__all__ = ["GENERAL", "PROTOCOLS", "PUBLISHED", "open_dataset"]


@dataclass(frozen=True, slots=True)
class Published:
    """How a published data set is read, from its folder and the name of the protocol.

    ``counts`` are its numbers of queries and database photos.
    """

    read: Callable[[Path, str], Dataset]
    counts: tuple[int, int] | None = None


NEAR = ("radius", "degrees", "photos_a_panorama")
PUBLISHED = {
    "nordland-27592": Published(read_nordland, (27592, 27592)),
    "nordland-27592-program": Published(read_nordland, (27592, 27592)),
    "nordland-2760": Published(read_nordland, (2760, 27592)),
    "nordland-3450": Published(read_nordland, (3450, 3450)),
    "pitts30k-train": Published(read_netvlad_set, (7416, 10000)),
    "pitts30k-val": Published(read_netvlad_set, (7608, 10000)),
    "pitts30k-test": Published(read_netvlad_set, (6816, 10000)),
    "tokyo247": Published(read_netvlad_set, (315, 75984)),
    "msls-train": Published(read_msls),
    "msls-val": Published(read_msls, (740, 18871)),
    "msls-val-40": Published(read_msls, (740, 18871)),
    "msls-val-all": Published(read_msls, (11084, 18871)),
    "msls-test": Published(read_msls_test, (27092, 38770)),
    "robotcar-seasons-v2": Published(read_robotcar),
    "robotcar-seasons-v2-train": Published(read_robotcar),
    "extended-cmu-seasons": Published(read_cmu),
    "extended-cmu-seasons-train": Published(read_cmu),
}
# The order matters: the first protocol that fits a folder is used. A ground truth that the owner
# wrote goes before a computed one.
GENERAL = {
    "folder": General(
        read_folder, ("ground_truth", "photos_a_panorama"),
        (*SIDES, "ground_truth.csv|setting ground_truth"),
    ),
    "coordinates": General(read_with_coordinates, NEAR, (*SIDES, "coordinates.csv")),
    "image-lists": General(
        read_image_lists, ("radius", "photos_a_panorama", "ground_truth"),
        ("*_imageNames_index.txt|dataset_imagenames/*_imageNames_index.txt",), npz=True,
    ),
    "kapture": General(read_kapture, NEAR, ("mapping/sensors/", "query/sensors/")),
    "colmap": General(read_colmap, NEAR, (*SIDES, "sparse/")),
    "nvm": General(read_nvm, NEAR, (*SIDES, "*.nvm")),
    "utm-names": General(
        read_utm_names, NEAR, ("queries/**/@*@*@*|images/test/queries/**/@*@*@*",)
    ),
    "frames": General(
        read_frames, ("frames", "photos_a_panorama"), (*SIDES, "setting frames")
    ),
    "exif": General(read_with_exif, NEAR, SIDES, accepts=has_exif),
}  # fmt: skip
PROTOCOLS: dict[str, Published | General] = {**PUBLISHED, **GENERAL}


def open_dataset(
    folder: Path | str,
    protocol: str | None = None,
    *,
    radius: float | None = None,
    degrees: float | None = None,
    frames: int | None = None,
    photos_a_panorama: int | None = None,
    ground_truth: Path | str | None = None,
) -> Dataset:
    """Read the data set in ``folder`` by a protocol of ``PROTOCOLS``.

    Without ``protocol`` the first general protocol that fits the folder is used. The other
    arguments (``Overrides``) change a general protocol; a published protocol accepts none.
    """
    folder = path_of(folder)
    if not is_folder(folder):
        raise NotFound(folder, "no such folder", "give the folder of a data set")
    if protocol is not None and (not isinstance(protocol, str) or protocol not in PROTOCOLS):
        raise UsageError(f"protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    folder = folder.absolute()
    truth = None if ground_truth is None else find_ground_truth(folder, path_of(ground_truth))
    overrides = Overrides(radius, degrees, frames, photos_a_panorama, truth)
    name = protocol or detect_protocol(folder, overrides, GENERAL)
    accepted = GENERAL[name].overrides if name in GENERAL else ()
    for override in sorted(overrides.names.difference(accepted)):
        settings = ", ".join(accepted) or "nothing"
        raise UsageError(f"{override}: the protocol {name} does not take it, only {settings}")
    if name in GENERAL:
        dataset = _with_panoramas(GENERAL[name].read(folder, overrides), photos_a_panorama)
    else:
        dataset = _with_counts(PUBLISHED[name].read(folder, name), PUBLISHED[name].counts)
    for search in dataset.searches:
        _check(search, dataset.protocol.photos_a_panorama)
    if len(dataset.searches) == 1:  # its name may be that of the folder, which must not be hashed
        dataset = replace(dataset, searches=(replace(dataset.searches[0], name="all"),))
    return dataset


def _check(search: Search, panorama: int) -> None:
    """Raise ``UsageError`` if a photo is on both sides, or if panoramas are not complete."""
    database = search.database
    shared = set(search.queries.paths).intersection(database.paths)
    if shared:
        raise UsageError(f"{min(shared)}: both a query and a database photo; remove one of them")
    complete = len(database) % panorama == 0
    if complete and panorama > 1 and database.positions is not None:
        points = database.positions.reshape(-1, panorama, 3)
        complete = bool((points == points[:, :1]).all())
    if not complete:
        raise UsageError(
            f"photos_a_panorama {panorama}: the {len(database)} database photos of {search.name} "
            "are not complete panoramas in order"
        )


def _with_panoramas(dataset: Dataset, photos: int | None) -> Dataset:
    """Return the data set with ``photos`` per panorama, or its own number; the name has it too."""
    photos = photos or dataset.protocol.photos_a_panorama
    name = dataset.protocol.name
    if photos > 1:
        name += f", {photos} photos a panorama"
    return replace(dataset, protocol=replace(dataset.protocol, name=name, photos_a_panorama=photos))


def _with_counts(dataset: Dataset, counts: tuple[int, int] | None) -> Dataset:
    """Return the data set; if its numbers of photos are not the published ones, rename it."""
    database = sum(len(search.database) for search in dataset.searches)
    if counts in (None, (dataset.queries, database)):
        return dataset
    name = (
        f"{dataset.protocol.name}, altered ({dataset.queries} queries for {counts[0]}, "
        f"{database} database photos for {counts[1]})"
    )
    return replace(dataset, protocol=replace(dataset.protocol, name=name))
