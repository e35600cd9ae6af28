"""Rapid spatial scoring: do the matches of two photos move together?

Source: Patch-NetVLAD, section 3.4, equation 4 (``form="paper"``), and the published program
(``form="program"``). They differ: see ``spatial_score``.
"""

from __future__ import annotations

import numpy as np

from placerec.method.matching import Matched
from placerec.records import Match
from placerec.settings import require_choice


def spatial_score(matched: Matched, form: str = "program") -> Match:
    """Return the sum of (X - |dx - mean dx|)^2 + (Y - |dy - mean dy|)^2 over matches, over n_p.

    dx and dy are database minus query positions in cells, and n_p is the number of query patches.
    X and Y depend on ``form``. ``program``: the largest x and y of the patch grid. ``paper``: the
    absolute value of the largest displacement. ``paper-absolute`` (the other reading of the printed
    formula): the largest absolute displacement. The score is 0 without a match, and larger is
    better (the published program prints the negative). All matches count as inliers.
    """
    require_choice("spatial_form", form)
    if not len(matched.pairs):
        return matched.unscored()
    steps = matched.displacements().astype(np.float64)
    if form == "program":
        reach = matched.query.reach.astype(np.float64)
    elif form == "paper":
        reach = np.abs(steps.max(axis=0))
    else:
        reach = np.abs(steps).max(axis=0)
    deviation = reach - np.abs(steps - steps.mean(axis=0))
    score = float(np.square(deviation).sum()) / len(matched.query)
    return matched.scored(score, np.ones(len(steps), bool))
