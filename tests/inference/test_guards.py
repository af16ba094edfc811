"""What a task takes and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.errors import TaskMismatchError, UnitsError, VolumeReadError
from tatcli.inference import check_scan
from tatcli.inference.guards import check_values
from tatcli.inference.value_summary import summarise
from tatcli.intensity import Units
from tatcli.tasks import TASKS

CT, PET, MRI = TASKS["ct-denoise"], TASKS["pet-synthesis"], TASKS["mri-sr"]
SHAPE = (4, 32, 32)
rng = np.random.default_rng(0)

BODY = np.where(rng.random(SHAPE) < 0.5, -1000, 40) + rng.normal(0, 15, SHAPE)
"""Half air, half soft tissue, HU."""

REFUSED = {
    "normalised CT": (CT, rng.random(SHAPE), {}, "look normalised"),
    "CT normalised to -1..1": (CT, rng.random(SHAPE) * 2 - 1, {}, "look normalised"),
    "stored CT with an offset of 1024": (CT, np.clip(BODY + 1024, 0, None), {}, "offset of 1000 or 1024"),
    "stored CT whose padding is -2000": (CT, np.where(BODY < -1010, -2000, BODY + 1024), {}, "offset of 1000 or 1024"),
    "stored CT with a few values below 0": (CT, BODY + 1010, {}, "offset of 1000 or 1024"),
    "windowed 8-bit CT": (CT, rng.integers(0, 256, SHAPE), {"dtype": np.dtype("u1")}, "8-bit grey"),
    "detector counts as CT": (CT, rng.normal(30000, 3000, SHAPE), {}, "beyond any tissue"),
    "PET in Bq/ml": (PET, rng.gamma(2.0, 2000, SHAPE), {}, "look like Bq/ml"),
    "PET in Bq/ml, mostly air": (PET, np.where(rng.random(SHAPE) < 0.9, 3, 4000) * rng.random(SHAPE), {}, "Bq/ml"),
    "normalised PET": (PET, np.clip(rng.random(SHAPE) * 1.4 - 0.2, 0, 1), {}, "look normalised"),
    "8-bit PET": (PET, rng.integers(0, 200, SHAPE), {"dtype": np.dtype("u1")}, "whole numbers without rescale"),
    "MRI as PET": (PET, rng.integers(0, 200, SHAPE), {"dtype": np.dtype("i2")}, "whole numbers without rescale"),
    "MRI as CT": (CT, rng.integers(0, 20, SHAPE) * 50, {"dtype": np.dtype("i2")}, "background of 0 instead of air"),
    "CT as PET": (PET, BODY, {}, "too far below zero"),
    "CT as MRI": (MRI, BODY, {}, "too many below zero"),
    "negative MRI": (MRI, -rng.random(SHAPE), {}, "none of them positive"),
    "MRI, 28 % of it negative": (MRI, np.linspace(-28, 72, 4096).reshape(SHAPE), {}, "too many below zero"),
}

TAKEN = {
    "CT of a body": (CT, BODY, {}),
    "soft-tissue crop without air": (CT, rng.normal(60, 12, SHAPE), {}),
    "bone crop": (CT, rng.normal(500, 250, SHAPE), {}),
    "CT with metal and padding": (
        CT,
        np.where(rng.random(SHAPE) < 0.02, 30000, np.where(BODY < -990, -2000, BODY)),
        {},
    ),
    "bone and fat, padding": (CT, np.where(BODY < -1000, -2000, np.where(BODY < 0, -90, 1000) + BODY % 30), {}),
    "a phantom of Teflon, padding": (CT, np.where(BODY > 0, 950 + BODY, np.where(BODY < -1010, -3024, BODY)), {}),
    "lung crop": (CT, rng.normal(-850, 60, SHAPE), {}),
    "8-bit storage with a rescale": (CT, BODY, {"dtype": np.dtype("u1"), "slope": 8.0, "intercept": -1024.0}),
    "PET stored with a rescale": (PET, rng.gamma(1.0, 1.0, SHAPE), {"dtype": np.dtype("i2"), "slope": 0.001}),
    "whole-body PET": (PET, rng.gamma(1.0, 1.0, SHAPE), {}),
    "PET of low uptake": (PET, rng.random(SHAPE) * 0.8, {}),
    "PET with a hot bladder": (PET, np.where(rng.random(SHAPE) < 0.05, 120, 1) * rng.random(SHAPE), {}),
    "PET with negative noise": (PET, rng.normal(1, 1, SHAPE), {}),
    "8-bit MRI": (MRI, rng.integers(0, 256, SHAPE), {"dtype": np.dtype("u1")}),
    "normalised MRI": (MRI, rng.random(SHAPE), {}),
    "MRI with ringing": (MRI, rng.gamma(1.0, 300, SHAPE) - 20, {}),
    "CT crop of soft tissue and bone, down to 0": (CT, np.linspace(0, 600, 4096).reshape(SHAPE), {}),
    "MRI, 22 % of it negative": (MRI, np.linspace(-22, 78, 4096).reshape(SHAPE), {}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_impossible_values_are_refused_with_the_way_out(volume_of, name):
    task, array, origin, words = REFUSED[name]
    volume = volume_of(array, **origin)
    with pytest.raises(UnitsError, match=words) as refusal:
        check_scan(volume, task)
    message = str(refusal.value)
    assert "\n" not in message
    assert message.endswith(f"vouch for it with --units {task.units}")
    check_scan(volume, task, trust_values=True)


@pytest.mark.parametrize(
    ("task", "name", "advice"),
    [
        (PET, "scan.nii.gz", "put its BIDS sidecar beside it"),
        (PET, "scan.nii", "put its BIDS sidecar beside it"),
        (PET, "scan.npy", "; convert it, or vouch"),
        (CT, "scan.nii.gz", "; convert it, or vouch"),
    ],
)
def test_the_way_out_of_a_nifti_pet_is_its_sidecar(volume_of, task, name, advice):
    with pytest.raises(UnitsError, match=advice):
        check_values(summarise(volume_of(rng.normal(30000, 3000, SHAPE))), task, name)


@pytest.mark.parametrize("name", TAKEN)
def test_unusual_values_are_taken(volume_of, name):
    task, array, origin = TAKEN[name]
    volume = volume_of(array, **origin)
    summary = check_scan(volume, task)
    assert (summary.lower, summary.upper) == (volume.array.min(), volume.array.max())


def test_the_modality_decides_where_it_is_known(volume_of):
    volume = volume_of(BODY, modality="CT", units=Units.HU)
    check_scan(volume, CT)
    with pytest.raises(TaskMismatchError, match="expected PT for pet-synthesis, got CT; choose --task ct-denoise"):
        check_scan(volume, PET)
    secondary = volume_of(BODY, modality="OT")
    with pytest.raises(TaskMismatchError, match="--ignore-modality"):
        check_scan(secondary, CT)
    check_scan(secondary, CT, ignore_modality=True)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ORIGINAL PRIMARY P ND PHASE", "phases (ImageType P)"),
        ("ORIGINAL PRIMARY PHASE_MAP P SE", "phases (ImageType PHASE_MAP)"),
        ("ORIGINAL PRIMARY R_IR R IR", "a part of complex images (ImageType R)"),
        ("DERIVED PRIMARY DIFFUSION ADC ND", "a map (ImageType ADC)"),
        ("ORIGINAL PRIMARY M_FFE M FFE", None),
        ("ORIGINAL PRIMARY OTHER", None),
        ("DERIVED SECONDARY", None),
        ("P R M", None),  # the first two values are of another kind
    ],
)
def test_mr_images_that_are_no_magnitudes_are_refused_by_their_header(volume_of, kind, said):
    """Their numbers can't tell: a scanner stores phases as 0 to 4095."""
    volume = volume_of(rng.random(SHAPE) * 4095, modality="MR", kind=tuple(kind.split()))
    if said is None:
        check_scan(volume, MRI)
        return
    with pytest.raises(TaskMismatchError) as refused:
        check_scan(volume, MRI)
    told = f"expected MR magnitudes for mri-sr, got {said}; if the header is wrong, --ignore-modality"
    assert told in str(refused.value)
    check_scan(volume, MRI, ignore_modality=True)
    check_scan(volume_of(BODY, modality="CT", kind=("ORIGINAL", "PRIMARY", "P")), CT)


def test_known_units_must_be_the_tasks_own(volume_of):
    with pytest.raises(UnitsError, match="expected SUVbw for pet-synthesis, got BQML"):
        check_scan(volume_of(np.abs(BODY), units=Units.BQML), PET, trust_values=True)


def test_nothing_to_restore_is_refused(volume_of):
    with pytest.raises(VolumeReadError, match="got 4096 voxels that are all NaN or infinite"):
        check_scan(volume_of(np.full(SHAPE, np.nan)), CT)
    with pytest.raises(VolumeReadError, match="a constant of -1024"):
        check_scan(volume_of(np.full(SHAPE, -1024.0)), CT, trust_values=True)
    holed = np.full(SHAPE, 5.0)
    holed[0] = np.nan
    with pytest.raises(VolumeReadError, match="a constant of 5"):
        check_scan(volume_of(holed), MRI)


def test_infinite_voxels_count_as_nothing(volume_of):
    array = BODY.copy()
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    summary = check_scan(volume_of(array), CT)
    assert summary.nonfinite == 3
    assert np.isfinite([summary.lower, summary.upper]).all()
