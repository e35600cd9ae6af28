"""The largest similarities without the similarities: one Triton kernel, for an NVIDIA GPU.

``matching`` multiplies the patches of a query with those of its candidates and takes the maximum of
each row and column. The product alone is fast; writing all similarities and reading them twice is
not. Here a program keeps a block of similarities in its registers, and writes the maxima only.

A program has ``ROWS`` query patches and one candidate, and goes through the candidate's patches,
``COLUMNS`` at a time. So it knows the maxima of its rows. Those of the columns are over the rows of
one program; the caller takes the maximum over the programs. The candidates stay where they are: the
kernel gets their addresses.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from placerec.engine import matching
from placerec.engine.matching import ALIGNED, Shown

ROWS, COLUMNS = 128, 128  # of a block of products
# How many numbers are added at a time, and how a block is shared; measured on an H200.
SHARES = {
    torch.float16: {"numbers": 64, "num_warps": 4, "num_stages": 3},
    torch.float32: {"numbers": 32, "num_warps": 8, "num_stages": 4},
}
# float32 numbers as three TF32 products: nearly all of their digits, on the units for matrices.
FLOAT32 = "tf32x3"


def maxima(query: Tensor, shown: Shown) -> tuple[Tensor, Tensor, Tensor]:
    """Return what ``matching.maxima`` does, for tensors on the current GPU."""
    (patches, depth), others, count = query.shape, len(shown.grid), len(shown.descriptors)
    if not shown.aligned:
        return matching.maxima(query, shown)
    query = query.clone() if query.data_ptr() % ALIGNED else query.contiguous()
    programs = triton.cdiv(patches, ROWS)
    highest = query.new_empty((count, patches), dtype=torch.float32)
    nearest = query.new_empty((count, patches), dtype=torch.int64)
    reached = query.new_empty((count, programs, others), dtype=torch.float32)
    triton.set_allocator(_room)
    _maxima[(programs, count)](
        query, shown.numbers, highest, nearest, reached, patches, others, depth,
        rows=ROWS, columns=COLUMNS, precision=FLOAT32, **SHARES[query.dtype],
    )  # fmt: skip
    return highest, nearest, reached.amax(dim=1)


def _room(size: int, _alignment: int, _stream: int | None) -> Tensor:
    """Return memory of the GPU for the kernel's descriptions of its blocks."""
    return torch.empty(size, device="cuda", dtype=torch.int8)


@triton.jit  # type: ignore[untyped-decorator]
def _maxima(  # type: ignore[no-untyped-def]
    query, addresses, highest, nearest, reached, patches, others, depth,
    rows: tl.constexpr, columns: tl.constexpr, numbers: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    program, candidate = tl.program_id(0), tl.program_id(1).to(tl.int64)
    database = tl.load(addresses + candidate).to(query.dtype)
    # Reading beyond the last patch or number gives zeros.
    asked_at = tl.make_tensor_descriptor(query, [patches, depth], [depth, 1], [rows, numbers])
    shown_at = tl.make_tensor_descriptor(database, [others, depth], [depth, 1], [columns, numbers])
    row = program * rows + tl.arange(0, rows)
    row_is_there = row < patches
    reached += (candidate * tl.num_programs(0) + program) * others
    best = tl.full([rows], -float("inf"), tl.float32)
    place = tl.zeros([rows], tl.int32)
    for first in range(0, others, columns):
        column = first + tl.arange(0, columns)
        column_is_there = column < others
        cosines = tl.zeros([rows, columns], tl.float32)
        for start in range(0, depth, numbers):
            asked = asked_at.load([program * rows, start])
            shown = shown_at.load([first, start])
            cosines = tl.dot(asked, shown.T, cosines, input_precision=precision)
        cosines = tl.where(column_is_there[None, :], cosines, -float("inf"))
        top = tl.max(cosines, axis=1)
        place = tl.where(top > best, first + tl.argmax(cosines, axis=1), place)
        best = tl.maximum(best, top)
        cosines = tl.where(row_is_there[:, None], cosines, -float("inf"))
        tl.store(reached + column, tl.max(cosines, axis=0), mask=column_is_there)
    tl.store(highest + candidate * patches + row, best, mask=row_is_there)
    tl.store(nearest + candidate * patches + row, place.to(tl.int64), mask=row_is_there)
