"""Change bits of the index in Lance in a folder, one after the other, and say what it answers."""

import contextlib
import random
import resource
import sys
from pathlib import Path

from index.store_support import content
from placerec.errors import PlacerecError
from placerec.index import verify

MEMORY = 8 << 30


def main(folder: Path, first: int, last: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    index = Path(f"lance:{folder}/town")
    backup = folder / "backup"  # of the file that is changed
    if backup.exists():
        (folder / "town" / (folder / "name").read_text()).write_bytes(backup.read_bytes())
    expected = content(index)
    files = sorted(file for file in (folder / "town").rglob("*") if file.is_file())
    for number in range(first, last):
        chance = random.Random(number)
        file = chance.choice(files)
        whole = file.read_bytes()
        backup.write_bytes(whole)
        (folder / "name").write_text(str(file.relative_to(folder / "town")))
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        try:
            outcome = "same" if content(index) == expected else "wrong"
        except PlacerecError:
            outcome = "error"
            with contextlib.suppress(PlacerecError):
                outcome = "error" if verify(index) else "unnoticed"
        except AssertionError:
            outcome = "wrong"
        file.write_bytes(whole)
        print(outcome, flush=True)


main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
