"""Decode bytes as a file."""

import pytest

from placerec.photos import decode


@pytest.fixture
def decoded(tmp_path):
    def decode_bytes(data, name="photo.jpg", **options):
        (tmp_path / name).write_bytes(data)
        return decode(tmp_path / name, **options)

    return decode_bytes
