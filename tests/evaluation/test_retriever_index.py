"""A trained retriever with our re-ranking is evaluated as it is served: one index has both."""

import sys
from pathlib import Path

import numpy as np
import pytest

from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.methods import named_method
from placerec.evaluation.runner import evaluate
from placerec.index.build import build_index
from placerec.index.calibrate import NOT_THE_DEFAULT
from placerec.recognise import PlaceRecognizer
from placerec.runtime import Runtime
from placerec.settings import Settings

pytest.importorskip("onnx")
sys.path.append(str(Path(__file__).parent.parent / "index"))
from index_support import colours

SIZE = (120, 160)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return colours(tmp_path_factory.mktemp("net") / "colours.onnx")


def test_the_answers_are_those_of_an_index_with_the_retriever(net, town, tmp_path):
    method = named_method(rerank="default", torch_module=str(net), changes={"image_size": SIZE})
    run = evaluate(open_dataset(town), method, out=tmp_path / "run", runtime=Runtime(threads=1))
    index = tmp_path / "town.plr"
    build_index(index, town / "database", settings=Settings(image_size=SIZE), retriever=net)
    assert len(list((tmp_path / "run").rglob("*.placerec"))) == 1
    with PlaceRecognizer.open(index) as recognizer:
        names = [entry.name for entry in recognizer.index.entries]
        for prediction in run.predictions.predictions.values():
            photo = town / "queries" / Path(prediction.query).name
            rows, similar = recognizer.shortlist(
                recognizer.describe(recognizer.read(photo).pixels), 6
            )
            retrieved = [(Path(name).name, value) for name, value in prediction.retrieved]
            assert [name for name, _ in retrieved] == [names[row] for row in rows]
            assert np.allclose([value for _, value in retrieved], similar)
            places = recognizer.query(photo, top=6).places
            assert [Path(name).name for name, _ in prediction.reranked] == [p.path for p in places]
    (parts,) = run.predictions.begun.values()
    assert parts["retrieval"]["model"] == "colours.onnx; generic"


def test_it_has_a_confidence_if_our_part_is_the_default(net):
    default = named_method(rerank="default", torch_module=str(net))
    assert default.no_confidence == ""
    small = named_method(rerank="default", torch_module=str(net), changes={"image_size": SIZE})
    assert small.no_confidence == NOT_THE_DEFAULT
    assert named_method("vlad", "default").no_confidence == NOT_THE_DEFAULT  # it is fitted
