"""The methods that placerec is compared with: one file each, one line each in the two registries.

``contract`` says what a baseline is. A retriever turns a photo into one descriptor, a re-ranker
scores a query against candidates; ``placerec evaluate`` combines any of the former (and our own)
with any of the latter. Adding one is a file here and a line below (docs/BASELINES.md).
"""

from __future__ import annotations

from collections.abc import Callable

from placerec.baselines.contract import Reranker, Retriever

RETRIEVERS: dict[str, Callable[..., Retriever]] = {}
RERANKERS: dict[str, Callable[..., Reranker]] = {}
