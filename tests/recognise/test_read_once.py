"""What is read and decoded, counted: nothing twice, and nothing that is not needed."""

from click.testing import CliRunner

from placerec.cli import cli
from placerec.index import IndexReader, reader
from placerec.index.update import add_photos
from placerec.models import model
from placerec.photos.decode import decode
from placerec.recognise.recognizer import PlaceRecognizer


def counted(monkeypatch, module, name):
    """Replace a function of a module by one that records its first argument."""
    function, calls = getattr(module, name), []

    def record(first, *arguments, **named):
        calls.append(first)
        return function(first, *arguments, **named)

    monkeypatch.setattr(module, name, record)
    return calls


def test_adding_photos_reads_no_global_descriptor(town, photos, tmp_path, monkeypatch):
    index = tmp_path / "town.placerec"
    CliRunner().invoke(cli, ["index", "build", str(index), str(photos)], catch_exceptions=False)
    calls = counted(monkeypatch, IndexReader, "global_descriptors")
    assert add_photos(index, [town / "queries" / "night_000.jpg"]).added == 1
    assert calls == []


def test_the_candidates_of_a_query_are_read_in_one_transaction(town, town_index, monkeypatch):
    with PlaceRecognizer.open(town_index, candidates=6) as recognizer:
        calls = counted(monkeypatch, reader, "begin_reading")
        places = recognizer.query(town / "queries" / "night_000.jpg", top=6).places
    assert [place.inliers is None for place in places] == [False] * 6
    assert len(calls) == 1


def test_many_bytes_of_candidates_are_read_in_parts(town, town_index, monkeypatch):
    photo = town / "queries" / "night_000.jpg"
    with PlaceRecognizer.open(town_index, candidates=6) as recognizer:
        expected = [(p.path, p.score) for p in recognizer.query(photo, top=6).places]
        monkeypatch.setattr(reader, "READ_BYTES", int(2.5 * recognizer.index.info.bytes_per_photo))
        calls = counted(monkeypatch, reader, "begin_reading")
        assert [(p.path, p.score) for p in recognizer.query(photo, top=6).places] == expected
    assert len(calls) == 3


def test_a_photo_that_was_decoded_for_its_query_is_not_decoded_again_to_draw(
    town, town_index, tmp_path, monkeypatch
):
    photo, picture = town / "queries" / "night_000.jpg", tmp_path / "match.png"
    calls = counted(monkeypatch, model, "decode")
    arguments = ["query", str(town_index), str(photo), "--picture", str(picture)]
    CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert picture.is_file()
    assert len(calls) == 2  # the query, and the photo beside it
    assert calls[0] == photo
    assert decode(photo).pixels.shape
