"""The largest similarities without the similarities: one Triton kernel, for an NVIDIA GPU.

``matching`` multiplies the patches of a query with those of its candidates and takes the maximum of
each row and column. The product alone is fast; writing all similarities and reading them twice is
not. Here a program keeps a block of similarities in its registers, and writes the maxima only.

A program has ``ROWS`` query patches and one candidate, and goes through the candidate's patches,
``COLUMNS`` at a time. So it knows the maxima of its rows. Those of the columns are over the rows of
one program; the caller takes the maximum over the programs.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS, DEPTH = 128, 128, 64  # of a block of products; DEPTH numbers are added at a time
WARPS, STAGES = 8, 3
# float32 numbers as three TF32 products: nearly all of their digits, on the units for matrices.
FLOAT32 = "tf32x3"


def maxima(query: Tensor, database: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the maxima of the cosines of a query with ``count`` candidates.

    ``query`` (P, D) and ``database`` (count * N, D) are float32 or float16, on one GPU. The result
    is, for each query patch, the highest cosine (count, P) float32 and the database patch that has
    it (count, P) int64, the first of equal ones; and for each database patch the highest cosine
    (count, N) float32.
    """
    (patches, depth), others = query.shape, len(database) // count
    query, database = query.contiguous(), database.contiguous()
    programs = triton.cdiv(patches, ROWS)
    highest = query.new_empty((count, patches), dtype=torch.float32)
    nearest = query.new_empty((count, patches), dtype=torch.int64)
    reached = query.new_empty((count, programs, others), dtype=torch.float32)
    with torch.cuda.device(query.device):
        _maxima[(programs, count)](
            query, database, highest, nearest, reached, patches, others, depth,
            rows=ROWS, columns=COLUMNS, numbers=DEPTH, precision=FLOAT32,
            num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
    return highest, nearest, reached.amax(dim=1)


@triton.jit  # type: ignore[untyped-decorator]
def _maxima(  # type: ignore[no-untyped-def]
    query, database, highest, nearest, reached, patches, others, depth,
    rows: tl.constexpr, columns: tl.constexpr, numbers: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    program, candidate = tl.program_id(0), tl.program_id(1).to(tl.int64)
    row = program * rows + tl.arange(0, rows)
    row_is_there = row < patches
    database += candidate * others * depth
    reached += (candidate * tl.num_programs(0) + program) * others
    best = tl.full([rows], -float("inf"), tl.float32)
    place = tl.zeros([rows], tl.int32)
    for first in range(0, others, columns):
        column = first + tl.arange(0, columns)
        column_is_there = column < others
        cosines = tl.zeros([rows, columns], tl.float32)
        for start in range(0, depth, numbers):
            number = start + tl.arange(0, numbers)
            is_number = number < depth
            asked = tl.load(
                query + row[:, None] * depth + number[None, :],
                mask=row_is_there[:, None] & is_number[None, :], other=0.0,
            )  # fmt: skip
            shown = tl.load(
                database + column[:, None] * depth + number[None, :],
                mask=column_is_there[:, None] & is_number[None, :], other=0.0,
            )  # fmt: skip
            cosines = tl.dot(asked, shown.T, cosines, input_precision=precision)
        cosines = tl.where(column_is_there[None, :], cosines, -float("inf"))
        top = tl.max(cosines, axis=1)
        place = tl.where(top > best, first + tl.argmax(cosines, axis=1), place)
        best = tl.maximum(best, top)
        cosines = tl.where(row_is_there[:, None], cosines, -float("inf"))
        tl.store(reached + column, tl.max(cosines, axis=0), mask=column_is_there)
    tl.store(highest + candidate * patches + row, best, mask=row_is_there)
    tl.store(nearest + candidate * patches + row, place.to(tl.int64), mask=row_is_there)
