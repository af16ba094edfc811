"""A degraded scan as DICOM: derived objects of the same study that say what was done to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tatcli.errors import GeometryError, UsageError
from tatcli.volumes import read_volume
from tatcli.workflows.simulate import SimulateConfig, simulate_scan


def test_dicom_in_dicom_out(tmp_path: Path) -> None:
    source = Path(str(get_testdata_file("CT_small.dcm")))
    simulate_scan(SimulateConfig(input=source, task="ct-denoise", strength=0.25, seed=3, output=tmp_path / "quarter"))
    (path,) = (tmp_path / "quarter").iterdir()
    old, new = pydicom.dcmread(source), pydicom.dcmread(path)
    assert new.StudyInstanceUID == old.StudyInstanceUID
    assert new.SeriesInstanceUID != old.SeriesInstanceUID
    assert new.SOPInstanceUID != old.SOPInstanceUID
    assert list(new.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert new.SeriesDescription.endswith("simulated")
    assert "dose fraction 0.25" in new.DerivationDescription
    assert new.SourceImageSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    before, after = read_volume(source), read_volume(path)
    np.testing.assert_allclose(after.geometry.affine, before.geometry.affine, atol=1e-6)
    inserted = after.array - before.array
    assert 5 < float(inserted.std()) < 500  # HU
    assert abs(float(inserted.mean())) < 0.2 * float(inserted.std())


def test_uneven_slices_keep_their_places(tmp_path: Path) -> None:
    """In DICOM alone, and in the plane of the images."""
    heights = [0.0, 2.0, 27.0]
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    (tmp_path / "ct").mkdir()
    for number, height in enumerate(heights):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber, dataset.ImagePositionPatient = number + 1, [-158.0, -179.0, height]
        dataset.save_as(tmp_path / "ct" / f"{number}.dcm")

    def asked(name: str, axis: str = "auto") -> SimulateConfig:
        return SimulateConfig(input=tmp_path / "ct", output=tmp_path / name, axis=axis, reference_noise=20.0)

    with pytest.raises(GeometryError, match="or write DICOM"):
        simulate_scan(asked("low.nii.gz"))
    with pytest.raises(UsageError, match="--axis coronal: expected axial, the acquired plane"):
        simulate_scan(asked("low", axis="coronal"))
    done = simulate_scan(asked("low"))
    assert "every slice keeps its own position" in done.warnings[0]
    new = [pydicom.dcmread(path) for path in (tmp_path / "low").iterdir()]
    assert sorted(float(image.ImagePositionPatient[2]) for image in new) == heights
    before, after = (read_volume(tmp_path / name, uneven=True).array for name in ("ct", "low"))
    assert (np.std(after - before, axis=(1, 2)) > 5.0).all()
