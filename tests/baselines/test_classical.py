"""RootSIFT, VLAD and DenseVLAD, each against a plain twin, on photos of the drawn town."""

import sys

import numpy as np
import pytest

from placerec.baselines.rootsift import BIN_SIZES, dense_rootsift, keypoint_rootsift, rootsift
from placerec.baselines.vlad import DenseVlad, Vlad, residual_sums
from placerec.demo import demo_pose, render
from placerec.errors import MissingExtra, NotFound, UnsafeWeights, UsageError

PLACES = 10
FEWEST_PHOTOS_FOR_PCA = DenseVlad.fewest_photos_for_pca
SHIFT = 6  # pixels
BLANK = np.full((120, 160, 3), 128, np.uint8)


def silent(*_):
    pass


@pytest.fixture(scope="module", autouse=True)
def small_sample():
    """K-means of 2000 descriptors is fast, and as good for a few clusters; a PCA of few photos."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("placerec.baselines.vlad.SAMPLES", 2000)
        patch.setattr(DenseVlad, "fewest_photos_for_pca", 5)
        yield


@pytest.fixture(scope="module")
def wide():
    """Ten places, each a little wider than the photos that are cut from it."""
    return [render(3, demo_pose(3, n, False), size=(80, 112 + SHIFT)) for n in range(PLACES)]


@pytest.fixture(scope="module")
def database(wide):
    return [photo[:, SHIFT:] for photo in wide]


def fitted(method, photos):
    method.fit(lambda: iter(photos), len(photos), silent)
    return method


@pytest.fixture(scope="module")
def vlad(database):
    return fitted(Vlad(clusters=8), database)


@pytest.fixture(scope="module")
def densevlad(database):
    return fitted(DenseVlad(clusters=16), database)


@pytest.fixture(scope="module")
def unprojected(database):
    return fitted(DenseVlad(clusters=16, dimensions=0), database)


def test_rootsift_is_the_square_root_of_the_shares():
    rows = rootsift(np.array([[4.0, 0.0, 12.0], [0.0, 9.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.5, 0, np.sqrt(0.75)], [0, 1, 0]], atol=1e-6)


def test_rows_have_unit_length_at_keypoints_and_on_the_grid(database):
    for rows in (keypoint_rootsift(database[0]), dense_rootsift(database[0], 6)[0]):
        assert rows.dtype == np.float32
        assert rows.shape[1] == 128
        assert len(rows) > 20
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_grids_of_all_scales_begin_at_15_15_step_by_2_and_end_inside_the_photo(database):
    noise = np.random.default_rng(0).integers(0, 255, (61, 75, 3), np.uint8)
    for bin_size in BIN_SIZES:
        _, centres = dense_rootsift(noise, bin_size)
        columns, rows = (np.unique(centres[:, axis]) for axis in (0, 1))
        assert len(centres) == len(columns) * len(rows)
        np.testing.assert_array_equal(columns, np.arange(15, 74.5 - 1.5 * bin_size, 2))
        np.testing.assert_array_equal(rows, np.arange(15, 60.5 - 1.5 * bin_size, 2))


@pytest.mark.parametrize("bin_size", [4, 10])
def test_a_dense_descriptor_equals_a_plain_sum_over_pixels(bin_size):
    rng = np.random.default_rng(1)
    photo = np.repeat(rng.integers(0, 255, (52, 57, 1), np.uint8), 3, axis=2)
    rows, centres = dense_rootsift(photo, bin_size)
    for number in (len(rows) // 2, len(rows) - 1):
        plain = plain_descriptor(photo[:, :, 0] / 255, bin_size, *centres[number])
        # a value may fall to the other side of a whole 512th
        np.testing.assert_allclose(rows[number] ** 2, plain**2, atol=1e-3)
        assert rows[number] @ plain > 0.9999


def plain_descriptor(photo, bin_size, x, y):
    """PHOW as its manual describes it, one pixel after the other."""
    smooth = gaussian(gaussian(photo, bin_size / 6).T, bin_size / 6).T
    down, right = (np.pad(gradient, bin_size, mode="edge") for gradient in np.gradient(smooth))
    bins = np.zeros((8, 4, 4))
    offsets = [(i - 1.5) * bin_size for i in range(4)]
    for (row, column), gy in np.ndenumerate(down):
        gx = right[row, column]
        row, column = row - bin_size, column - bin_size
        angle = np.arctan2(gy, gx) / (2 * np.pi) * 8 % 8
        for by, dy in enumerate(offsets):
            for bx, dx in enumerate(offsets):
                tall = max(0, 1 - abs(row - y - dy) / bin_size)
                wide = max(0, 1 - abs(column - x - dx) / bin_size)
                mass = np.hypot(gx, gy) * tall * wide
                low = int(angle) % 8
                bins[low, by, bx] += mass * (1 - angle % 1)
                bins[(low + 1) % 8, by, bx] += mass * (angle % 1)
    for by, dy in enumerate(offsets):
        for bx, dx in enumerate(offsets):
            bins[:, by, bx] *= window(dy, bin_size) * window(dx, bin_size)
    unit = bins.ravel() / np.linalg.norm(bins)
    unit = np.minimum(unit, 0.2)
    counts = np.floor(512 * unit / np.linalg.norm(unit))
    return np.sqrt(counts / counts.sum())


def gaussian(photo, sigma):
    """Smoothed along the columns; the border goes on outside."""
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(photo, ((reach, reach), (0, 0)), mode="edge")
    columns = [np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T]
    return np.stack(columns, axis=1)


def window(offset, bin_size):
    values = [np.exp(-0.5 * ((i - offset) / (1.5 * bin_size)) ** 2)
              for i in range(1 - bin_size, bin_size)]  # fmt: skip
    return np.mean(values)


def test_residual_sums_equal_a_plain_loop_with_hard_assignment():
    rng = np.random.default_rng(2)
    rows, centres = (rng.standard_normal((n, 5)).astype(np.float32) for n in (9000, 7))
    plain = np.zeros((7, 5))
    for row in rows:
        nearest = min(range(7), key=lambda k: ((row - centres[k]) ** 2).sum())
        plain[nearest] += row - centres[nearest]
    sums = residual_sums([rows[:100], rows[100:100], rows[100:]], centres)
    np.testing.assert_allclose(sums, plain, atol=1e-2)


def test_vlad_is_the_sums_at_unit_length_and_nothing_else(vlad, database):
    rows = keypoint_rootsift(database[1])
    sums = residual_sums([rows], vlad._fit.centres).ravel()
    np.testing.assert_allclose(
        vlad.describe(database[1]), sums / np.linalg.norm(sums), atol=1e-6
    )  # fmt: skip


def test_densevlad_gives_every_cluster_equal_weight_before_the_pca(unprojected, database):
    descriptor = unprojected.describe(database[2])
    lengths = np.linalg.norm(descriptor.reshape(16, 128), axis=1)
    assert len(np.unique(lengths[lengths > 0].round(5))) == 1
    assert (lengths > 0).sum() > 8


def test_densevlad_centres_have_unit_length(densevlad):
    np.testing.assert_allclose(np.linalg.norm(densevlad._fit.centres, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("name", ["vlad", "unprojected"])
def test_a_shifted_photo_finds_its_own_place(name, wide, database, request):
    method = request.getfixturevalue(name)
    described = np.stack([method.describe(photo) for photo in database])
    asked = np.stack([method.describe(photo[:, :-SHIFT]) for photo in wide])
    np.testing.assert_array_equal((asked @ described.T).argmax(axis=1), range(PLACES))
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)


def test_whitening_keeps_a_dimension_for_every_four_photos(densevlad, database):
    assert densevlad.describe(database[0]).shape == ((PLACES - 1) // 4,)
    assert fitted(DenseVlad(clusters=16), database[:4]).describe(database[0]).shape == (2048,)


@pytest.mark.parametrize(("count", "width"), [(32, 2048), (33, 8)])
def test_densevlad_has_no_pca_of_fewer_than_33_photos_and_says_so(
    count, width, database, monkeypatch
):
    monkeypatch.setattr(DenseVlad, "fewest_photos_for_pca", FEWEST_PHOTOS_FOR_PCA)
    many = (database * 4)[:count]
    method = fitted(DenseVlad(clusters=16), many)
    descriptor = method.describe(database[0])
    assert descriptor.shape == (width,)
    assert np.linalg.norm(descriptor) == pytest.approx(1, abs=1e-5)
    training_data = method.provenance.training_data
    if count < FEWEST_PHOTOS_FOR_PCA:
        plain = fitted(DenseVlad(clusters=16, dimensions=0), many)
        np.testing.assert_array_equal(descriptor, plain.describe(database[0]))
        assert training_data.endswith("without labels; no PCA, which needs 33 photos")
    else:
        assert training_data == "the database photos (33 of 33), without labels"


def test_a_photo_of_the_fit_is_described_as_any_other(database):
    method = fitted(DenseVlad(clusters=16), database)
    first = method.describe(database[1])  # the fit keeps this vector for one call
    np.testing.assert_array_equal(method.describe(database[1]), first)


@pytest.mark.parametrize("name", ["vlad", "densevlad"])
def test_a_blank_or_tiny_photo_has_the_zero_vector(name, database, request):
    method = request.getfixturevalue(name)
    for photo in (BLANK, BLANK[:1, :1], BLANK[:3, :40], BLANK[:, :31]):
        blank = method.describe(photo)
        assert blank.shape == method.describe(database[0]).shape
        assert not blank.any()
    assert len(keypoint_rootsift(BLANK)) == 0
    assert len(dense_rootsift(BLANK, 4)[0]) == 0


def test_blank_photos_in_the_database_do_not_disturb_the_vocabulary(database):
    photos = [*database[:5], BLANK, *database[5:]]
    assert fitted(Vlad(clusters=8, dimensions=3), photos).describe(database[0]).shape == (3,)


def test_a_large_photo_is_shrunk_to_640_pixels():
    photo = np.random.default_rng(0).integers(0, 255, (600, 1200, 3), np.uint8)
    centres = dense_rootsift(photo, 4)[1]
    assert centres[:, 0].max() <= 639 - 6
    assert centres[:, 1].max() <= 319 - 6


def test_equal_photos_give_an_equal_fit_and_fingerprint(vlad, densevlad, database):
    for method in (vlad, densevlad):
        again = fitted(type(method)(clusters=method.clusters), database)
        assert again.fingerprint == method.fingerprint
        np.testing.assert_array_equal(again.describe(database[3]), method.describe(database[3]))
    assert vlad.fingerprint != densevlad.fingerprint
    assert fitted(Vlad(clusters=8), database[:9]).fingerprint != vlad.fingerprint


def test_a_fit_says_how_many_photos_it_saw(vlad):
    assert vlad.provenance.training_data == "the database photos (10 of 10), without labels"
    assert vlad.provenance.real


def test_a_fit_sees_photos_evenly_spread_over_a_large_database(database, monkeypatch):
    monkeypatch.setattr("placerec.baselines.vlad.MOST_PHOTOS", 3)
    events = []
    method = Vlad(clusters=8)
    method.fit(lambda: iter(database), PLACES, lambda *event: events.append(event))
    assert events == [("vocabulary", n, 3) for n in (1, 2, 3)]
    assert method.provenance.training_data.startswith("the database photos (3 of 10)")
    few = [database[0], database[3], database[6]]
    assert method.fingerprint == fitted(Vlad(clusters=8), few).fingerprint


def test_names_show_options_that_are_not_the_default():
    assert [method.name for method in (Vlad(), Vlad(16), Vlad(dimensions=128))] == [
        "vlad", "vlad K=16", "vlad PCA=128"
    ]  # fmt: skip
    assert [method.name for method in (DenseVlad(), DenseVlad(dimensions=0))] == [
        "densevlad", "densevlad PCA=0"
    ]  # fmt: skip


def test_a_saved_fit_gives_equal_descriptors_and_is_not_fitted_again(densevlad, database, tmp_path):
    file = tmp_path / "town.safetensors"
    densevlad.save(file)
    shared = DenseVlad(clusters=16, weights=file)
    shared.fit(lambda: pytest.fail("the photos are not needed"), 5, silent)
    assert shared.fingerprint == densevlad.fingerprint
    assert shared.provenance == densevlad.provenance
    np.testing.assert_array_equal(
        shared.describe(database[4]), densevlad.describe(database[4])
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["town.safetensors"]


def test_a_file_of_another_fit_is_refused(vlad, tmp_path):
    file = tmp_path / "town.safetensors"
    vlad.save(file)
    with pytest.raises(UnsafeWeights, match="vlad K=8, not of vlad"):
        Vlad(weights=file)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UnsafeWeights, match="not a weight file"):
        Vlad(clusters=8, weights=file)
    with pytest.raises(NotFound):
        Vlad(weights=tmp_path / "none.safetensors")


def test_invalid_use_has_named_errors(database, monkeypatch):
    with pytest.raises(UsageError, match="at least 1"):
        Vlad(clusters=0)
    with pytest.raises(UsageError, match="not fitted yet"):
        Vlad().describe(database[0])
    with pytest.raises(UsageError, match="64 clusters need as many descriptors"):
        fitted(Vlad(), [BLANK])
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match="paper"):
        keypoint_rootsift(BLANK)
    with pytest.raises(MissingExtra, match="paper"):
        dense_rootsift(BLANK, 4)
