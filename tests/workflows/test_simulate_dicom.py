"""A degraded scan as DICOM: derived objects of the same study that say what was done to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file

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
