"""A run resumes only if everything that its answers depend on is unchanged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from placerec.errors import UsageError
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.methods import Method, named_method, own_method
from placerec.evaluation.predictions import Prediction, PredictionFile, read_predictions
from placerec.evaluation.runner import PREDICTIONS, WORK, evaluate, scored_import
from placerec.models.model_file import save_model
from placerec.models.resolve import generic_model
from placerec.runtime import Runtime
from placerec.settings import Settings
from plain_methods import Darkest, MeanColour, write_onnx_trunk


@pytest.fixture
def copy(town, tmp_path):
    """A copy of the town that a test may change."""
    return Path(shutil.copytree(town, tmp_path / "town"))


def answered(run):
    predictions = run.predictions.predictions.values()
    return {
        prediction.query: (prediction.retrieved, prediction.reranked) for prediction in predictions
    }


def lines(out):
    return [json.loads(line) for line in (out / PREDICTIONS).read_text("utf-8").splitlines()]


def stop_at(count):
    def stop(stage, done, total):
        if stage.startswith("asking") and done == count:
            raise KeyboardInterrupt

    return stop


def test_another_model_file_of_the_same_name_is_refused_by_its_sha256(copy, tmp_path):
    dataset, out = open_dataset(copy), tmp_path / "run"
    path, model = tmp_path / "mine.safetensors", generic_model()

    def asked():
        return named_method(model=str(path), rerank="none")

    save_model(model, path)
    first = evaluate(dataset, asked(), out=out)
    shutil.rmtree(out / WORK)
    assert answered(evaluate(dataset, asked(), out=out)) == answered(first)
    centres = model.fitted.vocabulary.centres
    changed = replace(model.fitted.vocabulary, centres=np.roll(centres, 1, axis=0))
    save_model(replace(model, fitted=replace(model.fitted, vocabulary=changed)), path)
    with pytest.raises(UsageError, match=r"weights generic: .{12}, now .{12}.*output folder"):
        evaluate(dataset, asked(), out=out)


def test_another_onnx_trunk_of_the_same_name_is_refused(copy, tmp_path):
    dataset, out, path = open_dataset(copy), tmp_path / "run", tmp_path / "mine.onnx"
    settings = Settings(pca_dim=16, clusters=8, patch_sizes=(), candidates=0)
    method = own_method(model=str(path), settings=settings)
    write_onnx_trunk(path, 0)
    evaluate(dataset, method, out=out)
    write_onnx_trunk(path, 1)
    with pytest.raises(UsageError, match="method retrieval weights"):
        evaluate(dataset, method, out=out)


def test_changed_code_of_a_torch_module_is_refused(copy, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    import sys

    dataset, out, path = open_dataset(copy), tmp_path / "run", tmp_path / "resumednet.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    code = "def build():\n    return lambda image: image.mean((2, 3)) - {}\n"

    def asked(number):
        path.write_text(code.format(number), "utf-8")
        sys.modules.pop("resumednet", None)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        return named_method(torch_module="resumednet:build")

    first = asked("0.5")
    assert set(first.as_json()["code"]) == {"resumednet.py"}
    evaluate(dataset, first, out=out)
    with pytest.raises(UsageError, match=r"method code resumednet\.py"):
        evaluate(dataset, asked("0.7"), out=out)
    sys.modules.pop("resumednet")


def test_changed_weights_or_options_of_a_baseline_are_refused(copy, tmp_path):
    class Recorded(Darkest):
        def __init__(self, **changes):
            self.record = {"keypoints": 512, "weights": {"net.safetensors": "c" * 64}} | changes

    dataset, out = open_dataset(copy), tmp_path / "run"
    evaluate(dataset, Method(MeanColour(), Recorded(), 3), out=out)
    recorded = lines(out)[0]["header"]["method"]["reranking"]
    assert recorded == {"method": "darkest", **Recorded().record, "fingerprint": "b" * 64}
    for changed in ({"keypoints": 256}, {"weights": {"net.safetensors": "d" * 64}}):
        with pytest.raises(UsageError, match=f"method reranking {next(iter(changed))}"):
            evaluate(dataset, Method(MeanColour(), Recorded(**changed), 3), out=out)
    other = MeanColour()
    other.fingerprint = "e" * 64
    with pytest.raises(UsageError, match="retrieval fingerprint: aaaaaaaaaaaa, now eeeeeeeeeeee"):
        evaluate(dataset, Method(other, Recorded(), 3), out=out)


def test_a_baseline_needs_no_fingerprint_before_its_fit(copy, tmp_path):
    class Fitted(MeanColour):
        @property
        def fingerprint(self):
            if not self.fitted:
                raise UsageError("not fitted yet")
            return "a" * 64

    out = tmp_path / "run"
    evaluate(open_dataset(copy), Method(Fitted(), None, 0), out=out)
    assert lines(out)[0]["header"]["method"]["retrieval"] == {"method": "mean-colour"}
    evaluate(open_dataset(copy), Method(Fitted(), None, 0), out=out)


def test_named_and_shipped_models_are_recorded_by_their_contents():
    weights = named_method("netvlad").as_json()["retrieval"]["weights"]
    assert set(weights) == {"efficientnet-lite0", "generic"}
    assert all(len(digest) == 64 for digest in weights.values())
    trunk = named_method("netvlad", model="efficientnet-lite0").as_json()["retrieval"]["weights"]
    assert trunk == {"efficientnet-lite0": weights["efficientnet-lite0"]}


def test_two_parts_with_one_model_file_record_the_same_weights(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_model(generic_model(), path)
    record = named_method("netvlad", "default", model=str(path)).as_json()
    assert record["retrieval"]["weights"] == record["reranking"]["weights"]


def test_a_replaced_photo_is_refused(copy, tmp_path):
    out, method = tmp_path / "run", Method(MeanColour(), None, 0)
    evaluate(open_dataset(copy), method, out=out)
    elsewhere = Path(shutil.copytree(copy, tmp_path / "elsewhere" / "town"))
    evaluate(open_dataset(elsewhere), method, out=out)  # the folder does not matter
    shutil.copy(copy / "queries" / "night_001.jpg", copy / "queries" / "night_000.jpg")
    with pytest.raises(UsageError, match="another photo_sizes"):
        evaluate(open_dataset(copy), method, out=out)


def test_another_file_of_predictions_is_not_scored_in_the_same_folder(copy, tmp_path):
    dataset, out, path = open_dataset(copy), tmp_path / "run", tmp_path / "imported.txt"
    wrong = "".join(f"night_00{n}.jpg place_00{(n + 1) % 6}.jpg\n" for n in range(6))
    path.write_text(wrong, "utf-8")
    first = scored_import(dataset, "hloc", path, None, out)
    assert first.scores.pooled.retrieved["recall@1"].value == 0.0
    assert scored_import(dataset, "hloc", path, None, out).scores.pooled == first.scores.pooled
    path.write_text("".join(f"night_00{n}.jpg place_00{n}.jpg\n" for n in range(6)), "utf-8")
    with pytest.raises(UsageError, match=r"method files.*another output folder"):
        scored_import(dataset, "hloc", path, None, out)
    assert (
        scored_import(dataset, "hloc", path, None, tmp_path / "new")
        .scores.pooled.retrieved["recall@1"]
        .value
        == 1.0
    )
    with pytest.raises(UsageError, match="method scorer: none, now imported"):
        scored_import(dataset, "hloc", path, path, tmp_path / "new")


def test_a_run_of_another_format_is_refused_with_both_formats(copy, tmp_path):
    out, method = tmp_path / "run", Method(MeanColour(), None, 0)
    evaluate(open_dataset(copy), method, out=out)
    text = (out / PREDICTIONS).read_text("utf-8")
    older = text.replace('"format": 3', '"format": 2').replace('"confidence": null, ', "")
    assert older.count("confidence") == text.count("confidence") - 6 == 1  # a fact of the method
    (out / PREDICTIONS).write_text(older, "utf-8")
    assert (
        read_predictions(out / PREDICTIONS).predictions["all", "night_000.jpg"].confidence is None
    )
    with pytest.raises(UsageError, match=r"another format \(format: 2, now 3\)"):
        evaluate(open_dataset(copy), method, out=out)


def test_seconds_are_those_of_all_starts(copy, tmp_path, monkeypatch):
    from placerec.evaluation import runner as room

    dataset, out, method = open_dataset(copy), tmp_path / "run", Method(MeanColour(), None, 0)
    now = [0.0]
    monkeypatch.setattr(room.time, "perf_counter", lambda: now[0])

    def passing(stage, done, total):
        now[0] += 10.0 if stage.startswith("asking") else 0.0
        if stage.startswith("asking") and stop and done == stop:
            raise KeyboardInterrupt

    stop = 3
    with pytest.raises(KeyboardInterrupt):
        evaluate(dataset, method, out=out, runtime=Runtime(progress=passing))
    assert lines(out)[-1] == {"paused": "all", "seconds": 30.0}
    with (out / PREDICTIONS).open("ab") as file:
        file.write(b'{"paused": "all", "sec')  # killed while it wrote
    stop, before = 0, now[0]
    run = evaluate(dataset, method, out=out, runtime=Runtime(progress=passing))
    assert now[0] - before == 60.0
    assert run.facts["seconds"] == 90.0
    assert evaluate(dataset, method, out=out).facts["seconds"] == 90.0


def test_the_seconds_up_to_the_last_answer_survive_a_kill(tmp_path):
    path = tmp_path / "predictions.jsonl"
    with PredictionFile({"a": 1}, path) as file:
        file.begin("all", {}, 5.0)
        assert read_predictions(path).spent == {"all": 5.0}
        file.add(Prediction("all", "q.jpg", ()), 7.25)
    assert read_predictions(path).spent == {"all": 7.25}


def test_a_lost_answer_of_a_finished_run_is_asked_again(copy, tmp_path):
    dataset, out, method = open_dataset(copy), tmp_path / "run", Method(MeanColour(), None, 0)
    complete = answered(evaluate(dataset, method, out=out))
    stored = (out / PREDICTIONS).read_bytes().splitlines(keepends=True)
    (out / PREDICTIONS).write_bytes(b"".join(line for line in stored if b"night_002" not in line))
    assert answered(evaluate(dataset, method, out=out)) == complete


def test_the_work_folder_of_a_deleted_run_with_other_photos_is_not_used(copy, tmp_path):
    out, method = tmp_path / "run", Method(MeanColour(), Darkest(), 3)
    evaluate(open_dataset(copy), method, out=out)
    (out / PREDICTIONS).unlink()  # but not its work folder
    day = copy / "database"
    for name, other in (("place_000.jpg", "place_003.jpg"), ("place_003.jpg", "place_000.jpg")):
        shutil.copy(day / name, tmp_path / other)
    for name in ("place_000.jpg", "place_003.jpg"):
        shutil.copy(tmp_path / name, day / name)
    answers = answered(evaluate(open_dataset(copy), method, out=out))
    assert answers == answered(evaluate(open_dataset(copy), method))


def test_a_run_is_written_by_one_process_at_a_time(copy, tmp_path):
    header, path = {"format": 0}, tmp_path / PREDICTIONS
    with PredictionFile(header, path) as file:
        file.add(Prediction("all", "q", (("d", 1.0),)))
        before = path.read_bytes()
        with pytest.raises(UsageError, match="another process is writing this run"):
            PredictionFile(header, path)
        assert path.read_bytes() == before
    with PredictionFile(header, path) as file:
        assert len(file.predictions) == 1
