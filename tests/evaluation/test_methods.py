"""Which methods combine, what each option changes, and which options are refused."""

import re

import pytest

from placerec.baselines import RERANKERS, Baseline
from placerec.errors import UsageError
from placerec.evaluation.methods import BASELINE_CANDIDATES, Own, named_method
from placerec.runtime import Runtime


class Plain:
    """A re-ranker that only has options."""

    def __init__(self, keypoints=512, threads=1):
        self.name, self.fingerprint = "plain", "f" * 64
        self.record = {"keypoints": keypoints}


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setitem(RERANKERS, "plain", Baseline(Plain, ("keypoints", "threads")))


@pytest.mark.parametrize(
    ("asked", "options", "refused"),
    [
        (("default", "none"), {"scorer": "ransac"}, "scorer: changes nothing of default"),
        (("default", "plain"), {"patch_sizes": ((5, 5),), "fusion": "z-score"},
         "fusion, patch_sizes: changes nothing of default + plain"),
        (("default",), {"candidates": 0, "scorer": "spatial"}, "scorer"),
        (("default",), {"spatial_form": "paper"}, "spatial_form"),
        (("netvlad",), {"candidates": 50}, "candidates"),
        (("netvlad",), {"k_patch": 4}, "k_patch"),
        (("vlad",), {"candidates": 50}, "candidates: changes nothing of vlad"),
        (("vlad",), {"image_size": (48, 64)}, "image_size"),
        (("vlad", "plain"), {"scorer": "ransac"}, "scorer: changes nothing of vlad + plain"),
        (("paper-speed", "none"), {"stride": 2}, "stride"),
    ],
)  # fmt: skip
def test_a_setting_that_changes_nothing_is_refused_by_its_name(asked, options, refused):
    with pytest.raises(UsageError, match=re.escape(refused)):
        named_method(*asked, changes=options)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (("default",), {"scorer": "spatial", "spatial_form": "paper"}),
        (("default", "plain"), {"candidates": 3, "image_size": (48, 64)}),
        (("netvlad",), {"patch_sizes": ((2, 2),), "candidates": 5, "scorer": "ransac"}),
        (("vlad", "default"), {"scorer": "spatial", "stride": 3}),
        (("paper-speed", "none"), {"pca_dim": 128}),
        (("vlad",), {"candidates": 0}),
    ],
)
def test_a_setting_that_changes_something_is_accepted(asked, options):
    method = named_method(*asked, changes=options)
    own = [part for part in (method.reranking, method.retrieval) if isinstance(part, Own)]
    if own and options.get("candidates", 1) and "candidates" not in options:
        assert all(getattr(own[0].settings, name) == value for name, value in options.items())
    assert method.candidates == options.get("candidates", method.candidates)


def test_a_model_or_device_is_refused_if_only_baselines_answer():
    with pytest.raises(UsageError, match="model: changes nothing of vlad"):
        named_method("vlad", "plain", model="efficientnet-lite0")
    with pytest.raises(UsageError, match="device: changes nothing of vlad"):
        named_method("vlad", "plain", runtime=Runtime(device="cuda"))
    both = named_method("vlad", "default", model="efficientnet-lite0")
    assert both.reranking.model == "efficientnet-lite0"


def test_with_zero_candidates_no_method_re_ranks():
    for asked in (("default",), ("default", "plain"), ("plain",), ("vlad", "default")):
        method = named_method(*asked, changes={"candidates": 0})
        assert (method.reranking, method.scorer, method.candidates) == (None, None, 0)
    with pytest.raises(UsageError, match="keypoints: not an option of this method"):
        named_method("plain", changes={"candidates": 0}, baseline={"keypoints": 64})
    assert named_method("plain").candidates == BASELINE_CANDIDATES


def test_a_method_that_re_ranks_its_own_shortlist_is_the_method_itself():
    assert named_method("default", "default") == named_method("default")
    assert named_method(rerank="default") == named_method()
    assert named_method("netvlad", "default").name == "netvlad + default"


def test_a_re_ranker_as_method_orders_the_default_shortlist_and_a_second_one_is_refused():
    assert named_method("plain").name == "default + plain"
    with pytest.raises(UsageError, match="method 'plain': it re-ranks, as rerank 'default' does"):
        named_method("plain", "default")
    with pytest.raises(UsageError, match="rerank 'vlad': it only retrieves"):
        named_method("default", "vlad")
    with pytest.raises(UsageError, match="rerank 'plian': choose one of none, default"):
        named_method("default", "plian")


def test_a_torch_module_makes_the_shortlist_and_takes_no_method_or_model(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    (tmp_path / "ownnet.py").write_text(
        "def build():\n    return lambda image: image.mean((2, 3))\n", "utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = "ownnet:build"
    with pytest.raises(UsageError, match="method 'densevlad': torch_module makes the shortlist"):
        named_method("densevlad", torch_module=spec)
    with pytest.raises(UsageError, match="method 'default': torch_module"):
        named_method("default", torch_module=spec)
    with pytest.raises(UsageError, match="model: changes nothing of ownnet:build"):
        named_method(torch_module=spec, model="generic")
    with pytest.raises(UsageError, match="image_size: changes nothing"):
        named_method(torch_module=spec, changes={"image_size": (48, 64)})
    assert named_method(torch_module=spec).reranking is None
    ours = named_method(rerank="default", torch_module=spec, model="generic")
    assert ours.name == "ownnet:build + default"
    assert named_method("plain", torch_module=spec).name == "ownnet:build + plain"


def test_default_options_of_a_re_ranker_are_recorded_too():
    record = named_method("plain").as_json()["reranking"]
    assert record == {"method": "plain", "keypoints": 512, "fingerprint": "f" * 64}
    record = named_method("plain", baseline={"keypoints": 64}).as_json()["reranking"]
    assert record["keypoints"] == 64
