"""The presets of storage: with how many bits an index stores its descriptors."""

from __future__ import annotations

from typing import NamedTuple

from placerec.errors import UsageError
from placerec.index import codec
from placerec.index.packing import Dtype
from placerec.records import Features
from placerec.settings import AnySettings, require_choice


class Storage(NamedTuple):
    """A preset: the types of the global, patch and retrieval descriptors, and which patches stay.

    With ``checkered`` only every second patch of a row is stored, as the squares of one colour of a
    chessboard.
    """

    name: str
    descriptor: Dtype
    patches: Dtype
    retrieval: Dtype
    checkered: bool = False

    def encode(
        self, features: Features, photo_seal: bytes, *, restored: bool = False
    ) -> tuple[bytes, list[bytes]]:
        """Return the blobs of a photo: its global descriptor, and its patch sets in their order.

        ``photo_seal`` is the seal of the photo's row. Features from an index are ``restored``.
        """
        whole = features.global_descriptor
        descriptor = codec.encode_vector(whole, photo_seal, self.descriptor, restored=restored)
        sets = [
            codec.encode_patches(
                patches.checkered() if self.checkered else patches,
                codec.patch_key(photo_seal, ordinal), self.patches, restored=restored,
            )
            for ordinal, patches in enumerate(features.patches)
        ]  # fmt: skip
        return descriptor, sets

    def encode_retrieval(self, name: str, features: Features, key: bytes | None) -> bytes | None:
        """Return the blob of a photo's retrieval descriptor; ``None`` in an index without them.

        ``key`` is that of the blob, or ``None`` if the index has no retriever. Raises
        ``UsageError`` if the photo ``name`` was described for another kind of index.
        """
        vector = features.retrieval_descriptor
        if (vector is None) != (key is None):
            have = "does not have" if key is None else "has"
            raise UsageError(
                f"{name!r}: this index {have} a retriever; describe its photos accordingly"
            )
        if vector is None or key is None:
            return None
        return codec.encode_vector(vector, key, self.retrieval)


EXACT = Storage("exact", Dtype.FLOAT32, Dtype.FLOAT32, Dtype.FLOAT32)
BYTES = Storage("int8", Dtype.INT8, Dtype.INT8, Dtype.INT8)
SMALL = Storage("default", Dtype.ONE_BIT, Dtype.TWO_BITS, Dtype.INT8)
COMPACT = Storage("compact", Dtype.HALF_SIGNS, Dtype.ONE_BIT, Dtype.INT8, checkered=True)
PRESETS = {storage.name: storage for storage in (EXACT, BYTES, SMALL, COMPACT)}  # most bytes first


def preset_named(name: str) -> Storage:
    """Return the preset of this name; raise ``UsageError`` if there is none."""
    require_choice("preset", name)
    return PRESETS[name]


def preset_for(settings: AnySettings) -> Storage:
    """Return the preset of an index with these settings, if none is asked for.

    The published form is exact. Few bits are for descriptors like those of the default method, on
    which they were measured (docs/MEASUREMENTS.md).
    """
    if settings.form == "published":
        return EXACT
    return BYTES if settings.global_dim or settings.k_patch > 1 else SMALL
