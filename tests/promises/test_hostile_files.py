"""Files that a stranger made: P6. Each is refused by name, and no memory is used for its claims."""

from __future__ import annotations

import ast
import contextlib
import json
import resource
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from promise_support import MeanColours, draw, draw_folder, files_in, limited, small_index

import placerec
from index.index_support import WEIGHTS, create, edit, put
from placerec import build_index
from placerec.errors import Damaged, DamagedIndex, NotFound, UnsafeWeights, UsageError
from placerec.evaluation.layouts import open_dataset
from placerec.index import IndexReader, schema, verify
from placerec.models.model_file import load_model, model_bytes, read_settings
from placerec.models.resolve import generic_model
from placerec.recognise import PlaceRecognizer
from placerec.runtime import Runtime
from placerec.trunks.external import OnnxTrunk
from plain_methods import write_onnx_trunk

ROOM = 400 << 20  # bytes that a test may use beyond those in use


def little_memory(room: int = ROOM):
    """Lower the limit of memory to ``room`` bytes more than this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return limited(resource.RLIMIT_AS, pages * resource.getpagesize() + room)


# Model files.


@pytest.fixture(scope="module")
def sound() -> bytes:
    return model_bytes(generic_model())


def header_of(data: bytes) -> dict:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def model_file(header: dict | bytes, tensors: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + tensors


def tensor(dtype: str, shape: list[int], first: int, last: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


NAME = "vocabulary.centres"
BOMBS = {  # the tensors of the header, and the bytes of their data
    "overlapping": ({"a": tensor("F32", [4], 0, 16), "b": tensor("F32", [4], 8, 24)}, 24),
    "beyond the end": ({NAME: tensor("F32", [4], 0, 16)}, 8),
    "not all of the data": ({NAME: tensor("F32", [4], 0, 16)}, 64),
    "a hole": ({"a": tensor("F32", [2], 0, 8), "b": tensor("F32", [2], 16, 24)}, 24),
    "a huge shape": ({NAME: tensor("F32", [2**40, 2**40], 0, 16)}, 16),
    "a shape that overflows": ({NAME: tensor("F32", [2**32, 2**32], 0, 0)}, 0),
    "nothing of much": ({NAME: tensor("F32", [0, 2**60], 0, 0)}, 0),
    "a negative shape": ({NAME: tensor("F32", [-1], 0, 16)}, 16),
    "an unknown type": ({NAME: tensor("F8_E4M3", [16], 0, 16)}, 16),
    "a type of another width": ({NAME: tensor("F64", [4], 0, 16)}, 16),
    "a million tensors": ({f"t{n}": tensor("F32", [0], 0, 0) for n in range(200_000)}, 0),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_header_that_lies_is_refused_without_memory_for_it(sound, tmp_path, kind):
    tensors, size = BOMBS[kind]
    about = {"__metadata__": header_of(sound)["__metadata__"]}
    path = tmp_path / "m.safetensors"
    path.write_bytes(model_file({**about, **tensors}, bytes(size)))
    with little_memory(), pytest.raises(UnsafeWeights, match=r"m\.safetensors"):
        load_model(path)


@pytest.mark.parametrize("length", [1 << 20, 100_000_000, 2**63, 2**64 - 1])
def test_a_long_header_is_refused_with_its_length(sound, tmp_path, length):
    path = tmp_path / "m.safetensors"
    path.write_bytes(model_file(header_of(sound), length=length + 1 & 2**64 - 1 or length))
    for read in (load_model, read_settings):
        with little_memory(), pytest.raises(UnsafeWeights, match=r"a header of \d+ bytes"):
            read(path)


@pytest.mark.parametrize(
    ("name", "read"),
    [("a.safetensors", load_model), ("a.safetensors", read_settings),
     ("a.onnx", OnnxTrunk.from_file)],
)  # fmt: skip
def test_a_huge_file_is_refused_before_it_is_read(tmp_path, name, read):
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(1 << 40)  # it takes no room on the disk
    with little_memory(), pytest.raises(UnsafeWeights, match=r"more than \d+ bytes"):
        read(path)


SETTINGS = {
    "image_size": [[10**6, 10**6], [30_000, 30_000], [10**18, 10**18], [10**30, 3]],
    "bands": [10**9], "box": [10**9 + 1, 10**30 + 1], "clusters": [10**12], "pca_dim": [10**12],
    "k_patch": [10**9], "patch_sizes": [[[10**9, 10**9]]], "stride": [10**12, 10**30],
    "pooling": [10**9 + 1], "global_dim": [10**12], "whitening": [float("nan"), float("inf")],
    "candidates": [10**30],
}  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_would_need_unlimited_memory_is_refused_or_harmless(
    sound, tmp_path, setting
):
    from safetensors.numpy import load, save

    folder, path = draw_folder(tmp_path / "photos", 2), tmp_path / "m.safetensors"
    index, about = tmp_path / "a.placerec", header_of(sound)["__metadata__"]
    for value in SETTINGS[setting]:
        settings = json.dumps({**json.loads(about["settings"]), setting: value})
        path.write_bytes(save(load(sound), {**about, "settings": settings}))
        with little_memory(8 * ROOM), contextlib.suppress(Damaged, UsageError):
            build_index(index, folder, model=str(path), runtime=Runtime(threads=1))
            with PlaceRecognizer.open(index) as recognizer:
                recognizer.query(folder / "000.png")
            assert verify(index) == []
            index.unlink()
        assert files_in(tmp_path) == ["m.safetensors", "photos"]


# ONNX files.


def varint(number: int, longer: int = 0) -> bytes:
    """A number as protobuf writes it, with ``longer`` bytes more than needed."""
    groups = [number >> shift & 127 for shift in range(0, max(1, number.bit_length()), 7)]
    groups += [0] * longer
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def field(number: int, content: bytes, longer: int = 0) -> bytes:
    tag = varint(number << 3 | 2, longer)
    return tag + varint(len(content), longer) + content


def with_external_data(folder: Path, location: str, longer: int) -> Path:
    """An ONNX trunk whose weights are in another file, in any spelling that a reader accepts."""
    onnx = pytest.importorskip("onnx")
    whole = folder / "whole.onnx"
    write_onnx_trunk(whole)
    model = onnx.load(whole)
    weights = np.asarray(model.graph.initializer[0].raw_data)
    (folder / "weights.bin").write_bytes(weights.tobytes())
    graph = onnx.load(whole).graph
    graph.ClearField("initializer")
    model.ClearField("graph")
    entry = field(1, b"location", longer) + field(2, location.encode())
    shape = b"".join(b"\x08" + varint(length) for length in (16, 3, 16, 16))
    outside = shape + b"\x10\x01" + field(8, b"w") + field(13, entry) + b"\x70\x01"
    path = folder / "split.onnx"
    path.write_bytes(
        model.SerializeToString() + field(7, graph.SerializeToString() + field(5, outside))
    )
    return path


@pytest.mark.parametrize("longer", [0, 1, 3])
@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd", "/etc/passwd", "link"])
def test_an_onnx_file_reads_no_other_file_however_it_is_spelt(
    tmp_path, monkeypatch, location, longer
):
    monkeypatch.chdir(tmp_path)  # where ONNX Runtime looks for the data of a model in memory
    path = with_external_data(tmp_path, location, longer)
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(UnsafeWeights, match="it refers to data in other files"):
        OnnxTrunk.from_file(path)
    assert OnnxTrunk.from_file(tmp_path / "whole.onnx").channels == 16


def test_an_onnx_file_that_only_speaks_of_a_location_is_run(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "a.onnx"
    write_onnx_trunk(path)
    model = onnx.load(path)
    model.doc_string = "location: \n\x07location \x12 location"
    model.graph.name = "my location"
    onnx.save(model, path)
    assert OnnxTrunk.from_file(path).channels == 16


def test_an_onnx_file_with_an_unknown_operator_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "a.onnx"
    write_onnx_trunk(path)
    model = onnx.load(path)
    model.graph.node[0].domain = "evil.example"
    model.opset_import.append(onnx.helper.make_opsetid("evil.example", 1))
    onnx.save(model, path)
    with pytest.raises(UnsafeWeights, match=r"a\.onnx"):
        OnnxTrunk.from_file(path)


# Indexes whose checksums are right.


def resealed(path: Path, **changes) -> Path:
    with create(path, **changes) as writer:
        put(writer, 1)
    assert verify(path) == []
    return path


def test_an_index_with_sound_checksums_and_a_hostile_model_is_refused(sound, tmp_path):
    about = header_of(sound)["__metadata__"]
    settings = {"settings": about["settings"]}
    for number, (weights, more, says) in enumerate((
        (model_file({"__metadata__": about}, length=2**62), settings, "a header of"),
        (b"\x80\x04cos\nsystem\n(S'touch spy'\ntR.", settings, "PyTorch checkpoint"),
        (sound, {"settings": about["settings"].replace("[480, 640]", "[480000, 640000]")}, "image"),
        (WEIGHTS, settings, "not a safetensors file"),
    )):  # fmt: skip
        path = resealed(tmp_path / f"{number}.placerec", weights=weights, **more)
        with little_memory(), pytest.raises(Damaged, match=says) as error:
            PlaceRecognizer.open(path)
        assert error.value.exit_code == 4
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", ["[" * 100_000, "no JSON", "7", "[]"])
def test_settings_that_are_not_json_are_damage_and_no_crash(command, sound, tmp_path, settings):
    path = resealed(tmp_path / "a.placerec", weights=sound)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        collection = schema.Collection.read(connection, path)
        collection._replace(settings=settings).write(connection)
    finally:
        connection.close()
    assert any("its settings are not a JSON object" in finding for finding in verify(path))
    for words in (("index", "info", path), ("index", "info", path, "--json"), ("query", path, "a")):
        code, out, err = command(*words)
        assert (code, out, err.count("\n")) == (4, "", 1)
        assert "settings" in err


SCHEMAS = {
    "a view in place of a table": (
        "ALTER TABLE photos RENAME TO hidden", "CREATE VIEW photos AS SELECT * FROM hidden",
    ),
    "a trigger": (
        "CREATE TRIGGER t AFTER DELETE ON photos BEGIN UPDATE weights SET data = x'00'; END",
    ),
    "a partial index": ("CREATE INDEX i ON photos (sha256) WHERE latitude > 0",),
    "an index on an expression": ("CREATE INDEX i ON photos (abs(latitude))",),
    "a virtual table": ("CREATE VIRTUAL TABLE v USING fts5(a)",),
    "a table of statistics": ("ANALYZE",),
    "another default": (
        "PRAGMA writable_schema=ON",
        "UPDATE sqlite_schema SET sql = replace(sql, 'latitude REAL', 'latitude REAL DEFAULT 7')",
    ),
    "another root page": (
        "PRAGMA writable_schema=ON",
        "UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'photos'",
    ),
    "many tables": (
        "PRAGMA writable_schema=ON",
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "  # noqa: ISC004
        "INSERT INTO sqlite_schema "
        "SELECT 'table', 't' || i, 't' || i, 2, 'CREATE TABLE t' || i || '(a)' FROM n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_that_is_not_ours_is_refused_and_nothing_of_it_runs(tmp_path, kind):
    path = resealed(tmp_path / "a.placerec")
    edit(path, *SCHEMAS[kind])
    before = path.read_bytes()
    with little_memory():
        with pytest.raises(DamagedIndex):
            IndexReader.open(path)
        assert verify(path)
    assert path.read_bytes() == before
    assert files_in(tmp_path) == ["a.placerec"]


def test_an_index_names_no_other_database(tmp_path):
    """ATTACH is a command of a connection, so no file can bring it; no index has one either."""
    path = small_index(tmp_path / "a.placerec", draw_folder(tmp_path / "photos", 2))
    with PlaceRecognizer.open(path, model=MeanColours()) as recognizer:
        databases = recognizer.index._connection.execute("PRAGMA database_list").fetchall()
    assert [name for _, name, _ in databases] == ["main"]


# Data sets.

POSE = "1 0 0 0 0 0 0"
HOSTILE = ["../../../etc/passwd", "/etc/passwd", "a/../../x.png", "..\\..\\x.png", "C:\\x.png"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_a_kapture_or_nvm_file_lead_to_no_other_folder(tmp_path, name):
    for side in ("mapping", "query"):
        sensors = tmp_path / "kapture" / side / "sensors"
        draw(sensors / "records_data" / "a.png", 1)
        (sensors / "records_camera.txt").write_text(f"0, camera, a.png\n1, camera, {name}\n")
        (sensors / "trajectories.txt").write_text(f"0, camera, {POSE.replace(' ', ', ')}\n")
    draw(tmp_path / "nvm" / "database" / "a.png", 1)
    draw(tmp_path / "nvm" / "queries" / "b.png", 2)
    (tmp_path / "nvm" / "model.nvm").write_text(f"NVM_V3\n\n1\n{name} 500 {POSE} 0 0\n")
    for protocol in ("kapture", "nvm"):
        with pytest.raises(Damaged, match="leads out of"):
            open_dataset(tmp_path / protocol, protocol)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_a_colmap_model_open_no_file(tmp_path, name):
    draw(tmp_path / "database" / "a.png", 1)
    draw(tmp_path / "queries" / "b.png", 2)
    model = tmp_path / "sparse" / "images.txt"
    model.parent.mkdir()
    model.write_text(f"1 {POSE} 1 {name}\n\n2 {POSE} 1 database/{name}\n\n")
    with pytest.raises(NotFound, match="no pose of a database photo"):
        open_dataset(tmp_path, "colmap")
    model.write_text(f"1 {POSE} 1 {name}\n\n2 {POSE} 1 database/a.png\n\n")
    (search,) = open_dataset(tmp_path, "colmap").searches
    paths = {*search.database.paths, *search.queries.paths}
    assert paths == {tmp_path / "database" / "a.png", tmp_path / "queries" / "b.png"}


# The program's own code.

RUNS_CODE = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}


def test_no_code_of_placerec_reads_a_file_by_running_it():
    for path in Path(placerec.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in RUNS_CODE, path
            if not isinstance(node, ast.Call):
                continue
            options = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            name = ast.unparse(node.func)
            assert name not in {"eval", "exec", "torch.hub.load"}, path
            assert name.partition(".")[0] not in RUNS_CODE, path
            assert not options.get("allow_pickle"), path
            if name == "torch.load":
                assert options.get("weights_only") is True, path
