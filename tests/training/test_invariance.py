"""The invariance training on tiny drawn photos: steps, equal bits, judgement, the file."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from training_support import write_evaluation_format

from placerec.cli import cli
from placerec.errors import NotFound, PlacerecError, UnsafeWeights, UsageError
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
from placerec.training.views import Views, grid, homographies, places_in, transformed
from placerec.trunks.efficientnet_lite import shipped_onnx
from placerec.trunks.external import OnnxNetwork, OnnxTrunk

SIZE = (64, 96)
ONE = Runtime(threads=1)
TINY = INVARIANCE.replace(
    image_size=SIZE, judged_size=SIZE, steps=6, batch=4, warm_up=1, held_back=3,
    fewest_held_back=4, judged_views=16, learning_rate=1e-2,
)  # fmt: skip


def small_network(**changes) -> bytes:
    """An ONNX trunk of random weights: 8 channels, stride 16. ``changes`` replace operators."""
    rng = np.random.default_rng(0)
    shapes = {"a": (8, 3, 5, 5), "b": (8, 1, 3, 3), "c": (8, 8, 1, 1), "d": (8, 8, 4, 4)}
    tensors = []
    for name, shape in shapes.items():
        kernel = rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[1:]))
        tensors += [
            numpy_helper.from_array(kernel.astype(np.float32), f"{name}.weight"),
            numpy_helper.from_array(rng.standard_normal(8, np.float32) / 10, f"{name}.bias"),
        ]
    tensors += [numpy_helper.from_array(np.float32(n), s) for n, s in ((0, "zero"), (6, "six"))]

    def conv(name, x, **attributes):
        return helper.make_node("Conv", [x, f"{name}.weight", f"{name}.bias"], [name], **attributes)

    nodes = [
        conv("a", "image", auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node(changes.get("clip", "Clip"), ["a", "zero", "six"], ["a6"]),
        conv("b", "a6", pads=[1, 1, 1, 1], group=8, strides=[2, 2]),
        conv("c", "b"),
        helper.make_node("Add", ["b", changes.get("add", "c")], ["sum"]),
        helper.make_node("Relu", ["sum"], ["relu"]),
        conv("d", "relu", auto_pad=changes.get("padding", "SAME_UPPER"), strides=[4, 4]),
        helper.make_node("Identity", ["d"], ["features"]),
    ]
    ends = [("image", [1, 3, "H", "W"]), ("features", [1, 8, "h", "w"])]
    image, features = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ends)
    graph = helper.make_graph(nodes, "small", [image], [features], tensors)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return model.SerializeToString()


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


def image(seed=0, size=SIZE):
    return np.random.default_rng(seed).standard_normal((1, 3, *size), np.float32)


# The trunk


@pytest.mark.parametrize("data", [small_network(), shipped_onnx()], ids=["small", "shipped"])
@pytest.mark.parametrize("size", [(64, 96), (75, 53)])
def test_an_untrained_trunk_is_the_file_to_the_byte_and_to_rounding(data, size):
    trunk = TrainableTrunk(data, "trunk")
    assert trunk.encoded(trunk.arrays()) == data
    expected = OnnxNetwork(data, "trunk")(image(size=size))
    features = trunk(torch.from_numpy(image(size=size))).detach().numpy()
    assert features.shape == expected.shape
    assert np.abs(features - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip": "HardSwish"}, "operator HardSwish cannot be trained, only Conv, Clip"),
        ({"add": "zero"}, "operator Add of a constant"),
        ({"padding": "SAME_LOWER"}, "padding SAME_LOWER"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(changes, message):
    with pytest.raises(UsageError, match=rf"small\.onnx: .*{message}"):
        TrainableTrunk(small_network(**changes), "small.onnx")


def test_tensors_of_another_type_and_other_files_are_refused(tmp_path):
    model = onnx.load_from_string(small_network())
    kernel = model.graph.initializer[0]
    half = numpy_helper.to_array(kernel).astype(np.float16)
    kernel.CopyFrom(numpy_helper.from_array(half, kernel.name))
    with pytest.raises(UsageError, match="not float32"):
        TrainableTrunk(model.SerializeToString(), "half.onnx")
    with pytest.raises(UnsafeWeights, match="not an ONNX network"):
        TrainableTrunk(b"no network", "a.onnx")
    (tmp_path / "model.safetensors").touch()
    for model in ("vgg16", tmp_path / "model.safetensors"):
        with pytest.raises(UsageError, match="this recipe trains auto"):
            starting_trunk(model)
    with pytest.raises(NotFound, match="no such ONNX file"):
        starting_trunk(tmp_path / "absent.onnx")


def test_the_step_of_a_tensor_is_relative_to_its_size(start):
    trunk = TrainableTrunk(start.data, "small")
    for group, tensor in zip(trunk.groups(0.01), trunk.tensors, strict=True):
        assert group["lr"] == pytest.approx(0.01 * float(tensor.detach().square().mean().sqrt()))


# The views


def views(seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    return Views(SIZE, TINY.replace(**changes), generator)


def test_a_homography_takes_four_points_to_four_others():
    source = torch.tensor([[[-1.0, -1], [1, -1], [1, 1], [-1, 1]]])
    target = torch.tensor([[[-0.9, -0.5], [0.7, -0.8], [0.6, 0.9], [-0.4, 0.8]]])
    assert torch.allclose(transformed(homographies(source, target), source), target, atol=1e-6)


def test_a_marked_place_of_the_photo_lies_in_both_views_where_the_maps_say():
    """A bright spot: its brightest pixel in one view is taken to the other view."""
    x, y = grid((128, 192)).reshape(128, 192, 2).unbind(2)
    photos = torch.exp(-((x - 0.1) ** 2 + (y + 0.2) ** 2) / 0.002).expand(3, 3, -1, -1)
    view = views()
    clean, night = (view.quadrilaterals(3, side) for side in ((0.75, 1.0), (0.55, 1.0)))
    spots = []
    for maps in (clean, night):
        brightest = view.cut(photos, maps)[:, 0].flatten(1).argmax(1)
        spots.append(grid(SIZE)[brightest])
    assert (spots[0] - spots[1]).abs().max() > 0.1  # the views differ
    pixel = torch.tensor([2 / SIZE[1], 2 / SIZE[0]])
    mark = torch.tensor([0.1, -0.2])
    for row in range(3):
        one = slice(row, row + 1)
        assert ((transformed(clean[one], spots[0][one, None])[0, 0] - mark).abs() < pixel).all()
        there = places_in(clean[one], night[one], spots[0][one])[0, 0]
        assert ((there - spots[1][row]).abs() < 2 * pixel).all()


def test_a_quadrilateral_lies_inside_the_photo():
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]).expand(50, -1, -1)
    inside = transformed(views().quadrilaterals(50, (0.55, 1.0)), corners)
    assert inside.abs().max() <= 1 + 1e-5
    assert inside.abs().amax((1, 2)).min() < 0.9


def test_a_night_view_is_dark_and_the_seed_decides_it():
    photos = torch.rand((12, 3, *SIZE), generator=torch.Generator().manual_seed(1))
    night = views(3, dark=1.0).night(photos)
    assert torch.equal(night, views(3, dark=1.0).night(photos))
    assert not torch.equal(night, views(4, dark=1.0).night(photos))
    assert night.min() >= 0
    assert night.max() <= 1
    mild = views(3).mild(photos)
    assert float(night.mean()) < 0.7 * float(mild.mean())
    assert 0.4 < float(mild.mean()) < 0.6


# The training


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
    assert trained.share in TINY.shares
    assert trained.queries == 16
    assert [Path(error.path).name for error in trained.skipped] == ["black.png", "broken.jpg"]
    judged = {float(row["share"]): float(row["recall@1"]) for row in rows(out) if row["share"]}
    assert list(judged) == [0, 0.25, 0.5, 0.75, 1]
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


def test_a_run_that_diverges_says_what_to_do(folder, start, tmp_path):
    with pytest.raises(PlacerecError, match=r"collapsed: the loss is nan; use a smaller learning"):
        go(folder, start, tmp_path / "out", TINY.replace(learning_rate=1e30))
    assert not (tmp_path / "out" / "trunk.onnx").exists()


def test_a_trunk_that_finds_less_is_refused_with_both_figures(folder, tmp_path):
    broken = TINY.replace(learning_rate=0.5, steps=2, shares=(1.0,))
    figures = r"no better: recall@1 0\.\d{3} .* before recall@1 0\.\d{3} .* of 16 queries"
    with pytest.raises(PlacerecError, match=figures):
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
    with pytest.raises(PlacerecError, match=r"no better: .* of 10 queries"):
        train_invariance(folder, tmp_path / "o", TINY.replace(steps=1), start, options, searches)


def test_a_tie_is_refused(folder, start, tmp_path, monkeypatch):
    monkeypatch.setattr(invariance, "judge", lambda *_: Score(0.5, 0.5))
    with pytest.raises(PlacerecError, match="no better"):
        go(folder, start, tmp_path / "out", TINY.replace(steps=1))


def test_of_equal_shares_the_smallest_is_taken(folder, start, tmp_path, monkeypatch):
    scores = iter([Score(0.5, 0.5), *[Score(0.6, 0.7)] * 4])
    monkeypatch.setattr(invariance, "judge", lambda *_: next(scores))
    assert go(folder, start, tmp_path / "out", TINY.replace(steps=1)).share == 0.25


def test_a_rank_counts_equal_photos_against_the_trunk():
    similarity = np.array([[0.9, 0.5, 0.1], [0.9, 0.9, 0.1], [0.3, 0.3, 0.3]])
    assert first_ranks(similarity, [{0}, {1}, {2}]) == [1, 2, 3]
    assert first_ranks(similarity, [{1, 2}, {0, 1}, {0, 1, 2}]) == [2, 1, 1]


def test_too_few_photos_are_refused_with_the_number_that_is_needed(folder, tmp_path):
    with pytest.raises(UsageError, match="14 usable photos; 80 are needed"):
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
