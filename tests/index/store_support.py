"""Small indexes in any store, and what they must contain."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from index.index_support import ABOUT, WEIGHTS, features, position
from placerec.index import codec, open_index
from placerec.index.presets import BYTES
from placerec.index.store import store_of


def create(address: Path, **changes: object):
    about = {"root": Path("/photos"), "weights": WEIGHTS, "storage": BYTES, **ABOUT, **changes}
    return store_of(address).create(address, **about)


def put(writer, name: str, seed: int) -> None:
    writer.put(name, f"{seed:064x}", position(seed), features(seed, grid=2), blank=seed == 2)


def build(address: Path, photos: dict[str, int], **changes: object) -> Path:
    with create(address, **changes) as writer:
        for name, seed in photos.items():
            put(writer, name, seed)
    return address


@cache
def as_stored(seed: int) -> tuple[bytes, ...]:
    """The numbers of a photo after one way through the codec."""
    given, where = features(seed, grid=2), Path()
    blob = codec.encode_vector(given.global_descriptor, b"")
    sets = [codec.encode_patches(patches, b"") for patches in given.patches]
    numbers = [codec.decode_vector(blob, b"", where)]
    numbers += [codec.decode_patches(blob, b"", where).descriptors for blob in sets]
    return tuple(array.tobytes() for array in numbers)


def content(address: Path) -> dict[str, int]:
    """The photos of an index by name, each by its seed; all that is stored of them is compared."""
    with open_index(address) as reader:
        assert reader.weights() == WEIGHTS
        assert [e.name for e in reader.entries] == sorted(e.name for e in reader.entries)
        vectors, stored = reader.global_descriptors(), {}
        for number, entry in enumerate(reader.entries):
            stored[entry.name] = seed = int(entry.sha256, 16)
            assert (entry.position, entry.blank) == (position(seed), seed == 2)
            sets = [patches.descriptors.tobytes() for patches in reader.patches(number)]
            assert (vectors[number].tobytes(), *sets) == as_stored(seed)
        return stored
