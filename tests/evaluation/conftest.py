"""Support modules of this room, for the rooms below it too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
