"""Runs on disk and against each other."""

from dataclasses import replace

import numpy as np
import pytest
from score_support import data_set, photos, predictions, town

from placerec.errors import BadTable, NoRoom, NotFound, UsageError
from placerec.evaluation.scoring.compare import compare, gain
from placerec.evaluation.scoring.outcomes import outcomes, scores
from placerec.evaluation.scoring.score_files import QUERIES, SCORES, as_table, read_run, write_run


def run(folder, data, found, **facts):
    told = outcomes(data, found)
    write_run(folder, scores(data, told), told, facts)
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
        ["a, b.jpg", 'say "x"\r\n.jpg', "q\udcff.jpg", "é.jpg"], places=("1", "1", "", "2"),
        conditions=("night", "", "day", "day"), positions=np.arange(12.0).reshape(4, 3) / 7,
    )  # fmt: skip
    shown = photos((f"d{n}.jpg" for n in range(9)), positions=np.arange(27.0).reshape(9, 3) / 3)
    data = data_set(town([{1, 4}, {0}, set(), {2}], queries=queries, shown=shown))
    found = predictions(data, [1, 0, 4], [5], None, [], reranked=[[4, 1, 0], [5], None, []])
    key = ("town", "a, b.jpg")
    found[key] = replace(found[key], milliseconds={"encode": 1.25, "rerank": 1 / 3})
    key = ("town", "é.jpg")
    found[key] = replace(found[key], error='cannot be read:\n"é.jpg"')
    told = run(tmp_path / "new" / "run", data, found, method="ours")
    assert told.outcomes == outcomes(data, found)
    assert told.scores["facts"] == {"method": "ours"}
    assert (told.name, told.protocol, told.hash) == ("run", "toy", data.hash)


def test_the_same_run_gives_the_same_bytes(data, tmp_path):
    found = predictions(data, *right(range(12)))
    for name in ("a", "b"):
        run(tmp_path / name, data, found)
    for name in (SCORES, QUERIES):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [QUERIES, SCORES]


def test_a_run_that_cannot_be_written_leaves_nothing_half_written(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / SCORES).mkdir()
    with pytest.raises(NoRoom):
        run(tmp_path / "run", data, predictions(data, *right([])))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [SCORES]


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (lambda t: t.replace("search,query", "search,photo", 1), 1, "not the header"),
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
    told = compare(first, second)
    one = told.differences[0]
    assert (one.measure, one.first, one.second) == ("recall@1", 0.5, 0.75)
    assert one.difference == pytest.approx(0.25)
    assert one.low < 0.25 < one.high
    assert (one.won, one.lost) == (7, 2)
    assert told.won == tuple(("town", f"q{n}.jpg") for n in range(10, 17))
    assert told.lost == (("town", "q0.jpg"), ("town", "q1.jpg"))
    assert (told.first, told.second, told.queries) == ("first", "second", 20)


def test_the_other_way_round_everything_changes_its_sign(data, tmp_path):
    first = run(tmp_path / "first", data, predictions(data, *right(range(10))))
    second = run(tmp_path / "second", data, predictions(data, *right(range(2, 17))))
    for one, back in zip(
        compare(first, second).differences, compare(second, first).differences, strict=True
    ):
        assert back.difference == pytest.approx(-one.difference)
        assert (back.low, back.high) == pytest.approx((-one.high, -one.low))
        assert (back.won, back.lost) == (one.lost, one.won)


def test_the_text_has_one_line_a_measure_beginning_with_its_name_and_json_the_same(data, tmp_path):
    first = run(tmp_path / "first", data, predictions(data, *right(range(10))))
    second = run(tmp_path / "second", data, predictions(data, *right(range(2, 17))))
    told = compare(first, second)
    line, kept = told.lines()[0], told.as_json()["measures"]["recall@1"]
    assert line == (
        f"recall@1 {kept['difference']:+.3f} [{kept['low']:+.3f}, {kept['high']:+.3f}]"
        f"  won 7 lost 2"
    )
    names = [line.split()[0] for line in told.lines()]
    assert names == list(told.as_json()["measures"])
    assert told.as_json()["won"][0] == ["town", "q10.jpg"]
    assert "won" not in told.lines()[names.index("pr_auc")]


def test_a_paired_interval_is_narrower_than_that_of_either_value(tmp_path):
    data = data_set(town([{n} for n in range(200)], database=200))
    hard = [[n + 1, n] if n % 2 else [n, n + 1] for n in range(199)] + [[199]]
    easier = [[n, n + 1] if n in (1, 3, 5) else one for n, one in enumerate(hard)]
    first = run(tmp_path / "first", data, predictions(data, *hard))
    second = run(tmp_path / "second", data, predictions(data, *easier))
    one = compare(first, second).differences[0]
    alone = first.scores["pooled"]["retrieved"]["recall@1"]
    assert one.high - one.low < (alone["high"] - alone["low"]) / 2


def test_equal_runs_do_not_differ(data, tmp_path):
    first = run(tmp_path, data, predictions(data, *right(range(10))))
    for one in compare(first, first).differences:
        assert (one.difference, one.low, one.high) == (0.0, 0.0, 0.0)
        assert one.won in (0, None)


def test_runs_of_different_protocols_are_refused_with_both_names_and_hashes(data, tmp_path):
    other = replace(data, protocol=replace(data.protocol, name="strict"))
    found = predictions(data, *right([]))
    first, second = run(tmp_path / "a", data, found), run(tmp_path / "b", other, found)
    with pytest.raises(UsageError) as caught:
        compare(first, second)
    for part in ("'toy'", "'strict'", data.hash[:12], other.hash[:12]):
        assert part in str(caught.value)


def test_a_table_that_lacks_a_query_is_not_compared(data, tmp_path):
    found = predictions(data, *right([]))
    first, second = run(tmp_path / "a", data, found), run(tmp_path / "b", data, found)
    (tmp_path / "b" / QUERIES).write_text(as_table(second.outcomes[:-1]), newline="")
    with pytest.raises(UsageError, match=r"q19\.jpg"):
        compare(first, read_run(tmp_path / "b"))


def test_only_measures_that_both_runs_have_are_compared(tmp_path):
    data = data_set(town([{n} for n in range(30)], database=30))
    shallow = run(tmp_path / "a", data, predictions(data, *[[n] for n in range(30)]))
    deep = [[n, *(m for m in range(30) if m != n)] for n in range(30)]
    told = compare(shallow, run(tmp_path / "b", data, predictions(data, *deep)))
    names = {one.measure for one in told.differences}
    assert "recall@1" in names
    assert "recall@5" not in names


def test_the_gain_of_re_ranking_is_a_comparison_within_one_run(data, tmp_path):
    found = predictions(data, *right(range(10)), reranked=right(range(4, 12)))
    told = gain(run(tmp_path / "a", data, found))
    one = told.differences[0]
    assert (told.first, told.second) == ("retrieved", "reranked")
    assert (one.first, one.second, one.won, one.lost) == (0.5, 0.4, 2, 4)
    assert gain(run(tmp_path / "b", data, predictions(data, *right([])))) is None


def test_a_re_ranking_run_is_compared_by_its_final_ranking(data, tmp_path):
    plain = run(tmp_path / "a", data, predictions(data, *right(range(10))))
    found = predictions(data, *right(range(10)), reranked=right(range(12)))
    told = compare(plain, run(tmp_path / "b", data, found))
    assert told.differences[0].second == 0.6
