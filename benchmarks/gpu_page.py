"""Write the tables in docs/GPU.md from results/gpu.json, which ``gpu.py`` makes.

python benchmarks/gpu_page.py
"""

from __future__ import annotations

import json
from typing import Any

from table import ROOT, page_table, write_page

RESULTS, PAGE = ROOT / "results" / "gpu.json", ROOT / "docs" / "GPU.md"


def write_tables(result: dict[str, Any]) -> None:
    """Put the tables of a result into the page."""
    write_page(PAGE, "gpu", markdown(result))


def markdown(result: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    about, rate = result["machine"], result["rates"]
    machine = (
        f"{about['gpu']}, {about['cores']} cores, Linux; python {about['python']}, torch "
        f"{about['torch']}, CUDA {about['cuda']}. A large product runs at "
        f"{rate['float32_operations'] / 1e12:.0f} TFLOP/s in float32 and "
        f"{rate['float16_operations'] / 1e12:.0f} in float16, a large copy at "
        f"{rate['bytes'] / 1e12:.1f} TB/s."
    )
    whole = result["whole"]
    queries = (
        f"{whole['photos']} drawn photos, {whole['candidates']} candidates, {whole['dimensions']} "
        f"dimensions, RANSAC. The build took {whole['photos'] / whole['build_photos_per_s']:.0f} s "
        f"with the fit of the calibration."
    )
    parts = [
        machine,
        "### 100 candidates at three sizes, ms",
        compared_table(result),
        "### Equal to the CPU",
        equality_table(result),
        "### Describing by VGG16 and NetVLAD, 20 photos at once",
        page_table(
            ("precision", "ms", "photos/s"),
            [(row["work"], in_words(row["ms"]), f"{row['photos_per_s']:.0f}")
             for row in result["describing"]],
        ),
        "### From a JPEG file to the answer",
        page_table(
            ("precision", "a query, ms", "the first query, ms", "itself first"),
            [(name, in_words(one["ms"]), f"{one['first_ms']:.0f}", one["itself_first"])
             for name, one in whole["queries"].items()],
        ),
        queries,
    ]  # fmt: skip
    return "\n\n".join(parts)


def in_words(spent: dict[str, float]) -> str:
    """The median, and the interquartile range in brackets."""
    return f"{spent['median']:.3g} ({spent['iqr']:.2g})"


def rows_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of matching of all dimensions."""
    return [row for name, part in result.items() if name.startswith("matching ") for row in part]


def compared_table(result: dict[str, Any]) -> str:
    """A line for each number of dimensions and precision, a column for each work."""
    works = {"match": "match", "unfused": "match, not fused", "spatial": "match, spatial",
             "displacement": "match, votes", "ransac": "match, RANSAC"}  # fmt: skip
    lines: dict[tuple[int, str], list[str]] = {}
    for row in rows_of(result):
        line = lines.setdefault((row["dimensions"], row["precision"]), [])
        line.append(in_words(row["ms"]))
        if row["scorer"] == "ransac":
            line += [f"{row['limit_ms']:.2g}", f"{row['similarities_ms']:.2g}"]
    head = ("dimensions", "precision", *works.values(), "limit", "similarities alone")
    return page_table(head, [(str(size), kind, *line) for (size, kind), line in lines.items()])


def equality_table(result: dict[str, Any]) -> str:
    """The differences from NumPy's scores."""
    lines = [
        (str(row["dimensions"]), row["precision"], row["scorer"],
         f"{row['difference']['scores']:.1g}", "yes" if row["difference"]["same_order"] else "no",
         f"{row['difference'].get('inliers_over_opencv', 1):.4f}")
        for row in rows_of(result) if "difference" in row
    ]  # fmt: skip
    head = ("dimensions", "precision", "scorer", "difference of the scores, over the largest",
            "same order", "inliers over those of the CPU")  # fmt: skip
    return page_table(head, lines)


if __name__ == "__main__":
    write_tables(json.loads(RESULTS.read_text(encoding="utf-8")))
