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
from placerec.reproduce.opened_model import open_subject
from placerec.reproduce.parameters import Options
from placerec.reproduce.study import Study, open_study, read_set
from plain_methods import Darkest

pytest.importorskip("matplotlib")
pytest.importorskip("cv2")

PLACES, QUERIES = 12, 6
TINY = Options(
    model="efficientnet-lite0", queries=QUERIES, candidates=10, image_size=(160, 160), threads=2,
    clusters=2, pca_dim=16,
)  # fmt: skip
TIMES = ("_ms",)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Trunk maps of these tests, away from a person's cache."""
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
    return reproduce("ablation", [town], out, TINY)


def study_of(folder, options, result) -> Study:
    """The study that a table of ``result`` would have."""
    return open_study(
        *read_set(folder, options), options, result, open_subject(options), lambda *_: None
    )


def without_times(rows):
    return [{k: v for k, v in row.items() if not k.endswith(TIMES)} for row in rows]


@pytest.mark.parametrize("name", TABLES)
def test_every_table_writes_csv_markdown_and_plot(name, town, out, monkeypatch):
    few = {"none": (0.0,), "rotation": (10.0,), "noise": (25.0,)}
    monkeypatch.setattr(robustness, "LEVELS", few)
    result = reproduce(name, [town], out, TINY)
    rows = result.rows()
    assert rows
    assert list(rows[0])[:4] == ["set", "queries", "candidates", "list"]
    assert {row["set"] for row in rows} == {"town"}
    assert {(row["queries"], row["candidates"]) for row in rows} == {(str(QUERIES), "10")}
    told = (out / f"{name}.md").read_text(encoding="utf-8")
    for row in rows:
        assert "| " + " | ".join(value or "-" for value in row.values()) + " |" in told
        assert all(0 <= float(row[key] or 0) <= 1 for key in row if "recall@" in key)
    assert "\n- " in told
    with Image.open(out / f"{name}.png") as plot:
        assert min(plot.size) > 300
    facts = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    assert facts["options"]["candidates"] == 10
    assert facts["versions"]["numpy"] == np.__version__
    assert len(facts["sets"]["town"]["list"]) == 12
    assert any(len(v) == 64 for v in facts["sets"]["town"].values() if isinstance(v, str))
    assert not [path for path in out.rglob("*") if "disturbed" in path.name]


def test_a_model_says_how_its_pca_got_enough_samples(ablation):
    told = ablation.csv.with_suffix(".md").read_text(encoding="utf-8")
    assert "windows of their feature maps added for the PCA; PCA to 16." in told


def test_a_model_file_gives_the_table_of_its_fit(town, out, ablation, tmp_path):
    (file,) = (p for p in out.rglob("model-*.safetensors") if read_settings(p).shared_pca)
    ready = replace(TINY, model=str(file), clusters=None, pca_dim=None)
    result = reproduce("ablation", [town], tmp_path / "out", ready)
    assert result.rows() == ablation.rows()
    for wrong in ({"clusters": 5}, {"pca_dim": 7}):
        with pytest.raises(UsageError, match=r"(clusters 5|pca dim 7): model .* is fitted with"):
            reproduce("ablation", [town], tmp_path / "no", replace(ready, **wrong))
    assert not (tmp_path / "no").exists()


def test_a_pca_that_windows_do_not_fill_takes_mirrored_photos_and_says_so(town, tmp_path):
    options = replace(TINY, clusters=6, pca_dim=640)  # 12 photos have 780 vectors with windows
    study = study_of(town, options, ResultFolder(tmp_path, "ablation", {}, []))
    assert "views of the mirrored photos added for the PCA" in study.model.training_data
    assert study.dimensions == 640


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "auto"}, "model auto"),
        ({"model": "generic"}, "model generic"),
        ({"image_size": (96, 160)}, "patch size 8x8 .* does not fit a feature map of 6x10 cells"),
        ({"image_size": (8, 160)}, "image size 8x160: .*at least 16 pixels"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(wrong, message, town, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=message):
        reproduce("ablation", [town], out, replace(TINY, **wrong))
    assert not out.exists()


def test_a_model_of_another_form_lends_its_trunk_to_a_table_of_fits_of_its_own(town):
    table = TABLES["k-patch"]
    subject = open_subject(replace(TINY, model="generic"), table.sizes, table.published)
    assert subject.trunk.name == "efficientnet-lite0"


def test_without_a_package_of_the_extra_nothing_is_begun(town, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match="paper"):
        reproduce("ablation", [town], tmp_path / "out", TINY)
    assert not (tmp_path / "out").exists()


def test_pictures_show_query_and_both_answers(town, out):
    rows = reproduce("pictures", [town], out, TINY).rows()
    drawn = [row for row in rows if row["picture"]]
    assert drawn
    for row in drawn:
        with Image.open(out / row["picture"]) as picture:
            assert picture.height > 2 * 480


def test_a_finished_set_is_not_computed_again(town, out, ablation, monkeypatch):
    monkeypatch.setattr(Study, "scores", None)
    before = ablation.csv.read_bytes()
    assert reproduce("ablation", [town], out, TINY).csv.read_bytes() == before


@pytest.mark.parametrize(("name", "module"), [("speed", speed), ("methods", methods)])
def test_a_keypoint_reranker_takes_part_where_its_weights_are(
    town, tmp_path, monkeypatch, name, module
):
    monkeypatch.setattr(module, "keypoint_reranker", lambda threads: Darkest())
    result = reproduce(name, [town], tmp_path, TINY)
    (row,) = [row for row in result.rows() if row["method"] == module.KEYPOINTS]
    assert 0.0 <= float(row["recall@1"]) <= float(row["recall@10"]) <= 1.0
    if name == "speed":
        assert float(row["total_ms"]) >= float(row["trunk_ms"]) > 0.0
        assert f"above {module.KEYPOINTS}: " in result.csv.with_suffix(".md").read_text("utf-8")
    else:
        assert row["weights"] == "trained"


def test_a_method_without_weights_shows_no_number(town, out):
    rows = reproduce("methods", [town], out, TINY).rows()
    without = (*methods.WITHOUT_WEIGHTS, methods.KEYPOINTS)
    blank = [row for row in rows if row["method"] in without]
    assert len(blank) == len(without)
    assert not any(row[key] for row in blank for key in row if "recall@" in key)


def test_a_model_of_seeded_weights_shows_no_number(town, out, ablation, tmp_path):
    (file,) = (p for p in out.rglob("model-*.safetensors") if read_settings(p).shared_pca)
    seeded = replace(load_model(file), training_data=f"{methods.SEEDED}; the PCA: 6 photos")
    save_model(seeded, tmp_path / "seeded.safetensors")
    options = replace(TINY, model=str(tmp_path / "seeded.safetensors"), clusters=None, pca_dim=None)
    rows = methods._paper(study_of(town, options, ResultFolder(tmp_path, "methods", {}, [])))
    assert {row["weights"] for row in rows} == {"seeded"}
    assert not any("recall@" in key for row in rows for key in row)


KILLED = """
import os, signal, sys
from pathlib import Path
from placerec.reproduce import matches, reproduce
from placerec.reproduce.parameters import Options
whole = matches.Matches._read
def read(self, row, label=""):
    if list(self.folder.glob("*.npz")):
        (self.folder / "000999.npz.partial").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, row, label)
matches.Matches._read = read
reproduce("ablation", [Path(sys.argv[1])], Path(sys.argv[2]), Options(**eval(sys.argv[3])))
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_table(town, ablation, tmp_path):
    one = replace(TINY, threads=1)
    values = {name: getattr(one, name) for name in one.__slots__}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, town, tmp_path, repr(values)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "ablation.csv").exists()
    (kept,) = tmp_path.rglob("*.npz")
    written = kept.stat().st_mtime_ns
    result = reproduce("ablation", [town], tmp_path, one)
    assert kept.stat().st_mtime_ns == written
    assert without_times(result.rows()) == without_times(ablation.rows())


def test_other_options_in_the_same_folder_are_refused(town, out, ablation):
    before = ablation.csv.read_bytes()
    with pytest.raises(UsageError, match=r"candidates 10 then, 11 now.*another --out"):
        reproduce("ablation", [town], out, replace(TINY, candidates=11))
    assert ablation.csv.read_bytes() == before


def test_options_do_not_bind_before_rows_are_kept(town, tmp_path, monkeypatch):
    """What ended before its first set was finished may be begun again with other options."""
    with monkeypatch.context() as patch:
        patch.setattr(Study, "scores", None)
        with pytest.raises(TypeError):
            reproduce("ablation", [town], tmp_path, TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    result = reproduce("ablation", [town], tmp_path, replace(TINY, candidates=11))
    assert {row["candidates"] for row in result.rows()} == {"11"}


def test_a_run_goes_on_with_another_number_of_threads_and_notes_both(town, tmp_path):
    """Also where the folder is an older one, whose options had the threads among them."""
    first = ResultFolder(tmp_path, "ablation", {"queries": 6}, ["town"], 2)
    first.once("town", lambda: [{"set": "town"}])
    written = tmp_path / "ablation.json"
    facts = json.loads(written.read_text(encoding="utf-8"))
    assert facts.pop("threads") == [2]
    facts["options"]["threads"] = 2
    written.write_text(json.dumps(facts), encoding="utf-8")
    again = ResultFolder(tmp_path, "ablation", {"queries": 6}, ["town"], 1)
    assert again.once("town", lambda: pytest.fail("it is kept")) == [{"set": "town"}]
    again.once("another", list)
    facts = json.loads(written.read_text(encoding="utf-8"))
    assert (facts["threads"], facts["options"]) == ([2, 1], {"queries": 6})


def test_times_say_the_threads_that_they_were_taken_on(town, out):
    """Not those of the run that went on with them."""
    before = reproduce("speed", [town], out, TINY).rows()
    (out / "cache" / "speed" / "town.json").unlink()
    result = reproduce("speed", [town], out, replace(TINY, threads=1))
    rows = [row for row in result.rows() if row["method"] != speed.KEYPOINTS]
    assert rows == [row for row in before if row["method"] != speed.KEYPOINTS]
    assert {row["threads"] for row in rows} == {"2"}


def test_a_changed_query_list_is_refused(town, out, ablation, tmp_path):
    copy = Path(shutil.copytree(town, tmp_path / "town"))
    (copy / "queries" / "11.png").rename(copy / "queries" / "12.png")
    with pytest.raises(UsageError, match="list"):
        reproduce("ablation", [copy], out, TINY)


def test_distractors_join_the_database_and_are_never_correct(town, tmp_path):
    """The distractors show what the queries show: nothing is more alike."""
    doubles = Path(shutil.copytree(town / "queries", tmp_path / "doubles"))
    for path in doubles.iterdir():
        path.write_bytes(path.read_bytes() + b" ")
    options = replace(TINY, distractors=(f"town={doubles}",))
    result = reproduce("ablation", [town], tmp_path / "out", options)
    rows = result.rows()
    assert {float(row["recall@1"]) for row in rows} == {0.0}
    study = study_of(town, options, result)
    assert len(study.database) == 2 * PLACES
    assert study.data.distractors == PLACES


def test_several_sets_are_one_table_with_their_own_lists(town, tmp_path):
    other = Path(shutil.copytree(town, tmp_path / "other"))
    lists = tmp_path / "lists"
    lists.mkdir()
    for name, half in (("town", range(0, 12, 2)), ("other", range(1, 12, 2))):
        lines = "".join(f"{i:02}.png,validation\n" for i in half)
        (lists / f"{name}.csv").write_text(f"query,half\n{lines}", encoding="utf-8")
    options = replace(TINY, queries_list=lists, half="validation")
    result = reproduce("ablation", [town, other], tmp_path / "out", options)
    with result.csv.open(newline="", encoding="utf-8") as file:
        listed = {(row["set"], row["list"]) for row in csv.DictReader(file)}
    assert len(listed) == 2
    assert {name for name, _ in listed} == {"town", "other"}


def test_options_that_cannot_be_meant_are_named(town, tmp_path):
    with pytest.raises(UsageError, match="given twice"):
        reproduce("ablation", [town, town], tmp_path, TINY)
    options = replace(TINY, ground_truth=town / "ground_truth.csv")
    with pytest.raises(UsageError, match="one data set"):
        reproduce("ablation", [town, tmp_path / "other"], tmp_path, options)
    with pytest.raises(UsageError, match="no such set"):
        reproduce("ablation", [town], tmp_path, replace(TINY, distractors=("towm=x",)))
    with pytest.raises(UsageError, match="recall@10"):
        replace(TINY, candidates=9)
    assert not list(tmp_path.iterdir())


def test_a_query_list_is_seeded_and_all_means_all(town, tmp_path):
    result = ResultFolder(tmp_path, "ablation", {}, [])
    few = study_of(town, TINY, result)
    assert few.queries == study_of(town, TINY, result).queries
    assert len(few.queries) == QUERIES
    everything = replace(few, options=replace(TINY, queries=None))
    assert everything.queries == open_dataset(town).searches[0].queries.names


def test_the_command_names_every_table_and_refuses_others(town, tmp_path):
    told = CliRunner().invoke(cli, ["reproduce", "--help"]).output
    assert all(name in told for name in TABLES)
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
