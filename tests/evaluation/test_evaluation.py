"""Data sets and recall: every count by hand."""

import shutil
from pathlib import Path

import pytest

from placerec.errors import BadTable, NotFound, UsageError
from placerec.evaluation.dataset import read_dataset
from placerec.evaluation.evaluate import evaluate
from placerec.evaluation.metrics import recalls


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
    from placerec.settings import METHODS

    data = read_dataset(town)
    whole = evaluate(data, threads=2)
    retrieval = evaluate(data, threads=2, settings=METHODS["default"].replace(candidates=0))
    assert whole.global_recalls == retrieval.global_recalls
    assert retrieval.reranked_recalls is None


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
