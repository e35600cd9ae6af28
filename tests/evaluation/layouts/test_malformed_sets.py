"""Every file of every layout, missing or malformed, is an error that names it."""

import re
import sys

import numpy as np
import published
import pytest
import trees
from PIL import Image
from published import TREES
from scipy.io import savemat

from placerec.errors import BadTable, Damaged, MissingExtra, NotFound
from placerec.evaluation.layouts import open_dataset


def without(path):
    return lambda root: next(root.glob(path)).unlink()


def changed(path, old, new, count=1):
    """Replace text in the first file that fits."""

    def change(root):
        file = next(root.glob(path))
        text = file.read_text("utf-8")
        assert old in text
        file.write_text(text.replace(old, new, count), "utf-8")

    return change


def struct_field(name, value):
    """``dbStruct`` of Tokyo with another value in one field (``None``: without it)."""

    def change(root):
        fields = {
            "dbImageFns": ["03814/a.jpg"], "utmDb": [[1], [2]],
            "qImageFns": ["00001.jpg"], "utmQ": [[1], [2]], "posDistThr": 25.0, name: value,
        }  # fmt: skip
        fields = {
            key: np.array(field, float) if key.startswith("utm") else field
            for key, field in fields.items() if field is not None
        }  # fmt: skip
        published.write_dbstruct(root / "tokyo247.mat", fields)

    return change


def mat_value(value):
    """``tokyo247.mat`` with another value in place of the struct."""
    return lambda root: savemat(root / "tokyo247.mat", {"dbStruct": value})


def npz(**arrays):
    def change(root):
        path = root / "dataset_gt_files" / "nordland.npz"
        with np.load(path) as archive:
            values = {**archive, **arrays}
        np.savez(path, **{name: value for name, value in values.items() if value is not None})

    return change


def objects(root):
    np.savez(root / "dataset_gt_files" / "nordland.npz", utmQ=np.array([{}]), utmDb=0, posDistThr=1)


def cut(path):
    def change(root):
        file = next(root.glob(path))
        file.write_bytes(file.read_bytes()[:50])

    return change


def plain(root):
    Image.new("RGB", (40, 30)).save(root / "queries" / "2.jpg")


def renamed(old, new):
    def change(root):
        (root / old).rename(root / new)

    return change


CITY = "train_val/sf/query"
ALL = "3D-models/all-merged/all.nvm"
SLICE = "slice7/ground-truth-database-images-slice7.txt"
LIST = "dataset_imagenames/nordland_imageNames_index.txt"
RECORDS, PATHS = "query/sensors/records_camera.txt", "query/sensors/trajectories.txt"
CASES = [
    ("folder", without("ground_truth.csv"), NotFound,
     r"ground_truth\.csv: no such file.*query, data"),
    ("folder", changed("ground_truth.csv", "query,", "ask,"), BadTable,
     r"truth\.csv, line 1.*query"),
    ("folder", changed("ground_truth.csv", "\n1.jpg", "\n9.jpg"), BadTable,
     r"line 3: '9\.jpg' is not"),
    ("folder", changed("ground_truth.csv", ",1.jpg", ",../1.jpg"), BadTable,
     r"line 3: '\.\./1\.jpg'"),
    ("coordinates", changed("coordinates.csv", "database/2.jpg", "database/7.jpg"), NotFound,
     r"database/2\.jpg: it has no row in .*coordinates\.csv \(1 of 8 photos have none\)"),
    ("coordinates", without("queries/2.jpg"), NotFound,
     r"queries/2\.jpg: no such photo, but coord.* \(1 of its 8 photos are missing\)"),
    ("coordinates", changed("coordinates.csv", ",0.0,", ",nan,"), BadTable,
     "line 2: latitude is 'nan'"),
    ("coordinates", changed("coordinates.csv", ",0.0,", ",91,"), BadTable, "-90 to 90"),
    ("coordinates", without("coordinates.csv"), NotFound, "image, latitude, longitude"),
    ("utm-names", renamed(f"queries/{trees.utm_name(1, 1, heading='090')}",
     "queries/@x@5@.jpg"), Damaged,
     r"@x@5@\.jpg: 'x' in its name is not a number"),
    ("utm-names", renamed(f"queries/{trees.utm_name(1, 1, heading='090')}",
     "queries/one.jpg"), Damaged,
     r"one\.jpg: its name is not @UTM_east@UTM_north"),
    ("exif", plain, NotFound, r"queries/2\.jpg: no GPS position.*1 of 4 photos"),
    ("frames", renamed("queries/frame4.jpg", "queries/four.jpg"), Damaged, "no frame number"),
    ("frames", renamed("queries/frame4.jpg", "queries/f_00011.jpg"), Damaged,
     "same frame number as"),
    ("image-lists", without(LIST), NotFound, r"NAME_imageNames_index\.txt: no such file"),
    ("image-lists", without(LIST.replace("index", "query")), NotFound,
     r"imageNames_query\.txt: no such"),
    ("image-lists", without("dataset_gt_files/nordland.npz"), NotFound,
     r"nordland\.npz.*utmQ, utmDb"),
    ("image-lists", cut("dataset_gt_files/nordland.npz"), Damaged, r"\.npz: not a readable"),
    ("image-lists", objects, Damaged, r"\.npz: not a readable"),
    ("image-lists", npz(utmQ=np.zeros((3, 2))), Damaged, r"utmQ has shape \(2, 3\).*20 photos"),
    ("image-lists", npz(utmQ=np.full((20, 2), np.inf)), Damaged, "2 finite numbers"),
    ("image-lists", npz(posDistThr=-5.0), Damaged, "posDistThr is not a distance"),
    ("image-lists", changed(LIST, "00203", "00202"), Damaged, r"images-00202\.png' occurs twice"),
    ("image-lists", changed(LIST, "./nordland", "../nordland"), Damaged, "leads out of"),
    ("image-lists", changed(LIST, "./nordland", "/nordland"), Damaged, "leads out of"),
    ("image-lists", changed(LIST, "00203", "99999"), NotFound, r"99999\.png.*lists it \(1 of 20"),
    ("nordland-27592", without("winter/images-00003.png"), NotFound,
     r"images-00003\.png.*cleanImage"),
    ("nordland-27592", without("cleanImageNames.txt"), None, ""),
    ("nordland-2760", renamed("ref/3.jpg", "ref/x.jpg"), Damaged, r"x\.jpg: no frame number"),
    ("nordland-3450", renamed("test/winter_images_test", "test/winter"), NotFound,
     "winter_images_test"),
    ("pitts30k-test", without("datasets/pitts30k_test.mat"), NotFound,
     r"pitts30k_test\.mat.*unpack"),
    ("pitts30k-test", without("queries_real/000/*.jpg"), NotFound, r"pitts30k_test\.mat lists it"),
    ("tokyo247", cut("tokyo247.mat"), Damaged, r"tokyo247\.mat: not a readable MATLAB file"),
    ("tokyo247", renamed("247query_v3", "queries"), NotFound, "247query_subset_v2.* no such"),
    ("tokyo247", struct_field("utmQ", None), Damaged, "dbStruct has no field utmQ"),
    ("tokyo247", struct_field("utmQ", [[1]]), Damaged, r"utmQ has shape \(1, 1\)"),
    ("tokyo247", struct_field("utmQ", [[1], [np.nan]]), Damaged,
     "finite numbers"),
    ("tokyo247", struct_field("qImageFns", 3), Damaged, "not a list of names"),
    ("tokyo247", struct_field("posDistThr", 0), Damaged, "posDistThr is not a dist"),
    ("tokyo247", struct_field("qImageFns", [1.0]), Damaged, "not a list of names"),
    ("tokyo247", mat_value(np.zeros((2, 2))), Damaged, r"tokyo247\.mat: no struct dbStruct"),
    ("tokyo247", mat_value(["a.jpg", "b.jpg"]), Damaged, r"tokyo247\.mat: no struct dbStruct"),
    ("tokyo247", mat_value(np.zeros(2, [("utmQ", float)])), Damaged, "no struct dbStruct"),
    ("tokyo247", struct_field("dbImageFns", ["../a.jpg"]), Damaged,
     "leads out of"),
    ("msls-val", without(f"{CITY}/subtask_index.csv"), NotFound,
     r"sf/query/subtask_index\.csv.*all"),
    ("msls-val", without(f"{CITY}/raw.csv"), NotFound, r"sf/query/raw\.csv.*key, pano"),
    ("msls-val", changed(f"{CITY}/postprocessed.csv", "500104.0", "east"), BadTable,
     "line 3: easting"),
    ("msls-val", changed(f"{CITY}/raw.csv", "False", "maybe"), BadTable, "'maybe' is neither True"),
    ("msls-val", changed(f"{CITY}/subtask_index.csv", "6,True,False\n", ""), BadTable,
     "6 rows, not 7"),
    ("msls-val", changed(f"{CITY}/subtask_index.csv", "6,True,False\n", "6,True\n"), BadTable,
     "line 8"),
    ("msls-val", without("train_val/cph/database/images/*_3.jpg"), NotFound,
     r"cph_database_3\.jpg"),
    ("msls-val-40", changed(f"{CITY}/raw.csv", "180.0", "south"), BadTable, "ca is 'south'"),
    ("msls-test", without("test/miami/query/seq_info.csv"), NotFound, r"seq_info\.csv"),
    ("robotcar-seasons-v2", without(ALL), NotFound, r"all\.nvm: no such file.*NVM_V3"),
    ("robotcar-seasons-v2", changed(ALL, "NVM_V3", "Bundle"), BadTable,
     "does not begin with NVM_V3"),
    ("robotcar-seasons-v2", changed(ALL, "\n4\n", "\nfour\n"), BadTable, "not a number of cameras"),
    ("robotcar-seasons-v2", changed(ALL, "\n4\n", "\n5\n"), BadTable, "not name, focal length"),
    ("robotcar-seasons-v2", without("robotcar_v2_test.txt"), NotFound, "CONDITION/CAMERA/TIME"),
    ("robotcar-seasons-v2", without("images/snow/rear/2003.jpg"), NotFound, r"2003\.jpg"),
    ("robotcar-seasons-v2-train", changed("robotcar_v2_train.txt", " 1\n", "\n"), BadTable,
     r"train\.txt, line 1: needs 16 finite numbers"),
    ("robotcar-seasons-v2-train", changed("robotcar_v2_train.txt", "png ", "png 9"), BadTable,
     "not a rotation and a centre"),
    ("extended-cmu-seasons-train", changed(SLICE, "us.jpg ", "us.jpg 0.5 "), BadTable, "7 finite"),
    ("extended-cmu-seasons-train", changed(SLICE, "us.jpg 1 ", "us.jpg 0 "), BadTable, "zero"),
    ("extended-cmu-seasons-train", without("slice7/camera-poses/*.txt"), NotFound, "camera-poses"),
    ("extended-cmu-seasons", without("slice3/test-images-slice3.txt"), NotFound, "query photos"),
    ("kapture", without(RECORDS), NotFound, r"records_camera\.txt.*3 values"),
    ("kapture", changed(RECORDS, "0, cam0,", "0,"), BadTable, "2 values, not 3"),
    ("kapture", changed(PATHS, "0, car, 0", "0, car, x"), BadTable, "7 finite numbers"),
    ("kapture", without("mapping/sensors/trajectories.txt"), NotFound, "no pose of a database"),
    ("colmap", without("sparse/images.bin"), NotFound,
     r"images\.bin: no such file.*COLMAP model"),
    ("nvm", changed("model.nvm", "queries/1.jpg", "queries/0.jpg"), BadTable, "occurs twice"),
    ("nvm", without("model.nvm"), NotFound, r"model\.nvm: no such file"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "spoil", "error", "says"),
    CASES,
    ids=[f"{n} {case[0]}" for n, case in enumerate(CASES)],
)
def test_what_is_missing_or_malformed_is_named(tmp_path, name, spoil, error, says):
    tree = TREES[name]
    folder = tree.write(tmp_path / "set")
    spoil(folder)
    if error is None:
        open_dataset(folder, name, **tree.options)
        return
    with pytest.raises(error) as caught:
        open_dataset(folder, name, **tree.options)
    assert re.search(says, str(caught.value)), str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", [name for name in TREES if name not in ("exif",)])
def test_an_empty_folder_is_an_error_of_the_protocol_that_was_asked_for(tmp_path, name):
    with pytest.raises(NotFound, match=str(tmp_path)):
        open_dataset(tmp_path, name, **TREES[name].options)


def test_a_matlab_file_without_scipy_names_the_extra(tmp_path, monkeypatch):
    folder = TREES["tokyo247"].write(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtra, match=r"tokyo247\.mat.*placerec\[matlab\]"):
        open_dataset(folder, "tokyo247")


def test_a_matlab_file_that_crashes_its_reader_is_an_error_that_names_it(tmp_path):
    """scipy 1.17 ends with a segmentation fault if the type of an element is unknown."""
    folder = TREES["tokyo247"].write(tmp_path)
    path = folder / "tokyo247.mat"
    savemat(path, {"dbStruct": {"qImageFns": np.array(["a.jpg"], object)}})
    data = path.read_bytes()
    at = data.index(b"a.jpg")
    assert data[at - 8] == 16  # the text is of type UTF-8
    path.write_bytes(data[: at - 8] + b"\x65" + data[at - 7 :])
    with pytest.raises(Damaged, match=r"tokyo247\.mat: not a readable MATLAB file"):
        open_dataset(folder, "tokyo247")


@pytest.mark.parametrize("table", [False, True])
def test_of_several_photos_the_first_one_is_named_with_the_count(tmp_path, table):
    folder = trees.coordinates(tmp_path)
    photos = [f"queries/{number}.jpg" for number in (3, 1, 2)]
    if table:
        path = folder / "coordinates.csv"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith(tuple(photos))))
    else:
        for name in photos:
            (folder / name).unlink()
    why = "of 8 photos have none" if table else "of its 8 photos are missing"
    with pytest.raises(NotFound, match=rf"queries/1\.jpg: .*\(3 {why}\)"):
        open_dataset(folder)
