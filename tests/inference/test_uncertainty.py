"""The spread over views: nothing for networks without a preferred side, exactly theirs for others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tatcli.inference.options import RestoreOptions
from tatcli.inference.restorer import Restorer
from tatcli.inference.uncertainty import restoration_spread, view_count
from tatcli.intensity import Units
from tatcli.model.config import PRESETS
from tatcli.model.weights import card_for_tasks
from tatcli.tasks import TASKS
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.slices import is_isotropic
from tatcli.volumes.volume import Volume

CT = TASKS["ct-denoise"]
WIDTH = 4096.0


class Pointwise(nn.Module):
    def forward(self, x):
        return 0.9 * x


class Ramp(nn.Module):
    """Adds more to the right: 1 HU for each column."""

    def forward(self, x):
        return x + torch.arange(x.shape[3], dtype=x.dtype) / WIDTH


class Brighter(nn.Module):
    def forward(self, x):
        return x + 0.01


class Once(nn.Module):
    """Adds 10 HU to the slices of one size only: to those of one plane."""

    def forward(self, x):
        return x + (10.0 / WIDTH if x.shape[2:] == (8, 6) else 0.0)


def restorer(network) -> Restorer:
    return Restorer.from_network(network, card_for_tasks("n", PRESETS["tat-small"], ("ct-denoise",)), device="cpu")


def volume(shape=(3, 8, 8), spacing=(4.0, 1.0, 1.0), seed=0) -> Volume:
    array = np.random.default_rng(seed).uniform(-500, 500, shape).astype(np.float32)
    return Volume(array, Geometry(np.diag([*spacing[::-1], 1.0]), shape), Units.HU)


def test_a_pointwise_network_has_no_spread() -> None:
    scan = volume(shape=(3, 8, 6))
    spread = restoration_spread(restorer(Pointwise()), scan, CT)
    assert spread.array.max() < 1e-3
    np.testing.assert_array_equal(spread.geometry.affine, scan.geometry.affine)
    assert (spread.units, spread.provenance.stored) == (Units.HU, None)


def test_the_spread_of_a_network_with_a_side() -> None:
    """The ramp runs right, left, down, up, twice each: corrections c, 7 - c, r, 7 - r."""
    scan = volume()
    seen = []
    spread = restoration_spread(restorer(Ramp()), scan, CT, progress=lambda *done: seen.append(done))
    r, c = np.mgrid[:8, :8].astype(float)
    expected = np.std([c, 7 - c, r, 7 - r] * 2, axis=0, ddof=1)
    np.testing.assert_allclose(spread.array[1], expected, atol=2e-3)
    assert seen == [(n, 8) for n in range(1, 9)]


def test_slices_of_a_single_column_are_seen_along_the_axis_asked_for() -> None:
    class OfOneColumn(nn.Module):
        def forward(self, x):
            return x + (10.0 / WIDTH if x.shape[2:] == (8, 1) else 0.0)

    spread = restoration_spread(
        restorer(OfOneColumn()), volume(shape=(3, 8, 1)), CT, options=RestoreOptions(axis="axial")
    )
    expected = np.std(4 * [10.0] + 4 * [0.0], ddof=1)  # turned by a quarter they are of one row
    np.testing.assert_allclose(spread.array, expected, atol=1e-3)


def test_the_other_planes_of_isotropic_volumes() -> None:
    scan = volume(shape=(7, 8, 6), spacing=(1.0, 1.0, 1.0))
    assert is_isotropic(scan.geometry)
    assert view_count(scan) == 10
    axial = 4 * [10.0] + 4 * [0.0]  # turned by a quarter the slices are 6 x 8
    spread = restoration_spread(restorer(Once()), scan, CT)
    np.testing.assert_allclose(spread.array, np.std([*axial, 0.0, 0.0], ddof=1), atol=2e-3)
    assert not is_isotropic(volume().geometry)
    assert not is_isotropic(volume(shape=(1, 8, 8), spacing=(1.0, 1.0, 1.0)).geometry)


def test_orientation_holes_and_frames() -> None:
    """Sagittal slices, two frames, a hole: the map is in the scan's own order, NaN where the scan is."""
    array = volume(shape=(8, 8, 3)).array
    affine = np.diag([4.0, 1.0, 1.0, 1.0])
    frames = np.stack([array, array])
    frames[1, 2, 3, 1] = np.nan
    scan = Volume(frames, Geometry(affine, (8, 8, 3)), Units.HU)
    spread = restoration_spread(restorer(Ramp()), scan, CT, options=RestoreOptions(axis="sagittal"))
    r, c = np.mgrid[:8, :8].astype(float)
    expected = np.std([c, 7 - c, r, 7 - r] * 2, axis=0, ddof=1)
    np.testing.assert_allclose(spread.array[0, :, :, 1], expected, atol=2e-3)
    assert np.isnan(spread.array[1, 2, 3, 1])
    assert np.isnan(spread.array).sum() == 1


def test_an_empty_frame_of_a_dynamic_scan_has_no_spread() -> None:
    """The first frame of a dynamic PET, before the tracer came: as the restoration itself takes it."""
    array = np.stack([np.zeros((3, 8, 8), dtype=np.float32), volume().array])
    scan = Volume(array, volume().geometry, Units.HU)
    spread = restoration_spread(restorer(Pointwise()), scan, CT).array
    assert spread.shape == (2, 3, 8, 8)
    assert spread[0].max() < 1e-3
    ramp = restoration_spread(restorer(Ramp()), scan, CT).array
    np.testing.assert_allclose(ramp[1], restoration_spread(restorer(Ramp()), volume(), CT).array, atol=1e-3)


def test_a_coarse_grid_is_refined_first() -> None:
    mri = TASKS["mri-sr"]
    scan = Volume(np.abs(volume().array), volume().geometry, Units.ARBITRARY)
    card = card_for_tasks("n", PRESETS["tat-small"], ("mri-sr",))
    mri_restorer = Restorer.from_network(Pointwise(), card, device="cpu")
    spread = restoration_spread(mri_restorer, scan, mri, options=RestoreOptions(scale=2))
    assert spread.array.shape == (3, 16, 16)
    assert spread.geometry.spacing == pytest.approx((4.0, 0.5, 0.5))


def test_measured_lines_are_known_of_the_acquired_slices_only() -> None:
    """An offset is a change of the line DC: it is put back in eight views, and stays in the two of other planes."""
    mri = TASKS["mri-sr"]
    array = np.random.default_rng(0).uniform(100, 900, (7, 8, 6)).astype(np.float32)
    scan = Volume(array, Geometry(np.eye(4), array.shape), Units.ARBITRARY)
    card = card_for_tasks("n", PRESETS["tat-small"], ("mri-sr",))
    brighter = Restorer.from_network(Brighter(), card, device="cpu")
    offset = 0.01 * card.tasks["mri-sr"].intensity.window_for(array).width
    spread = restoration_spread(brighter, scan, mri, options=RestoreOptions(kspace_factor=1.0))
    np.testing.assert_allclose(spread.array, np.std([0.0] * 8 + [offset] * 2, ddof=1), rtol=1e-3)
    alike = restoration_spread(brighter, scan, mri, options=RestoreOptions(data_consistency=False))
    assert alike.array.max() < 1e-3 * offset
