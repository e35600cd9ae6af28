"""The invariance training on tiny drawn photos: steps, equal bits, judgement, the file."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import helper
from PIL import Image
from training_support import small_network, write_evaluation_format

from placerec.cli import cli
from placerec.errors import NotFound, PhotoError, TrainingFailed, UnsafeWeights, UsageError
from placerec.evaluation.layouts import open_dataset
from placerec.models.resolve import resolve
from placerec.runtime import Runtime
from placerec.schedule import INVARIANCE
from placerec.training import invariance
from placerec.training.checkpoint import CHECKPOINT
from placerec.training.invariance import Session, adapt, schedule_for, train_invariance
from placerec.training.judge import Score, first_ranks, judge, labelled
from placerec.training.run_folder import Options
from placerec.training.trainable import TrainableTrunk
from placerec.training.unlabelled import read_unlabelled, starting_trunk
from placerec.trunks.external import OnnxTrunk

SIZE = (64, 96)
ONE = Runtime(threads=1)
TINY = INVARIANCE.replace(
    image_size=SIZE, judged_size=SIZE, steps=6, batch=4, warm_up=1, held_back=3,
    fewest_held_back=4, judged_views=16, learning_rate=1e-2, share=1.0,
)  # fmt: skip


NOT_USABLE = (
    r"; 2 photos cannot be used \(black\.png: it shows nothing that could be recognised; "
    r"broken\.jpg: [^;]+\)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """14 photos of random shapes, one photo of nothing, and one broken file."""
    folder = tmp_path_factory.mktemp("unlabelled")
    for number in range(14):
        rng = np.random.default_rng(number)
        blocks = Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8))
        blocks.resize(SIZE[::-1], Image.Resampling.BILINEAR).save(folder / f"{number:02}.png")
    Image.new("RGB", SIZE[::-1]).save(folder / "black.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    path = tmp_path_factory.mktemp("trunk") / "small.onnx"
    path.write_bytes(small_network())
    return starting_trunk(path)


@pytest.fixture(scope="module")
def finished(folder, start, tmp_path_factory):
    """The folder of a complete run, and its result."""
    out = tmp_path_factory.mktemp("run") / "complete"
    return out, go(folder, start, out)


def go(folder, start, out, schedule=TINY, **options):
    return train_invariance(folder, out, schedule, start, Options(ONE, saved_every=2, **options))


def rows(out):
    with (out / "log.csv").open(newline="", encoding="utf-8") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def image():
    return np.random.default_rng(0).standard_normal((1, 3, *SIZE), np.float32)


def test_the_loss_of_photos_held_back_goes_down(finished):
    out, _ = finished
    log = rows(out)
    losses = [(int(row["step"]), float(row["held_back"])) for row in log if row["held_back"]]
    assert [step for step, _ in losses] == [0, 6]
    assert losses[1][1] < 0.95 * losses[0][1]


def test_the_result_states_what_it_is_and_is_a_trunk(finished, folder, start):
    out, trained = finished
    assert trained.path == out / "trunk.onnx"
    assert trained.after > trained.before
    assert trained.share == TINY.share
    assert trained.queries == 16
    assert [Path(error.path).name for error in trained.skipped] == ["black.png", "broken.jpg"]
    judged = {float(row["share"]): float(row["recall@1"]) for row in rows(out) if row["share"]}
    assert list(judged) == [0, TINY.share]  # without validation data
    assert judged[trained.share] == pytest.approx(trained.after.recall, abs=1e-5)
    assert judged[0] == pytest.approx(trained.before.recall, abs=1e-5)
    trunk = resolve(trained.path).trunk
    assert "10 photos of" in trunk.training_data
    assert f"recipe invariance, 6 steps, share {trained.share:g}" in trunk.training_data
    assert trunk.licence == "not stated; the training photos may bring terms of their own"
    header = json.loads(onnx.load(trained.path).metadata_props[0].value)
    assert header["provenance"].endswith(f"from small.onnx, sha256 {start.sha256}")
    network = TrainableTrunk(trained.path.read_bytes(), "trained")
    features = network(torch.from_numpy(image())).detach().numpy()
    assert np.abs(features[0] - trunk(image())).max() <= 1e-4
    assert np.abs(OnnxTrunk(start.data, name="small")(image()) - trunk(image())).max() > 1e-3


def test_a_file_keeps_the_input_of_the_trunk_that_it_came_from(tmp_path):
    shipped = starting_trunk("auto")
    header = {"mean": shipped.mean, "std": shipped.std, "licence": "free"}
    network = TrainableTrunk(shipped.data, "shipped")
    (tmp_path / "a.onnx").write_bytes(network.encoded(network.arrays(), header))
    trunk, own = (resolve(model).trunk for model in (tmp_path / "a.onnx", "efficientnet-lite0"))
    assert trunk.preprocessing(SIZE) == own.preprocessing(SIZE)
    assert np.array_equal(trunk(image()), own(image()))
    again = starting_trunk(tmp_path / "a.onnx")
    assert (again.mean, again.std, again.licence) == (shipped.mean, shipped.std, "free")


@pytest.mark.parametrize("header", ["{", '{"mean": 3}', '{"std": [1, 2]}', "[1]"])
def test_a_wrong_statement_in_a_file_is_one_clear_error(tmp_path, header):
    model = onnx.load_from_string(small_network())
    helper.set_model_props(model, {"placerec": header})
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsafeWeights, match=r"a\.onnx: .*entry placerec of its metadata"):
        resolve(tmp_path / "a.onnx")


def test_a_stopped_run_resumes_to_the_same_bits(finished, folder, start, tmp_path, monkeypatch):
    """It is stopped within step 4; its last checkpoint is from step 2. The seed decides the run."""

    def stop(self, photos, seed, losses=Session.losses):
        if self.learner.run.step == 3 and torch.is_grad_enabled():
            raise KeyboardInterrupt
        return losses(self, photos, seed)

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Session, "losses", stop)
        with pytest.raises(KeyboardInterrupt):
            go(folder, start, out)
    assert torch.load(out / CHECKPOINT, weights_only=True)["run"]["step"] == 2
    assert not (out / "trunk.onnx").exists()
    with pytest.raises(UsageError, match="set resume"):
        go(folder, start, out)
    with pytest.raises(UsageError, match="started with batch 4, not 5"):
        go(folder, start, out, TINY.replace(batch=5), resume=True)
    go(folder, start, out, resume=True)
    assert (out / "trunk.onnx").read_bytes() == (finished[0] / "trunk.onnx").read_bytes()
    assert rows(out) == rows(finished[0])


@pytest.mark.parametrize("name", ["log.csv", "best.safetensors", "trunk.onnx"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_files_of_no_run_is_refused_and_left_alone(start, tmp_path, name, resume):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"{name} but no checkpoint\.pt.*use another folder"):
        go(tmp_path / "no photos", start, tmp_path, resume=resume)
    words = ("--recipe", "invariance", "--resume") if resume else ()
    result = run("train", tmp_path / "no photos", "--out", tmp_path, *words)
    assert "no earlier run of this command" in str(result.exception)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_run_that_is_stopped_before_its_first_step_can_be_resumed(
    finished, folder, start, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(Session, "run_steps", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            go(folder, start, tmp_path / "out")
    go(folder, start, tmp_path / "out", resume=True)
    assert (tmp_path / "out/trunk.onnx").read_bytes() == (finished[0] / "trunk.onnx").read_bytes()


def test_photos_that_vanish_or_break_during_a_run_are_skipped(
    finished, folder, start, tmp_path, monkeypatch
):
    """One of them is held back, so the start is judged again without it."""
    photos, messages = tmp_path / "photos", []
    shutil.copytree(folder, photos)
    wanted = read_unlabelled(photos, TINY, ONE)
    gone, broken, judged = *wanted.trained[:2], wanted.held_back[1]

    def step(self, original=Session.step):
        if self.learner.run.step == 2:
            gone.unlink(missing_ok=True)
            judged.unlink(missing_ok=True)
            broken.write_bytes(b"\xff\xd8\xff")
        return original(self)

    monkeypatch.setattr(Session, "step", step)
    monkeypatch.setattr(Score, "__le__", lambda *_: False)  # any result is written
    trained = go(photos, start, tmp_path / "out", say=messages.append)
    lost = {Path(error.path): error.reason for error in trained.skipped[2:]}
    assert lost.keys() == {gone, broken, judged}
    assert lost[gone] == lost[judged] == "it disappeared during the training"
    assert sum(message.startswith("skipped ") for message in messages) == 3
    assert trained.queries == 12  # four views each of three photos
    assert [row["share"] for row in rows(tmp_path / "out") if row["share"]] == ["0", "1", "0", "1"]
    assert resolve(trained.path).trunk


def test_a_photo_that_vanishes_before_the_start_is_judged_is_skipped(
    folder, start, tmp_path, monkeypatch
):
    photos = shutil.copytree(folder, tmp_path / "photos")
    gone = read_unlabelled(photos, TINY, ONE).held_back[1]

    def run_steps(self, original=Session.run_steps):
        gone.unlink()
        return original(self)

    monkeypatch.setattr(Session, "run_steps", run_steps)
    trained = go(photos, start, tmp_path / "out")
    assert trained.queries == 12
    assert [Path(error.path) for error in trained.skipped[2:]] == [gone]


def test_a_run_without_a_readable_photo_names_one(folder, start, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "photos")

    def step(self, original=Session.step):
        shutil.rmtree(tmp_path / "photos", ignore_errors=True)
        return original(self)

    monkeypatch.setattr(Session, "step", step)
    with pytest.raises(PhotoError, match="png: it disappeared during the training"):
        go(tmp_path / "photos", start, tmp_path / "out")


def test_a_trunk_that_fails_at_a_size_is_refused_before_photos_are_read(tmp_path):
    path, fixed = tmp_path / "small.onnx", onnx.load_from_string(small_network())
    for axis, side in zip(fixed.graph.input[0].type.tensor_type.shape.dim[2:], SIZE, strict=True):
        axis.dim_value = side
    for data, schedule, message in (
        (small_network(add="a6"), TINY, "fails on a view of 64 x 96 pixels"),
        (fixed.SerializeToString(), TINY.replace(judged_size=(32, 32)), "must be 64,96, the fixed"),
    ):
        path.write_bytes(data)
        with pytest.raises(UsageError, match=rf"small\.onnx: .*{message}"):
            go(tmp_path / "no photos", starting_trunk(path), tmp_path / "out", schedule)
        with pytest.raises(UsageError, match=message):
            adapt(path, tmp_path / "no photos", tmp_path / "new.onnx", schedule, Options(ONE))
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_a_run_that_diverges_says_what_to_do(folder, start, tmp_path):
    with pytest.raises(TrainingFailed, match=r"collapsed: the loss is nan; use a smaller learning"):
        go(folder, start, tmp_path / "out", TINY.replace(learning_rate=1e30))
    assert not (tmp_path / "out" / "trunk.onnx").exists()
    assert TrainingFailed.exit_code == 8


def test_a_trunk_that_finds_less_is_refused_with_both_figures(folder, tmp_path):
    broken = TINY.replace(learning_rate=0.5, steps=2)
    figures = r"no better: recall@1 0\.\d{3} .* before recall@1 0\.\d{3} .* of 16 queries"
    with pytest.raises(TrainingFailed, match=figures):
        adapt("auto", folder, tmp_path / "new.onnx", broken, Options(ONE))
    assert not list(tmp_path.iterdir())


def test_validation_data_choose_the_share(folder, start, tmp_path):
    """Their queries are near copies of database photos, so even random weights find them all."""
    searches = open_dataset(write_evaluation_format(tmp_path / "v", places=10)).searches
    unanswered = [replace(searches[0], positives=(frozenset(),) * 10)]
    questions = labelled([*searches, *unanswered], SIZE)
    assert [len(question.queries) for question in questions] == [10]
    with pytest.raises(UsageError, match="no query has an answer"):
        labelled(unanswered, SIZE)
    trunk = start.opened(start.data, ONE)
    assert judge(trunk, questions, SIZE, ONE, "judging") == Score(1.0, 1.0)
    options = Options(ONE)
    with pytest.raises(TrainingFailed, match=r"no better: .* of 10 queries"):
        train_invariance(folder, tmp_path / "o", TINY.replace(steps=1), start, options, searches)


def test_a_tie_is_refused(folder, start, tmp_path, monkeypatch):
    monkeypatch.setattr(invariance, "judge", lambda *_: Score(0.5, 0.5))
    with pytest.raises(TrainingFailed, match=f"no better: .* queries{NOT_USABLE}; keep the trunk"):
        go(folder, start, tmp_path / "out", TINY.replace(steps=1))


def test_of_shares_that_find_most_the_smallest_is_taken(folder, start, tmp_path, monkeypatch):
    searches = open_dataset(write_evaluation_format(tmp_path / "v", places=10)).searches
    scores = iter([Score(0.5, 0.5), Score(0.5, 0.6), *[Score(0.6, 0.7)] * 2, Score(0.6, 0.6)])
    monkeypatch.setattr(invariance, "judge", lambda *_: next(scores))
    schedule, options = TINY.replace(steps=1), Options(ONE)
    trained = train_invariance(folder, tmp_path / "o", schedule, start, options, searches)
    assert (trained.share, trained.before, trained.after) == (0.5, Score(0.5, 0.5), Score(0.6, 0.7))


def test_a_rank_counts_equal_photos_against_the_trunk():
    similarity = np.array([[0.9, 0.5, 0.1], [0.9, 0.9, 0.1], [0.3, 0.3, 0.3]])
    assert first_ranks(similarity, [{0}, {1}, {2}]) == [1, 2, 3]
    assert first_ranks(similarity, [{1, 2}, {0, 1}, {0, 1, 2}]) == [2, 1, 1]


def test_too_few_photos_are_refused_with_the_number_that_is_needed(folder, tmp_path):
    needed = "14 usable photos; 80 are needed, because one of 8 judges the result"
    with pytest.raises(UsageError, match=f"{needed}{NOT_USABLE}; add photos"):
        adapt("auto", folder, tmp_path / "new.onnx", schedule_for("cpu"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="no photo in this folder"):
        read_unlabelled(tmp_path / "empty", TINY, ONE)


def test_an_output_of_another_kind_is_refused_before_any_work(folder, tmp_path):
    (tmp_path / "there.onnx").touch()
    for name in ("there.onnx", "new.safetensors"):
        with pytest.raises(UsageError, match=r"name a new file that ends in \.onnx"):
            adapt("auto", folder, tmp_path / name)


def test_precision_of_a_gpu_is_refused_on_a_cpu(folder, start, tmp_path):
    with pytest.raises(UsageError, match="tf32: needs device cuda"):
        go(folder, start, tmp_path / "out", TINY.replace(precision="tf32"))
    with pytest.raises(UsageError, match="precision: must be float32 or tf32 or bf16"):
        TINY.replace(precision="fp16")


# The commands


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_options_of_another_recipe_are_refused_by_name(folder, tmp_path):
    out = ("--out", tmp_path / "out")
    for words in (("--epochs", 3), ("--no-cache",), ("--preset", "photos"), ("--pca-dim", 3)):
        result = run("train", folder, *out, "--recipe", "invariance", *words)
        assert f"{words[0].replace('no-', '')}: belongs to another" in str(result.exception)
    result = run("train", folder, *out, "--steps", 3)
    assert "--steps: belongs to another recipe than published" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_the_commands_train_and_adapt(folder, start, tmp_path, monkeypatch, command):
    module = sys.modules["placerec.cli.train"]
    monkeypatch.setattr(module, "INVARIANCE", TINY)
    monkeypatch.setattr(module, "ADAPT", TINY)
    monkeypatch.setattr(invariance, "HALF_SIZE", SIZE)
    old, out, new = tmp_path / "small.onnx", tmp_path / "out", tmp_path / "new.onnx"
    old.write_bytes(start.data)
    words = ("--recipe", "invariance", "--model", old, "--threads", 1)
    code, stdout, stderr = command("train", folder, "--out", out, *words)
    assert code == 5, stderr  # two photos were skipped
    assert stdout.startswith(f"{out / 'trunk.onnx'}: ")
    assert "skipped 2 photos:\n  black.png: it shows nothing" in stderr
    code, stdout, stderr = command("adapt", old, folder, "--out", new, "--threads", 1)
    assert code == 5, stderr
    assert [line.partition(" 0.")[0] for line in stdout.splitlines()[1:]] == [
        "before: recall@1", "after: recall@1",
    ]  # fmt: skip
    assert "no confidence" in stderr
    assert new.read_bytes() == (out / "trunk.onnx").read_bytes()
