"""Make the golden recipe and the benchmarks importable."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path += [str(ROOT / "tests" / "golden"), str(ROOT / "benchmarks")]
