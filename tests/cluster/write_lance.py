"""Write to an index in Lance until the process is killed; say the number of each stored batch."""

import sys
from pathlib import Path

from index.store_support import create, put
from placerec.errors import Busy
from placerec.index.store import store_of

address, mode, prefix, batches = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
if mode == "build":
    with create(address, replace=True) as writer:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(batches):
            put(writer, f"{prefix}{number}.jpg", number % 6)
    print("built", flush=True)
    sys.exit()
print("ready", flush=True)
sys.stdin.readline()
for number in range(batches):
    while True:
        try:
            with store_of(address).change(address) as writer:
                put(writer, f"{prefix}{number}a.jpg", number % 6)
                put(writer, f"{prefix}{number}b.jpg", number % 6)
                if number > 1:
                    assert writer.remove(f"{prefix}{number - 2}a.jpg")
            break
        except Busy:
            print("busy", flush=True)
    print(number, flush=True)
