"""The report of a run: one HTML file that needs nothing else, for reading, printing, archiving.

Reading order: ``page`` (what is on it), ``tables``, ``charts``, ``map``, ``cases`` (which queries
are shown) with ``pictures``, and ``markup``, which makes all of it safe against hostile names.
"""

from placerec.evaluation.report.page import write_report

__all__ = ["write_report"]
