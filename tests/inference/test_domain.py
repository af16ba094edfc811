"""Warnings of scans that are unlike the training's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tatcli.degradation.low_resolution_mri import low_resolution
from tatcli.inference.domain import domain_warnings, stack_statistics
from tatcli.inference.options import RestoreOptions
from tatcli.intensity import Units
from tatcli.model.config import PRESETS
from tatcli.model.weights import WeightsCard, card_for_tasks
from tatcli.tasks import TASKS
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.slices import slices_along
from tatcli.volumes.volume import Volume

CT, MRI = TASKS["ct-denoise"], TASKS["mri-sr"]


def card(task: str, **domain) -> WeightsCard:
    made = card_for_tasks("w", PRESETS["tat-small"])
    return replace(made, tasks=made.tasks | {task: replace(made.tasks[task], domain=domain)})


def volume(array, spacing=0.8, units=Units.HU) -> Volume:
    affine = np.diag([spacing, spacing, 5.0, 1.0])
    return Volume(array.astype(np.float32), Geometry(affine, array.shape), units)


def warnings_of(scan: Volume, *rest, axis: int, **options) -> tuple[str, ...]:
    return domain_warnings(scan.header, slices_along(next(scan.iter_frames()), axis), *rest, axis=axis, **options)


def ct(sigma: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(40.0, sigma, (3, 96, 96))


def test_the_statistics_of_a_ct() -> None:
    array = ct(20.0)
    array[:, :3] = 5000.0
    found = stack_statistics(array.astype(np.float32), CT, CT.intensity, spacing=(0.7, 0.8))
    assert found["noise"] == pytest.approx(20.0, rel=0.12)  # the 20th percentile of 9x9 deviations
    assert found["spacing_mm"] == 0.8
    assert found["beyond"] == pytest.approx(3 / 96)
    assert "kspace_factor" not in found


def test_noise_and_pixel_size() -> None:
    known = card("ct-denoise", noise=(8.0, 40.0), spacing_mm=(0.6, 0.9))
    assert warnings_of(volume(ct(20.0)), CT, known, axis=0) == ()
    assert warnings_of(volume(ct(45.0)), CT, known, axis=0) == ()  # a quarter more is let pass
    (noise,) = warnings_of(volume(ct(90.0)), CT, known, axis=0)
    assert noise.startswith("noise level ")
    assert "HU: outside the 8 to 40 HU that w was trained on" in noise
    (size,) = warnings_of(volume(ct(20.0), spacing=2.0), CT, known, axis=0)
    assert size.startswith("pixel size 2 mm: outside the 0.6 to 0.9 mm")
    assert warnings_of(volume(ct(90.0)), CT, card("ct-denoise"), axis=0) == ()  # nothing is known


def test_the_range() -> None:
    array = ct(20.0)
    array[:, :3] = 5000.0
    (range_,) = warnings_of(volume(array), CT, card("ct-denoise"), axis=0)
    assert range_.startswith("3.12 % of the voxels lie above 3072 HU, where w's range ends")
    (range_,) = warnings_of(volume(array[:, :3]), CT, card("ct-denoise"), axis=0)
    assert range_.startswith("100 % of the voxels")
    assert warnings_of(volume(array), CT, card("ct-denoise", beyond=(0.0, 0.05)), axis=0) == ()


def test_pet_with_negative_noise() -> None:
    """Its negative half is out of the network's sight; slight undershoots of an interpolation are not worth a word."""
    pet, known = TASKS["pet-synthesis"], card("pet-synthesis")
    array = np.random.default_rng(0).normal(0.0, 0.3, (3, 96, 96))
    array[:, 40:60, 40:60] += 5.0
    (message,) = warnings_of(volume(array, 4.0, Units.SUVBW), pet, known, axis=0)
    share = 100 * np.mean(array < -0.1)
    assert message.startswith(f"{share:.3g} % of the voxels lie well below 0 SUVbw, where w's range begins; they keep")
    assert warnings_of(volume(np.maximum(array, -0.09), 4.0, Units.SUVBW), pet, known, axis=0) == ()
    array[:, :50], array[:, 60:] = np.abs(array[:, :50]), np.abs(array[:, 60:])
    array[:, 50:60, 5:] = 5.0
    assert 0 < np.mean(array < -0.1) < 0.01
    assert warnings_of(volume(array, 4.0, Units.SUVBW), pet, known, axis=0) == ()
    assert warnings_of(volume(ct(20.0) - 1100.0), CT, card("ct-denoise"), axis=0) == ()


@pytest.mark.parametrize(
    ("factor", "options", "says"),
    [
        (1.0, {}, "may be full already, unless it was masked or resampled since"),
        (3.0, {}, None),
        (5.5, {}, "cut by a factor of 5."),
        (1.0, {"scale": 2}, None),
        (1.0, {"scale": 8}, "cut by a factor of 8"),
        (1.0, {"kspace_factor": 3.0}, None),
        (3.0, {"kspace_factor": 8.0}, "cut by a factor of 8"),
        (3.0, {"scale": 2, "kspace_factor": 8.0}, "cut by a factor of 8"),
    ],
)
def test_the_resolution_of_mri(factor, options, says) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    head = np.where(x**2 + y**2 < 0.6, 500.0, 0.0) + rng.normal(100, 20, (2, 128, 128))
    scan = volume(low_resolution(head, factor) if factor > 1 else head, units=Units.ARBITRARY)
    found = warnings_of(scan, MRI, card("mri-sr"), axis=0, options=RestoreOptions(**options))
    if says is None:
        assert found == ()
    else:
        (message,) = found
        assert says in message
        assert "by a factor of 1 to 4" in message


@pytest.mark.parametrize(
    ("options", "says"), [({}, "by a factor of 2 along one in-plane axis alone"), ({"scale": 3}, None)]
)
def test_mri_that_is_cut_along_one_axis(options, says) -> None:
    """As scanners zero-fill the phase-encoding axis: its resolution isn't full, nor is it as the weights know it."""
    noise = np.random.default_rng(0).normal(100, 20, (2, 128, 128))
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    lines = np.fft.fft(np.where(x**2 + y**2 < 0.6, 500.0, 0.0) + noise, axis=1)
    lines[:, 32:96] = 0.0
    scan = volume(np.abs(np.fft.ifft(lines, axis=1)), units=Units.ARBITRARY)
    found = warnings_of(scan, MRI, card("mri-sr"), axis=0, options=RestoreOptions(**options))
    assert len(found) == (says is not None)
    assert all(says in message for message in found)


def test_small_matrices_are_not_judged() -> None:
    scan = volume(np.random.default_rng(0).gamma(2.0, 100.0, (2, 32, 32)), units=Units.ARBITRARY)
    assert warnings_of(scan, MRI, card("mri-sr"), axis=0) == ()
