"""Made-up whole-body PET: uptake, sizes and resolution are those of patients, and the seed decides everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tatcli.intensity import Units
from tatcli.phantoms import whole_body_pet
from tatcli.phantoms.shapes import BENT, Grid, ellipsoid, limb, smooth_field, trunk
from tatcli.phantoms.whole_body import Patient, draw_patient

COARSE = Patient(height=1.0, girth=1.0, fat=12.0, arms_up=True, resolution=6.0, voxel=(8.0, 8.0), lesions=0)


def straight_grid(side: float = 2.0, half: float = 60.0) -> Grid:
    axis = np.arange(-half, half + side / 2, side, dtype=np.float32)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return Grid(x, y, z, side)


def around(volume, x: float, y: float, z: float, reach: float) -> np.ndarray:
    """Values of the voxels within reach of a point, LPS mm."""
    steps, origin = volume.geometry.spacing, volume.geometry.origin
    axes = [o + s * np.arange(n) for o, s, n in zip(origin[::-1], steps, volume.geometry.shape, strict=True)]
    away = np.sqrt(
        (axes[0][:, None, None] - z) ** 2 + (axes[1][:, None] - y) ** 2 + (axes[2] - x) ** 2,
    )
    return volume.array[away < reach]


@pytest.fixture(scope="module")
def scans():
    return [whole_body_pet(seed, patient=COARSE) for seed in range(6)]


def test_no_shape_is_cut_off_where_the_grid_is_bent() -> None:
    """At the edge that a box is found by the grid may be bent one way, and at the organ another."""
    straight = straight_grid()
    bend = np.where(straight.z > -59.0, BENT, -BENT).astype(np.float32)  # the edge, and all the rest
    grid = replace(straight, x=straight.x + bend, y=straight.y + bend)
    box, filled = ellipsoid(grid, np.array([0.0, 0.0, 0.0]), np.array([9.0, 9.0, 9.0]))
    whole = np.zeros(straight.x.shape, dtype=np.float32)
    whole[box] = filled
    assert whole.sum() * 8.0 == pytest.approx(4 / 3 * np.pi * 9.0**3, rel=0.02)


def test_volumes_are_exact() -> None:
    """The filled shares of an ellipsoid's voxels add up to its volume, tilted or not."""
    grid = straight_grid()
    for tilt in (0.0, 30.0):
        _, filled = ellipsoid(grid, np.array([3.0, -5.0, 1.0]), np.array([30.0, 20.0, 40.0]), tilt=tilt)
        assert filled.sum() * 8.0 == pytest.approx(4 / 3 * np.pi * 30 * 20 * 40, rel=0.03)
    _, filled = limb(grid, np.array([0.0, 0.0, -20.0]), np.array([0.0, 0.0, 20.0]), (10.0, 10.0))
    assert filled.sum() * 8.0 == pytest.approx(np.pi * 100 * 40 + 4 / 3 * np.pi * 1000, rel=0.03)
    _, filled = limb(grid, np.zeros(3), np.zeros(3), (10.0, 10.0))
    assert filled.sum() * 8.0 == pytest.approx(4 / 3 * np.pi * 1000, rel=0.03)
    filled = trunk(grid, np.array([[-30.0, 30.0, 20.0], [30.0, 30.0, 20.0]]))
    assert filled[30].sum() * 4.0 == pytest.approx(np.pi * 30 * 20, rel=0.12)  # a little more than an ellipse
    assert filled[30, 30].sum() * 2.0 == pytest.approx(60.0, rel=0.03)


def test_a_tilted_ellipsoid_leans_to_the_left() -> None:
    box, filled = ellipsoid(straight_grid(), np.zeros(3), np.array([10.0, 10.0, 40.0]), tilt=30.0)
    grid = straight_grid()
    above = filled * (grid.z[box] > 20)
    assert (above * grid.x[box]).sum() / above.sum() > 8.0


def test_smooth_fields_have_unit_variance_and_their_length() -> None:
    field = smooth_field(np.random.default_rng(0), (60, 60, 60), (3.0, 3.0, 3.0))
    assert field.std() == pytest.approx(1.0, abs=0.15)
    lagged = np.mean(field[3:] * field[:-3]) / field.var()
    assert lagged == pytest.approx(np.exp(-(3.0**2) / (4 * 3.0**2)), abs=0.12)  # of a Gaussian of that sigma


def test_organs_have_their_uptake(scans) -> None:
    """Means over patients, in the middle of organs; ranges as in :mod:`tatcli.phantoms.uptake`."""
    middles = {
        "liver": ((-85.0, -6.0, 490.0, 25.0), (1.3, 2.8)),
        "lung": ((70.0, 15.0, 640.0, 20.0), (0.2, 0.6)),
        "thigh": ((-92.0, 40.0, 30.0, 18.0), (0.4, 0.9)),
        "brain": ((0.0, 5.0, 935.0, 50.0), (4.0, 14.0)),
        "bladder": ((0.0, -30.0, 140.0, 12.0), (2.5, 65.0)),
    }
    for name, (place, (low, high)) in middles.items():
        means = [around(scan, *place).mean() for scan in scans]
        assert low < np.mean(means) < high, name
        assert np.std(means) > 0.02 * np.mean(means), name


def test_the_body_takes_up_what_was_injected(scans) -> None:
    """SUV is 1 where activity is spread evenly over the body's mass: its mean over a body can't be far from that."""
    for scan in scans:
        body = scan.array > 0.1
        assert 0.5 < scan.array[body].mean() < 1.3
        litres = body.sum() * np.prod(scan.geometry.spacing) * 1e-6
        assert 45 < litres < 80  # a man of 170 cm and 66 kg, without his calves
        assert scan.array.min() >= 0
        assert scan.units is Units.SUVBW


def test_the_seed_decides_everything(scans) -> None:
    np.testing.assert_array_equal(whole_body_pet(3, patient=COARSE).array, scans[3].array)
    assert np.abs(scans[0].array - scans[1].array).max() > 1.0


def test_resolution_blurs() -> None:
    sharp, blurred = (whole_body_pet(1, patient=replace(COARSE, resolution=fwhm)).array for fwhm in (4.0, 12.0))
    assert np.abs(np.diff(blurred, axis=2)).max() < 0.75 * np.abs(np.diff(sharp, axis=2)).max()


def test_lesions_are_hot() -> None:
    with_lesions = whole_body_pet(2, patient=replace(COARSE, lesions=8)).array
    without = whole_body_pet(2, patient=COARSE).array
    added = with_lesions - without
    assert added.max() > 1.5
    share = (np.abs(added) > 0.5).mean()
    assert 1e-5 < share < 0.02


def test_stout_patients_are_wider() -> None:
    slim, stout = (
        whole_body_pet(1, patient=replace(COARSE, girth=girth, fat=fat)).array > 0.1
        for girth, fat in ((0.9, 6.0), (1.3, 35.0))
    )
    assert stout.sum() > 1.4 * slim.sum()


def test_patients_are_drawn_within_bounds() -> None:
    drawn = [draw_patient(np.random.default_rng(seed)) for seed in range(300)]
    girths = np.array([one.girth for one in drawn])
    assert np.sqrt(17 / 23) <= girths.min() < 0.95
    assert 1.2 < girths.max() <= np.sqrt(42 / 23)
    assert 0.15 < np.mean([one.lesions == 0 for one in drawn]) < 0.35
    assert max(one.lesions for one in drawn) <= 12
