"""The HTML report of a run: one self-contained file to read, print or archive.

``page`` collects plain data from ``tables``, ``charts``, ``position_map`` and ``cases`` (with
``pictures``). The files in ``templates/`` hold the layout, and ``rendering`` fills them in.
"""

from placerec.evaluation.report.page import write_report

__all__ = ["write_report"]
