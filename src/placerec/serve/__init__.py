"""A local page for an index: drop a photo, see where it was taken, browse the map.

Reading order: ``search`` (the index: one search at a time, its photos by number, the last
answers), ``pictures`` (photos as small JPEGs without EXIF), ``align`` (one photo laid over
another), ``server`` (what is answered, and what is refused). ``static/`` has the page.
docs/SERVE.md has the rules.
"""

from placerec.serve.search import ServedIndex
from placerec.serve.server import PageServer

__all__ = ["PageServer", "ServedIndex"]
