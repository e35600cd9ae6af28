"""An option that changes nothing is refused, with the reason; a fixed one is not shown."""

import pytest
from click.testing import CliRunner

from placerec.cli import cli
from placerec.index.build import build_index
from placerec.settings import METHODS, Settings

NO_PATCHES = "the method compares no patches"
NO_RERANKING = "candidates is 0, so nothing is re-ranked"


@pytest.mark.parametrize(
    "words", [("index", "build", "a.placerec", "p"), ("fit", "p", "--out", "m.safetensors")]
)
@pytest.mark.parametrize(
    ("options", "flag", "why"),
    [
        (("--method", "netvlad", "--scorer", "ransac"), "--scorer", NO_PATCHES),
        (("--method", "netvlad", "--pca-dim", 64), "--pca-dim", NO_PATCHES),
        (("--method", "netvlad", "--candidates", 20), "--candidates", NO_PATCHES),
        (("--candidates", 0, "--fusion", "raw"), "--fusion", NO_RERANKING),
        (("--spatial-form", "paper"), "--spatial-form", "the scorer is displacement"),
        (("--method", "paper-speed", "--scorer", "ransac", "--spatial-form", "paper"),
         "--spatial-form", "the scorer is ransac"),
    ],
)  # fmt: skip
def test_an_option_that_changes_nothing_is_refused(words, options, flag, why, placerec):
    refused = placerec(*words, *options, code=2)
    assert refused.stderr == f"error: {flag}: changes nothing, because {why}; omit it\n"


def test_every_setting_of_a_method_says_whether_it_is_used():
    every = Settings().group("global", "patches", "query", "model")
    unused = {name for name in every if METHODS["netvlad"].why_unused(name)}
    assert unused == set(Settings().group("patches", "query")) - {"patch_sizes", "candidates"}
    for settings in (Settings(), METHODS["patch-netvlad"], METHODS["paper-performance"]):
        names = [name for name in settings.group("global", "patches", "query", "model")
                 if settings.why_unused(name)]  # fmt: skip
        assert names == [name for name, scorer in (("spatial_form", "spatial"),
                                                   ("box", "displacement"))
                         if settings.scorer != scorer]  # fmt: skip
    assert METHODS["paper-speed"].why_unused("k_patch") == ""  # another name of clusters


def test_a_query_refuses_what_its_index_does_not_use(placerec, town, town_index):
    photo = town / "queries" / "night_000.jpg"
    words = ("query", town_index, photo, "--candidates", 0, "--scorer", "ransac")
    assert f"--scorer: changes nothing, because {NO_RERANKING}" in placerec(*words, code=2).stderr
    words = ("query", town_index, photo, "--candidates", 0)
    refused = placerec(*words, "--budget-ms", 100, code=2).stderr
    assert refused == f"error: --budget-ms: changes nothing, because {NO_RERANKING}; omit it\n"
    placerec(*words)


def test_a_query_shows_only_what_is_free_and_explains_the_rest(placerec, town, town_index):
    shown = CliRunner().invoke(cli, ["query", "--help"]).output
    assert "--scorer" in shown
    for name in Settings().group("global", "patches"):
        assert f"--{name.replace('_', '-')} " not in shown
    photo = town / "queries" / "night_000.jpg"
    refused = placerec("query", town_index, photo, "--patch-sizes", 7, code=2)
    assert "the index was built with" in refused.stderr


def test_a_pair_has_no_shortlist(placerec):
    for option in ("--candidates", "--fusion"):
        assert f"No such option '{option}'" in placerec("match", "a", "b", option, 5, code=2).stderr


@pytest.mark.parametrize("size", ["0,0", "-480,640", "480,-1", "480", "a,b"])
@pytest.mark.parametrize(
    "words",
    [("index", "build", "a.placerec", "p"), ("reproduce", "sizes", "d", "--out", "o"),
     ("train", "d", "--out", "o")],
)  # fmt: skip
def test_an_image_size_without_pixels_is_refused(words, size, placerec):
    refused = placerec(*words, "--image-size", size, code=2)
    assert f"{size!r} does not have the form 480,640" in refused.stderr


def test_an_index_has_its_model(placerec, town, town_index, photos):
    remedy = "an index has its model: omit model"
    for command in ("query", "index add"):
        words = (*command.split(), town_index, town / "queries" / "night_000.jpg")
        assert remedy in placerec(*words, "--model", "vgg16", code=4).stderr
    build_index("a.placerec", photos)
    assert remedy in placerec("index", "refresh", "a.placerec", "--model", "vgg16", code=4).stderr


def test_a_choice_of_validation_queries_needs_validation(placerec):
    words = ("train", "d", "--out", "o", "--half", "test", "--validation-protocol", "msls-val")
    why = "--validation-protocol, --half: changes nothing without --validation"
    assert why in placerec(*words, code=2).stderr
