"""Restoring in several planes: which, exactness, means, progress."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from tatcli.errors import UsageError
from tatcli.inference import RestoreOptions, Restorer
from tatcli.intensity import Units
from tatcli.model.config import PRESETS
from tatcli.model.weights import card_for_tasks
from tatcli.tasks import TASKS
from tatcli.volumes import Geometry, Volume

CT, PET, MRI = (TASKS[name] for name in ("ct-denoise", "pet-synthesis", "mri-sr"))
SHAPE = (20, 24, 28)


def grid(spacing=(4.0, 4.0, 3.0), shape=SHAPE) -> Geometry:
    """Spacing of columns, rows, slices."""
    return Geometry(np.diag([*spacing, 1.0]), shape)


def pet(array: np.ndarray, spacing=(4.0, 4.0, 3.0)) -> Volume:
    return Volume(array.astype(np.float32), grid(spacing, array.shape[-3:]), Units.SUVBW)


def uptake(shape=SHAPE, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 2.0, shape).astype(np.float32).clip(0.0, 20.0)


class Smearing(nn.Module):
    """Every row of a slice becomes its mean."""

    def forward(self, x):
        return x.mean(dim=3, keepdim=True).expand_as(x).clone()


class Same(nn.Module):
    def forward(self, x):
        return x.clone()


def restorer(network: nn.Module) -> Restorer:
    return Restorer.from_network(network, card_for_tasks("planes", PRESETS["tat-small"]), device="cpu")


def smeared(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Slices along axis 0 and 1 have their rows along axis 2, slices along axis 2 along axis 1."""
    along = {0: 2, 1: 2, 2: 1}
    return np.mean([np.broadcast_to(array.mean(along[axis], keepdims=True), array.shape) for axis in axes], axis=0)


def test_which_planes() -> None:
    def axes(task, geometry, **options) -> tuple[int, ...]:
        return RestoreOptions(**options).axes(task, geometry)

    assert axes(PET, grid()) == (0, 1, 2)
    assert axes(PET, grid((3.0, 3.0, 5.9))) == (0, 1, 2)
    assert axes(PET, grid((3.0, 3.0, 6.1))) == (0,)  # no cubes
    assert axes(PET, grid((2.0, 4.1, 4.1))) == (0,)
    assert axes(PET, grid(shape=(15, 64, 64))) == (0,)  # few slices
    assert axes(PET, grid(shape=(1, 64, 64))) == (0,)
    assert axes(PET, grid(), axis="coronal") == (1,)  # the caller's word
    assert axes(PET, grid(), axis="coronal", planes=2) == (0, 2)
    assert axes(CT, grid()) == axes(MRI, grid()) == axes(PET, grid(), planes=1) == (0,)
    assert axes(CT, grid(), planes=2) == (1, 2)
    assert axes(CT, grid(), planes=3) == (0, 1, 2)
    with pytest.raises(UsageError, match="--planes 2: expected 1 with mri-sr"):
        axes(MRI, grid(), planes=2)
    with pytest.raises(UsageError, match="--planes 3: expected a volume, got a single slice"):
        axes(PET, grid(shape=(1, 64, 64)), planes=3)
    with pytest.raises(UsageError, match="--planes: expected 1, 2 or 3, got 4"):
        RestoreOptions(planes=4)


@pytest.mark.parametrize(("planes", "axes"), [(None, (0, 1, 2)), (1, (0,)), (2, (1, 2)), (3, (0, 1, 2))])
def test_the_result_is_the_mean_of_the_planes(planes, axes) -> None:
    array = uptake()
    out = restorer(Smearing())(pet(array), PET, options=RestoreOptions(planes=planes))
    np.testing.assert_allclose(out.array, smeared(array, axes), atol=1e-4)
    assert out.provenance.steps[-1].endswith(f" in {len(axes)} planes") == (len(axes) > 1)


def test_frames_are_restored_each_by_itself_and_progress_counts_all_planes() -> None:
    frames = np.stack([uptake(seed=1), uptake(seed=2)])
    told: list[tuple[int, int]] = []
    out = restorer(Smearing())(pet(frames), PET, progress=lambda done, total: told.append((done, total)))
    for frame, restored in zip(frames, out.array, strict=True):
        np.testing.assert_allclose(restored, smeared(frame, (0, 1, 2)), atol=1e-4)
    assert told == [(done, 2 * (20 + 24 + 28)) for done in range(1, 2 * (20 + 24 + 28) + 1)]


@pytest.mark.parametrize("planes", [2, 3])
def test_an_identity_network_gives_back_every_bit(planes) -> None:
    array = uptake()
    array[3, 4, 5], array[6, 7, 8], array[9, 10, 11] = np.nan, np.inf, -0.0
    array[12] = 31.0  # beyond the range
    out = restorer(Same())(pet(array), PET, options=RestoreOptions(planes=planes))
    np.testing.assert_array_equal(out.array.view(np.uint32), array.view(np.uint32))


def test_holes_stay_and_their_surroundings_are_restored() -> None:
    array = uptake()
    array[3, 4, 5], array[6, 7, 8] = np.nan, -np.inf
    out = restorer(Smearing())(pet(array), PET)
    assert np.isnan(out.array[3, 4, 5])
    assert out.array[6, 7, 8] == -np.inf
    assert np.isfinite(out.array).sum() == array.size - 2
    np.testing.assert_allclose(out.array[0], smeared(uptake(), (0, 1, 2))[0], atol=1e-4)


def test_warnings_come_once() -> None:
    array = uptake()
    array[3, 4, 5] = np.nan
    out = restorer(Smearing())(pet(array), PET)
    assert len(out.provenance.warnings) == 1
