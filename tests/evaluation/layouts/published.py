"""Miniatures of the published sets; ``TREES`` has one for every protocol."""

import shutil
from pathlib import Path

import numpy as np
from scipy.io import savemat
from trees import (
    EAST,
    NORTH,
    Tree,
    camera,
    colmap,
    coordinates,
    draw,
    exif,
    folder,
    frames,
    image_lists,
    kapture,
    lines,
    nvm,
    nvm_text,
    table,
    text,
    utm_name,
    utm_names,
)

HERE = Path(__file__).parent

# Nordland


def nordland_27592(root: Path) -> Path:
    """30 frames that count among 32; the list leaves out the stops of the train."""
    for season in ("summer", "winter"):
        for frame in range(32):
            draw(root / season / f"images-{frame + 1:05}.png", frame, season == "winter")
    lines(
        root / "cleanImageNames.txt",
        [f"images-{n + 1:05}.png" for n in range(32) if n not in (0, 9)],
    )
    return root


def nordland_2760(root: Path) -> Path:
    for frame in range(25):
        draw(root / "ref" / f"{frame}.jpg", frame)
    for query in range(3):
        draw(root / "query" / f"{query}.jpg", 10 * query, 1)
    return root


def nordland_3450(root: Path) -> Path:
    for season in ("summer", "winter"):
        for frame in range(12):
            where = root / "test" / f"{season}_images_test" / f"section{frame // 4 + 1}"
            draw(where / f"{frame}.png", frame, season == "winter")
    return root


def nordland_berton(root: Path, step: int = 1) -> Path:
    for view, side in enumerate(("database", "queries")):
        for frame in range(0, 24, step if view else 1):
            name = f"@0@{frame * 25 / 10.5:07.1f}@@@@@{frame}@@@@@@@@.jpg"
            draw(root / "images" / "test" / side / name, frame, view)
    return root


# Pittsburgh and Tokyo


def write_dbstruct(path: Path, fields: dict[str, object]) -> None:
    """A .mat file with the struct ``dbStruct``; a list of names becomes a cell array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = {
        name: np.array(value, object)[:, None] if isinstance(value, list) else value
        for name, value in fields.items()
    }
    savemat(path, {"dbStruct": cells}, do_compression=True)


def dbstruct(path: Path, database: list[str], queries: list[str], at_db, at_q) -> None:
    write_dbstruct(path, {
        "whichSet": "test", "dbImageFns": database, "utmDb": np.array(at_db).T,
        "qImageFns": queries, "utmQ": np.array(at_q).T, "numImages": len(database),
        "numQueries": len(queries), "posDistThr": 25.0, "posDistSqThr": 625.0,
    })  # fmt: skip


def pittsburgh(root: Path) -> Path:
    """Two panoramas of two views to search; a panorama of two queries at the first."""
    database = [f"000/00000{p}_pitch1_yaw{v + 1}.jpg" for p in range(2) for v in range(2)]
    queries = [f"000/00000{p}_pitch1_yaw{v + 1}.jpg" for p in (0, 7) for v in range(2)]
    for n, name in enumerate(database):
        draw(root / name, n)
    for n, name in enumerate(queries):
        draw(root / "queries_real" / name, n, 1)
    dbstruct(
        root / "datasets" / "pitts30k_test.mat", database, queries,
        [(EAST + 100 * p, NORTH) for p in (0, 0, 1, 1)],
        [(EAST + 100 * p + 4, NORTH) for p in (0, 0, 9, 9)],
    )  # fmt: skip
    return root


def pittsburgh_part(root: Path, part: str) -> Path:
    """The files made with another program, and photos for their names."""
    from placerec.evaluation.layouts.netvlad_sets import read_dbstruct

    path = root / "datasets" / f"pitts30k_{part}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / path.name, path)
    struct_ = read_dbstruct(path)
    for n, name in enumerate(struct_.database):
        draw(root / name, n)
    for n, name in enumerate(struct_.queries):
        draw(root / "queries_real" / name, n, 1)
    return root


def berton(root: Path) -> Path:
    """Two panoramas of 12 cut-outs, and a query at each."""
    for place in range(2):
        for tile in range(12):
            name = utm_name(place, 0, f"{tile:02}", f"pano{place}", f"{30 * tile:03}")
            draw(root / "images" / "test" / "database" / name, 12 * place + tile)
        draw(root / "images" / "test" / "queries" / utm_name(place, 1), 12 * place + 3, 1)
    return root


def tokyo247(root: Path) -> Path:
    """Two panoramas of 12 cut-outs; the list says .jpg, the photos are .png."""
    database = [f"03814/381430.{p}_139.7_012_{30 * t}.jpg" for p in range(2) for t in range(12)]
    for n, name in enumerate(database):
        draw((root / name).with_suffix(".png"), n)
    for n in range(3):
        draw(root / "247query_v3" / f"0000{n + 1}.jpg", 12 * n + 3, 1)
    draw(root / "247query_v3" / "01125.jpg", 99)  # not of the 315
    dbstruct(
        root / "tokyo247.mat", database, [f"0000{n + 1}.jpg" for n in range(3)],
        [(EAST + 100 * (n // 12), NORTH) for n in range(24)],
        [(EAST + 100 * n + 4, NORTH) for n in range(3)],
    )  # fmt: skip
    return root


# Mapillary SLS


def city(root: Path, city_: str, number_: int, side: str) -> None:
    """Seven photos 100 m apart; 5 is a panorama.

    Of the queries 1 is by night, 2 looks sideways, 4 is of another subtask, 6 is far from all.
    """
    where = root / "train_val" / city_ / side
    query = side == "query"
    posts, raws, tasks, sequence = [], [], [], []
    for place in range(7):
        key = f"{city_}_{side}_{place}"
        draw(where / "images" / f"{key}.jpg", 20 * number_ + place, query)
        away = 5000.0 if query and place == 6 else 0.0
        posts.append({
            "": place, "key": key, "easting": EAST + 100.0 * place + 4.0 * query,
            "northing": NORTH + away, "control_panel": False, "night": query and place == 1,
            "view_direction": "Sideways" if query and place == 2 else "Forward",
            "unique_cluster": place,
        })  # fmt: skip
        raws.append({
            "": place, "key": key, "lon": 10.0, "lat": 55.0,
            "ca": 180.0 if query and place == 2 else 90.0, "captured_at": "2019-01-01",
            "pano": place == 5,
        })  # fmt: skip
        tasks.append({"": place, "all": not query or place != 4, "s2w": False})
        sequence.append({"": place, "key": key, "sequence_key": "s", "frame_number": place})
    table(where / "postprocessed.csv", posts)
    table(where / "raw.csv", raws)
    table(where / "subtask_index.csv", tasks)
    table(where / "seq_info.csv", sequence)


def msls(root: Path) -> Path:
    for number_, name in enumerate(("cph", "sf", "london")):
        for side in ("query", "database"):
            city(root, name, number_, side)
    return root


def msls_test(root: Path) -> Path:
    for number_, name in enumerate(("miami", "athens")):
        for side in ("query", "database"):
            where = root / "test" / name / side
            keys = [f"{name}_{side}_{place}" for place in range(4)]
            for place, key in enumerate(keys):
                draw(where / "images" / f"{key}.jpg", 20 * number_ + place, side == "query")
            table(where / "seq_info.csv", [{"": n, "key": key} for n, key in enumerate(keys)])
            table(where / "subtask_index.csv",
                  [{"": n, "all": side == "database" or n != 2} for n in range(4)])  # fmt: skip
    return root


# RobotCar Seasons v2 and Extended CMU Seasons


def robotcar(root: Path) -> Path:
    """Four places; place 0 and 1 by night and in rain with poses, 2 and 3 without."""
    images = root / "images"
    reference = [(f"./overcast-reference/rear/{1000 + p}.png", p, 0) for p in range(4)]
    for name, place, _ in reference:
        draw((images / name).with_suffix(".jpg"), place)
    lines(root / "3D-models" / "all-merged" / "all.nvm", nvm_text(reference))
    published, hidden = [], []
    for place, name in enumerate(
        ("night/rear/2000", "rain/left/2001", "night/rear/2002", "snow/rear/2003")
    ):
        draw(images / f"{name}.jpg", place, 1)
        pose = camera(place, 1)[3]
        if place < 2:
            published.append(f"{name}.png {text(pose.ravel())}")
        else:
            hidden.append(f"{name}.jpg")
    lines(root / "robotcar_v2_train.txt", published)
    lines(root / "robotcar_v2_test.txt", hidden)
    return root


MOMENTS = (1303398475046031, 1283347879534213, 1292959475000000)  # spring, summer, December


def cmu(root: Path) -> Path:
    """Slices 2 and 3 to hand in, 7 and 22 with poses: 3 database photos, 2 queries each.

    All slices stand at the same coordinates, each in a map of its own.
    """
    for number_ in (2, 3, 7, 22):
        where = root / f"slice{number_}"
        poses, hidden, published = [], [], []
        for place in range(3):
            name = f"img_{place:05}_c0_{MOMENTS[0] + 1000 * number_ + place}us.jpg"
            draw(where / "database" / name, 30 * number_ + place)
            quaternion, _, centre, _ = camera(place, 0)
            poses.append(f"{name} {text(quaternion)} {text(centre)}")
        for place in range(2):
            name = f"img_{place:05}_c1_{MOMENTS[1 + place] + number_}us.jpg"
            draw(where / "query" / name, 30 * number_ + place, 1)
            quaternion, _, centre, _ = camera(place, 1)
            hidden.append(name)
            published.append(f"{name} {text(quaternion)} {text(centre)}")
        lines(where / f"ground-truth-database-images-slice{number_}.txt", poses)
        lines(where / f"test-images-slice{number_}.txt", hidden)
        if number_ in (7, 22):
            lines(where / "camera-poses" / f"slice-{number_}-c1.txt", published)
    return root


TREES = {
    "nordland-27592": Tree(nordland_27592),
    "nordland-27592-program": Tree(nordland_27592),
    "nordland-2760": Tree(nordland_2760),
    "nordland-3450": Tree(nordland_3450),
    "pitts30k-train": Tree(lambda root: pittsburgh_part(root, "train")),
    "pitts30k-val": Tree(lambda root: pittsburgh_part(root, "val")),
    "pitts30k-test": Tree(pittsburgh),
    "tokyo247": Tree(tokyo247),
    "msls-train": Tree(msls),
    "msls-val": Tree(msls),
    "msls-val-40": Tree(msls),
    "msls-val-all": Tree(msls),
    "msls-test": Tree(msls_test),
    "robotcar-seasons-v2": Tree(robotcar),
    "robotcar-seasons-v2-train": Tree(robotcar),
    "extended-cmu-seasons": Tree(cmu),
    "extended-cmu-seasons-train": Tree(cmu),
    "folder": Tree(folder),
    "coordinates": Tree(coordinates),
    "image-lists": Tree(image_lists),
    "kapture": Tree(kapture),
    "colmap": Tree(colmap),
    "nvm": Tree(nvm),
    "utm-names": Tree(utm_names),
    "frames": Tree(frames, {"frames": 1}),
    "exif": Tree(exif),
}
