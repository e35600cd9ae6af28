"""Forms of other programs: exported files have their format, and imported ones are scored."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from score_support import data_set, photos, predictions, town

from placerec.errors import BadTable, NotFound, UsageError
from placerec.evaluation.dataset import Photos, Search
from placerec.evaluation.exchange import (
    FORMS,
    export_predictions,
    import_predictions,
    quaternion,
)
from placerec.evaluation.predictions import Prediction
from placerec.evaluation.scoring.outcomes import outcomes

READ = [form for form, entry in FORMS.items() if entry.parse]


@pytest.fixture
def data():
    return data_set(town([{0}, {1}, {2}]))


def lists(predicted):
    return {
        query: [name for name, _ in prediction.retrieved]
        for (_, query), prediction in predicted.items()
        if prediction.retrieved
    }


def written(form, data, predicted, tmp_path, **options):
    path = tmp_path / "out.txt"
    export_predictions(form, data, predicted, path, **options)
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def read(form, data, tmp_path, text, **options):
    path = tmp_path / "in.txt"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return import_predictions(form, data, path, **options)


@pytest.mark.parametrize("form", READ)
def test_what_a_form_writes_it_reads_back(form, data, tmp_path):
    predicted = predictions(data, [3, 1, 0], [1, 2, 4], [2, 0, 7])
    text = written(form, data, predicted, tmp_path)
    assert lists(read(form, data, tmp_path, text)) == lists(predicted)


@pytest.mark.parametrize("form", [form for form in READ if form != "msls"])
def test_a_query_without_an_answer_stays_without_one(form, data, tmp_path):
    predicted = predictions(data, [3, 1], None, [2])
    back = read(form, data, tmp_path, written(form, data, predicted, tmp_path))
    assert lists(back) == lists(predicted)
    assert outcomes(data, back)[1].retrieved.answers == 0


def test_kapture_pairs_have_its_header_and_scores_and_are_read_by_falling_score(data, tmp_path):
    predicted = predictions(data, [3, 1], None, None)
    assert written("kapture", data, predicted, tmp_path) == (
        "# kapture format: 1.1\n# query_image, map_image, score\n"
        "q0.jpg, d3.jpg, 0.9\nq0.jpg, d1.jpg, 0.89\n"
    )
    back = read("kapture", data, tmp_path, "#x\n\nq0.jpg,d1.jpg , 0.5\nq0.jpg, d3.jpg, 0.75\n")
    assert back["town", "q0.jpg"].retrieved == (("d3.jpg", 0.75), ("d1.jpg", 0.5))


def test_kapture_scores_keep_the_order_where_ours_do_not_fall_or_are_unknown(data, tmp_path):
    predicted = read("hloc", data, tmp_path, "q0.jpg d3.jpg\nq0.jpg d1.jpg\n")
    text = written("kapture", data, predicted, tmp_path)
    assert text.splitlines()[2:] == ["q0.jpg, d3.jpg, 1.0", "q0.jpg, d1.jpg, 0.5"]


def test_hloc_pairs_are_two_names_a_line_without_a_header(data, tmp_path):
    predicted = predictions(data, [3, 1], None, [0])
    assert written("hloc", data, predicted, tmp_path) == (
        "q0.jpg d3.jpg\nq0.jpg d1.jpg\nq2.jpg d0.jpg\n"
    )


def test_plain_text_is_a_query_and_its_answers_a_line(data, tmp_path):
    text = written("text", data, predictions(data, [3, 1], None, [0]), tmp_path)
    assert text == "q0.jpg d3.jpg d1.jpg\nq1.jpg\nq2.jpg d0.jpg\n"


def test_answers_without_scores_have_no_score(data, tmp_path):
    predicted = read("hloc", data, tmp_path, "q0.jpg d0.jpg\n")
    assert math.isnan(predicted["town", "q0.jpg"].retrieved[0][1])
    assert outcomes(data, predicted)[0].retrieved.score is None


def tree(queries, database, sides=("queries", "database"), root="/data/set", **options):
    """A data set whose photos lie in folders of their own, which their names leave out."""

    def side(names, folder):
        return Photos(tuple(names), tuple(Path(root, folder, name) for name in names))

    asked, shown = side(queries, sides[0]), side(database, sides[1])
    return data_set(Search("tree", asked, shown, (frozenset(),) * len(queries), **options))


NAMES = ["0.jpg", "a/0.jpg", "a/b/0.jpg", "queries/1.jpg"]


def first_answers(data):
    """The first two database photos for every query."""
    (search,) = data.searches
    ranking = tuple((name, 0.5) for name in search.database.names[:2])
    return {("tree", query): Prediction("tree", query, ranking) for query in search.queries.names}


@pytest.mark.parametrize("form", ["hloc", "kapture"])
def test_pairs_go_out_as_paths_below_the_folder_that_holds_both_sides_and_come_back(form, tmp_path):
    data = tree(NAMES, NAMES[:3])
    text = written(form, data, first_answers(data), tmp_path)
    sign = ", " if form == "kapture" else " "
    assert f"queries/a/0.jpg{sign}database/0.jpg" in text
    assert f"queries/queries/1.jpg{sign}database/a/0.jpg" in text
    assert lists(read(form, data, tmp_path, text)) == lists(first_answers(data))


def test_pairs_by_our_names_or_by_paths_of_another_disk_come_in_too(tmp_path):
    data = tree(NAMES, NAMES[:3])
    text = (
        "a/0.jpg a/b/0.jpg\na/0.jpg database/0.jpg\n/mnt/x/queries/0.jpg /mnt/x/database/a/0.jpg\n"
    )
    assert lists(read("hloc", data, tmp_path, text)) == {
        "a/0.jpg": ["a/b/0.jpg", "0.jpg"], "0.jpg": ["a/0.jpg"],
    }  # fmt: skip


def test_a_name_that_is_one_photo_s_own_and_another_s_path_is_an_error(tmp_path):
    data = tree(["1.jpg", "queries/1.jpg"], ["0.jpg"])
    with pytest.raises(BadTable, match=r"queries/1\.jpg may be 1\.jpg .* or queries/1\.jpg"):
        read("hloc", data, tmp_path, "queries/1.jpg database/0.jpg\n")


def test_photos_of_one_folder_and_distractors_keep_their_names(tmp_path):
    flat = tree(["night/1.jpg"], ["day/1.jpg", "day/2.jpg"], sides=("", ""))
    assert written("hloc", flat, first_answers(flat), tmp_path).split("\n")[0] == (
        "night/1.jpg day/1.jpg"
    )
    (search,) = tree(["1.jpg"], ["2.jpg"]).searches
    both = Photos(("2.jpg", "/distractors-1/3.jpg"), (*search.database.paths, Path("/other/3.jpg")))
    more = data_set(replace(search, database=both, distractors=1))
    text = written("hloc", more, first_answers(more), tmp_path)
    assert text == "queries/1.jpg database/2.jpg\nqueries/1.jpg /distractors-1/3.jpg\n"
    assert lists(read("hloc", more, tmp_path, text)) == {"1.jpg": ["2.jpg", "/distractors-1/3.jpg"]}


def test_kapture_knows_its_own_images_by_its_records_and_hloc_by_one_root(tmp_path):
    records = ("query/sensors/records_data", "mapping/sensors/records_data")
    data = tree(["cam0/1.jpg"], ["cam0/1.jpg", "cam0/2.jpg"], sides=records)
    predicted = first_answers(data)
    text = written("kapture", data, predicted, tmp_path)
    assert text.split("\n")[2] == "cam0/1.jpg, cam0/1.jpg, 0.5"
    assert lists(read("kapture", data, tmp_path, text)) == lists(predicted)
    text = written("hloc", data, predicted, tmp_path)
    assert text.split("\n")[0] == f"{records[0]}/cam0/1.jpg {records[1]}/cam0/1.jpg"
    assert lists(read("hloc", data, tmp_path, text)) == lists(predicted)


@pytest.fixture
def cities():
    def city(name, keys):
        root = f"train_val/{name}"
        return town(
            [{0}], name=name, queries=photos([f"{root}/query/images/{keys[0]}.jpg"]),
            shown=photos(f"{root}/database/images/{key}.jpg" for key in keys[1:]),
        )  # fmt: skip

    return data_set(city("cph", ["-zn_E9", "AszgP", "uwG-s1"]), city("sf", ["B2Yy55", "AszgP"]))


def test_mapillary_keys_go_out_and_come_in_over_all_cities(cities, tmp_path):
    text = "# rows of keys\n-zn_E9 uwG-s1 AszgP\nB2Yy55 AszgP\n"
    predicted = read("msls", cities, tmp_path, text)
    assert lists(predicted) == {
        "train_val/cph/query/images/-zn_E9.jpg": [
            "train_val/cph/database/images/uwG-s1.jpg", "train_val/cph/database/images/AszgP.jpg",
        ],
        "train_val/sf/query/images/B2Yy55.jpg": ["train_val/sf/database/images/AszgP.jpg"],
    }  # fmt: skip
    assert written("msls", cities, predicted, tmp_path) == "-zn_E9 uwG-s1\nB2Yy55 AszgP\n"


def test_a_submission_to_mapillary_holds_no_distractor(tmp_path):
    """Two distractors of one key are no error either."""
    shown = photos(["d0.jpg", "d1.jpg", "/distractors-1/a/x.jpg", "/distractors-1/b/x.jpg"])
    data = data_set(town([{0}, {1}], shown=shown, distractors=2))
    predicted = predictions(data, [2, 0, 3, 1], [0, 2])
    assert written("msls", data, predicted, tmp_path) == "q0 d0\nq1 d0\n"


def test_an_empty_file_of_predictions_is_an_error(data, tmp_path):
    with pytest.raises(NotFound, match="no answer in it"):
        read("text", data, tmp_path, "# nothing\n")


def test_the_mapillary_form_refuses_what_its_evaluator_cannot_take(data, tmp_path):
    with pytest.raises(UsageError, match=r"q1.jpg: has no answer"):
        written("msls", data, predictions(data, [0], None, [0]), tmp_path)
    alike = data_set(town([{0}], shown=photos(["a/1.jpg", "b/1.png"])))
    predicted = read("text", alike, tmp_path, "q0.jpg a/1.jpg\n")
    with pytest.raises(UsageError, match=r"b/1\.png and a/1\.jpg would both be 1 "):
        written("msls", alike, predicted, tmp_path)
    assert not (tmp_path / "out.txt").exists()


def test_the_published_program_s_two_files_become_both_rankings(data, tmp_path):
    head = "# kapture format: 1.0\n# query_image, map_image\n"
    (tmp_path / "second.txt").write_text(
        head + "/data/q0.jpg, /data/d1.jpg\n/data/q0.jpg, /data/d3.jpg\n"
    )
    text = head + "/data/q0.jpg, /data/d3.jpg\n/data/q0.jpg, /data/d1.jpg\n"
    predicted = read("patchnetvlad", data, tmp_path, text, reranked=tmp_path / "second.txt")
    prediction = predicted["town", "q0.jpg"]
    assert [name for name, _ in prediction.retrieved] == ["d3.jpg", "d1.jpg"]
    assert [name for name, _ in prediction.reranked] == ["d1.jpg", "d3.jpg"]
    path = tmp_path / "out.txt"
    export_predictions("patchnetvlad", data, predicted, path, retrieved=True)
    assert path.read_text() == text.replace("/data/", "")
    export_predictions("patchnetvlad", data, predicted, path)
    assert path.read_text() == (tmp_path / "second.txt").read_text().replace("/data/", "")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("a/x/1.jpg", "a/x/1.jpg"),
        ("/home/me/set/a/x/1.jpg", "a/x/1.jpg"),
        ("a/x/1", "a/x/1.jpg"),
        ("a/x/1.png", "a/x/1.jpg"),
        ("y/1", "b/y/1.jpg"),
        ("2", "b/y/2.jpg"),
        ("@500.25@41.5@", "@500.25@41.5@.jpg"),
        ("3.png", "b/y/3.png"),
    ],
)
def test_a_name_means_the_one_photo_whose_path_ends_with_it(given, meant, tmp_path):
    names = ["a/x/1.jpg", "c/x/1.jpg", "b/y/1.jpg", "b/y/2.jpg", "@500.25@41.5@.jpg", "b/y/3.jpg",
             "b/y/3.png"]  # fmt: skip
    data = data_set(town([set()], shown=photos(names)))
    predicted = read("hloc", data, tmp_path, f"q0.jpg {given}\n")
    assert lists(predicted) == {"q0.jpg": [meant]}


@pytest.mark.parametrize(
    ("form", "text", "line", "message"),
    [
        ("hloc", "q0.jpg d0.jpg\nq9.jpg d0.jpg\n", 2, "q9.jpg is no query"),
        ("hloc", "q0.jpg q1.jpg\n", 1, "q1.jpg is no database photo"),
        ("hloc", "q0.jpg other/d0.jpg d1.jpg\n", 1, "expected: query, a space"),
        ("hloc", "q0.jpg d0.jpg\nq0.jpg /x/d0.jpg\n", 2, "already"),
        ("text", "q0.jpg d0.jpg\n\nq0 d1.jpg\n", 3, "has a line already.*pairs.*hloc"),
        ("text", "q1.jpg\nq1.jpg d1.jpg\n", 2, "has a line already"),
        ("msls", "q0 d0 d1\nq1 d0\nq0 d2\n", 3, "has a line already"),
        ("kapture", "q0.jpg d0.jpg\n", 1, "expected: query, database"),
        ("kapture", "q0.jpg, d0.jpg, high\n", 1, "high"),
        ("kapture", "q0.jpg, d0.jpg, 1, 2\n", 1, "expected"),
    ],
)
def test_an_invalid_line_is_refused_with_its_number(form, text, line, message, data, tmp_path):
    with pytest.raises(BadTable, match=message) as caught:
        read(form, data, tmp_path, text)
    assert caught.value.line == line


def test_a_name_that_fits_two_photos_is_an_error_and_no_guess(tmp_path):
    data = data_set(town([{0}], shown=photos(["a/1.jpg", "b/1.jpg"])), town([{0}], name="other"))
    with pytest.raises(BadTable, match=r"1.jpg may be a/1.jpg \(town\) or b/1.jpg \(town\)"):
        read("hloc", data_set(data.searches[0]), tmp_path, "q0.jpg 1.jpg\n")
    with pytest.raises(BadTable, match=r"q0.jpg \(other\) or q0.jpg \(town\)"):
        read("hloc", data, tmp_path, "q0.jpg a/1.jpg\n")


@pytest.mark.parametrize(
    ("form", "name"),
    [("hloc", "a b.jpg"), ("text", "a\u3000b.jpg"), ("msls", "x/a b.jpg"), ("msls", "a,b.jpg"),
     ("kapture", "a,b.jpg"), ("patchnetvlad", " a.jpg"), ("hloc", "#a.jpg"),
     ("kapture", "a\rb.jpg")],
)  # fmt: skip
def test_a_name_that_a_form_cannot_represent_is_refused_and_nothing_written(form, name, tmp_path):
    data = data_set(town([{0}], queries=photos([name])))
    with pytest.raises(UsageError, match="cannot be written"):
        written(form, data, predictions(data, [0]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_forms_that_allow_spaces_commas_or_invalid_utf8_keep_them(tmp_path):
    for form, name in (("kapture", "a b\udcff\u2028.jpg"), ("hloc", "a,b\udcff.jpg")):
        data = data_set(town([{0}], queries=photos([name])))
        predicted = predictions(data, [3, 1])
        assert lists(read(form, data, tmp_path, written(form, data, predicted, tmp_path))) == lists(
            predicted
        )


def poses(*seeds):
    """Rotations of any axis, and positions."""
    predicted = []
    for seed in seeds:
        random = np.random.default_rng(seed)
        turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
        pose = np.eye(4)
        pose[:3, :3] = turn * np.sign(np.linalg.det(turn))
        pose[:3, 3] = random.normal(size=3) * 100
        predicted.append(pose)
    return np.array(predicted)


def rotation(w, x, y, z):
    """The textbook formula."""
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def test_a_quaternion_gives_its_rotation_back_half_turns_included():
    half_turns = [np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])]
    for turn in [np.eye(3), *half_turns, *poses(*range(30))[:, :3, :3]]:
        predicted = quaternion(turn)
        assert predicted[0] >= 0
        assert np.allclose(rotation(*predicted), turn)


def test_a_pose_submission_takes_points_of_the_world_into_the_best_photo_s_camera(tmp_path):
    matrices = np.stack([np.full((4, 4), np.nan), *poses(1, 2)])
    data = data_set(
        town(
            [set(), set()], queries=photos(["night/rear/14.jpg", "slice2/img_00122_c1.jpg"]),
            shown=photos([f"d{n}.jpg" for n in range(3)], poses=matrices),
        ),
        poses=True, hidden=True,
    )  # fmt: skip
    predicted = predictions(data, [0, 2], [1, 2])
    lines = written("visuallocalization", data, predicted, tmp_path).splitlines()
    for line, name, number in zip(lines, ("rear/14.jpg", "img_00122_c1.jpg"), (2, 1), strict=True):
        said, *numbers = line.split()
        values = np.array(numbers, float)
        assert said == name
        in_camera = np.array([0.5, -1, 3])
        world = matrices[number] @ [*in_camera, 1.0]
        assert np.allclose(rotation(*values[:4]) @ world[:3] + values[4:], in_camera)


def test_a_pose_submission_needs_poses_and_names_that_differ(data, tmp_path):
    with pytest.raises(UsageError, match="no database photo of this data set has one"):
        written("visuallocalization", data, predictions(data, [0], [0], [0]), tmp_path)
    alike = data_set(
        town([set()] * 2, queries=photos(["a/1.jpg", "b/1.jpg"]),
             shown=photos(["d0.jpg"], poses=poses(1)))
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"b/1.jpg and a/1.jpg would both be 1.jpg"):
        written("visuallocalization", alike, predictions(alike, [0], [0]), tmp_path)
    with pytest.raises(UsageError, match="can only be written"):
        read("visuallocalization", data, tmp_path, "")


def test_an_unknown_form_and_a_missing_file_are_named(data, tmp_path):
    with pytest.raises(UsageError, match=r"xml.*kapture, hloc, text"):
        import_predictions("xml", data, tmp_path / "in.txt")
    with pytest.raises(NotFound):
        import_predictions("hloc", data, tmp_path / "in.txt")


def test_the_command_line_offers_every_form():
    from placerec.cli.predictions import predictions as commands

    for command in commands.commands.values():
        (form,) = (option for option in command.params if option.name == "form")
        assert list(form.type.choices) == list(FORMS)


def test_the_command_line_reads_the_forms_without_numpy():
    code = "import sys, placerec.cli; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
