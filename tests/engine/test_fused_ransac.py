"""The kernels of RANSAC, interpreted on a CPU, against the plain form."""

import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch

from placerec.engine import homography

try:
    VERSION = tuple(map(int, version("triton").split(".")[:2]))
except PackageNotFoundError:
    VERSION = (0, 0)
pytestmark = pytest.mark.usefixtures("one_torch_thread")
INTERPRETED = pytest.mark.skipif(
    VERSION < (3, 9), reason="no Triton, or its interpreter fails on NumPy 2.4"
)


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    """Draw few samples, because the interpreter is slow."""
    monkeypatch.setattr(homography, "DRAWN", 300)
    caches = homography.draws_on, homography.consensus_on
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


@pytest.fixture
def fused(monkeypatch):
    from placerec.engine import fused_ransac

    monkeypatch.setattr(fused_ransac, "SAMPLES_AT_ONCE", 128)
    monkeypatch.setattr(fused_ransac, "MATCHES_AT_ONCE", 32)
    return fused_ransac


def drawn(counts, share, seed):
    """Matches of which a share is moved by one homography; those beyond the count are noise."""
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 40, (len(counts), 90, 2)).astype(np.float32)
    target = rng.integers(0, 40, source.shape).astype(np.float32)
    follows = rng.random(source.shape[:2]) < share
    target[follows] = np.rint(source[follows] * 0.9 + 3)
    return torch.from_numpy(source), torch.from_numpy(target), torch.tensor(counts)


@INTERPRETED
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_the_inliers_equal_those_of_the_plain_form(fused, share):
    example = drawn([90, 70, 64, 30, 5, 4, 3, 0], share, 1)
    ours, wanted = fused.consensus(*example), homography.consensus(*example)
    assert torch.equal(ours, wanted)
    assert wanted.any()


@INTERPRETED
@pytest.mark.usefixtures("gpu")
def test_the_kernels_are_used_where_they_find_what_the_plain_form_finds(fused, monkeypatch):
    assert homography.consensus_on(torch.device("cpu")) is homography.consensus
    assert homography.consensus_on(torch.device("cuda")) is fused.consensus
    for broken in (lambda *given: ~homography.consensus(*given), lambda *_: 1 / 0):
        homography.consensus_on.cache_clear()
        monkeypatch.setattr(fused, "consensus", broken)
        assert homography.consensus_on(torch.device("cuda")) is homography.consensus


@pytest.mark.usefixtures("gpu")
def test_without_triton_the_plain_form_is_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "placerec.engine.fused_ransac", None)
    assert homography.consensus_on(torch.device("cuda")) is homography.consensus


def test_samples_with_equal_votes_come_in_their_order(monkeypatch):
    monkeypatch.setattr(homography, "KEPT", 5)
    votes = torch.tensor([[3, -1, 7, 3, 7, 0, -1, 3]], dtype=torch.int32)
    assert homography.most_votes(votes).tolist() == [[2, 4, 0, 3, 7]]
