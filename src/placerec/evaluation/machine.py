"""The versions and the machine that made a result, as every results file states them."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("placerec", "numpy", "onnxruntime", "pillow", "opencv-python-headless")


def versions(*more: str) -> dict[str, str]:
    """Return the versions of the packages that affect numbers; ``none`` if not installed."""
    installed = {}
    for package in (*PACKAGES, *more):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "none"
    return installed


def machine() -> str:
    """Return the system, the processor family and the number of cores."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count() or 1} cores"
