"""Train in a process of its own and kill it, as kill -9 does, right after a step.

python run_and_die.py FOLDER VALIDATION OUT STEP
"""

import os
import signal
import sys
from pathlib import Path

from training_support import TINY, random_trunk

from placerec.training.datasets import open_training_data, validation_folder
from placerec.training.loop import Options, train

folder, validation, out, step = sys.argv[1:]
steps = 0


def die(stage: str, _done: int, _total: int) -> None:
    global steps
    steps += stage == "training"
    if steps == int(step):
        os.kill(os.getpid(), signal.SIGKILL)


train(
    open_training_data(Path(folder)).training, Path(out), TINY, trunk=random_trunk(),
    validation=validation_folder(Path(validation)), progress=die,
    options=Options(threads=1, saved_every=3),
)  # fmt: skip
