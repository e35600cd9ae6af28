"""What decides the numbers of a table: paths of every kind, and what the command takes."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from placerec.cli import cli
from placerec.errors import UsageError
from placerec.evaluation.scoring.metrics import RECALL_AT
from placerec.reproduce.parameters import Parameters

SMALL = Parameters(model="efficientnet-lite0", candidates=10)


@pytest.mark.parametrize("kind", [str, Path])
def test_the_paths_of_parameters_are_strings_or_paths(kind):
    folder, truth = kind("/photos/far/away"), kind("/data/town/truth.csv")
    parameters = replace(SMALL, distractors=folder, ground_truth=truth, queries_list=truth)
    assert parameters.distractors_of("town") == [Path("/photos/far/away")]
    assert replace(SMALL, distractors=[folder, "other=/x/y"]).distractors_of("town") == [
        Path("/photos/far/away")
    ]
    values = parameters.as_json()
    assert values["distractors"] == ["far/away"]
    assert values["ground_truth"] == values["queries_list"] == "town/truth.csv"
    assert replace(SMALL, model=kind("m.onnx")).as_json()["model"] == "m.onnx"


def test_the_command_takes_the_candidates_that_a_table_needs(tmp_path):
    words = ["reproduce", "ablation", str(tmp_path), "--out", str(tmp_path / "out"), "--candidates"]
    refused = CliRunner().invoke(cli, [*words, str(max(RECALL_AT) - 1)])
    assert refused.exit_code == 2
    assert "x>=10" in refused.output
    with pytest.raises(UsageError, match="at least 10"):
        replace(SMALL, candidates=max(RECALL_AT) - 1)
    replace(SMALL, candidates=max(RECALL_AT))
    option = next(o for o in cli.commands["reproduce"].params if o.name == "candidates")
    assert option.type.min == max(RECALL_AT)
    assert f"at least {max(RECALL_AT)}" in option.help
