"""The versions and the machine that made a result, as every results file states them."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("placerec", "numpy", "onnxruntime", "pillow", "opencv-python-headless")


def versions(*more: str) -> dict[str, str]:
    """Return the versions of the packages that affect numbers; ``none`` if not installed."""
    return {package: _version(package) for package in (*PACKAGES, *more)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def machine() -> str:
    """Return the system, the processor family and the number of cores."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count() or 1} cores"
