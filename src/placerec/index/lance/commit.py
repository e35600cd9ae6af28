"""Fragments and commits: the only place that writes into a folder of Lance.

A fragment is a file of rows that no version has yet. A commit makes a new version of the newest
one: it adds fragments, and removes rows. Every commit removes the header row of the version on
which it is based, so of two commits on one version Lance refuses the second.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from placerec.errors import (
    Busy,
    DamagedIndex,
    NoRoom,
    NotAnIndex,
    NotFound,
    PlacerecError,
    UsageError,
)
from placerec.files import is_folder
from placerec.index.lance.place import OLD, Place, lance
from placerec.index.lance.rows import (
    RETRIEVAL,
    UNFINISHED,
    Header,
    Row,
    Snapshot,
    arrow_schema,
    table_of,
    where,
)


def write_fragments(place: Place, rows: Sequence[Row], dataset: Any) -> list[Any]:
    """Write rows to new files, and return what a commit needs to know about them.

    Lance takes a file that a full disk has cut off for a whole one, so its length is checked.
    """
    fragments = lance().fragment
    with place.errors(writing=True):
        written: list[Any] = fragments.write_fragments(
            table_of(rows, dataset.schema), dataset, schema=dataset.schema, mode="append"
        )
    for file in (file for fragment in written for file in fragment.files):
        if place.folder and _length(place.folder / "data" / file.path) != file.file_size_bytes:
            raise NoRoom(place.address, "a file was cut off")
    return written


def _length(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def without(place: Place, dataset: Any, seals: Collection[bytes]) -> tuple[list[int], list[Any]]:
    """Return the fragments that are removed, and those that are changed, without these rows."""
    condition = where(seals)
    with place.errors(writing=True):
        rows = dataset.to_table(columns=[], filter=condition, with_row_address=True)
        numbers = {address >> 32 for address in rows["_rowaddr"].to_pylist()}
        if rows.num_rows != len(seals):
            raise DamagedIndex(place.address, "rows of photos are missing")
        left = {number: dataset.get_fragment(number).delete(condition) for number in numbers}
    removed = [number for number, fragment in left.items() if fragment is None]
    return removed, [fragment for fragment in left.values() if fragment is not None]


def committed(
    place: Place, base: Any, removed: Sequence[int], updated: Sequence[Any], new: Sequence[Any],
    *, detached: bool = False,
) -> Any:  # fmt: skip
    """Commit on top of a version, and return the new one; raise ``Busy`` if there is a newer one.

    A ``detached`` version is for this process alone. If an object store has stored the version and
    its answer was lost, Lance finds that it is its own.
    """
    package = lance()
    operation = package.LanceOperation.Update(
        removed_fragment_ids=list(removed), updated_fragments=list(updated),
        new_fragments=list(new), fields_modified=[],
    )  # fmt: skip
    with place.errors(writing=True):
        return package.LanceDataset.commit(
            place.uri, operation, read_version=base.version, detached=detached
        )


def claimed(place: Place, header: Header, *, replace: bool) -> tuple[Any, bool]:
    """Return the version that a new index replaces, and whether it is an empty one made for it.

    An empty version has only a header without photos, which no reader takes for an index.
    """
    try:
        dataset = place.dataset()
    except NotFound:
        return _empty(place, header), True
    try:
        Snapshot.open(place, dataset)
    except NotAnIndex as error:
        if UNFINISHED in str(error):
            return dataset, True
        raise UsageError(f"{error}; it is not replaced: choose another folder") from error
    except DamagedIndex:
        pass
    if not replace:
        raise UsageError(f"{place.address}: already exists; replace it, or add photos to it")
    if header.retriever and RETRIEVAL not in dataset.schema.names:
        with place.errors(writing=True):
            dataset.add_columns(arrow_schema().field(RETRIEVAL))
        return place.dataset(), False
    return dataset, False


def _empty(place: Place, header: Header) -> Any:
    """Make the first version of a folder."""
    place.refuse_other_files()
    if place.folder and not is_folder(place.folder.parent):
        raise NotFound(place.folder.parent, "no such folder", "create it first")
    is_new = place.folder is not None and not place.folder.exists()
    try:
        with place.errors(writing=True):
            return lance().write_dataset(
                table_of([header.row], arrow_schema()), place.uri, mode="create"
            )
    except PlacerecError as error:
        if "already exists" in str(error):  # another build was a moment faster
            raise Busy(place.address) from error
        if is_new:
            place.drop()
        raise


def withdraw(place: Place, dataset: Any) -> None:
    """Delete a folder whose only version is empty, unless another build has published there.

    The commit decides: after it, a build that is based on the empty version is refused.
    """
    with suppress(PlacerecError):
        old = [fragment.fragment_id for fragment in dataset.get_fragments()]
        committed(place, dataset, old, [], [])
        place.drop()


def discard(place: Place, fragments: Sequence[Any]) -> None:
    """Delete the files of fragments that were not committed, if the folder is on this machine."""
    if place.folder is not None:
        for file in (file for fragment in fragments for file in fragment.files):
            with suppress(OSError):
                (place.folder / "data" / Path(file.path).name).unlink()


def clean(place: Place, dataset: Any) -> None:
    """Delete the versions that were replaced a day ago or earlier, and files of killed builds."""
    with suppress(PlacerecError), place.errors(writing=True):
        dataset.cleanup_old_versions(older_than=OLD)
