"""The fused kernel, interpreted on a CPU, against the plain maxima of the same products."""

import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch

from placerec.engine import matching
from placerec.records import Grid

try:
    VERSION = tuple(map(int, version("triton").split(".")[:2]))
except PackageNotFoundError:
    VERSION = (0, 0)
pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.skipif(VERSION < (3, 9), reason="no Triton, or its interpreter fails on NumPy 2.4"),
]


@pytest.fixture
def fused(monkeypatch):
    """The kernel by Triton's interpreter, in small blocks, so that several of each are needed."""
    from placerec.engine import fused

    for name in ("ROWS", "COLUMNS"):
        monkeypatch.setattr(fused, name, 16)
    for share in fused.SHARES.values():
        monkeypatch.setitem(share, "numbers", 16)
    return fused


def shown(database):
    """Candidates, each with its own memory, as the kernel takes them."""
    rows = [one.clone() for one in database]
    grid = Grid((1, 1), len(rows[0]), 1, 1)
    return matching.Shown.of([matching.PatchesThere(grid, one) for one in rows])


@pytest.fixture
def no_cache():
    matching.maxima_on.cache_clear()
    yield
    matching.maxima_on.cache_clear()


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("patches", "others", "depth"), [(40, 37, 24), (16, 16, 16), (3, 50, 8), (3, 50, 5)]
)
def test_maxima_equal_the_plain_ones(fused, kind, patches, others, depth):
    rng = np.random.default_rng(0)
    query, database = (
        torch.from_numpy(rng.standard_normal((rows, depth)).astype(np.float32)).to(kind)
        for rows in (patches, 3 * others)
    )
    database = shown(database.view(3, others, depth))
    ours = fused.maxima(query, database)
    wanted = matching.maxima(query, database)
    assert database.aligned == (depth != 5)
    for one, other in zip(ours, wanted, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert torch.allclose(one, other, atol=1e-5)
    assert torch.equal(ours[1], wanted[1])


def test_of_equal_cosines_the_first_counts(fused):
    rng = np.random.default_rng(1)
    kinds = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 0]])
    query, *database = (kinds[rng.integers(0, 4, rows)] for rows in (40, 50, 50, 50))
    ours, wanted = (find(query, shown(database)) for find in (fused.maxima, matching.maxima))
    assert all(torch.equal(one, other) for one, other in zip(ours, wanted, strict=True))
    assert ours[0].dtype == torch.float32


@pytest.mark.usefixtures("gpu", "no_cache")
def test_the_kernel_is_used_where_it_finds_what_the_plain_form_finds(fused, monkeypatch):
    assert matching.maxima_on(torch.device("cpu")) is matching.maxima
    assert matching.maxima_on(torch.device("cuda")) is fused.maxima
    plain = fused.maxima
    for broken in (
        lambda *found: [one + 1e-3 for one in plain(*found)],
        lambda *_: 1 / 0,
    ):  # fmt: skip
        matching.maxima_on.cache_clear()
        monkeypatch.setattr(fused, "maxima", broken)
        assert matching.maxima_on(torch.device("cuda")) is matching.maxima


@pytest.mark.usefixtures("gpu", "no_cache")
def test_without_triton_the_plain_form_is_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "placerec.engine.fused", None)
    assert matching.maxima_on(torch.device("cuda")) is matching.maxima
