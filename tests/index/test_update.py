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
from placerec.index.build import build_index
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
    monkeypatch.setattr("placerec.models.photo_source.feature_map", None)  # any use fails
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
    assert report.model == fitted.model != "generic"
    assert [notice.kind for notice in report.notices] == ["too_few_for_fit"]
    assert fitted.model in report.notices[0].text
    with IndexReader.open(index) as reader:
        assert (reader.info.fingerprint, reader.info.photos) == (before.fingerprint, 4)


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
