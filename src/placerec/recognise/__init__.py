"""A query photo in, ranked places out: shortlist, re-ranking, answer.

Read ``recognizer`` first: it is the whole method on one page. ``pair`` compares two photos,
``picture`` draws an answer, ``track`` follows ordered frames.
"""

from placerec.recognise.pair import match_photos
from placerec.recognise.picture import draw_match
from placerec.recognise.recognizer import PlaceRecognizer

__all__ = ["PlaceRecognizer", "draw_match", "match_photos"]
