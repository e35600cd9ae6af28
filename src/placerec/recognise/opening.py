"""What is checked when a recogniser opens an index."""

from __future__ import annotations

from typing import Any

from placerec.errors import FixedByIndex, UsageError
from placerec.index.store import Reader
from placerec.settings import AnySettings, as_written


def model_facts(index: Reader) -> tuple[str, str, str]:
    """Return what identifies the model of an index, with its name and settings."""
    return index.info.fingerprint, index.info.model, index.info.settings


def require_share(false_alarm: float, photos: int) -> None:
    """Refuse a share that this number of photos from elsewhere cannot promise."""
    least = 1 / (photos + 1)
    if photos and false_alarm < least:
        raise UsageError(
            f"false_alarm {false_alarm:g}: {photos} photos from elsewhere cannot promise so small "
            f"a share; give {least:.3f} or more"
        )


def query_settings(fixed: AnySettings, changes: dict[str, Any]) -> AnySettings:
    """Return the settings of an index with ``changes``; refuse those that the index fixes."""
    settings = fixed.replace(**changes)
    for name, value in fixed.group("global", "patches").items():
        if getattr(settings, name) != value:
            raise FixedByIndex(name, as_written(value), as_written(getattr(settings, name)))
    return settings
