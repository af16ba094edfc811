"""Geometry and values beside an independent converter's: dcm2niix, where it is installed."""

import shutil
import subprocess
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tatcli.errors import GeometryError
from tatcli.volumes import Volume, list_series, read_volume
from tatcli.volumes.geometry import RAS_FROM_LPS

pytestmark = pytest.mark.real_data
DCM2NIIX = shutil.which("dcm2niix")

CONVERTED = {
    # folder -> how many of its stacks both read
    "ct_ge_abdomen": 1,
    "ct_jpeg2000": 1,
    "mr_9_transfer_syntaxes": 9,
    "mr_ge_oblique_signed16": 1,
    "mr_implicit_vr_oblique": 1,
    "mr_philips_enhanced_mixed_content": 2,
    "mr_philips_rawdata_without_pixels": 1,
    "mr_philips_slope2.36": 1,
    "mr_siemens_enhanced_4d": 1,
    "mr_siemens_enhanced_multiframe": 1,
    "mr_siemens_mosaic": 1,
    "mr_siemens_multiecho_one_series": 2,
    "mr_siemens_phase_slope2_intercept-4096": 1,
    "oblique": 1,
    "pet_ge_jpegls_bqml": 1,
}
NOT_COMPARED = {
    "ct_15_transfer_syntaxes": "copies of one slice",
    "ct_ge_gantry_tilt_variable_spacing": "dcm2niix resamples it, tat refuses a grid for it",
    "ct_wg04_transfer_syntaxes": "copies of one slice",
    "mr_siemens_two_echoes": "slices are missing: tat refuses a grid for it",
    "single_files": "dcm2niix mixes its files",
}


@pytest.fixture(scope="module")
def dicom(shared: Path) -> Path:
    if DCM2NIIX is None:
        pytest.skip("needs dcm2niix: pip install dcm2niix, or Debian's package")
    return shared / "data" / "dicom"


def stacks(places: list[Path]) -> list[Volume]:
    """Every stack that tat reads as a volume."""
    found = []
    for place in places:
        for info in list_series(place):
            try:
                found.append(read_volume(place, series=f"{info.uid}:{info.part}" if info.part else info.uid))
            except GeometryError:  # slices are missing
                continue
    return found


def canonical(affine: np.ndarray, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the grid (RAS mm) and voxels, in the order of the patient's axes."""
    image = nib.as_closest_canonical(nib.Nifti1Image(array.astype(np.float64), affine))
    ends = [(0, length - 1) for length in image.shape[:3]]
    corners = np.array([image.affine @ (*index, 1) for index in product(*ends)])
    return corners[:, :3], np.asarray(image.dataobj)


def same(volume: Volume, converted: nib.Nifti1Image) -> bool:
    """Whether both are the same voxels; asserts the geometry where they are."""
    ours = volume.array.reshape(-1, *volume.geometry.shape).T
    theirs = np.asarray(converted.dataobj)
    theirs = theirs.reshape(*theirs.shape[:3], -1)
    our_corners, our_voxels = canonical(RAS_FROM_LPS @ volume.geometry.affine, ours)
    their_corners, their_voxels = canonical(converted.affine, theirs)
    if their_voxels.shape != our_voxels.shape:
        return False
    scale = 1.0
    if volume.units == "SUVbw":  # dcm2niix leaves Bq/ml
        scale = float(our_voxels.max() / their_voxels.max())
    if not np.allclose(our_voxels, their_voxels * scale, rtol=1e-5, atol=1e-4):
        return False
    # One gap of this PET is 3.29 mm instead of 3.27: dcm2niix takes the first gap for all, tat the mean.
    uneven = volume.provenance.modality == "PT"
    np.testing.assert_allclose(our_corners, their_corners, atol=0.05 if uneven else 1e-3)
    if uneven:
        first, last = (volume.provenance.header.frames[0][index].position for index in (0, -1))
        np.testing.assert_allclose(sorted({corner[2] for corner in our_corners}), [first[2], last[2]], atol=1e-3)
    return True


def test_every_folder_is_in_a_table(dicom: Path) -> None:
    assert {path.name for path in dicom.iterdir()} == {*CONVERTED, *NOT_COMPARED}


@pytest.mark.parametrize("name", CONVERTED)
def test_geometry_and_values_agree(name: str, dicom: Path, tmp_path: Path) -> None:
    # Philips' display values, as every other reader has them; for PET that option would ignore the rescale of slices.
    precise = "n" if "philips" in name else "y"
    command = [DCM2NIIX, "-p", precise, "-b", "n", "-z", "n", "-f", "%s_%e_%d", "-o", tmp_path, dicom / name]
    subprocess.run(command, check=False, capture_output=True, timeout=300)
    converted = [nib.load(path) for path in sorted(tmp_path.glob("*.nii"))]
    assert converted
    # copies of one mosaic under one series UID: file by file
    places = sorted((dicom / name).iterdir()) if name == "mr_9_transfer_syntaxes" else [dicom / name]
    read = [read_volume(path) for path in places] if places[0].is_file() else stacks(places)
    agreeing = sum(any(same(volume, image) for image in converted) for volume in read)
    assert agreeing == CONVERTED[name]
