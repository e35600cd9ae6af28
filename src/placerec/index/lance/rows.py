"""What a version of an index in Lance holds: a row per photo, one about the index, its model.

A photo's row has the values and the seal of ``schema.PhotoRow``, and as blobs of ``codec`` its
global descriptor, its patch sets and, in an index with a retriever, the retriever's descriptor. Two
rows have names that no photo can have: ``HEADER``, whose blob is JSON with the values of
``schema.Collection``, the format and the retriever, and ``MODEL``. Every change writes
a new header row and deletes the old one in the same commit. So two writers always change the same
row, and Lance refuses the second one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from placerec.errors import (
    DamagedIndex,
    ModelMismatch,
    NotAnIndex,
    import_extra,
)
from placerec.index import codec, schema
from placerec.index.lance.place import Place
from placerec.index.presets import Storage
from placerec.records import Features, Position

HEADER, MODEL = b"", b"\0"
UNFINISHED = "a build that was not completed"
HEADER_KEY = b"header of an index in Lance"
RETRIEVAL = "retrieval"  # a column that the first indexes in Lance do not have
SEALED = ("name", "seal", *schema.PhotoRow._fields[1:])
Row = dict[str, Any]


@cache
def arrow_schema() -> Any:
    """Return the columns of the dataset."""
    arrow = import_extra("pyarrow", "an index in Lance", "lance")
    kinds = {
        "name": arrow.binary(), "seal": arrow.binary(), "display": arrow.string(),
        "sha256": arrow.string(), "latitude": arrow.float64(), "longitude": arrow.float64(),
        "heading": arrow.float64(), "gps_damaged": arrow.int64(), "blank": arrow.int64(),
        "patch_sets": arrow.int64(), "descriptor": arrow.large_binary(),
        "patches": arrow.list_(arrow.large_binary()), RETRIEVAL: arrow.large_binary(),
    }  # fmt: skip
    return arrow.schema(list(kinds.items()))


def is_schema(columns: Any) -> bool:
    """Whether a dataset has our columns, with or without that of a retriever."""
    ours = arrow_schema()
    return columns in (ours, ours.remove(ours.get_field_index(RETRIEVAL)))


def table_of(rows: Sequence[Row], columns: Any) -> Any:
    """Return rows as a table of Arrow with the columns of a dataset."""
    arrow = import_extra("pyarrow", "an index in Lance", "lance")
    return arrow.Table.from_pylist(list(rows), schema=columns)


def photo_row(
    name: str, sha256: str, position: Position | None, features: Features, storage: Storage,
    retriever: schema.RetrieverRow | None = None, *, gps_damaged: bool, blank: bool,
    restored: bool = False,
) -> Row:  # fmt: skip
    """Return the row of a photo; raise ``UsageError`` for an invalid value."""
    row = schema.photo_row(name, sha256, position, len(features.patches), gps_damaged, blank)
    mark = schema.seal(*row)
    descriptor, sets = storage.encode(features, mark, restored=restored)
    retrieval = storage.encode_retrieval(name, features, retriever and retriever.key(mark))
    return {**row._asdict(), "seal": mark, "patches": sets, "descriptor": descriptor,
            RETRIEVAL: retrieval}  # fmt: skip


def renamed(
    row: Row, target: bytes, place: Place, retriever: schema.RetrieverRow | None = None
) -> Row:
    """Return the row of a photo under another name; its descriptors stay bit for bit."""
    photo = stored_photo(0, row).row.renamed(target)
    old, new, path = row["seal"], schema.seal(*photo), place.address
    sets = [
        codec.with_key(blob, codec.patch_key(old, ordinal), codec.patch_key(new, ordinal), path)
        for ordinal, blob in enumerate(row["patches"])
    ]
    descriptor = codec.with_key(row["descriptor"], old, new, path)
    retrieval = None
    if retriever:
        retrieval = codec.with_key(row[RETRIEVAL], retriever.key(old), retriever.key(new), path)
    return {**photo._asdict(), "seal": new, "patches": sets, "descriptor": descriptor,
            RETRIEVAL: retrieval}  # fmt: skip


def stored_photo(number: int, row: Row) -> schema.StoredPhoto:
    """Return the sealed part of a row; ``number`` is its place in the version."""
    values = schema.PhotoRow(*(row[name] for name in schema.PhotoRow._fields))
    return schema.StoredPhoto(number, row["seal"], values)


@dataclass(frozen=True, slots=True)
class Header:
    """The row about the index, its format (``schema.FORMATS``) and its retriever."""

    collection: schema.Collection
    format: int
    retriever: schema.RetrieverRow | None = None

    @classmethod
    def new(
        cls, collection: schema.Collection, storage: Storage,
        retriever: schema.RetrieverRow | None = None,
    ) -> Header:  # fmt: skip
        """Return the header of an index with this storage."""
        return cls(collection, schema.format_with(storage, retriever is not None), retriever)

    @property
    def storage(self) -> Storage:
        """How descriptors are stored."""
        return schema.FORMATS[self.format]

    @property
    def row(self) -> Row:
        """The row as it is stored."""
        values = self.collection._asdict() | {"format": self.format}
        values |= {name: values[name].hex() for name in ("root", "digest")}
        if self.retriever:
            about = self.retriever._asdict() | {"source": self.retriever.source.hex()}
            values["retriever"] = about
        text = json.dumps(values, sort_keys=True).encode()
        return {"name": HEADER, "seal": schema.seal(text),
                "descriptor": codec.encode_bytes(text, HEADER_KEY)}  # fmt: skip

    @classmethod
    def of(cls, row: Row, place: Place) -> Header:
        """Return the header in a row; raise ``DamagedIndex`` if it was changed."""
        path = place.address
        text = codec.decode_bytes(row["descriptor"], HEADER_KEY, path)
        try:
            values = json.loads(text)
            version, about = values.pop("format"), values.pop("retriever", None)
            values |= {name: bytes.fromhex(values[name]) for name in ("root", "digest")}
            if about is not None:
                about = schema.RetrieverRow(**about | {"source": bytes.fromhex(about["source"])})
            header = cls(schema.Collection(**values), version, about)
        except (ValueError, TypeError, KeyError) as error:
            why = f"the row about the index cannot be read ({error})"
            raise DamagedIndex(path, why) from error
        if version not in schema.FORMATS:
            formats = f"index format {min(schema.FORMATS)} to {max(schema.FORMATS)}"
            remedy = "update placerec to read it"
            raise ModelMismatch(path, f"index format {version}", formats, remedy)
        stated = (version in schema.WITH_RETRIEVER) == (header.retriever is not None)
        if row["seal"] != header.row["seal"] or not stated:
            raise DamagedIndex(path, "the row about the index has changed")
        return header


def model_row(weights: bytes, collection: schema.Collection) -> Row:
    """Return the row of the fitted model."""
    key = collection.weights_key()
    return {"name": MODEL, "seal": key, "descriptor": codec.encode_bytes(weights, key)}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version of an index: its photos, sorted by the bytes of their names.

    A photo's ``number`` is its place in the version, and ``model`` the place of the model.
    """

    place: Place
    dataset: Any = field(repr=False)
    header: Header
    photos: tuple[schema.StoredPhoto, ...] = field(repr=False)
    model: int

    @classmethod
    def open(cls, place: Place, dataset: Any) -> Snapshot:
        """Read all rows of a version but their blobs, and check them."""
        path = place.address
        with place.errors():
            columns = dataset.schema
            if not {"name", "seal"} <= set(columns.names):
                raise NotAnIndex(path, "a dataset of another program")
            if not is_schema(columns):
                raise DamagedIndex(path, "unexpected columns")
            rows = dataset.to_table(columns=list(SEALED)).to_pylist()
        others: dict[bytes, list[int]] = {HEADER: [], MODEL: []}
        photos = []
        for number, row in enumerate(rows):
            if row["name"] in others:
                others[row["name"]].append(number)
            else:
                photos.append(stored_photo(number, row))
        if len(others[HEADER]) != 1 or len(others[MODEL]) > 1:
            raise DamagedIndex(path, "the row about the index is missing, or there are several")
        (number,) = others[HEADER]
        header = Header.of(take(place, dataset, [number])[0], place)
        if not header.collection.photos and not photos:
            raise NotAnIndex(path, UNFINISHED)
        if header.retriever and RETRIEVAL not in columns.names:
            raise DamagedIndex(path, "the descriptors of the retriever are missing")
        if not others[MODEL]:
            raise DamagedIndex(path, "the fitted model is missing")
        damages = (photo.damage for photo in photos)
        if damage := next(filter(None, damages), "") or header.collection.damage(photos):
            raise DamagedIndex(path, damage)
        photos.sort(key=lambda photo: photo.row.name)
        return cls(place, dataset, header, tuple(photos), others[MODEL][0])


def take(place: Place, dataset: Any, numbers: Sequence[int], *columns: str) -> list[Row]:
    """Return rows of a version in the order of ``numbers``; all columns if none is named."""
    with place.errors():
        chosen = list(columns) or list(dataset.schema.names)
        rows: list[Row] = dataset.take(list(numbers), columns=chosen).to_pylist()
    if len(rows) != len(numbers):
        raise DamagedIndex(place.address, f"{len(rows)} rows instead of {len(numbers)}")
    return rows


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an index as a writer sees it: no photo is read that does not change."""

    place: Place
    dataset: Any = field(repr=False)
    header: Header
    mark: bytes  # the seal of the header

    @classmethod
    def of(cls, place: Place, dataset: Any) -> Version:
        """Read the header of a version."""
        rows = select(place, dataset, [HEADER])
        if len(rows) != 1:
            raise DamagedIndex(place.address, "the row about the index is missing")
        header = Header.of(rows[0], place)
        if not header.collection.photos:
            raise NotAnIndex(place.address, UNFINISHED)
        return cls(place, dataset, header, rows[0]["seal"])

    def seals(self, names: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the seals of these photos, as far as they are there."""
        rows = select(self.place, self.dataset, names, "name", "seal") if names else []
        return {row["name"]: row["seal"] for row in rows}

    def row(self, name: bytes) -> Row | None:
        """Return the row of a photo, or ``None`` without it; raise ``DamagedIndex`` if damaged."""
        for row in select(self.place, self.dataset, [name]):
            if damage := stored_photo(0, row).damage:
                raise DamagedIndex(self.place.address, damage)
            return row
        return None

    def width(self, column: str) -> int:
        """Return the bytes of a photo's descriptor in this column."""
        with self.place.errors():
            scanner = self.dataset.scanner(
                columns=[column], filter="patch_sets IS NOT NULL", limit=1
            )
            return len(scanner.to_table()[column][0].as_py() or b"")


def select(place: Place, dataset: Any, names: Collection[bytes], *columns: str) -> list[Row]:
    """Return the rows with these names, with all columns if none is named."""
    values = ", ".join(f"X'{name.hex()}'" for name in names)
    with place.errors():
        chosen = list(columns) or list(dataset.schema.names)
        table = dataset.to_table(columns=chosen, filter=f"name IN ({values})")
        rows: list[Row] = table.to_pylist()
    return rows


def where(seals: Iterable[bytes]) -> str:
    """Return the condition of SQL for the rows with these seals."""
    values = ", ".join(f"X'{seal.hex()}'" for seal in seals)
    return f"seal IN ({values})"
