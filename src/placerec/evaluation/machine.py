"""What a result was made with: versions and machine, as every results file says them."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("placerec", "numpy", "onnxruntime", "pillow", "opencv-python-headless")


def versions(*more: str) -> dict[str, str]:
    """The installed versions of the packages that decide numbers; ``none`` where one is missing."""
    found = {}
    for package in (*PACKAGES, *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def machine() -> str:
    """System, processor family and number of cores."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count() or 1} cores"
