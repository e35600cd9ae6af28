"""Positions for photos that have none, from an index of photos that have one.

``locate`` decides which photos get a position, with the times of ``travel``; ``sidecars`` writes
one beside its photo, and ``tables`` writes all of them. docs/GEOTAG.md says how.
"""

from placerec.geotag.locate import GeoTag, Report, geotag_photos
from placerec.geotag.sidecars import write_sidecar

__all__ = ["GeoTag", "Report", "geotag_photos", "write_sidecar"]
