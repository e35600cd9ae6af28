"""Shortlists of one shape, recorded once and run again by a GPU in one piece: CUDA graphs.

A query starts some hundred small programs on the GPU. Each needs some microseconds of the CPU, and
in sum more than the GPU itself. A recording has them all. It reads the descriptors of the
candidates by their addresses, so they stay where they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import torch

from placerec.engine.matching import PatchesThere, Shown, maxima, maxima_on

Sizes = Sequence[tuple[PatchesThere, Shown]]  # the query and its candidates, by patch size
Result = TypeVar("Result")
Run = Callable[[Sizes], Result]
MOST = 4  # recordings that are kept; each keeps the memory of its intermediate numbers


def can_record(sizes: Sizes) -> bool:
    """Return whether the device can record, and the work on these sizes goes by addresses."""
    device = sizes[0][0].descriptors.device
    by_address = device.type == "cuda" and maxima_on(device) is not maxima
    return by_address and all(shown.aligned for _, shown in sizes)


class Recordings(Generic[Result]):
    """Runs the work on a shortlist from a recording, if a shortlist of its shape was there before.

    The first one of a shape is not recorded, because most shapes that come once do not come again.
    A result is valid until the next run. Where recording fails, the work runs as it is.
    """

    def __init__(self) -> None:
        self._by_shape: OrderedDict[Hashable, Run[Result] | None] = OrderedDict()

    def run(self, settings: Hashable, sizes: Sizes, work: Run[Result]) -> Result:
        """Return what ``work`` returns for ``sizes``; it depends on ``settings`` too."""
        shape = settings, *map(_shape, sizes)
        if shape not in self._by_shape:
            self._by_shape[shape] = None
            if len(self._by_shape) > MOST:
                self._by_shape.popitem(last=False)
            return work(sizes)
        self._by_shape.move_to_end(shape)
        run = self._by_shape[shape] or _recorded(sizes, work)
        self._by_shape[shape] = run
        return run(sizes)


def _shape(size: tuple[PatchesThere, Shown]) -> Hashable:
    query, shown = size
    there = query.descriptors
    return query.grid, there.shape, there.dtype, shown.grid, len(shown.descriptors)


def _recorded(sizes: Sizes, work: Run[Result]) -> Run[Result]:
    before = torch.cuda.current_stream()
    try:
        return _Recording(sizes, work)
    except RuntimeError:  # of CUDA
        torch.cuda.set_stream(before)  # a recording that fails at its end does not do that
        return work


class _Recording(Generic[Result]):
    """One recording, and the tensors on the device that it reads and writes."""

    def __init__(self, sizes: Sizes, work: Run[Result]) -> None:
        self._read = [(query.descriptors.clone(), shown.numbers.clone()) for query, shown in sizes]
        own = [
            (replace(query, descriptors=descriptors), replace(shown, numbers=numbers))
            for (query, shown), (descriptors, numbers) in zip(sizes, self._read, strict=True)
        ]
        work(own)  # what is sent or compiled once is ready before
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        # Without a stream PyTorch takes one for the whole process, which may be of another GPU. And
        # what other threads do meanwhile is not recorded.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._written = work(own)

    def __call__(self, sizes: Sizes) -> Result:
        for (descriptors, numbers), (query, shown) in zip(self._read, sizes, strict=True):
            descriptors.copy_(query.descriptors)
            numbers.copy_(shown.numbers)
        self._graph.replay()
        return self._written
