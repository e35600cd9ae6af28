"""One of several processes (RANK, WORLD_SIZE): write gradients of batches, and descriptors.

python one_of_two.py FOLDER OUT BATCH...
"""

import sys
from pathlib import Path

import numpy as np
from training_support import batch_gradients, tiny_session

from placerec.training.processes import joined_processes

folder, out, *batches = sys.argv[1:]
with joined_processes("cpu") as processes:
    session = tiny_session(Path(folder), Path(out), processes)
    arrays = {"descriptors": session.describe(session.data.database.paths, "a test")}
    for batch in batches:
        for name, value in batch_gradients(session, int(batch)).items():
            arrays[f"{batch} {name}"] = value
    if processes.first:
        np.savez(Path(out) / "arrays.npz", **arrays)
