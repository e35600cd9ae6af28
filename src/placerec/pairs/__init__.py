"""Pairs of photos that show the same place: what structure from motion has to match.

``find`` asks an index about its own photos, ``graph`` says what the pairs connect, ``files`` writes
what hloc, COLMAP and pycolmap read (docs/PAIRS.md).
"""

from placerec.pairs.files import export_pairs
from placerec.pairs.find import find_pairs
from placerec.pairs.graph import Pair, PairGraph

__all__ = ["Pair", "PairGraph", "export_pairs", "find_pairs"]
