"""The whole evaluation on a miniature of every layout: run, scored, reported, submitted."""

import json

import pytest
from published import TREES

from placerec.evaluation.layouts import PROTOCOLS, open_dataset
from placerec.evaluation.methods import Method
from placerec.evaluation.run_folder import SUBMISSION, read_run, write_run_folder
from placerec.evaluation.runner import evaluate
from plain_methods import Darkest, MeanColour


def test_there_is_a_miniature_of_every_protocol():
    assert set(TREES) == set(PROTOCOLS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_run_on_a_miniature_is_scored_and_reported_by_its_protocol(protocol, tmp_path):
    tree = TREES[protocol]
    dataset = open_dataset(tree.write(tmp_path / "set"), protocol, **tree.options)
    method, out = Method(MeanColour(), Darkest(), 2), tmp_path / "run"
    run = evaluate(dataset, method, out=out)
    write_run_folder(out, run, method)
    stored = read_run(out)
    assert stored.hash == dataset.hash
    assert stored.protocol.startswith(protocol)
    assert not run.skipped
    page = (out / "report.html").read_text(encoding="utf-8")
    assert dataset.hash in page
    pooled = run.scores.pooled
    assert pooled.queries == dataset.queries
    assert pooled.unanswered == 0
    assert set(run.scores.searches) == (
        {search.name for search in dataset.searches} if len(dataset.searches) > 1 else set()
    )
    recall = pooled.retrieved["recall@1"].value
    if dataset.protocol.hidden:
        assert recall is None
        lines = (out / SUBMISSION).read_text(encoding="utf-8").splitlines()
        assert len(lines) == dataset.queries
    else:
        assert recall >= 0.5  # a query looks like its place
        assert not (out / SUBMISSION).exists()
    if dataset.protocol.poses and not dataset.protocol.hidden:
        assert 0.0 <= pooled.retrieved["within_5m_10deg"].value <= 1.0
        assert bool(run.scores.conditions) == ("seasons" in protocol)
    groups = dataset.protocol.photos_a_panorama
    for prediction in run.predictions.predictions.values():
        numbers = {name: n for search in dataset.searches
                   for n, name in enumerate(search.database.names)}  # fmt: skip
        panoramas = [numbers[name] // groups for name, _ in prediction.retrieved]
        assert len(set(panoramas)) == len(panoramas)
    json.loads((out / "scores.json").read_text(encoding="utf-8"))
