"""The index: one SQLite file per collection of photos; atomic, and damage is found and named.

Read in this order: ``schema`` (the tables and their rows), ``codec`` (arrays to blobs),
``connection`` (opening), ``publish`` (building aside), ``writer``, ``reader``, ``verify``; then
what joins photos and models to it: ``build``, ``update``, ``notices`` and ``index_model``; and the
cache of a large index, ``speedup``. An index has a rollback journal and no write-ahead log, so at
rest it is one file that can be copied, moved, and read in a read-only folder. See promises P1
to P4 in docs/PROMISES.md.
"""

from placerec.index.reader import Entry, IndexInfo, IndexReader
from placerec.index.speedup import speed_up
from placerec.index.store import open_index, verify
from placerec.index.writer import IndexWriter

__all__ = [
    "Entry", "IndexInfo", "IndexReader", "IndexWriter", "open_index", "speed_up", "verify",
]  # fmt: skip
