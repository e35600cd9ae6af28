"""The data sets: one small file a layout, one line a protocol.

``open_dataset`` reads a folder by a named protocol, or by the one whose files lie there. Adding a
data set is one file and one line in ``PROTOCOLS``. Nothing is downloaded; docs/DATASETS.md says
where to get each set and how its folder must look.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from placerec.errors import NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Search
from placerec.evaluation.layouts import cmu, msls, nordland, pittsburgh, robotcar, tokyo247
from placerec.evaluation.layouts.colmap import read_colmap
from placerec.evaluation.layouts.coordinates import read_with_coordinates
from placerec.evaluation.layouts.detect import SIDES, Reader, recognised, spelled
from placerec.evaluation.layouts.exif import has_exif, read_with_exif
from placerec.evaluation.layouts.folder import read_folder
from placerec.evaluation.layouts.frames import read_frames
from placerec.evaluation.layouts.image_lists import read_image_lists
from placerec.evaluation.layouts.kapture import read_kapture
from placerec.evaluation.layouts.nvm import read_nvm
from placerec.evaluation.layouts.overrides import Options
from placerec.evaluation.layouts.utm_names import read_utm_names

__all__ = ["PROTOCOLS", "Reader", "open_dataset"]


ALL = "all"  # the one search of most data sets
NEAR = ("radius", "degrees", "photos_a_panorama")
PITTSBURGH = "pitts30k_{0}.mat|*/pitts30k_{0}.mat"
CITIES = {  # one of them is enough
    "train": "|".join(f"train_val/{city}/" for city in msls.TRAIN_CITIES),
    "validation": "|".join(f"train_val/{city}/" for city in msls.VALIDATION_CITIES),
    "test": "|".join(f"test/{city}/" for city in msls.TEST_CITIES),
}
SLICES = {
    "train": "|".join(f"slice{number}/database/" for number in cmu.TRAIN_SLICES),
    "test": "|".join(f"slice{number}/database/" for number in cmu.TEST_SLICES),
}
ROBOTCAR = "images/overcast-reference/"

# Where several fit a folder, the first of the general ones is taken: what its owner wrote down goes
# before what is computed. Several published ones are never chosen between.
PROTOCOLS: dict[str, Reader] = {
    "nordland-27592": Reader(
        "winter searched in summer, 10 frames either side", nordland.read_27592,
        ("summer/", "winter/"), counts=(27592, 27592),
    ),
    "nordland-27592-program": Reader(
        "the same, 7 frames: the radius 10 of Patch-NetVLAD's ground truth file",
        nordland.read_27592_program, ("summer/", "winter/"), counts=(27592, 27592),
    ),
    "nordland-2760": Reader(
        "every 10th summer frame searched in winter, 1 frame either side (VPR-Bench)",
        nordland.read_2760, ("query/", "ref/"), counts=(2760, 27592),
    ),
    "nordland-3450": Reader(
        "test part of Olid et al., winter searched in summer, 2 frames either side",
        nordland.read_3450, ("test/*_images_test/",), counts=(3450, 3450),
    ),
    "pitts30k-train": Reader(
        "Pittsburgh 30k, training part, 25 m", pittsburgh.read_train,
        (PITTSBURGH.format("train"),), counts=(7416, 10000),
    ),
    "pitts30k-val": Reader(
        "Pittsburgh 30k, validation part, 25 m", pittsburgh.read_val,
        (PITTSBURGH.format("val"),), counts=(7608, 10000),
    ),
    "pitts30k-test": Reader(
        "Pittsburgh 30k, test part, 25 m", pittsburgh.read_test,
        (PITTSBURGH.format("test"),), counts=(6816, 10000),
    ),
    "tokyo247": Reader(
        "Tokyo 24/7, 25 m, the best of a panorama's 12 cut-outs", tokyo247.read_tokyo247,
        ("tokyo247.mat|*/tokyo247.mat",), counts=(315, 75984),
    ),
    "msls-train": Reader(
        "Mapillary SLS, 22 training cities, 25 m", msls.read_train,
        (CITIES["train"],),
    ),
    "msls-val": Reader(
        "Mapillary SLS, Copenhagen and San Francisco, the evaluator's 740 queries, 25 m",
        msls.read_val, (CITIES["validation"],), counts=(740, 18871),
    ),
    "msls-val-40": Reader(
        "the same 740 queries, 25 m and headings at most 40 degrees apart", msls.read_val_40,
        (CITIES["validation"],), counts=(740, 18871),
    ),
    "msls-val-all": Reader(
        "every query of the two cities, 25 m", msls.read_val_all, (CITIES["validation"],),
        counts=(11084, 18871),
    ),
    "msls-test": Reader(
        "Mapillary SLS challenge, six cities; only Mapillary can score it", msls.read_test,
        (CITIES["test"],), counts=(27092, 38770),
    ),
    "robotcar-seasons-v2": Reader(
        "RobotCar Seasons v2; only the benchmark server can score it", robotcar.read_test,
        (ROBOTCAR, "robotcar_v2_test.txt"),
    ),
    "robotcar-seasons-v2-train": Reader(
        "RobotCar Seasons v2, queries with published poses", robotcar.read_train,
        (ROBOTCAR, "robotcar_v2_train.txt"),
    ),
    "extended-cmu-seasons": Reader(
        "Extended CMU Seasons, 14 slices; only the benchmark server can score it", cmu.read_test,
        (SLICES["test"],),
    ),
    "extended-cmu-seasons-train": Reader(
        "Extended CMU Seasons, 10 slices with published poses", cmu.read_train,
        (SLICES["train"],),
    ),
    "folder": Reader(
        "ground_truth.csv says who answers whom", read_folder,
        (*SIDES, "ground_truth.csv|--ground-truth"), ("ground_truth", "photos_a_panorama"),
        general=True,
    ),
    "coordinates": Reader(
        "coordinates.csv: within 25 m, or a radius and an angle of your own",
        read_with_coordinates, (*SIDES, "coordinates.csv"), NEAR, general=True,
    ),
    "image-lists": Reader(
        "the lists and the .npz of Patch-NetVLAD's program", read_image_lists,
        ("*_imageNames_index.txt|dataset_imagenames/*_imageNames_index.txt",),
        ("radius", "photos_a_panorama", "ground_truth"), general=True, npz=True,
    ),
    "kapture": Reader(
        "kapture folders mapping and query: within 5 m and 10 degrees", read_kapture,
        ("mapping/sensors/", "query/sensors/"), NEAR, general=True,
    ),
    "colmap": Reader(
        "a COLMAP model of database/ and queries/: within 5 m and 10 degrees", read_colmap,
        (*SIDES, "sparse/"), NEAR, general=True,
    ),
    "nvm": Reader(
        "an NVM model of database/ and queries/: within 5 m and 10 degrees", read_nvm,
        (*SIDES, "*.nvm"), NEAR, general=True,
    ),
    "utm-names": Reader(
        "positions in file names @UTM_east@UTM_north@...: within 25 m", read_utm_names,
        (*SIDES, "queries/**/@*@*@*"), NEAR, general=True,
    ),
    "frames": Reader(
        "two passes of one route: so many frames either side", read_frames,
        (*SIDES, "--frames"), ("frames", "photos_a_panorama"), general=True,
    ),
    "exif": Reader(
        "positions in the EXIF tags of the photos: within 25 m", read_with_exif,
        SIDES, NEAR, general=True, inside=has_exif,
    ),
}  # fmt: skip


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
    """The data set in ``folder``, read by a name of ``PROTOCOLS`` or by what lies there.

    The options (``Options``) belong to the general protocols; a published one takes none.
    """
    folder = Path(folder)
    truth = None if ground_truth is None else Path(ground_truth)
    options = Options(radius, degrees, frames, photos_a_panorama, truth)
    if not folder.is_dir():
        raise NotFound(folder, "no such folder", "give the folder of a data set")
    if protocol is not None and protocol not in PROTOCOLS:
        raise UsageError(f"protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    name = protocol or recognised(folder, options, PROTOCOLS)
    reader = PROTOCOLS[name]
    for option in options.given:
        if option not in reader.options:
            takes = ", ".join(map(spelled, reader.options)) or "nothing"
            raise UsageError(f"{spelled(option)}: the protocol {name} does not take it ({takes})")
    dataset = reader.read(folder.absolute(), options)
    for search in dataset.searches:
        _check(dataset.protocol.photos_a_panorama, search)
    if len(dataset.searches) == 1:  # its name would tell nothing apart, and a folder's may change
        dataset = replace(dataset, searches=(replace(dataset.searches[0], name=ALL),))
    return _counted(dataset, reader.counts)


def _check(panorama: int, search: Search) -> None:
    """What holds for every search, whatever it was read from."""
    for side, photos in (("query", search.queries), ("database", search.database)):
        if not photos.names:
            raise NotFound(search.name, f"no {side} photo in it", "check the lists")
        if len(set(photos.names)) != len(photos.names):
            twice = next(name for name in photos.names if photos.names.count(name) > 1)
            raise UsageError(f"{search.name}: {side} photo {twice!r} is listed twice")
    shared = set(search.queries.paths).intersection(search.database.paths)
    if shared:
        raise UsageError(
            f"{min(shared)}: both a query and a database photo of {search.name}; such a query "
            "finds itself, so take it out of one of the two"
        )
    whole = len(search.database) % panorama == 0
    if whole and panorama > 1 and search.database.positions is not None:
        points = search.database.positions.reshape(-1, panorama, 3)
        whole = bool((points == points[:, :1]).all())
    if not whole:
        raise UsageError(
            f"photos a panorama {panorama}: the {len(search.database)} database photos of "
            f"{search.name} are no whole panoramas, one after the other"
        )


def _counted(dataset: Dataset, counts: tuple[int, int] | None) -> Dataset:
    """A published set whose photos were changed says so in the name of its protocol."""
    database = sum(len(search.database) for search in dataset.searches)
    if counts in (None, (dataset.queries, database)):
        return dataset
    name = (
        f"{dataset.protocol.name}, altered ({dataset.queries} queries for {counts[0]}, "
        f"{database} database photos for {counts[1]})"
    )
    return replace(dataset, protocol=replace(dataset.protocol, name=name))
