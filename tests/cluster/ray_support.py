"""What the workers of Ray do at photos of certain names, and a driver that can be killed."""

import os
import signal
import sys
import time
from pathlib import Path

SMALL = (120, 160)


def watch_workers() -> None:
    """Note each photo that a worker reads; end the process at one that is named so."""
    from placerec.models import photo_source

    decode, notes = photo_source.decode, Path(os.environ["PLACEREC_TEST_NOTES"])

    def noted(path: Path, *rest):
        with notes.open("a") as file:
            file.write(f"{os.getpid()} {Path(path).name}\n")
        if "killer" in Path(path).name:
            os.kill(os.getpid(), signal.SIGKILL)
        while "slow" in Path(path).name and not notes.with_name("go").exists():
            time.sleep(0.05)
        return decode(path, *rest)

    photo_source.decode = noted


def build(index: str, photos: str, **options):
    """Build an index of small photos with Ray; three photos are a block."""
    import ray

    from placerec import build_index
    from placerec.index import ray_build
    from placerec.runtime import Runtime
    from placerec.settings import Settings

    ray_build.LARGEST_BLOCK, ray_build.BLOCKS = 3, 1
    if not ray.is_initialized():
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False,
            runtime_env={"worker_process_setup_hook": watch_workers},
        )  # fmt: skip
    return build_index(
        index, photos, settings=Settings(image_size=SMALL), model="generic", engine="ray",
        runtime=Runtime(threads=2, **options),
    )  # fmt: skip


def die_before_the_commit(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    from placerec.index.lance import builder

    if sys.argv[3] == "die":
        builder.committed = die_before_the_commit
    build(sys.argv[1], sys.argv[2])
