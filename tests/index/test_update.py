"""Paths that people give, and photos that were renamed or moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from index_support import Collection, answers, draw

from placerec import add_photos, refit_index, refresh_index, remove_photos
from placerec.errors import FolderGone, NotFound, UsageError
from placerec.index import IndexReader, verify
from placerec.index.build import Report, build_index
from placerec.models.photo_source import fit_on_folder
from placerec.records import Position
from placerec.settings import Settings
from placerec.trunks.external import TorchTrunk


def names(index: Path) -> list[str]:
    with IndexReader.open(index) as reader:
        return [entry.name for entry in reader.entries]


ALL = ["0.png", "1.png", "sub/2.png", "sub/3.png"]


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_lone_path_is_one_photo(collection: Collection, monkeypatch, kind, absolute) -> None:
    monkeypatch.chdir(collection.photos)
    draw(collection.photos / "new.png", 4)
    start = collection.photos if absolute else Path()
    index = kind(collection.index)
    assert add_photos(index, kind(start / "new.png")).added == 1
    assert names(collection.index) == [*ALL[:2], "new.png", *ALL[2:]]
    assert remove_photos(index, kind(start / "new.png")).removed == 1
    assert names(collection.index) == ALL


@pytest.mark.parametrize("kind", [str, Path])
def test_a_lone_name_is_one_photo_of_a_build(collection: Collection, kind) -> None:
    index = collection.folder / "one.placerec"
    assert build_index(kind(index), kind(collection.photos), names=kind("sub/2.png")).added == 1
    assert names(index) == ["sub/2.png"]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_means_its_photos(collection: Collection, monkeypatch, kind) -> None:
    monkeypatch.chdir(collection.folder)
    for place, name in ((4, "more/a.png"), (5, "more/deep/b.png")):
        draw(collection.photos / name, place)
    assert add_photos(collection.index, kind("photos/more")).added == 2
    assert remove_photos(collection.index, kind("sub")).removed == 2  # by its name in the index
    assert remove_photos(collection.index, kind(collection.photos / "more")).removed == 2
    assert names(collection.index) == ALL[:2]
    with pytest.raises(NotFound, match="no such photo in the index"):
        remove_photos(collection.index, kind("su"))
    with pytest.raises(UsageError, match="no photo would remain"):
        remove_photos(collection.index, kind(collection.photos))


def test_a_photo_that_is_reached_by_a_linked_folder_is_the_same_photo(collection) -> None:
    (collection.folder / "link").symlink_to(collection.photos)
    assert add_photos(collection.index, collection.folder / "link" / "0.png").unchanged == 1
    assert remove_photos(collection.index, collection.folder / "link" / "sub").removed == 2
    assert names(collection.index) == ALL[:2]


def test_a_renamed_photo_is_moved_and_not_described_again(collection, monkeypatch) -> None:
    before = answers(collection.index)
    (collection.photos / "0.png").rename(collection.photos / "z.png")
    (collection.photos / "sub").rename(collection.photos / "other")
    monkeypatch.setattr("placerec.models.photo_source.feature_maps", None)  # any use fails
    report = refresh_index(collection.index)
    assert (report.moved, report.unchanged, report.added, report.removed) == (3, 1, 0, 0)
    assert names(collection.index) == ["1.png", "other/2.png", "other/3.png", "z.png"]
    after = answers(collection.index)
    assert sorted(p for _, p in after[2]) == sorted(p for _, p in before[2])
    assert verify(collection.index) == []


def test_equal_photos_that_were_renamed_stay_two(collection: Collection) -> None:
    shutil.copy(collection.photos / "0.png", collection.photos / "copy.png")
    add_photos(collection.index, collection.photos)
    for name in ("0.png", "copy.png"):
        (collection.photos / name).rename(collection.photos / f"new-{name}")
    report = refresh_index(collection.index)
    assert (report.moved, report.unchanged, report.removed) == (2, 3, 0)
    assert names(collection.index) == ["1.png", "new-0.png", "new-copy.png", *ALL[2:]]


def stored(index: Path) -> dict[str, tuple[str, Position | None, bytes]]:
    """Content, position and global descriptor of each photo of an index."""
    with IndexReader.open(index) as reader:
        rows = zip(reader.entries, reader.global_descriptors(), strict=True)
        return {e.name: (e.sha256, e.position, row.tobytes()) for e, row in rows}


@pytest.fixture(scope="module")
def one_located(one_collection, tmp_path_factory) -> Path:
    """The collection with a position of its own for each photo."""
    folder = Path(shutil.copytree(one_collection, tmp_path_factory.mktemp("located") / "here"))
    rows = [f"{name},{number},{number}" for number, name in enumerate(ALL)]
    (folder / "positions.csv").write_text("\n".join(["image,latitude,longitude", *rows]))
    add_photos(folder / "town.placerec", folder / "photos", positions=folder / "positions.csv")
    return folder


@pytest.fixture
def located(one_located, tmp_path) -> Collection:
    folder = Path(shutil.copytree(one_located, tmp_path / "located"))
    return Collection(folder, folder / "photos", folder / "town.placerec")


MOVES = {  # new name -> the photo that has it now
    "a name that is taken by a new photo": {"b.png": "0.png", "0.png": None},
    "two names exchanged": {"0.png": "1.png", "1.png": "0.png"},
    "a ring of three": {"0.png": "1.png", "1.png": "sub/2.png", "sub/2.png": "0.png"},
    "all names one further": {"1.png": "0.png", "sub/2.png": "1.png", "sub/3.png": "sub/2.png",
                              "z.png": "sub/3.png", "0.png": None},
    "a name taken from a photo that is gone": {"1.png": "0.png"},
}  # fmt: skip


@pytest.mark.parametrize("renames", MOVES.values(), ids=MOVES)
def test_descriptor_and_position_follow_the_content(located, renames, monkeypatch):
    monkeypatch.setattr("placerec.index.update.BATCH", 1)
    before, files = stored(located.index), located.photos
    content = {old: (files / old).read_bytes() for old in renames.values() if old}
    for new, old in renames.items():
        if old is None:
            draw(files / new, 9)
        else:
            (files / new).write_bytes(content[old])
    for old in set(content) - set(renames):
        (files / old).unlink()
    report = refresh_index(located.index)
    after, moved = stored(located.index), len(content)
    assert set(after) == {p.relative_to(files).as_posix() for p in files.rglob("*.png")}
    assert (report.moved, report.added, report.changed) == (moved, len(renames) - moved, 0)
    assert report.removed == len(before) + report.added - len(after)
    for new, old in renames.items():
        if old is None:
            assert after[new][1] is None
            assert after[new][2] not in [row[2] for row in before.values()]
        else:
            assert after[new] == before[old]
    assert verify(located.index) == []


def test_a_photo_that_cannot_be_read_now_does_not_move(located, monkeypatch) -> None:
    before = stored(located.index)
    shutil.copy(located.photos / "0.png", located.photos / "copy.png")
    opens = Path.open

    def refusing(path: Path, *options, **names):
        if path.name == "0.png":
            raise PermissionError(13, "Permission denied", str(path))
        return opens(path, *options, **names)

    monkeypatch.setattr(Path, "open", refusing)
    report = refresh_index(located.index)
    assert (report.moved, report.removed, report.added) == (0, 0, 1)
    assert [error.reason for error in report.skipped] == ["cannot be read (Permission denied)"]
    assert {name: stored(located.index)[name] for name in ALL} == before


def test_an_index_follows_its_folder(collection: Collection, monkeypatch) -> None:
    new = collection.folder / "moved" / "away"
    new.parent.mkdir()
    collection.photos.rename(new)
    before = answers(collection.index)
    with pytest.raises(FolderGone, match="give the new folder") as error:
        refresh_index(collection.index)
    assert error.value.exit_code == 3
    assert answers(collection.index) == before
    (new / "0.png").rename(new / "first.png")
    (new / "1.png").unlink()
    draw(new / "sub" / "2.png", 7)
    draw(new / "new.png", 8)
    monkeypatch.chdir(collection.folder)
    report = refresh_index(collection.index, folder="moved/away")
    assert (report.moved, report.unchanged, report.changed) == (1, 1, 1)
    assert (report.added, report.removed) == (1, 1)
    assert names(collection.index) == ["first.png", "new.png", *ALL[2:]]
    with IndexReader.open(collection.index) as reader:
        assert reader.info.root == new
    assert refresh_index(collection.index).unchanged == 4
    assert verify(collection.index) == []


def test_a_folder_of_other_photos_is_refused_with_counts(collection: Collection) -> None:
    before = collection.index.read_bytes()
    other = collection.folder / "other"
    for place, name in ((5, "0.png"), (6, "b.png"), (7, "c.png")):
        draw(other / name, place)
    with pytest.raises(UsageError, match="none of its 3 photos is one of the 4 photos"):
        refresh_index(collection.index, folder=other)
    with pytest.raises(NotFound):
        refresh_index(collection.index, folder=collection.folder / "mistyped")
    assert collection.index.read_bytes() == before


def test_a_photo_outside_the_folder_stays_where_it_is(collection: Collection) -> None:
    add_photos(collection.index, draw(collection.folder / "beside.png", 4))
    assert names(collection.index)[0] == "../beside.png"
    new = collection.folder / "a" / "b" / "photos"
    new.parent.mkdir(parents=True)
    collection.photos.rename(new)
    report = refresh_index(collection.index, folder=new)
    assert (report.moved, report.unchanged, report.removed) == (1, 4, 0)
    assert names(collection.index)[0] == "../../../beside.png"
    assert refresh_index(collection.index).unchanged == 5


def test_an_unreadable_new_photo_is_skipped_and_the_rest_moves(collection: Collection) -> None:
    (collection.photos / "0.png").rename(collection.photos / "z.png")
    (collection.photos / "broken.png").symlink_to("nowhere")
    report = refresh_index(collection.index)
    assert (report.moved, report.unchanged, len(report.skipped)) == (1, 3, 1)


def kinds(report: Report) -> dict[str, tuple[str, ...]]:
    return {notice.kind: notice.names for notice in report.notices}


def test_a_folder_inside_that_cannot_be_read_is_skipped_and_named(collection, lock) -> None:
    lock(collection.photos / "sub")
    (collection.photos / "clip.mp4").touch()
    report = build_index(collection.folder / "b.placerec", collection.photos)
    assert report.added == 2
    expected = {"unreadable_folders": ("sub",), "left_out": ("videos (1: clip.mp4)",)}
    assert kinds(report) == expected
    assert [notice.exit_code for notice in report.notices] == [5, 0]
    report = add_photos(collection.index, collection.photos)
    assert (report.unchanged, kinds(report)) == (2, expected)
    model, skipped = fit_on_folder(collection.photos, model="efficientnet-lite0", settings=small())
    assert "(2 photos)" in model.name
    assert [str(error) for error in skipped] == ["sub: the folder cannot be read"]


def test_a_refresh_keeps_the_photos_below_a_folder_that_cannot_be_read(collection, lock) -> None:
    before = answers(collection.index)
    lock(collection.photos / "sub")
    (collection.photos / "1.png").unlink()
    report = refresh_index(collection.index)
    assert (report.unchanged, report.removed, report.skipped) == (1, 1, [])
    assert names(collection.index) == ["0.png", "sub/2.png", "sub/3.png"]
    assert kinds(report) == {
        "unreadable_folders": ("sub",), "not_looked_at": ("sub/2.png", "sub/3.png"),
    }  # fmt: skip
    after = answers(collection.index)
    assert after[0][1:] == before[0][2:]


def test_a_photo_that_is_stored_below_an_unreadable_folder_does_not_move(collection, lock) -> None:
    shutil.copy(collection.photos / "sub" / "2.png", collection.photos / "copy.png")
    lock(collection.photos / "sub")
    report = refresh_index(collection.index)
    assert (report.added, report.moved, report.removed) == (1, 0, 0)
    assert names(collection.index) == [*ALL[:2], "copy.png", *ALL[2:]]


def test_a_refit_of_few_photos_keeps_the_model_and_says_so(many_photos, tmp_path) -> None:
    photos = Path(shutil.copytree(many_photos, tmp_path / "photos"))
    index = tmp_path / "a.placerec"
    fitted = build_index(index, photos, settings=small())
    for path in sorted(photos.iterdir())[4:]:
        path.unlink()
    refresh_index(index)
    with IndexReader.open(index) as reader:
        before = reader.info
    report = refit_index(index)
    assert (report.added, report.changed, report.skipped) == (0, 4, [])
    assert report.model == fitted.model != "generic"
    assert [notice.kind for notice in report.notices] == ["too_few_for_fit"]
    assert fitted.model in report.notices[0].text
    with IndexReader.open(index) as reader:
        assert (reader.info.fingerprint, reader.info.photos) == (before.fingerprint, 4)


def test_a_refit_of_photos_that_were_moved_says_what_to_do(collection) -> None:
    collection.photos.rename(collection.folder / "elsewhere")
    with pytest.raises(FolderGone, match=r"photos: .* is not there; .* give the new folder"):
        refit_index(collection.index)


def test_a_removed_photo_that_will_come_back_is_named(collection) -> None:
    (collection.photos / "0.png").unlink()
    report = remove_photos(collection.index, ["0.png", "sub"])
    assert (report.removed, kinds(report)) == (3, {"comes_back": ("sub/2.png", "sub/3.png")})
    assert refresh_index(collection.index).added == 2


def small() -> Settings:
    return Settings(image_size=(96, 128), clusters=8, local_dim=16, pca_dim=16)


def test_a_refit_never_takes_another_trunk_unasked(collection: Collection) -> None:
    torch.manual_seed(0)
    trunk = TorchTrunk(torch.nn.Conv2d(3, 24, 16, stride=16), name="my-net")
    index = collection.folder / "own.placerec"
    settings = Settings(image_size=(96, 128), clusters=4, local_dim=0, pca_dim=8)
    build_index(index, collection.photos, model=trunk, settings=settings)
    before = index.read_bytes()
    with pytest.raises(UsageError, match="my-net"):
        refit_index(index)
    assert index.read_bytes() == before
    assert "my-net" in refit_index(index, model=trunk).model
    assert "efficientnet-lite0" in refit_index(index, model="efficientnet-lite0").model
