"""Scored runs on disk, and their comparison."""

from dataclasses import replace

import numpy as np
import pytest
from score_support import data_set, photos, predictions, town

from placerec.errors import BadTable, NoRoom, NotFound, UsageError
from placerec.evaluation.compare import compare, gain
from placerec.evaluation.run_folder import QUERIES, SCORES, as_table, read_run, write_scores
from placerec.evaluation.scoring.outcomes import outcomes
from placerec.evaluation.scoring.scores import scores


def run(folder, data, predicted, **facts):
    comparison = outcomes(data, predicted)
    write_scores(folder, scores(data, comparison), comparison, facts)
    return read_run(folder)


@pytest.fixture
def data():
    """20 queries, each answered by its own photo alone."""
    return data_set(town([{n} for n in range(20)], database=20))


def right(numbers, count=20):
    """Lists of two: the queries ``numbers`` have their photo first, the others last."""
    return [[n, (n + 1) % 20] if n in numbers else [(n + 1) % 20, n] for n in range(count)]


def test_a_run_reads_back_to_equal_outcomes(tmp_path):
    queries = photos(
        ["a, b.jpg", 'say "x"\r\n.jpg', "q\udcff.jpg", "é.jpg"], place_labels=("1", "1", "", "2"),
        conditions=("night", "", "day", "day"), positions=np.arange(12.0).reshape(4, 3) / 7,
    )  # fmt: skip
    shown = photos((f"d{n}.jpg" for n in range(9)), positions=np.arange(27.0).reshape(9, 3) / 3)
    data = data_set(town([{1, 4}, {0}, set(), {2}], queries=queries, shown=shown))
    predicted = predictions(data, [1, 0, 4], [5], None, [], reranked=[[4, 1, 0], [5], None, []])
    key = ("town", "a, b.jpg")
    predicted[key] = replace(predicted[key], milliseconds={"encode": 1.25, "rerank": 1 / 3})
    key = ("town", "é.jpg")
    predicted[key] = replace(predicted[key], error='cannot be read:\n"é.jpg"')
    comparison = run(tmp_path / "new" / "run", data, predicted, method="ours")
    assert comparison.outcomes == outcomes(data, predicted)
    assert comparison.scores["facts"] == {"method": "ours"}
    assert (comparison.name, comparison.protocol, comparison.hash) == ("run", "toy", data.hash)


def test_the_same_run_gives_the_same_bytes(data, tmp_path):
    predicted = predictions(data, *right(range(12)))
    for name in ("a", "b"):
        run(tmp_path / name, data, predicted)
    for name in (SCORES, QUERIES):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [QUERIES, SCORES]


def test_a_run_that_cannot_be_written_leaves_no_partial_file(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / SCORES).mkdir()
    with pytest.raises(NoRoom):
        run(tmp_path / "run", data, predictions(data, *right([])))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [SCORES]


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (lambda t: t.replace("search,query", "search,photo", 1), 1, "not the columns"),
        (lambda t: t.replace(",1 2,", ",2 1,", 1), 2, "ascend"),
        (lambda t: t.replace(",1 2,", ",1 3,", 1), 2, "rank 3 of 2 answers"),
        (lambda t: t.replace(",1 2,", ",1 x,", 1), 2, "not an outcome"),
        (lambda t: t.replace("town,q1.jpg,", "town,q1.jpg,,", 1), 3, "values for"),
        (lambda t: t.replace("town,q1.jpg,,,1,0,2,", "town,q1.jpg,,,1,0,,", 1), 3, "answers"),
    ],
)
def test_a_malformed_table_is_refused_with_its_line(change, line, message, tmp_path):
    data = data_set(town([{0, 1}, {0}]))
    run(tmp_path, data, predictions(data, [0, 1], [0, 1]))
    path = tmp_path / QUERIES
    text = path.read_bytes().decode()
    assert change(text) != text
    path.write_bytes(change(text).encode())
    with pytest.raises(BadTable, match=message) as caught:
        read_run(tmp_path)
    assert (caught.value.path, caught.value.line) == (path, line)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pooled": {"retrieved": null}}'])
def test_malformed_scores_are_refused(text, data, tmp_path):
    run(tmp_path, data, {})
    (tmp_path / SCORES).write_text(text)
    with pytest.raises(BadTable):
        read_run(tmp_path)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"scores\.json"):
        read_run(tmp_path)


def test_differences_are_second_minus_first_with_queries_won_and_lost(data, tmp_path):
    first = run(tmp_path / "first", data, predictions(data, *right(range(10))))
    second = run(tmp_path / "second", data, predictions(data, *right(range(2, 17))))
    comparison = compare(first, second)
    difference = comparison.differences[0]
    assert (difference.measure, difference.first, difference.second) == ("recall@1", 0.5, 0.75)
    assert difference.difference == pytest.approx(0.25)
    assert difference.low < 0.25 < difference.high
    assert (difference.won, difference.lost) == (7, 2)
    assert comparison.won == tuple(("town", f"q{n}.jpg") for n in range(10, 17))
    assert comparison.lost == (("town", "q0.jpg"), ("town", "q1.jpg"))
    assert (comparison.first, comparison.second, comparison.queries) == ("first", "second", 20)


def test_the_reverse_comparison_changes_every_sign(data, tmp_path):
    first = run(tmp_path / "first", data, predictions(data, *right(range(10))))
    second = run(tmp_path / "second", data, predictions(data, *right(range(2, 17))))
    for difference, back in zip(
        compare(first, second).differences, compare(second, first).differences, strict=True
    ):
        assert back.difference == pytest.approx(-difference.difference)
        assert (back.low, back.high) == pytest.approx((-difference.high, -difference.low))
        assert (back.won, back.lost) == (difference.lost, difference.won)


def test_the_text_has_one_line_per_measure_and_json_has_the_same_values(data, tmp_path):
    first = run(tmp_path / "first", data, predictions(data, *right(range(10))))
    second = run(tmp_path / "second", data, predictions(data, *right(range(2, 17))))
    comparison = compare(first, second)
    line, values = comparison.lines()[0], comparison.as_json()["measures"]["recall@1"]
    assert line == (
        f"recall@1 {values['difference']:+.3f} [{values['low']:+.3f}, {values['high']:+.3f}]"
        f"  won 7 lost 2"
    )
    every = comparison.lines(every=True)
    names = [line.split()[0] for line in every]
    assert names == list(comparison.as_json()["measures"])
    assert comparison.as_json()["won"][0] == ["town", "q10.jpg"]
    assert "won" not in every[names.index("pr_auc")]


def test_the_main_lines_are_the_recalls_of_the_final_and_of_the_global_ranking(data, tmp_path):
    best, worse = right(range(20)), right(range(10))
    first = run(tmp_path / "first", data, predictions(data, *worse, reranked=best))
    second = run(tmp_path / "second", data, predictions(data, *right(range(15)), reranked=worse))
    comparison = compare(first, second)
    lines = comparison.lines()
    assert [line.split("  ")[0].partition(" [")[0] for line in lines] == [
        "recall@1 -0.500",
        "global recall@1 +0.250",
    ]  # the lists have two photos: there is no recall@5
    assert [line.rpartition("  ")[2] for line in lines] == ["won 0 lost 10", "won 5 lost 0"]
    assert set(lines) < set(comparison.lines(every=True))
    assert "retrieved" not in comparison.as_json()
    assert compare(first, first).as_json().keys() == comparison.as_json().keys()


def test_a_paired_interval_is_narrower_than_that_of_either_value(tmp_path):
    data = data_set(town([{n} for n in range(200)], database=200))
    hard = [[n + 1, n] if n % 2 else [n, n + 1] for n in range(199)] + [[199]]
    easier = [[n, n + 1] if n in (1, 3, 5) else difference for n, difference in enumerate(hard)]
    first = run(tmp_path / "first", data, predictions(data, *hard))
    second = run(tmp_path / "second", data, predictions(data, *easier))
    difference = compare(first, second).differences[0]
    alone = first.scores["pooled"]["retrieved"]["recall@1"]
    assert difference.high - difference.low < (alone["high"] - alone["low"]) / 2


def test_equal_runs_do_not_differ(data, tmp_path):
    first = run(tmp_path, data, predictions(data, *right(range(10))))
    for difference in compare(first, first).differences:
        assert (difference.difference, difference.low, difference.high) == (0.0, 0.0, 0.0)
        assert difference.won in (0, None)


def test_runs_of_different_protocols_are_refused_with_both_names_and_hashes(data, tmp_path):
    other = replace(data, protocol=replace(data.protocol, name="strict"))
    predicted = predictions(data, *right([]))
    first, second = run(tmp_path / "a", data, predicted), run(tmp_path / "b", other, predicted)
    with pytest.raises(UsageError) as caught:
        compare(first, second)
    for part in ("'toy'", "'strict'", data.hash[:12], other.hash[:12]):
        assert part in str(caught.value)


def test_a_table_that_lacks_a_query_is_not_compared(data, tmp_path):
    predicted = predictions(data, *right([]))
    first, second = run(tmp_path / "a", data, predicted), run(tmp_path / "b", data, predicted)
    (tmp_path / "b" / QUERIES).write_text(as_table(second.outcomes[:-1]), newline="")
    with pytest.raises(UsageError, match=r"q19\.jpg"):
        compare(first, read_run(tmp_path / "b"))


def test_only_measures_that_both_runs_have_are_compared(tmp_path):
    data = data_set(town([{n} for n in range(30)], database=30))
    shallow = run(tmp_path / "a", data, predictions(data, *[[n] for n in range(30)]))
    deep = [[n, *(m for m in range(30) if m != n)] for n in range(30)]
    comparison = compare(shallow, run(tmp_path / "b", data, predictions(data, *deep)))
    names = {difference.measure for difference in comparison.differences}
    assert "recall@1" in names
    assert "recall@5" not in names


def test_the_gain_of_re_ranking_is_a_comparison_within_one_run(data, tmp_path):
    predicted = predictions(data, *right(range(10)), reranked=right(range(4, 12)))
    comparison = gain(run(tmp_path / "a", data, predicted))
    difference = comparison.differences[0]
    assert (comparison.first, comparison.second) == ("retrieved", "reranked")
    assert (difference.first, difference.second, difference.won, difference.lost) == (
        0.5,
        0.4,
        2,
        4,
    )
    assert gain(run(tmp_path / "b", data, predictions(data, *right([])))) is None


def test_a_re_ranking_run_is_compared_by_its_final_ranking(data, tmp_path):
    plain = run(tmp_path / "a", data, predictions(data, *right(range(10))))
    predicted = predictions(data, *right(range(10)), reranked=right(range(12)))
    comparison = compare(plain, run(tmp_path / "b", data, predicted))
    assert comparison.differences[0].second == 0.6


def sure(data, numbers, confidence):
    """Predictions with confidences; the first query has none, and the last is refused."""
    predicted = predictions(data, *right(numbers))
    for n, (key, answer) in enumerate(list(predicted.items())[1:], start=1):
        predicted[key] = replace(answer, confidence=confidence(n), in_map=n != 19)
    return predicted


def test_confidences_are_in_the_scores_and_read_back(data, tmp_path):
    predicted = sure(data, range(10), lambda n: 0.95 if n < 12 else 0.05)
    stored = run(tmp_path, data, predicted)
    assert stored.outcomes == outcomes(data, predicted)
    values = {name: e["value"] for name, e in stored.scores["pooled"]["confidence"].items()}
    assert values["calibration_error"] == pytest.approx(
        (11 * (0.95 - 9 / 11) + 8 * 0.05) / 19, abs=1e-6
    )
    assert values["auc_right_wrong"] == pytest.approx(0.9)
    assert values["precision_at_coverage_0.5"] == pytest.approx(9 / 11, abs=1e-6)
    assert values["right_refused"] == 0.0
    rows = stored.scores["reliability"]
    assert np.allclose(rows, [[0, 8 / 19, 0.05, 0], [0.9, 11 / 19, 0.95, 9 / 11]])
    assert stored.scores["open_set"] is None


def test_runs_with_confidences_are_compared_in_them_too(data, tmp_path):
    first = run(tmp_path / "first", data, sure(data, range(10), lambda n: 0.55))
    second = run(tmp_path / "second", data, sure(data, range(10), lambda n: 0.95 * (n < 10)))
    rows = {row.measure: row for row in compare(first, second).differences}
    row = rows["auc_right_wrong"]
    assert (row.first, row.second, row.difference) == (0.5, 1.0, 0.5)
    assert (row.low, row.high, row.won, row.lost) == (0.5, 0.5, None, None)
    bare = run(tmp_path / "bare", data, predictions(data, *right(range(10))))
    assert bare.scores["pooled"]["confidence"] is None
    assert "auc_right_wrong" not in {row.measure for row in compare(first, bare).differences}


@pytest.mark.parametrize("cell", ["1.5,1", "0.5,2", "x,1"])
def test_a_confidence_that_cannot_be_is_refused(cell, data, tmp_path):
    run(tmp_path, data, sure(data, range(10), lambda n: 0.5))
    path = tmp_path / QUERIES
    path.write_text(path.read_text().replace(",0.5,1,", f",{cell},", 1))
    with pytest.raises(BadTable, match="line 3"):
        read_run(tmp_path)
