"""Pittsburgh 30k to train on: the lists of ``evaluation.layouts.netvlad_sets``.

Source: Arandjelovic et al., "NetVLAD", CVPR 2016. ``pitts30k_val.mat`` validates.
"""

from __future__ import annotations

from pathlib import Path

from placerec.evaluation.dataset import Photos, Search
from placerec.evaluation.geometry import with_points, within
from placerec.evaluation.layouts.dbstruct import DbStruct, find_mat, read_dbstruct
from placerec.evaluation.layouts.netvlad_sets import PITTSBURGH_QUERIES
from placerec.evaluation.layouts.photo_lists import checked_name
from placerec.training.sets import TrainingSet

TRAINING, VALIDATION = "pitts30k_train.mat", "pitts30k_val.mat"


def read_pittsburgh(folder: Path) -> tuple[TrainingSet, tuple[Search, ...]]:
    """The training set in ``folder``, and its validation set where that is there."""
    queries, database = _sides(folder, read_dbstruct(find_mat(folder, TRAINING)))
    training = TrainingSet("Pittsburgh 30k, training", queries, database)
    if next(folder.glob(f"**/{VALIDATION}"), None) is None:
        return training, ()
    struct = read_dbstruct(find_mat(folder, VALIDATION))
    queries, database = _sides(folder, struct)
    positives = within(queries, database, struct.metres)
    return training, (Search("Pittsburgh 30k", queries, database, positives),)


def _sides(folder: Path, struct: DbStruct) -> tuple[Photos, Photos]:
    """The listed photos, unseen: a training finds out which of them cannot be used."""
    asked = [f"{PITTSBURGH_QUERIES}/{checked_name(name, struct.path)}" for name in struct.queries]
    known = [checked_name(name, struct.path) for name in struct.database]
    queries, database = (
        Photos(tuple(names), tuple(folder / name for name in names)) for names in (asked, known)
    )
    return with_points(queries, struct.query_points), with_points(database, struct.database_points)
