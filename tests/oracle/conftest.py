"""The golden recipe and the benchmarks are imported by name."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path += [str(ROOT / "tests" / "golden"), str(ROOT / "benchmarks")]
