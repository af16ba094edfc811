"""Whole volumes: dispatch, checks, seeds, provenance."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from tatcli.degradation import simulate, simulation
from tatcli.degradation.ct_kernel import KERNELS
from tatcli.degradation.low_resolution_mri import low_resolution
from tatcli.errors import UnitsError, UsageError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.volume import Provenance, Volume

SHAPE = (3, 72, 80)


def volume(array, units, spacing=(5.0, 3.0, 3.0)):
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    return Volume(np.asarray(array, dtype=np.float32), Geometry(affine, array.shape[-3:]), units)


@pytest.fixture(scope="module")
def body():
    y, x = np.mgrid[:72, :80]
    return np.broadcast_to(np.hypot(y - 36, x - 40) < 30, SHAPE)


@pytest.fixture(scope="module")
def ct(body):
    noise = np.random.default_rng(0).normal(0, 10, SHAPE)
    return volume(np.where(body, 40.0 + noise, -1000.0), Units.HU)


@pytest.fixture(scope="module")
def pet(body):
    return volume(np.where(body, 1.0 + np.random.default_rng(0).normal(0, 0.1, SHAPE), 0.0), Units.SUVBW)


def test_ct_gets_the_noise_of_its_dose(ct, body):
    low = simulate(ct, "ct", strength=0.25, seed=4, reference_noise=10.0, kernel="standard")
    inner = np.hypot(*(np.mgrid[:72, :80] - np.array([36, 40])[:, None, None])) < 25
    added = (low.array - ct.array)[:, inner]
    assert added.std() == pytest.approx(np.sqrt(3) * 10.0, rel=0.08)
    step = low.provenance.steps[-1]
    assert step.startswith(
        "simulated ct-denoise: dose fraction 0.25, reference noise 10.0 HU, standard kernel (cutoff 0.43"
    )
    assert step.endswith("seed 4")
    assert low.units is Units.HU
    assert low.geometry is ct.geometry


def test_the_references_noise_is_estimated(ct):
    assert "reference noise 9." in simulate(ct, "ct", strength=0.5).provenance.steps[-1]


def test_pet_keeps_its_mean_and_stays_positive(pet, body):
    low = simulate(pet, "pet", strength=4.0, reference_noise=0.1)
    assert low.array[body].mean() == pytest.approx(pet.array[body].mean(), rel=0.02)
    assert low.array.min() >= 0
    inner = np.hypot(*(np.mgrid[:72, :80] - np.array([36, 40])[:, None, None])) < 22
    assert (low.array - pet.array)[:, inner].std() == pytest.approx(np.sqrt(3) * 0.1, rel=0.25)


@pytest.mark.parametrize(
    ("axis", "shape", "step", "spacing"),
    [
        ("axial", (3, 4, 5), 2.0, (6.0, 7.0)),
        ("coronal", (4, 3, 5), 6.0, (2.0, 7.0)),
        ("sagittal", (5, 3, 4), 7.0, (2.0, 6.0)),
    ],
)
def test_a_simulator_sees_slices_with_their_own_spacing(monkeypatch, axis, shape, step, spacing):
    seen = []
    monkeypatch.setitem(simulation._SIMULATORS, "mri-sr", lambda frame: seen.append(frame) or (frame.stack, "seen"))
    scan = volume(np.arange(60.0).reshape(3, 4, 5), Units.ARBITRARY, spacing=(2.0, 6.0, 7.0))
    np.testing.assert_array_equal(simulate(scan, "mri", axis=axis).array, scan.array)
    (frame,) = seen
    assert (frame.stack.shape, frame.step_mm, frame.spacing_mm) == (shape, step, spacing)
    assert len(frame.seeds) == 1 + shape[0]


def test_what_is_measured_of_a_reference_reaches_the_simulators(monkeypatch, ct, pet):
    """CT: its slices' noise, kernel and correlation; PET: its counts, on its own grid; slices keep their seeds."""
    seen = []

    def recorded(stack, **options):
        seen.append(options)
        return stack

    monkeypatch.setattr(simulation, "low_dose_volume", recorded)
    monkeypatch.setattr(simulation, "match_kernel", lambda *_: KERNELS["sharp"])
    monkeypatch.setattr(simulation, "estimate_correlation", lambda *_: 0.37)
    monkeypatch.setattr(simulation, "estimate_noise", lambda *_: 12.5)
    monkeypatch.setattr(simulation, "noise_profile", lambda *given: np.array([1.0, 0.8, given[-1] / 4.0]))
    step = simulate(ct, "ct", strength=0.5).provenance.steps[-1]
    assert "reference noise 10.0 to 15.6 HU, sharp kernel" in step
    assert step.endswith("slice correlation 0.37; seed 0")
    monkeypatch.setattr(simulation, "low_count_volume", recorded)
    monkeypatch.setattr(simulation, "count_level", lambda *_, **options: seen.append(options) or 42.0)
    simulate(pet, "pet", strength=5.0, reference_noise=0.2)
    low_dose, level, low_count = seen
    seeds = [low_dose.pop("seeds"), low_count.pop("seeds")]
    np.testing.assert_allclose(low_dose.pop("noise"), [12.5, 10.0, 15.625])  # 5 mm from slice to slice
    expected = {"kernel": KERNELS["sharp"], "dose": 0.5, "correlation": 0.37}
    assert low_dose == expected | {"spacing_mm": (3.0, 3.0)}
    assert low_count == {"drf": 5.0, "counts": 42.0, "spacing_mm": (5.0, 3.0, 3.0)}
    assert (level["variation"], level["spacing_mm"]) == (0.2, (3.0, 3.0))
    assert [[seed.spawn_key for seed in each] for each in seeds] == 2 * [[(1,), (2,), (3,)]]
    assert level["seed"].spawn_key == (0,)  # the probe's own


def test_mri_is_truncated_in_the_slice_plane():
    array = np.random.default_rng(1).uniform(0, 100, (16, 6, 20)).astype(np.float32)
    scan = volume(array, Units.ARBITRARY, spacing=(1.0, 4.0, 1.0))
    low = simulate(scan, "mri", strength=2.0)
    expected = low_resolution(np.moveaxis(array, 1, 0), 2.0)
    np.testing.assert_array_equal(low.array, np.moveaxis(expected, 0, 1))


def test_every_frame_is_simulated_with_its_own_noise(ct):
    dynamic = volume(np.stack([ct.array, ct.array]), Units.HU)
    low = simulate(dynamic, "ct", strength=0.25, reference_noise=10.0, kernel="smooth")
    noise = low.array - dynamic.array
    assert low.array.shape == (2, *SHAPE)
    assert np.abs(noise[0] - noise[1]).max() > 10
    once = simulate(ct, "ct", strength=0.25, reference_noise=10.0, kernel="smooth")
    np.testing.assert_array_equal(low.array[0], once.array)


def test_seeds_reproduce_and_slices_differ(ct):
    first, again, other = (
        simulate(ct, "ct", seed=seed, reference_noise=10.0, kernel="smooth").array for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 10
    noise = first - ct.array
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_a_seed_is_a_count(ct):
    with pytest.raises(UsageError, match="seed: expected at least 0, got -1"):
        simulate(ct, "ct", seed=-1)


def test_a_slice_does_not_depend_on_its_neighbours(ct):
    """The noise of slice 0 is the same however many slices follow: nothing depends on order or threads."""
    part = volume(ct.array[:2], Units.HU)
    options = {"reference_noise": 10.0, "kernel": "smooth", "slice_correlation": 0.0, "axis": "axial"}
    np.testing.assert_array_equal(simulate(ct, "ct", **options).array[:2], simulate(part, "ct", **options).array)


def test_ct_noise_is_shared_along_the_slices_as_asked(ct, body):
    low = simulate(ct, "ct", seed=1, reference_noise=10.0, kernel="standard", slice_correlation=0.4)
    noise = (low.array - ct.array)[:, body[0]]
    assert np.corrcoef(noise)[0, 1] == pytest.approx(0.4, abs=0.1)
    assert "slice correlation 0.40" in low.provenance.steps[-1]


@pytest.mark.parametrize(
    ("task", "strength", "message"),
    [
        ("ct", 0.0, "dose fraction from 0.01 to 1, got 0"),
        ("ct", float("nan"), "dose fraction from 0.01 to 1, got nan"),
        ("pet", 0.5, "dose reduction factor from 1 to 100, got 0.5"),
        ("mri", 17.0, "k-space factor from 1 to 16, got 17"),
    ],
)
def test_strength_out_of_range(ct, task, strength, message):
    with pytest.raises(UsageError, match=message):
        simulate(ct, task, strength=strength)


@pytest.mark.parametrize(
    ("task", "units"), [("ct", Units.UNKNOWN), ("pet", Units.BQML), ("pet", Units.UNKNOWN), ("mri", Units.HU)]
)
def test_wrong_units(ct, task, units):
    with pytest.raises(UnitsError, match=f"got {units}"):
        simulate(volume(ct.array, units), task)


def test_mri_takes_unknown_units():
    scan = volume(np.ones((1, 8, 8)), Units.UNKNOWN)
    np.testing.assert_allclose(simulate(scan, "mri").array, 1.0, rtol=1e-6)


def test_options_of_other_tasks_are_refused(pet):
    with pytest.raises(UsageError, match="only CT has one"):
        simulate(pet, "pet", kernel="sharp")
    with pytest.raises(UsageError, match="no reference noise"):
        simulate(volume(np.ones((1, 8, 8)), Units.ARBITRARY), "mri", reference_noise=1.0)
    with pytest.raises(UsageError, match="no slice correlation"):
        simulate(pet, "pet", slice_correlation=0.2)
    with pytest.raises(UsageError, match="slice correlation from 0 to 1"):
        simulate(pet, "ct", slice_correlation=1.2)
    for noise in (-1.0, math.nan, 1e300):
        with pytest.raises(UsageError, match=re.escape(f"positive reference noise, at most 10, got {noise:g}")):
            simulate(pet, "pet", reference_noise=noise)
    with pytest.raises(UsageError, match="unknown CT kernel"):
        simulate(pet, "ct", kernel="B30f")


@pytest.mark.parametrize(("task", "units"), [("ct", Units.HU), ("pet", Units.SUVBW)])
def test_a_reference_without_tissue_needs_its_noise(task, units):
    scan = volume(np.zeros((2, 40, 40)) - (1000 if task == "ct" else 0), units)
    with pytest.raises(VolumeReadError, match=r"volume: expected .* found none"):
        simulate(scan, task)


def test_a_made_up_pet_without_noise_needs_one():
    """What has no noise had infinitely many counts, of which a twelfth are as many."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    clean = volume(np.tile(2.0 + 0.5 * y + 1e-7 * np.sin(40 * x), (3, 1, 1)) * (x**2 + y**2 < 0.8), Units.SUVBW)
    with pytest.raises(VolumeReadError, match=r"uptake and noise .* \(--reference-noise\)"):
        simulate(clean, "pet")
    low = simulate(clean, "pet", reference_noise=0.05)
    inside = np.broadcast_to(x**2 + y**2 < 0.5, low.array.shape)
    assert 0.05 < ((low.array - clean.array)[inside] / clean.array[inside]).std() < 0.3


@pytest.mark.parametrize("empty", [0, 1])
def test_an_empty_frame_stays_as_it_is(pet, empty):
    frames = [pet.array, pet.array]
    frames.insert(empty, np.zeros(SHAPE, np.float32))
    dynamic = volume(np.stack(frames), Units.SUVBW)
    low = simulate(dynamic, "pet", strength=4.0)
    np.testing.assert_array_equal(low.array[empty], 0.0)
    for number in {0, 1, 2} - {empty}:
        assert (low.array[number] - dynamic.array[number]).std() > 0.05
    assert "; 1 empty of 3 frames left as they are; seed 0" in low.provenance.steps[-1]


def test_a_frame_that_cannot_be_degraded_is_named(pet):
    specks = np.zeros(SHAPE, np.float32)
    specks[:, ::9, ::9] = 1.0
    with pytest.raises(VolumeReadError, match=r"volume: frame 2 of 2: expected tissue of a few centimetres"):
        simulate(volume(np.stack([pet.array, specks]), Units.SUVBW), "pet")


def test_constant_scans_are_no_empty_frames():
    """A uniform phantom of known noise is a reference like others."""
    water = volume(np.zeros((2, *SHAPE)), Units.HU)
    low = simulate(water, "ct", strength=0.25, reference_noise=10.0, kernel="standard")
    assert (low.array.std(axis=(1, 2, 3)) > 5.0).all()


@pytest.mark.parametrize(("task", "value", "rest"), [("ct", 61976.0, -1024.0), ("ct", 0.0, -1024.0), ("mri", 9e4, 0.0)])
def test_padding_is_nothing_to_the_simulator_and_stays(ct, task, value, rest):
    """Metal of 61976 HU beside the patient would darken every ray through it; a margin of 90000 would ring."""
    scan = ct if task == "ct" else volume(np.abs(ct.array), Units.ARBITRARY)
    padding, plain = scan.array.copy(), scan.array.copy()
    padding[:, :, :8], plain[:, :, :8] = value, rest
    padded = replace(scan, array=padding, provenance=Provenance(padding=((value, value),)))
    expected = simulate(replace(scan, array=plain), task, seed=2).array
    found = simulate(padded, task, seed=2).array
    np.testing.assert_array_equal(found[:, :, 8:], expected[:, :, 8:])
    assert (found[:, :, :8] == value).all()
    assert (padded.array == padding).all()
