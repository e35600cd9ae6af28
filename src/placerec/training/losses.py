"""The triplet loss.

Source: NetVLAD, CVPR 2016, equation 7, with the published program's distance: Euclidean, not
squared, so that the margin is sqrt(.1).
"""

from __future__ import annotations

import torch
from torch.nn import functional


def triplet_loss(descriptors: torch.Tensor, groups: int, margin: float) -> torch.Tensor:
    """Sum of max(0, |q - p| - |q - n| + margin) over all triplets of ``groups`` queries.

    ``descriptors`` (groups * (2 + negatives), D): the rows of a group are its query, its positive
    and its negatives. The caller divides by the number of negatives in the whole batch.
    """
    grouped = descriptors.reshape(groups, -1, descriptors.shape[1])
    query, positive, negatives = grouped[:, :1], grouped[:, 1:2], grouped[:, 2:]
    return functional.triplet_margin_loss(
        query.expand_as(negatives), positive.expand_as(negatives), negatives,
        margin=margin, reduction="sum",
    )  # fmt: skip
