"""Train, and kill this process right after a step, as kill -9 does.

python run_and_die.py FOLDER VALIDATION OUT STEP
"""

import os
import signal
import sys
from pathlib import Path

from training_support import TINY, random_trunk, training_data

from placerec.runtime import Runtime
from placerec.training.loop import Options, train
from placerec.training.model import start_from

folder, validation, out, step = sys.argv[1:]
steps = 0


def die(stage: str, _done: int, _total: int) -> None:
    global steps
    steps += stage == "training"
    if steps == int(step):
        os.kill(os.getpid(), signal.SIGKILL)


options = Options(Runtime(threads=1, progress=die), saved_every=3)
data = training_data(Path(folder), Path(validation))
train(data, Path(out), TINY, start_from(random_trunk()), options)
