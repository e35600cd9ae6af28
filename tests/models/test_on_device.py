"""Describing by PyTorch, on a CPU, against the NumPy code; and batches of a GPU."""

import numpy as np
import pytest

from placerec.errors import UsageError
from placerec.models.fit import fit_model
from placerec.models.model import on_device
from placerec.models.on_device import DeviceModel
from placerec.runtime import Runtime
from placerec.settings import METHODS, NETVLAD, Settings

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SMALL = {"image_size": (96, 128), "clusters": 4}
FORMS = {
    "default": Settings(**SMALL, local_dim=6, pca_dim=5, patch_sizes=((2, 2), (1, 3))),
    "netvlad": NETVLAD.replace(**SMALL, global_dim=5),
    "patch-netvlad": METHODS["patch-netvlad"].replace(
        **SMALL, k_patch=3, pca_dim=6, global_dim=5, patch_sizes=((2, 2), (3, 3))
    ),
    "published": METHODS["paper-speed"].replace(
        image_size=(96, 128), clusters=3, pca_dim=6, patch_sizes=((2, 2), (3, 3))
    ),
}


class Plain:
    """A trunk of so many channels, for a fit on maps that were drawn."""

    name, sha256, channels, stride = "plain", "0" * 64, 8, 16


@pytest.fixture(scope="module", params=FORMS)
def described(request):
    """A fitted model of one form, and feature maps, one of them with a blank part."""
    rng, settings = np.random.default_rng(5), FORMS[request.param]
    maps = rng.standard_normal((12, 6, 8, 8)).astype(np.float32)
    model = fit_model(Plain(), settings, maps, name="drawn", training_data="drawn")
    maps[1, :3] = 0
    return model, list(maps[:3])


@pytest.mark.parametrize("stride", [1, 2])
def test_descriptors_equal_those_of_numpy_but_for_rounding(described, stride):
    model, maps = described
    there = DeviceModel.of(model, Runtime())
    together = there.describe_maps(maps, stride)
    for features, ours in zip(maps, together, strict=True):
        wanted = model.describe_map(features, stride)
        alone = there.describe_map(features, stride)
        for one in (ours, alone):
            assert np.allclose(one.global_descriptor, wanted.global_descriptor, atol=2e-6)
            assert one.global_descriptor.dtype == np.float32
            for patches, other in zip(one.patches, wanted.patches, strict=True):
                assert patches.grid == other.grid
                assert np.allclose(patches.descriptors, other.descriptors, atol=2e-6)


def test_a_model_on_a_device_is_the_same_model(described):
    model, maps = described
    there = DeviceModel.of(model, Runtime())
    assert there.fingerprint == model.fingerprint
    if model.settings.form == "own" and model.settings.patch_sizes:
        fewer = model.settings.replace(pca_dim=3)
        ours, wanted = (one.with_settings(fewer).describe_map(maps[0]) for one in (there, model))
        assert isinstance(there.with_settings(fewer), DeviceModel)
        for patches, other in zip(ours.patches, wanted.patches, strict=True):
            assert np.allclose(patches.descriptors, other.descriptors, atol=2e-6)


def test_a_cpu_keeps_the_model_and_a_missing_gpu_is_refused(described):
    model, _ = described
    assert on_device(model, Runtime()) is model
    with pytest.raises(UsageError, match="device cuda: PyTorch finds no such device; use cpu"):
        on_device(model, Runtime(device="cuda"))
