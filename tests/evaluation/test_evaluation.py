"""A run: every query asked once, whatever happens in between; any method; lists and distractors."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from placerec.errors import BadTable, NotFound, PhotoError, UsageError
from placerec.evaluation.dataset import Dataset
from placerec.evaluation.exchange import export_predictions, import_predictions
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.methods import Method, named_method, own_method
from placerec.evaluation.predictions import read_predictions
from placerec.evaluation.query_lists import sample_queries, select_queries, with_distractors
from placerec.evaluation.run_folder import read_run, write_run_folder
from placerec.evaluation.runner import PREDICTIONS, WORK, evaluate, scored_import
from placerec.index.build import build_index
from placerec.models.model_file import load_model, save_model
from placerec.models.resolve import generic_model, model_facts, resolve, settings_for
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.runtime import Runtime
from placerec.settings import METHODS, Settings
from plain_methods import Darkest, MeanColour, write_onnx_trunk

SMALL = {"image_size": (160, 224)}
NETVLAD = named_method("netvlad", changes=SMALL)


def rankings(run):
    predictions = run.predictions.predictions.values()
    return {
        prediction.query: (prediction.retrieved, prediction.reranked) for prediction in predictions
    }


def recall_at_1(run):
    return run.scores.pooled.retrieved["recall@1"].value


@pytest.fixture
def dataset(town) -> Dataset:
    return open_dataset(town)


def test_a_query_that_cannot_be_read_is_listed_and_counts_as_not_found(town, tmp_path):
    copy = Path(shutil.copytree(town, tmp_path / "town"))
    (copy / "queries" / "night_000.jpg").write_bytes(b"")
    run = evaluate(open_dataset(copy), NETVLAD, runtime=Runtime(threads=2))
    assert len(run.skipped) == 1
    assert "night_000.jpg: " in run.skipped[0]
    assert run.scores.pooled.queries == 6
    assert run.scores.pooled.unanswered == 1
    assert run.scores.pooled.retrieved["recall@10"].value == pytest.approx(5 / 6)
    assert run.outcomes[0].error == run.skipped[0]


def test_a_database_photo_that_cannot_be_read_is_listed_and_never_found(town, tmp_path):
    copy = Path(shutil.copytree(town, tmp_path / "town"))
    (copy / "database" / "place_002.jpg").write_bytes(b"no photo")
    for method in (NETVLAD, Method(MeanColour(), None, 0)):
        run = evaluate(open_dataset(copy), method, runtime=Runtime(threads=2))
        assert len(run.skipped) == 1
        assert "place_002.jpg: " in run.skipped[0]
        answers = {name for one, _ in rankings(run).values() for name, _ in one}
        assert answers == {f"place_00{i}.jpg" for i in (0, 1, 3, 4, 5)}


def test_a_database_without_a_single_usable_photo_is_an_error(town, tmp_path):
    copy = Path(shutil.copytree(town, tmp_path / "town"))
    for photo in (copy / "database").iterdir():
        photo.write_bytes(b"")
    with pytest.raises(PhotoError, match="none of its 6 photos"):
        evaluate(open_dataset(copy), Method(MeanColour(), None, 0))


def test_without_reranking_the_shortlist_is_the_same_and_there_is_no_second_ranking(dataset):
    whole = evaluate(dataset, named_method(changes=SMALL), runtime=Runtime(threads=2))
    none = named_method(changes={"candidates": 0, **SMALL})
    retrieval = evaluate(dataset, none, runtime=Runtime(threads=2))
    for one, two in zip(rankings(whole).values(), rankings(retrieval).values(), strict=True):
        assert one[0] == two[0]
        assert one[1] is not None
        assert two[1] is None
    assert retrieval.scores.pooled.reranked is None
    assert retrieval.as_json()["reranked"] is None


def test_a_run_answers_as_an_index_does(town, dataset, tmp_path):
    from placerec import PlaceRecognizer, build_index

    build_index(tmp_path / "town.placerec", town / "database")
    with PlaceRecognizer.open(tmp_path / "town.placerec") as recognizer:
        places = recognizer.query(town / "queries" / "night_003.jpg", top=6).places
    run = evaluate(dataset)
    answered = rankings(run)["night_003.jpg"][1]
    assert [name for name, _ in answered] == [place.path for place in places]
    assert [score for _, score in answered] == pytest.approx([place.score for place in places])
    reason = "6 photos are too few; refit the index when it has 20 or more"
    assert run.facts["notes"] == [f"no confidence: {reason}"]
    assert {outcome.confidence for outcome in run.outcomes} == {None}
    assert run.scores.pooled.confidence is None


def test_a_method_without_confidences_says_why_only_among_its_facts(dataset):
    run = evaluate(dataset, Method(MeanColour(), Darkest(), 3))
    assert run.facts["no_confidence"].startswith("only the default method has one")
    assert run.facts["notes"] == []


def test_without_a_folder_nothing_is_written(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluate(dataset, NETVLAD)
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_stopped_goes_on_and_ends_like_one_that_was_not(dataset, tmp_path):
    method, out = Method(MeanColour(), Darkest(), 3), tmp_path / "run"
    whole = rankings(evaluate(dataset, method))

    def stop(stage, done, total):
        if stage.startswith("asking") and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(dataset, method, out=out, runtime=Runtime(progress=stop))
    assert len(read_predictions(out / PREDICTIONS).predictions) == 3
    with (out / PREDICTIONS).open("ab") as file:
        file.write(b'{"search": "all", "query": "night_0')  # killed while it wrote
    again = MeanColour()
    run = evaluate(dataset, Method(again, Darkest(), 3), out=out)
    assert again.described == 3  # the queries that were left; no database photo again
    assert rankings(run) == whole
    assert [query for _, query in read_predictions(out / PREDICTIONS).predictions] == list(whole)
    finished = (out / PREDICTIONS).read_bytes()
    evaluate(dataset, method, out=out)
    assert (out / PREDICTIONS).read_bytes() == finished


def test_a_finished_run_needs_its_work_folder_no_more(dataset, tmp_path):
    first = evaluate(dataset, NETVLAD, out=tmp_path)
    shutil.rmtree(tmp_path / WORK)
    again = evaluate(dataset, NETVLAD, out=tmp_path)
    assert again.scores.as_json() == first.scores.as_json()
    assert again.facts == first.facts


def test_a_folder_holds_one_run_and_says_what_differs(dataset, tmp_path):
    evaluate(dataset, NETVLAD, out=tmp_path)
    with pytest.raises(UsageError, match="another method"):
        evaluate(dataset, named_method("netvlad", changes={"clusters": 8, **SMALL}), out=tmp_path)
    with pytest.raises(UsageError, match="another protocol"):
        evaluate(sample_queries(dataset, 3), NETVLAD, out=tmp_path)


def test_a_line_that_is_no_prediction_is_an_error_with_its_number(dataset, tmp_path):
    evaluate(dataset, NETVLAD, out=tmp_path)
    path = tmp_path / PREDICTIONS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"query": 3}\n', *lines[2:]]))
    with pytest.raises(BadTable, match="line 3"):
        evaluate(dataset, NETVLAD, out=tmp_path)
    with pytest.raises(NotFound, match="no such run"):
        read_predictions(tmp_path / "nothing" / PREDICTIONS)


def test_any_retriever_combines_with_any_reranker(dataset):
    colour = Method(MeanColour(), None, 0)
    by_colour = evaluate(dataset, colour)
    assert recall_at_1(by_colour) is not None
    own = own_method(settings=Settings(**SMALL))
    mixed = evaluate(
        dataset, replace(own, retrieval=MeanColour(), candidates=6), runtime=Runtime(threads=1)
    )
    assert mixed.facts["method"]["name"] == "mean-colour + default"
    for query, (retrieved, reranked) in rankings(mixed).items():
        assert retrieved == rankings(by_colour)[query][0]
        assert {name for name, _ in reranked} == {name for name, _ in retrieved}
    dark = evaluate(dataset, Method(own.retrieval, Darkest(), 2), runtime=Runtime(threads=1))
    for retrieved, reranked in rankings(dark).values():
        assert {name for name, _ in reranked[:2]} == {name for name, _ in retrieved[:2]}
        assert [name for name, _ in reranked[2:]] == [name for name, _ in retrieved[2:]]
        assert reranked[0][1] >= reranked[1][1] >= reranked[2][1]


def test_what_cannot_be_combined_is_named():
    with pytest.raises(UsageError, match="choose one of default, netvlad"):
        named_method("netvald")
    with pytest.raises(UsageError, match="only retrieves"):
        named_method("default", "netvlad")
    with pytest.raises(UsageError, match="keypoints: not an option of this method"):
        named_method("default", baseline={"keypoints": 512})


def test_of_a_panorama_only_the_best_photo_stays_and_the_order_is_kept(dataset):
    method = Method(MeanColour(), None, 0)
    plain = rankings(evaluate(dataset, method))
    pairs = replace(dataset, protocol=replace(dataset.protocol, photos_a_panorama=2))
    for query, (kept, _) in rankings(evaluate(pairs, method)).items():
        seen, best = set(), []
        for name, similar in plain[query][0]:
            panorama = int(name[-5]) // 2
            if panorama not in seen:
                best.append((name, similar))
            seen.add(panorama)
        assert list(kept) == best
    assert pairs.hash != dataset.hash


@pytest.fixture
def doubles(town, tmp_path) -> Path:
    """The queries as other files: a byte behind the picture."""
    folder = Path(shutil.copytree(town / "queries", tmp_path / "doubles"))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes() + b" ")
    return folder


def test_distractors_join_the_database_and_the_hash_and_are_never_correct(dataset, doubles):
    crowded = with_distractors(dataset, [doubles])
    run = evaluate(crowded, Method(MeanColour(), None, 0))
    assert recall_at_1(run) == 0.0  # each query finds itself among the distractors
    assert all(one[0][0][0].startswith("/distractors-1/") for one in rankings(run).values())
    assert crowded.hash != dataset.hash
    assert crowded.protocol.name == f"{dataset.protocol.name}, 6 distractors"
    assert run.facts["photos"] == 12


def test_distractors_are_known_by_what_their_files_hold(dataset, doubles, tmp_path):
    others = Path(shutil.copytree(doubles, tmp_path / "elsewhere"))
    assert with_distractors(dataset, [others]).hash == with_distractors(dataset, [doubles]).hash
    name = sorted(one.name for one in others.iterdir())[0]
    with (others / name).open("ab") as file:
        file.write(b" ")
    assert with_distractors(dataset, [others]).hash != with_distractors(dataset, [doubles]).hash


def test_a_distractor_that_comes_twice_joins_once(dataset, doubles, tmp_path):
    shutil.copytree(doubles, tmp_path / "above" / "queries")
    shutil.copy(doubles / "night_000.jpg", tmp_path / "above" / "one_more.jpg")
    both = with_distractors(dataset, [tmp_path / "above" / "queries", tmp_path / "above"])
    assert both.protocol.name.endswith(", 7 distractors")
    with pytest.raises(NotFound, match="no photo that is not in an earlier folder"):
        with_distractors(dataset, [tmp_path / "above", tmp_path / "above" / "queries"])


def test_a_database_photo_is_no_distractor(town, dataset, tmp_path):
    shutil.copy(town / "database" / "place_002.jpg", tmp_path / "innocent.jpg")
    with pytest.raises(UsageError, match=r"innocent.jpg: is the database photo .*place_002.jpg"):
        with_distractors(dataset, [tmp_path])


def test_a_query_is_no_distractor(town, dataset):
    with pytest.raises(UsageError, match=r"night_000.jpg: is the query night_000.jpg of town"):
        with_distractors(dataset, [town / "queries"])


def test_the_hash_tells_lists_and_truth_apart_but_not_where_photos_lie(town, dataset, tmp_path):
    copy = Path(shutil.copytree(town, tmp_path / "elsewhere" / "town"))
    assert open_dataset(copy).hash == dataset.hash
    truth = (copy / "ground_truth.csv").read_text(encoding="utf-8")
    (copy / "ground_truth.csv").write_text(truth.replace("place_005", "place_004"), "utf-8")
    assert open_dataset(copy).hash != dataset.hash
    assert sample_queries(dataset, 3).hash not in {dataset.hash, sample_queries(dataset, 2).hash}


def test_a_list_of_queries_is_kept_in_order_and_joins_the_name(dataset, tmp_path):
    table = tmp_path / "half.csv"
    table.write_text(
        "query,half\nnight_004.jpg,test\nnight_001.jpg,test\nnight_000.jpg,validation\n"
    )
    some = select_queries(dataset, table, "test")
    assert some.searches[0].queries.names == ("night_001.jpg", "night_004.jpg")
    assert some.protocol.name == f"{dataset.protocol.name}, test half of half.csv"
    assert sample_queries(dataset, 100) is dataset
    assert sample_queries(dataset, 3) == sample_queries(dataset, 3)
    assert sample_queries(dataset, 3).queries == 3


def test_a_list_that_does_not_fit_is_named(dataset, tmp_path):
    table = tmp_path / "half.csv"
    with pytest.raises(UsageError, match="queries_list"):
        select_queries(dataset, half="test")
    table.write_text("query,half\nnight_000.jpg,test\n")
    with pytest.raises(UsageError, match="validation or test"):
        select_queries(dataset, table, "tset")
    with pytest.raises(NotFound, match="no query"):
        select_queries(dataset, table, "validation")
    table.write_text("query\nnight_777.jpg\n")
    with pytest.raises(BadTable, match="line 2"):
        select_queries(dataset, table)


def test_a_method_that_needs_more_photos_is_refused_before_anything_is_written(dataset, tmp_path):
    remedy = r"6 photos are too few .*50 photos or more.*fit a model with the method patch-netvlad"
    with pytest.raises(UsageError, match=remedy):
        evaluate(dataset, "patch-netvlad", out=tmp_path / "run")
    folder = dataset.searches[0].database.paths[0].parent
    with pytest.raises(UsageError, match=remedy):
        build_index(tmp_path / "i.placerec", folder, settings=METHODS["patch-netvlad"])
    with pytest.raises(UsageError, match="fit a model with the same settings"):
        evaluate(dataset, own_method(settings=Settings(clusters=8)), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [str, Path])
def test_every_path_is_a_string_or_a_path(town, tmp_path, kind):
    model = kind(tmp_path / "generic.safetensors")
    save_model(generic_model(), model)
    assert load_model(model).fingerprint == generic_model().fingerprint
    assert model_facts(model)["trunk"] == "efficientnet-lite0"
    assert settings_for(model) == resolve(model).model.settings
    index = kind(tmp_path / "town.placerec")
    build_index(index, kind(town / "database"), model=model)
    assert len(PlaceRecognizer.open(index, model=model).index.entries) == 6
    dataset = select_queries(open_dataset(kind(town)), kind(town / "ground_truth.csv"))
    (tmp_path / "far").mkdir()
    shutil.copyfile(town / "queries" / "night_000.jpg", tmp_path / "far" / "0.jpg")
    with pytest.raises(UsageError, match=r"far/0\.jpg: is the query night_000"):
        with_distractors(dataset, kind(tmp_path / "far"))
    out = kind(tmp_path / "run")
    method = named_method(model=model, changes=SMALL)
    write_run_folder(out, evaluate(dataset, method, out=out))
    assert read_run(out).scores["pooled"]["queries"] == 6
    predictions = read_predictions(kind(tmp_path / "run" / PREDICTIONS)).predictions
    export_predictions("hloc", dataset, predictions, kind(tmp_path / "pairs.txt"))
    imported = import_predictions("hloc", dataset, kind(tmp_path / "pairs.txt"))
    assert {key: [n for n, _ in p.final] for key, p in imported.items()} == {
        key: [n for n, _ in p.final] for key, p in predictions.items()
    }
    again = scored_import(dataset, "hloc", kind(tmp_path / "pairs.txt"), None, kind(tmp_path / "i"))
    assert again.scores.pooled.queries == 6


@pytest.mark.parametrize("header", ["", "query\n", "\ufeff", "\ufeffquery\n", "# night\n\n"])
def test_a_plain_list_of_queries_needs_no_header(dataset, tmp_path, header):
    table = tmp_path / "some.txt"
    table.write_text(f"{header}night_004.jpg\n\nnight_001.jpg\n", "utf-8")
    for path in (table, str(table)):
        some = select_queries(dataset, path)
        assert some.searches[0].queries.names == ("night_001.jpg", "night_004.jpg")
        assert some.protocol.name == f"{dataset.protocol.name}, some.txt"


def test_a_plain_list_that_does_not_fit_is_named_with_its_lines(dataset, tmp_path):
    table = tmp_path / "some.txt"
    table.write_text("night_000.jpg\n# day\nday_1.jpg\nnight_001.jpg\nday_2.jpg\n")
    with pytest.raises(BadTable, match=r"line 3: day_1\.jpg .*line 5: day_2\.jpg") as raised:
        select_queries(dataset, table)
    assert raised.value.line == 3
    table.write_text("night_000.jpg\n")
    with pytest.raises(BadTable, match=r"line 1: the header.* needs one query"):
        select_queries(dataset, table, "test")
    table.write_text("# nothing\n")
    with pytest.raises(NotFound, match="no query"):
        select_queries(dataset, table)


def test_an_onnx_file_can_be_evaluated(dataset, tmp_path):
    write_onnx_trunk(tmp_path / "mine.onnx")
    settings = Settings(pca_dim=16, clusters=8)
    run = evaluate(dataset, own_method(model=str(tmp_path / "mine.onnx"), settings=settings))
    assert run.facts["model"].startswith("mine.onnx fitted on")
    assert run.facts["ms_per_query"] > 0


def test_a_run_says_what_it_was_made_with(dataset, tmp_path):
    run = evaluate(dataset, NETVLAD, out=tmp_path, runtime=Runtime(threads=1))
    facts = json.loads(json.dumps(run.facts))
    assert facts["protocol"]["hash"] == dataset.hash
    assert {"placerec", "numpy", "onnxruntime"} <= set(facts["versions"])
    assert facts["threads"] == 1
    assert facts["photos"] == facts["queries"] == 6
    assert len(facts["searches"]["all"]["retrieval"]["fingerprint"]) == 64
    assert set(facts["milliseconds"]) == {"encode", "search"}
    assert 64 * 64 < facts["bytes_per_photo"] < 64 * 65 + 64  # K x local dimensions, a byte each
