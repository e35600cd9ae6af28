"""An index with a retriever: its shortlist is the retriever's, all else is the model's."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from index_support import Collection, colours, draw, edit, rows
from PIL import Image

from placerec.baselines.contract import Provenance
from placerec.demo import demo_pose, render
from placerec.errors import DamagedIndex, ModelMismatch, NotFound, UsageError
from placerec.index import IndexReader, calibrate, verify
from placerec.index import build as build_module
from placerec.index.build import build_index, refit_index
from placerec.index.retriever import open_retriever
from placerec.index.update import add_photos, refresh_index, remove_photos
from placerec.method.ranking import best_first
from placerec.pairs import export_pairs
from placerec.photos.decode import decode
from placerec.recognise import PlaceRecognizer, recognizer
from placerec.recognise.track import follow
from placerec.records import Position
from placerec.runtime import Runtime
from placerec.serve import ServedIndex
from placerec.settings import Settings

pytest.importorskip("onnx")
SMALL = Settings(image_size=(120, 160))


class Rows:
    """A retriever of a program: the mean of each of 12 bands of rows."""

    name, fingerprint = "bands", "0" * 64
    provenance = Provenance("MIT", "none")

    def fit(self, photos, count, progress):
        """Do nothing."""

    def describe(self, pixels):
        bands = np.array_split(pixels.astype(np.float32).mean(axis=(1, 2)), 12)
        means = np.array([band.mean() for band in bands]) - pixels.mean()
        return (means / np.linalg.norm(means)).astype(np.float32)


def changed(**attributes):
    """A retriever of a program with other attributes."""
    return type("Changed", (Rows,), attributes)()


@pytest.fixture(scope="module")
def one_folder(tmp_path_factory):
    """Six photos and an index with the colours as retriever."""
    folder = tmp_path_factory.mktemp("retriever")
    for place in range(6):
        draw(folder / "photos" / f"{place}.png", place)
    (folder / "nets").mkdir()
    net = colours(folder / "nets" / "colours.onnx")
    build_index(folder / "town.plr", folder / "photos", settings=SMALL, retriever=net)
    return folder


@pytest.fixture
def here(one_folder, tmp_path) -> Collection:
    folder = Path(shutil.copytree(one_folder, tmp_path / "here"))
    return Collection(folder, folder / "photos", folder / "town.plr")


@pytest.fixture
def night():
    return render(1, demo_pose(1, 2, True), True, (120, 160))


def vectors(index, **options):
    with PlaceRecognizer.open(index, **options) as opened:
        names = [entry.name for entry in opened.index.entries]
        return dict(zip(names, opened.retrieval_descriptors, strict=True))


def test_the_shortlist_is_the_retrievers_and_the_cosines_are_ours(here, night):
    retriever = open_retriever(here.folder / "nets" / "colours.onnx")
    with PlaceRecognizer.open(here.index) as opened:
        names = [entry.name for entry in opened.index.entries]
        described = [retriever(decode(here.photos / name).pixels) for name in names]
        wanted = best_first(np.array(described) @ retriever(night))
        query = opened.describe(night)
        rows, similar = opened.shortlist(query, 6)
        assert rows.tolist() == wanted.tolist()
        assert np.allclose(similar, (np.array(described) @ retriever(night))[wanted], atol=5e-3)
        ours = opened.global_descriptors[:] @ query.global_descriptor
        assert best_first(ours).tolist() != wanted.tolist()
        assert np.allclose(opened.cosines(query, rows), ours[rows], atol=1e-6)
        answer = opened.query(night, top=6)
    for place in answer.places:
        assert place.global_score == pytest.approx(ours[names.index(place.path)], abs=1e-6)


def test_only_the_candidates_of_the_retriever_are_scored(here, night):
    with PlaceRecognizer.open(here.index, candidates=2) as opened:
        chosen = opened.shortlist(opened.describe(night), 2)[0].tolist()
        names = {opened.index.entries[row].name for row in chosen}
        places = opened.query(night, top=6).places
    assert {place.path for place in places if place.matches} == names
    assert {place.path for place in places[:2]} == names


def test_without_re_ranking_the_similarity_of_the_retriever_is_the_score(here, night):
    with PlaceRecognizer.open(here.index, candidates=0) as opened:
        rows, similar = opened.shortlist(opened.describe(night), 6)
        places = opened.query(night, top=6).places
        names = [opened.index.entries[row].name for row in rows]
    assert [place.path for place in places] == names
    assert [place.score for place in places] == similar.tolist()


def test_an_index_without_a_retriever_has_the_formats_and_tables_of_before(here):
    build_index(here.folder / "a.plr", here.photos, settings=SMALL)
    with IndexReader.open(here.folder / "a.plr") as reader:
        assert (reader.info.format, reader.info.retriever) == (11, "")
        assert reader.retrieval_descriptors() is None
    with IndexReader.open(here.index) as reader:
        assert (reader.info.format, reader.info.retriever) == (12, "colours.onnx")
    one, two = rows(here.folder / "a.plr"), rows(here.index)
    for table in ("weights", "patches", "photos"):  # what the model makes is the same
        assert one[table] == two[table]


def test_int8_keeps_the_ranking_of_the_retriever(here):
    retriever = open_retriever(here.folder / "nets" / "colours.onnx")
    for name, vector in vectors(here.index).items():
        exact = retriever(decode(here.photos / name).pixels)
        assert vector @ exact > 0.9999
    with IndexReader.open(here.index) as reader:
        more = reader.info.bytes_per_photo
    build_index(here.folder / "a.plr", here.photos, settings=SMALL)
    with IndexReader.open(here.folder / "a.plr") as reader:
        assert more - reader.info.bytes_per_photo == 36 + len(exact)  # a header, a byte a number


def test_add_refresh_and_refit_keep_the_descriptors(here):
    before = vectors(here.index)
    draw(here.folder / "other" / "9.png", 9)
    shutil.copy(here.folder / "other" / "9.png", here.photos / "9.png")
    assert add_photos(here.index, here.photos).added == 1
    (here.photos / "0.png").rename(here.photos / "sub.png")
    report = refresh_index(here.index)
    assert (report.moved, report.unchanged) == (1, 6)
    assert verify(here.index) == []
    after = vectors(here.index)
    retriever = open_retriever(here.folder / "nets" / "colours.onnx")
    assert after.pop("9.png") @ retriever(decode(here.photos / "9.png").pixels) > 0.9999
    before["sub.png"] = before.pop("0.png")
    assert all((before[name] == after[name]).all() for name in before | after)
    refit_index(here.index)
    again = vectors(here.index)
    del again["9.png"]
    assert all((before[name] == again[name]).all() for name in before | again)
    remove_photos(here.index, "9.png")
    assert verify(here.index) == []


def test_the_folder_of_index_and_network_can_be_moved(here, night, monkeypatch):
    moved = here.folder.rename(here.folder.with_name("moved"))
    monkeypatch.chdir(moved / "photos")
    with PlaceRecognizer.open(moved / "town.plr") as opened:
        assert opened.query(night).places


def test_another_network_is_refused_with_both_fingerprints(here, night):
    net = here.folder / "nets" / "colours.onnx"
    old = open_retriever(net).retriever.fingerprint[:12]
    new = open_retriever(colours(net, side=20)).retriever.fingerprint[:12]
    for change in (
        lambda: PlaceRecognizer.open(here.index),
        lambda: add_photos(here.index, draw(here.photos / "9.png", 9)),
        lambda: refresh_index(here.index),
        lambda: refit_index(here.index),
        lambda: PlaceRecognizer.open(here.index, retriever=net),
    ):
        with pytest.raises(ModelMismatch, match=f"colours.onnx {old}, but asked for .* {new}"):
            change()
    net.unlink()
    with pytest.raises(NotFound, match=r"colours\.onnx of .*town\.plr is not there"):
        PlaceRecognizer.open(here.index)


def test_the_retriever_is_opened_only_for_a_new_photo(here):
    (here.folder / "nets" / "colours.onnx").unlink()
    assert add_photos(here.index, here.photos).unchanged == 6
    (here.photos / "0.png").rename(here.photos / "moved.png")
    (here.photos / "1.png").unlink()
    report = refresh_index(here.index)
    assert (report.moved, report.removed, report.unchanged) == (1, 1, 4)
    draw(here.photos / "9.png", 9)
    for change in (lambda: add_photos(here.index, here.photos), lambda: refresh_index(here.index)):
        with pytest.raises(NotFound, match=r"colours\.onnx of .*town\.plr is not there"):
            change()
    with pytest.raises(ModelMismatch, match="asked for the retriever bands"):  # one that is given
        add_photos(here.index, here.photos / "3.png", retriever=Rows())


def test_a_retriever_of_a_program_must_be_given(here, night):
    index = here.folder / "own.plr"
    build_index(index, here.photos, settings=SMALL, retriever=Rows())
    with pytest.raises(UsageError, match="bands is an object of a program; give it"):
        PlaceRecognizer.open(index)
    with PlaceRecognizer.open(index, retriever=Rows()) as opened:
        assert opened.query(night).places
    draw(here.photos / "9.png", 9)
    assert refresh_index(index, retriever=Rows()).added == 1
    assert refit_index(index, retriever=Rows()).changed == 7
    assert verify(index) == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("vlad", "fitted on photos, and an index does not keep that fit"),
        ("nothing", "choose ap-gem, megaloc, or an .onnx file"),
        ("none.onnx", "none.onnx: no such ONNX file"),
        (7, "7 is no Retriever"),
        (Rows, "class .*Rows'> is no Retriever; it needs name and fingerprint"),
        (changed(fingerprint=5), "is no Retriever; it needs name and fingerprint"),
        (changed(fingerprint=""), "is no Retriever"),
        (changed(fingerprint="\udcff"), "is no Retriever"),
        (changed(fingerprint=property(lambda _: 1 / 0)), r"is no Retriever \(division by zero\)"),
        (changed(name=None), "is no Retriever"),
        (changed(describe=None), "is no Retriever"),
    ],
)
def test_a_retriever_that_cannot_be_one_is_refused_and_nothing_is_written(here, given, why):
    with pytest.raises((UsageError, NotFound), match=why):
        build_index(here.folder / "b.plr", here.photos, settings=SMALL, retriever=given)
    assert not list(here.folder.glob("b.plr*"))


def test_a_trunk_is_no_retriever(here):
    trunk = Path(build_module.__file__).parent.parent / "trunks/weights/efficientnet-lite0.onnx"
    with pytest.raises(UsageError, match="a trunk, which gives a feature map"):
        open_retriever(trunk)


@pytest.mark.parametrize(("described", "why"), [
    (np.full((2, 3), np.nan, np.float32), r"it describes a photo by float32 \(2, 3\)"),
    (np.array(["a"]), r"it describes a photo by <U1 \(1,\)"),
    (np.zeros(0, np.float32), r"it describes a photo by float32 \(0,\)"),
    ([[1], [2, 3]], r"it fails on a photo \(ValueError: .*inhomogeneous"),
    (np.full(9, 1e200), r"it describes a photo by numbers up to 1e\+200, which float32 cannot"),
    (np.full(9, 3e38, np.float32), r"it describes a photo by numbers up to 3e\+38, which"),
    (np.float32([1e-30, 0]), "it describes a photo by numbers up to 1e-30, which float32 cannot"),
    (RuntimeError("boom"), r"it fails on a photo \(RuntimeError: boom\)"),
])  # fmt: skip
def test_a_wrong_descriptor_is_refused_and_the_old_index_stays(here, described, why):
    def describe(self, pixels):
        if isinstance(described, Exception):
            raise described
        return described

    before, wrong = here.index.read_bytes(), changed(describe=describe)
    with pytest.raises(UsageError, match=rf"^\d\.png: retriever bands: {why}"):
        build_index(here.index, here.photos, settings=SMALL, retriever=wrong, replace=True)
    assert here.index.read_bytes() == before
    assert not list(here.folder.glob("*.partial"))


def test_a_descriptor_of_zeros_or_of_another_length_is_valid():
    zeros = open_retriever(changed(describe=lambda *_: np.zeros(4, np.float32)))
    assert zeros(None).tolist() == [0] * 4
    long = open_retriever(changed(describe=lambda *_: np.array([3e9, 4e9])))
    assert long(None) == pytest.approx([0.6, 0.8])


def test_a_killed_build_leaves_nothing(here, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(build_module, "calibrate_index", killed)
    with pytest.raises(KeyboardInterrupt):
        build_index(here.folder / "b.plr", here.photos, settings=SMALL, retriever=Rows())
    assert not list(here.folder.glob("b.plr*"))


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE retriever SET name = 'x'", "the row about the retriever is missing or has chang"),
        ("DELETE FROM retriever", "the row about the retriever is missing or has changed"),
        ("DELETE FROM retrieval WHERE photo = 2", "its descriptor of the retriever is missing"),
        ("INSERT INTO retrieval VALUES (99, x'00')", "1 descriptors of the retriever without a"),
        ("UPDATE retrieval SET descriptor = (SELECT descriptor FROM retrieval WHERE photo = 1)",
         "descriptor of the retriever: .*checksum"),
        ("DROP TABLE retrieval", "unexpected tables: retrieval"),
        ("PRAGMA user_version = 7", "unexpected tables"),
    ],
)  # fmt: skip
def test_damage_is_found(here, statement, finding):
    edit(here.index, statement)
    assert any(re.search(finding, text) for text in verify(here.index))
    if "99" not in statement:
        with pytest.raises(DamagedIndex):
            PlaceRecognizer.open(here.index)


def test_the_other_uses_of_an_index_take_its_shortlist(here, night, tmp_path):
    asked = []

    class Counting(Rows):
        def describe(self, pixels):
            asked.append(pixels.shape)
            return super().describe(pixels)

    index = here.folder / "own.plr"
    build_index(index, here.photos, settings=SMALL, retriever=Counting())
    assert len(asked) == 6  # each photo once
    graph = export_pairs(index, tmp_path / "pairs.txt", top=2, retriever=Counting())
    assert graph.pairs
    assert len(asked) == 6  # pairs take what is stored
    with ServedIndex.open(index, retriever=Counting()) as served:
        photo = decode(here.photos / "3.png")
        assert served.search(photo).answer.best.path == "3.png"
        assert len(asked) == 7
    with PlaceRecognizer.open(index, retriever=Counting()) as opened:
        answers = list(opened.query_many([night, night]))
        assert len(asked) == 9
        assert opened.is_stale is False
        with opened.reload() as again:
            assert again.retriever is opened.retriever
    assert answers[0].places


def test_the_command_builds_and_shows_it(here, command):
    net, index = here.folder / "nets" / "colours.onnx", here.folder / "c.plr"
    words = ("--image-size", "120,160", "--retriever", net)
    code, _, err = command("index", "build", index, here.photos, *words)
    assert code == 0, err
    code, out, _ = command("index", "info", index)
    digest = open_retriever(net).retriever.fingerprint
    assert code == 0
    assert f"retriever: colours.onnx ({digest[:12]}) from nets/colours.onnx\n" in out
    facts = json.loads(command("index", "info", index, "--json")[1])
    assert facts["retriever_source"] == "nets/colours.onnx"
    code, out, _ = command("query", index, here.photos / "1.png")
    assert code == 0
    assert "1.png" in out


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Eight photos 10 m apart, calibrated with fewer photos than usual, to be fast."""
    folder = tmp_path_factory.mktemp("street")
    (folder / "photos").mkdir()
    positions = {}
    for number in range(8):
        pixels = render(0, demo_pose(0, number, False), size=(120, 160))
        Image.fromarray(pixels).save(folder / "photos" / f"{number:02}.png")
        positions[f"{number:02}.png"] = Position(45.0 + number * 9e-5, 30.0)
    maps = calibrate.foreign_maps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "foreign_maps", lambda *about: maps(*about)[:3])
        patch.setattr(calibrate, "MOST_LEFT_OUT", 3)
        patch.setattr(calibrate, "FEWEST_PHOTOS", 8)
        patch.setattr(recognizer, "FEWEST_PHOTOS", 8)
        build_index(
            folder / "street.plr", folder / "photos", positions=positions, retriever=Rows(),
            runtime=Runtime(threads=2),
        )  # fmt: skip
        yield folder / "street.plr"


def test_an_answer_has_a_confidence_and_metres(street):
    frames = [render(0, demo_pose(0, number, False), size=(120, 160)) for number in (3, 4)]
    with PlaceRecognizer.open(street, retriever=Rows(), false_alarm=0.3) as opened:
        answers = list(opened.query_many(frames))
        points = follow(opened, answers, [0.0, 10.0])
    for answer in answers:
        assert 0 < answer.best.confidence < 1
        assert answer.in_map is not None
        assert answer.uncalibrated == ""
    assert len(points) == 2


def test_the_own_photos_that_are_left_out_ask_as_queries_do(street):
    """The calibration asks with the stored descriptor, so it has the shortlist of a query."""
    with PlaceRecognizer.open(street, retriever=Rows(), false_alarm=0.3) as opened:
        model = opened.model.with_settings(opened.model.settings.replace(candidates=3))
        calibrator = calibrate._Calibrator(opened.index, model, Runtime(threads=1))
        photo = opened.read(opened.index.photo_path("07.png"))
        features, query = model.feature_map(photo.pixels), opened.describe(photo.pixels)
        asked = calibrator._ask(features, {7}, 7)
        assert sorted(asked.rows) == sorted(opened.shortlist(query, 3, {7})[0].tolist())
        assert sorted(asked.rows) != sorted(calibrator._ask(features, {7}).rows)
        scores, _ = opened.score(query, asked.rows)
        assert np.allclose(asked.scores, scores, atol=1e-6)
