"""Every public function takes a path as a string and as a ``Path``, a lone one too."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import placerec
from drawn_video import write_video
from placerec.evaluation.methods import named_method
from placerec.settings import METHODS

SMALL = METHODS["netvlad"].replace(image_size=(64, 96), clusters=2, global_dim=2)
QUICK = named_method("netvlad", changes={"image_size": (64, 96)})
NO_PATH = {"LoopDetector", "Runtime", "Settings", "__version__", "follow"}


def calls(of, folder, town):
    """Each public function by name with a call; ``of`` makes the kind of path that it gets."""
    database, night = of(town / "database"), of(town / "queries" / "night_000.jpg")
    index, model = of(folder / "a.placerec"), of(folder / "a.safetensors")
    own = of(folder / "own.jpg")
    shutil.copy(night, own)
    video = write_video(folder / "a.mkv", [np.zeros((48, 64, 3), np.uint8)])
    table = folder / "where.csv"
    table.write_text("image,latitude,longitude\nplace_000.jpg,52.5,13.25\n")

    def recognise():
        with placerec.PlaceRecognizer.open(index) as recognizer:
            assert recognizer.query(night).query == str(night)
            return recognizer.query(recognizer.read(night)).best

    def draw():
        place, ready = placerec.match_photos(night, night)
        pixels = ready.read(Path(night)).pixels
        placerec.draw_match(night, pixels, place, of(folder / "match.png"))
        return (folder / "match.png").stat().st_size

    return {
        "fit_on_folder": lambda: placerec.fit_on_folder(database, settings=SMALL),
        "save_model": lambda: placerec.save_model(
            placerec.fit_on_folder(database, settings=SMALL)[0], model
        ) or Path(model).stat(),
        "load_model": lambda: placerec.load_model(model),
        "build_index": lambda: placerec.build_index(
            index, database, positions=of(table), model=str(model)
        ).added,
        "PlaceRecognizer": recognise,
        "add_photos": lambda: placerec.add_photos(index, own).added == 1,
        "remove_photos": lambda: placerec.remove_photos(index, own).removed == 1,
        "refresh_index": lambda: placerec.refresh_index(index, folder=database).unchanged == 6,
        "refit_index": lambda: placerec.refit_index(index),
        "convert_index": lambda: placerec.convert_index(
            index, of(folder / "small.placerec"), "compact"
        ) == 6,
        "verify": lambda: placerec.verify(index) == [],
        "match_photos": lambda: placerec.match_photos(night, own)[0],
        "draw_match": draw,
        "read_video": lambda: len(list(placerec.read_video(of(video)))) == 1,
        "open_dataset": lambda: placerec.open_dataset(of(town)),
        "evaluate": lambda: placerec.evaluate(
            placerec.open_dataset(of(town)), QUICK, out=of(folder / "run")
        ),
    }  # fmt: skip


@pytest.mark.parametrize("of", [str, Path])
def test_every_public_function_takes_this_kind_of_path(of, town, tmp_path):
    by_name = calls(of, tmp_path, town)
    assert set(by_name) == set(placerec.__all__) - NO_PATH
    for name, call in by_name.items():
        assert call(), name
    assert (tmp_path / "run").is_dir()
