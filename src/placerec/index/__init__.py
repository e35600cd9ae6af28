"""The index: one SQLite file a collection of photos, whole or nothing, damage found and named.

Read in this order: ``schema`` (the tables and their seals), ``codec`` (arrays to blobs), ``rows``
(rows as values), ``connection`` (opening), ``staging`` (building aside), ``writer``, ``reader``,
``verify``; then what joins photos and models to it: ``describe``, ``build``, ``update``, ``fit``,
``opened``. A rollback journal and no write-ahead log, so that an index at rest is one file that can
be copied, moved, and read in a read-only folder. The promises are P1 to P4 of docs/PROMISES.md.
"""

from placerec.index.reader import Entry, IndexInfo, IndexReader
from placerec.index.verify import verify
from placerec.index.writer import IndexWriter

__all__ = ["Entry", "IndexInfo", "IndexReader", "IndexWriter", "verify"]
