"""Data sets and recall: every count by hand."""

import shutil
from pathlib import Path

import pytest

from placerec.errors import BadTable, NotFound, UsageError
from placerec.evaluation.dataset import read_dataset
from placerec.evaluation.evaluate import evaluate
from placerec.evaluation.metrics import recalls
from placerec.settings import METHODS, Settings


def test_recall_counts_queries_with_a_positive_among_the_first_n():
    ranked = {
        "a": ["x", "y"],
        "b": ["y", "z", "w", "v", "x"],
        "c": ["y"],
        "d": [],
    }
    positives = {
        "a": frozenset("x"),
        "b": frozenset("x"),
        "c": frozenset(),
        "d": frozenset("x"),
    }
    assert recalls(ranked, positives) == {
        "recall@1": 1 / 3,
        "recall@5": 2 / 3,
        "recall@10": 2 / 3,
    }


def test_no_query_with_a_positive_is_zero_and_no_error():
    assert recalls({"a": ["x"]}, {"a": frozenset()})["recall@1"] == 0.0


def test_a_data_set_is_read_in_sorted_order_with_its_positives(town):
    data = read_dataset(town)
    assert data.database == tuple(f"place_00{i}.jpg" for i in range(6))
    assert data.positives["night_003.jpg"] == {"place_003.jpg"}


def test_a_query_that_cannot_be_read_is_listed_and_counts_as_missed(town, tmp_path):
    copy = Path(shutil.copytree(town, tmp_path / "town"))
    (copy / "queries" / "night_000.jpg").write_bytes(b"")
    result = evaluate(read_dataset(copy), threads=2)
    assert [error.path.name for error in result.skipped] == ["night_000.jpg"]
    assert result.queries == 6
    assert result.global_recalls["recall@10"] == pytest.approx(5 / 6)


def test_retrieval_and_reranking_agree_on_the_global_ranking(town):
    data = read_dataset(town)
    whole = evaluate(data, threads=2)
    retrieval = evaluate(data, threads=2, settings=METHODS["default"].replace(candidates=0))
    assert whole.global_recalls == retrieval.global_recalls
    assert retrieval.reranked_recalls is None


def test_an_onnx_file_can_be_evaluated(town, tmp_path):
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.random.default_rng(0).standard_normal((16, 3, 16, 16)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], strides=[16, 16])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, "h", "w"])],
        [numpy_helper.from_array(kernel, "w")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), tmp_path / "mine.onnx")
    settings = Settings(pca_dim=16, clusters=8)
    result = evaluate(read_dataset(town), model=str(tmp_path / "mine.onnx"), settings=settings)
    assert result.model.startswith("mine.onnx fitted on")
    assert result.queries == 6
    assert result.ms_per_query > 0


@pytest.mark.parametrize("part", ["database", "queries", "ground_truth.csv"])
def test_a_missing_part_is_named(town, tmp_path, part):
    copy = Path(shutil.copytree(town, tmp_path / "town"))
    target = copy / part
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(NotFound, match=part):
        read_dataset(copy)


def test_a_table_without_the_columns_says_which(town, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("query,positive\na,b\n")
    with pytest.raises(BadTable, match="no column database"):
        read_dataset(town, table)


def test_a_half_needs_a_list_and_a_known_name(town, tmp_path):
    with pytest.raises(UsageError, match="queries-list"):
        read_dataset(town, half="test")
    table = tmp_path / "t.csv"
    table.write_text("query,half\nnight_000.jpg,test\n")
    with pytest.raises(UsageError, match="validation or test"):
        read_dataset(town, queries_list=table, half="tset")
    with pytest.raises(NotFound, match="no query"):
        read_dataset(town, queries_list=table, half="validation")
