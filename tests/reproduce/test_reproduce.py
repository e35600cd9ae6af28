"""``placerec reproduce``: every table runs on a tiny drawn town, resumes, and is never mixed."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from placerec.cli import cli
from placerec.demo import demo_pose, render
from placerec.errors import MissingExtra, NotFound, UsageError
from placerec.evaluation.layouts import open_dataset
from placerec.models.model_file import load_model, read_settings, save_model
from placerec.reproduce import TABLES, methods, reproduce, robustness, speed
from placerec.reproduce.folder import ResultFolder
from placerec.reproduce.parameters import Parameters, open_for_table
from placerec.reproduce.study import Study, read_search
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from plain_methods import Darkest

pytest.importorskip("matplotlib")
pytest.importorskip("cv2")

PLACES, QUERIES = 12, 6
TINY = Parameters(
    model="efficientnet-lite0", queries=QUERIES, candidates=10, image_size=(160, 160), clusters=2,
    pca_dim=16,
)  # fmt: skip
TWO_THREADS = Runtime(threads=2)
TIMES = ("_ms",)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Feature maps of these tests, outside the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLACEREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> Path:
    """12 places by day and by night, small; the last query has no positive."""
    folder, seed, truth = tmp_path_factory.mktemp("reproduce") / "town", 3, "query,database"
    for name, night in (("database", False), ("queries", True)):
        (folder / name).mkdir(parents=True)
        for place in range(PLACES):
            pixels = render(seed, demo_pose(seed, place, night), night, size=(120, 160))
            Image.fromarray(pixels).save(folder / name / f"{place:02}.png")
    for place in range(PLACES - 1):
        truth += f"\n{place:02}.png,{place:02}.png"
    (folder / "ground_truth.csv").write_text(truth + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """One result folder for all tables."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def ablation(town, out) -> ResultFolder:
    """An uninterrupted ablation."""
    return reproduce("ablation", [town], out, TINY, TWO_THREADS)


def study_of(folder, parameters, result) -> Study:
    """The study that a table of ``result`` uses."""
    search, opened = read_search(folder, parameters), open_for_table(parameters)
    return Study(folder.name, search, parameters, result, opened, DEFAULT_RUNTIME)


def without_times(rows):
    return [{k: v for k, v in row.items() if not k.endswith(TIMES)} for row in rows]


@pytest.mark.parametrize("name", TABLES)
def test_every_table_writes_csv_markdown_and_plot(name, town, out, monkeypatch):
    few = {"none": (0.0,), "rotation": (10.0,), "noise": (25.0,)}
    few = {kind: robustness.DISTURBANCES[kind]._replace(levels=few[kind]) for kind in few}
    monkeypatch.setattr(robustness, "DISTURBANCES", few)
    result = reproduce(name, [town], out, TINY, TWO_THREADS)
    rows = result.rows()
    assert rows
    assert list(rows[0])[:4] == ["set", "queries", "candidates", "list"]
    assert {row["set"] for row in rows} == {"town"}
    assert {(row["queries"], row["candidates"]) for row in rows} == {(str(QUERIES), "10")}
    page = (out / f"{name}.md").read_text(encoding="utf-8")
    for row in rows:
        assert "| " + " | ".join(value or "-" for value in row.values()) + " |" in page
        assert all(0 <= float(row[key] or 0) <= 1 for key in row if "recall@" in key)
    assert "\n- " in page
    with Image.open(out / f"{name}.png") as plot:
        assert min(plot.size) > 300
    facts = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    assert facts["options"]["candidates"] == 10
    assert facts["versions"]["numpy"] == np.__version__
    assert len(facts["sets"]["town"]["list"]) == 12
    assert any(len(v) == 64 for v in facts["sets"]["town"].values() if isinstance(v, str))
    assert not [path for path in out.rglob("*") if "disturbed" in path.name]


def test_a_model_says_how_its_pca_got_enough_samples(ablation):
    page = ablation.csv.with_suffix(".md").read_text(encoding="utf-8")
    assert "windows of their feature maps added for the PCA; PCA to 16." in page


def test_a_model_file_gives_the_table_of_its_fit(town, out, ablation, tmp_path):
    (file,) = (p for p in out.rglob("model-*.safetensors") if read_settings(p).form == "published")
    ready = replace(TINY, model=str(file), clusters=None, pca_dim=None)
    result = reproduce("ablation", [town], tmp_path / "out", ready, TWO_THREADS)
    assert result.rows() == ablation.rows()
    for wrong in ({"clusters": 5}, {"pca_dim": 7}):
        with pytest.raises(UsageError, match=r"(clusters 5|pca_dim 7): model .* is fitted with"):
            reproduce("ablation", [town], tmp_path / "no", replace(ready, **wrong))
    assert not (tmp_path / "no").exists()


def test_a_pca_that_windows_do_not_fill_takes_mirrored_photos_and_says_so(town, tmp_path):
    parameters = replace(TINY, clusters=6, pca_dim=640)  # 12 photos have 780 vectors with windows
    study = study_of(town, parameters, ResultFolder(tmp_path, "ablation", {}, []))
    assert "views of the mirrored photos added for the PCA" in study.model.training_data
    assert study.dimensions == 640


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "auto"}, "model auto"),
        ({"model": "generic"}, "model generic"),
        ({"image_size": (96, 160)}, "patch size 8x8 .* does not fit a feature map of 6x10 cells"),
        ({"image_size": (8, 160)}, "image_size 8x160: .*at least 16 pixels"),
    ],
)
def test_invalid_parameters_are_refused_before_anything_is_written(wrong, message, town, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=message):
        reproduce("ablation", [town], out, replace(TINY, **wrong))
    assert not out.exists()


def test_a_table_with_its_own_fits_uses_only_the_trunk_of_a_model_file(town):
    table = TABLES["k-patch"]
    opened = open_for_table(replace(TINY, model="generic"), table.sizes, table.published)
    assert opened.trunk.name == "efficientnet-lite0"


def test_without_a_package_of_the_extra_nothing_is_written(town, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match="paper"):
        reproduce("ablation", [town], tmp_path / "out", TINY)
    assert not (tmp_path / "out").exists()


def test_pictures_show_query_and_both_answers(town, out):
    rows = reproduce("pictures", [town], out, TINY, TWO_THREADS).rows()
    drawn = [row for row in rows if row["picture"]]
    assert drawn
    for row in drawn:
        with Image.open(out / row["picture"]) as picture:
            assert picture.height > 2 * 480


def test_a_finished_set_is_not_computed_again(town, out, ablation, monkeypatch):
    monkeypatch.setattr(Study, "matches", None)
    before = ablation.csv.read_bytes()
    assert reproduce("ablation", [town], out, TINY).csv.read_bytes() == before


@pytest.mark.parametrize(("name", "module"), [("speed", speed), ("methods", methods)])
def test_a_keypoint_reranker_takes_part_if_its_weights_exist(
    town, tmp_path, monkeypatch, name, module
):
    monkeypatch.setattr(module, "keypoint_reranker", lambda threads: Darkest())
    monkeypatch.setattr(methods, "INDEXED", ())  # the rows of the others are tested above
    monkeypatch.setattr(methods, "_paper", lambda study: [])
    result = reproduce(name, str(town), str(tmp_path), TINY)
    (row,) = [row for row in result.rows() if row["method"] == module.KEYPOINTS]
    assert 0.0 <= float(row["recall@1"]) <= float(row["recall@10"]) <= 1.0
    if name == "speed":
        assert float(row["total_ms"]) >= float(row["trunk_ms"]) > 0.0
        assert f"above {module.KEYPOINTS}: " in result.csv.with_suffix(".md").read_text("utf-8")
    else:
        assert row["weights"] == "trained"


def test_a_method_without_weights_shows_no_number(town, out):
    rows = reproduce("methods", [town], out, TINY, TWO_THREADS).rows()
    without = (*methods.WITHOUT_WEIGHTS, methods.KEYPOINTS)
    blank = [row for row in rows if row["method"] in without]
    assert len(blank) == len(without)
    assert not any(row[key] for row in blank for key in row if "recall@" in key)


def test_a_model_of_seeded_weights_shows_no_number(town, out, ablation, tmp_path):
    (file,) = (p for p in out.rglob("model-*.safetensors") if read_settings(p).form == "published")
    seeded = replace(load_model(file), training_data=f"{methods.SEEDED}; the PCA: 6 photos")
    save_model(seeded, tmp_path / "seeded.safetensors")
    parameters = replace(
        TINY, model=str(tmp_path / "seeded.safetensors"), clusters=None, pca_dim=None
    )
    rows = methods._paper(study_of(town, parameters, ResultFolder(tmp_path, "methods", {}, [])))
    assert {row["weights"] for row in rows} == {"seeded"}
    assert not any("recall@" in key for row in rows for key in row)


KILLED = """
import os, signal, sys
from pathlib import Path
from placerec.reproduce import matches, reproduce
from placerec.reproduce.parameters import Parameters
from placerec.runtime import Runtime
save = matches.save_array
def save_and_die(file, arrays):
    save(file, arrays)
    file.with_name("000999.npz.partial").touch()
    os.kill(os.getpid(), signal.SIGKILL)
matches.save_array = save_and_die
parameters, runtime = Parameters(**eval(sys.argv[3])), Runtime(threads=1)
reproduce("ablation", [Path(sys.argv[1])], Path(sys.argv[2]), parameters, runtime)
"""


def test_a_killed_run_resumes_and_ends_with_the_same_table(town, ablation, tmp_path):
    values = {name: getattr(TINY, name) for name in TINY.__slots__}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, town, tmp_path, repr(values)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "ablation.csv").exists()
    (stored,) = tmp_path.rglob("*.npz")
    written = stored.stat().st_mtime_ns
    result = reproduce("ablation", [town], tmp_path, TINY, Runtime(threads=1))
    assert stored.stat().st_mtime_ns == written
    assert without_times(result.rows()) == without_times(ablation.rows())


def test_other_parameters_in_the_same_folder_are_refused(town, out, ablation):
    before = ablation.csv.read_bytes()
    with pytest.raises(UsageError, match=r"candidates: 10, now 11.*another output folder"):
        reproduce("ablation", [town], out, replace(TINY, candidates=11))
    assert ablation.csv.read_bytes() == before


def test_parameters_may_change_until_rows_are_stored(town, tmp_path, monkeypatch):
    """A run that stopped before its first set was finished may start again with others."""
    with monkeypatch.context() as patch:
        patch.setattr(Study, "matches", None)
        with pytest.raises(TypeError):
            reproduce("ablation", [town], tmp_path, TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    result = reproduce("ablation", [town], tmp_path, replace(TINY, candidates=11))
    assert {row["candidates"] for row in result.rows()} == {"11"}


def test_a_run_resumes_with_another_number_of_threads_and_stores_both(tmp_path):
    first = ResultFolder(tmp_path, "ablation", {"queries": 6}, ["town"], 2)
    first.once("town", lambda: [{"set": "town"}])
    written = tmp_path / "ablation.json"
    assert json.loads(written.read_text(encoding="utf-8"))["threads"] == [2]
    again = ResultFolder(tmp_path, "ablation", {"queries": 6}, ["town"], 1)
    assert again.once("town", lambda: pytest.fail("it is stored")) == [{"set": "town"}]
    again.once("another", list)
    facts = json.loads(written.read_text(encoding="utf-8"))
    assert (facts["threads"], facts["options"]) == ([2, 1], {"queries": 6})


def test_times_name_the_threads_that_they_were_measured_on(town, out):
    """They do not name the threads of the run that resumed with them."""
    before = reproduce("speed", [town], out, TINY, TWO_THREADS).rows()
    (out / "cache" / "speed" / "town.json").unlink()
    result = reproduce("speed", [town], out, TINY, Runtime(threads=1))
    rows = [row for row in result.rows() if row["method"] != speed.KEYPOINTS]
    assert rows == [row for row in before if row["method"] != speed.KEYPOINTS]
    assert {row["threads"] for row in rows} == {"2"}


def test_a_changed_query_list_is_refused(town, out, ablation, tmp_path):
    copy = Path(shutil.copytree(town, tmp_path / "town"))
    (copy / "queries" / "11.png").rename(copy / "queries" / "12.png")
    with pytest.raises(UsageError, match="list"):
        reproduce("ablation", [copy], out, TINY)


def test_distractors_join_the_database_and_are_never_correct(town, tmp_path):
    """The distractors are copies of the queries, so nothing is more similar."""
    doubles = Path(shutil.copytree(town / "queries", tmp_path / "doubles"))
    for path in doubles.iterdir():
        path.write_bytes(path.read_bytes() + b" ")
    parameters = replace(TINY, distractors=(f"town={doubles}",))
    result = reproduce("ablation", [town], tmp_path / "out", parameters)
    rows = result.rows()
    assert {float(row["recall@1"]) for row in rows} == {0.0}
    study = study_of(town, parameters, result)
    assert len(study.search.database) == 2 * PLACES
    assert study.search.distractors == PLACES


def test_several_sets_are_one_table_with_their_own_lists(town, tmp_path):
    other = Path(shutil.copytree(town, tmp_path / "other"))
    lists = tmp_path / "lists"
    lists.mkdir()
    for name, half in (("town", range(0, 12, 2)), ("other", range(1, 12, 2))):
        lines = "".join(f"{i:02}.png,validation\n" for i in half)
        (lists / f"{name}.csv").write_text(f"query,half\n{lines}", encoding="utf-8")
    parameters = replace(TINY, queries_list=lists, half="validation")
    result = reproduce("ablation", [town, other], tmp_path / "out", parameters)
    with result.csv.open(newline="", encoding="utf-8") as file:
        listed = {(row["set"], row["list"]) for row in csv.DictReader(file)}
    assert len(listed) == 2
    assert {name for name, _ in listed} == {"town", "other"}


def test_invalid_parameters_are_named(town, tmp_path):
    with pytest.raises(UsageError, match="given twice"):
        reproduce("ablation", [town, town], tmp_path, TINY)
    parameters = replace(TINY, ground_truth=town / "ground_truth.csv")
    with pytest.raises(UsageError, match="one data set"):
        reproduce("ablation", [town, tmp_path / "other"], tmp_path, parameters)
    with pytest.raises(UsageError, match="no such set"):
        reproduce("ablation", [town], tmp_path, replace(TINY, distractors=("towm=x",)))
    with pytest.raises(UsageError, match="recall@10"):
        replace(TINY, candidates=9)
    assert not list(tmp_path.iterdir())


def test_a_query_list_is_seeded_and_all_means_all(town):
    few = read_search(town, TINY).queries.names
    assert few == read_search(town, TINY).queries.names
    assert len(few) == QUERIES
    everything = read_search(town, replace(TINY, queries=None)).queries.names
    assert everything == open_dataset(town).searches[0].queries.names


def test_the_protocol_decides_how_a_data_set_is_read(town, tmp_path):
    by_name = replace(TINY, queries=None, protocol="folder")
    assert read_search(town, by_name).answers == open_dataset(town).searches[0].answers
    with pytest.raises(UsageError, match="protocol 'nowhere'"):
        reproduce("ablation", [town], tmp_path / "out", replace(TINY, protocol="nowhere"))
    assert not any(tmp_path.iterdir())


def test_the_command_names_every_table_and_refuses_others(town, tmp_path):
    help_text = CliRunner().invoke(cli, ["reproduce", "--help"]).output
    assert all(name in help_text for name in TABLES)
    result = CliRunner().invoke(cli, ["reproduce", "tables", str(town), "--out", str(tmp_path)])
    assert isinstance(result.exception, UsageError)
    for option in (["--queries", "0"], ["--image-size", "480"]):
        result = CliRunner().invoke(
            cli, ["reproduce", "ablation", str(town), "--out", str(tmp_path), *option]
        )
        assert result.exit_code == 2


def test_the_command_prints_the_table(town, out, ablation):
    given = (
        f"--model {TINY.model} --queries {QUERIES} --candidates 10 --image-size 160,160 "
        "--threads 2 --clusters 2 --pca-dim 16"
    ).split()
    result = CliRunner().invoke(
        cli, ["reproduce", "ablation", str(town), "--out", str(out), *given],
        catch_exceptions=False,
    )  # fmt: skip
    assert ablation.csv.with_suffix(".md").read_text(encoding="utf-8").strip() in result.stdout


def test_a_missing_data_set_leaves_no_folder(town, tmp_path):
    with pytest.raises(NotFound, match="nowhere: no such folder"):
        reproduce("ablation", [town, tmp_path / "nowhere"], tmp_path / "out", TINY)
    assert not any(tmp_path.iterdir())
