"""The page of the data sets lists what the program knows."""

import re
from pathlib import Path

from placerec.evaluation.layouts import GENERAL, PROTOCOLS, PUBLISHED

PAGE = Path(__file__).parents[3] / "docs" / "DATASETS.md"


def rows() -> dict[str, list[str]]:
    """The rows of the page's table of protocols, by name."""
    text = PAGE.read_text(encoding="utf-8")
    table = text.split("<!-- protocols:start -->")[1].split("<!-- protocols:end -->")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().split("\n")
    ]
    return {row[0].strip("`"): row for row in cells[2:]}


def test_the_table_of_protocols_is_the_programs_own():
    assert list(rows()) == list(PROTOCOLS)


def test_the_table_has_the_counts_that_the_program_checks():
    for name, protocol in PUBLISHED.items():
        if protocol.counts:
            counts = [re.sub(r"\D", "", cell) for cell in rows()[name][2:4]]
            assert counts == [str(count) for count in protocol.counts]


def test_every_general_protocol_accepts_overrides():
    assert all(protocol.overrides for protocol in GENERAL.values())
