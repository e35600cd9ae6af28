"""Data sets: each file of this folder reads one layout, each line of the tables is a protocol.

A new data set needs one file and one line. Nothing is downloaded; docs/DATASETS.md says where to
get each set and which folders it needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from placerec.errors import NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Search
from placerec.evaluation.layouts import cmu, msls, netvlad_sets, nordland, robotcar
from placerec.evaluation.layouts.colmap import read_colmap
from placerec.evaluation.layouts.coordinates import read_with_coordinates
from placerec.evaluation.layouts.detect import SIDES, GeneralProtocol, detect_protocol
from placerec.evaluation.layouts.exif import has_exif, read_with_exif
from placerec.evaluation.layouts.folder import read_folder
from placerec.evaluation.layouts.frames import read_frames
from placerec.evaluation.layouts.image_lists import read_image_lists
from placerec.evaluation.layouts.kapture import read_kapture
from placerec.evaluation.layouts.nvm import read_nvm
from placerec.evaluation.layouts.overrides import Overrides
from placerec.evaluation.layouts.utm_names import read_utm_names

__all__ = ["GENERAL", "PROTOCOLS", "PUBLISHED", "open_dataset"]


@dataclass(frozen=True, slots=True)
class PublishedProtocol:
    """How a published data set is read, and its numbers of queries and database photos."""

    read: Callable[[Path], Dataset]
    counts: tuple[int, int] | None = None


NEAR = ("radius", "degrees", "photos_a_panorama")
PUBLISHED = {
    "nordland-27592": PublishedProtocol(nordland.read_27592, (27592, 27592)),
    "nordland-27592-program": PublishedProtocol(nordland.read_27592_program, (27592, 27592)),
    "nordland-2760": PublishedProtocol(nordland.read_2760, (2760, 27592)),
    "nordland-3450": PublishedProtocol(nordland.read_3450, (3450, 3450)),
    "pitts30k-train": PublishedProtocol(
        partial(netvlad_sets.read_pittsburgh, "train"), (7416, 10000)
    ),
    "pitts30k-val": PublishedProtocol(partial(netvlad_sets.read_pittsburgh, "val"), (7608, 10000)),
    "pitts30k-test": PublishedProtocol(
        partial(netvlad_sets.read_pittsburgh, "test"), (6816, 10000)
    ),
    "tokyo247": PublishedProtocol(netvlad_sets.read_tokyo247, (315, 75984)),
    "msls-train": PublishedProtocol(msls.read_train),
    "msls-val": PublishedProtocol(msls.read_val, (740, 18871)),
    "msls-val-40": PublishedProtocol(msls.read_val_40, (740, 18871)),
    "msls-val-all": PublishedProtocol(msls.read_val_all, (11084, 18871)),
    "msls-test": PublishedProtocol(msls.read_test, (27092, 38770)),
    "robotcar-seasons-v2": PublishedProtocol(robotcar.read_test),
    "robotcar-seasons-v2-train": PublishedProtocol(robotcar.read_train),
    "extended-cmu-seasons": PublishedProtocol(cmu.read_test),
    "extended-cmu-seasons-train": PublishedProtocol(cmu.read_train),
}
# The order matters: the first protocol that fits a folder is used. A ground truth that the owner
# wrote goes before a computed one.
GENERAL = {
    "folder": GeneralProtocol(
        read_folder, ("ground_truth", "photos_a_panorama"),
        (*SIDES, "ground_truth.csv|setting ground_truth"),
    ),
    "coordinates": GeneralProtocol(read_with_coordinates, NEAR, (*SIDES, "coordinates.csv")),
    "image-lists": GeneralProtocol(
        read_image_lists, ("radius", "photos_a_panorama", "ground_truth"),
        ("*_imageNames_index.txt|dataset_imagenames/*_imageNames_index.txt",), npz=True,
    ),
    "kapture": GeneralProtocol(read_kapture, NEAR, ("mapping/sensors/", "query/sensors/")),
    "colmap": GeneralProtocol(read_colmap, NEAR, (*SIDES, "sparse/")),
    "nvm": GeneralProtocol(read_nvm, NEAR, (*SIDES, "*.nvm")),
    "utm-names": GeneralProtocol(
        read_utm_names, NEAR, ("queries/**/@*@*@*|images/test/queries/**/@*@*@*",)
    ),
    "frames": GeneralProtocol(
        read_frames, ("frames", "photos_a_panorama"), (*SIDES, "setting frames")
    ),
    "exif": GeneralProtocol(read_with_exif, NEAR, SIDES, accepts=has_exif),
}  # fmt: skip
PROTOCOLS: dict[str, PublishedProtocol | GeneralProtocol] = {**PUBLISHED, **GENERAL}


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
    folder = Path(folder)
    truth = None if ground_truth is None else Path(ground_truth)
    overrides = Overrides(radius, degrees, frames, photos_a_panorama, truth)
    if not folder.is_dir():
        raise NotFound(folder, "no such folder", "give the folder of a data set")
    if protocol is not None and protocol not in PROTOCOLS:
        raise UsageError(f"protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    name = protocol or detect_protocol(folder, overrides, GENERAL, PUBLISHED)
    accepted = GENERAL[name].overrides if name in GENERAL else ()
    for override in sorted(overrides.names.difference(accepted)):
        raise UsageError(
            f"{override}: the protocol {name} does not take it ({', '.join(accepted) or 'nothing'})"
        )
    if name in GENERAL:
        dataset = GENERAL[name].read(folder.absolute(), overrides)
    else:
        dataset = _with_counts(PUBLISHED[name].read(folder.absolute()), PUBLISHED[name].counts)
    for search in dataset.searches:
        _check(dataset.protocol.photos_a_panorama, search)
    if len(dataset.searches) == 1:  # its name may be that of the folder, which must not be hashed
        dataset = replace(dataset, searches=(replace(dataset.searches[0], name="all"),))
    return dataset


def _check(panorama: int, search: Search) -> None:
    """Raise an error if a search of any layout is not valid."""
    for side, photos in (("query", search.queries), ("database", search.database)):
        if not photos.names:
            raise NotFound(search.name, f"no {side} photo in it", "check the lists")
        if len(set(photos.names)) != len(photos.names):
            repeated = Counter(photos.names).most_common(1)[0][0]
            raise UsageError(f"{search.name}: {side} photo {repeated!r} is listed twice")
    shared = set(search.queries.paths).intersection(search.database.paths)
    if shared:
        raise UsageError(
            f"{min(shared)}: both a query and a database photo of {search.name}, so it finds "
            "itself; remove it from one of the two"
        )
    complete = len(search.database) % panorama == 0
    if complete and panorama > 1 and search.database.positions is not None:
        points = search.database.positions.reshape(-1, panorama, 3)
        complete = bool((points == points[:, :1]).all())
    if not complete:
        raise UsageError(
            f"photos_a_panorama {panorama}: the {len(search.database)} database photos of "
            f"{search.name} are not complete panoramas in order"
        )


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
