"""What the workers of Ray do at photos of certain names, and a driver that can be killed."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

SMALL = (120, 160)
LISTENS = "0A"  # the state of a socket


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


def print_open_ports() -> None:
    """Start a cluster as a build does, and print each address on which its processes listen."""
    from placerec.index.ray_build import _ray
    from placerec.runtime import Runtime

    with _ray(Path("town"), Runtime(threads=1)) as ray:
        ray.get(ray.remote(lambda: None).remote())
        sockets = set()
        for process in descendants(os.getpid()):
            for file in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.add(str(file.readlink()))
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                address, state, inode = (line.split()[column] for column in (1, 3, 9))
                if state == LISTENS and f"socket:[{inode}]" in sockets:
                    print("port", address.split(":")[0])


def descendants(parent: int) -> set[int]:
    """A process, and those that it or they have started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rpartition(")")[2].split()[1]
            )
    family = {parent}
    while more := {child for child, of in parents.items() if of in family} - family:
        family |= more
    return family


if __name__ == "__main__":
    from placerec.index.lance import builder

    if sys.argv[1] == "ports":
        print_open_ports()
        sys.exit()
    if sys.argv[3] == "die":
        builder.committed = die_before_the_commit
    build(sys.argv[1], sys.argv[2])
