"""Recall: the share of queries that find at least one of their positives.

Source: Patch-NetVLAD, section 4.3. A query without any positive cannot be answered and is left out
of the denominator; the published program counts it as a miss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RECALL_AT = (1, 5, 10)


def recalls(
    ranked: Mapping[str, Sequence[str]], positives: Mapping[str, frozenset[str]]
) -> dict[str, float]:
    """``recall@N`` for N = 1, 5, 10 as fractions of the queries that have a positive."""
    answerable = [query for query in ranked if positives[query]]
    return {
        f"recall@{n}": sum(
            not positives[query].isdisjoint(ranked[query][:n]) for query in answerable
        ) / max(len(answerable), 1)
        for n in RECALL_AT
    }  # fmt: skip
