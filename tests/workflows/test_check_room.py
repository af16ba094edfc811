"""Scans whose headers promise far more voxels than their files have bytes."""

from __future__ import annotations

import io

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, JPEG2000Lossless

from tatcli.errors import DeviceError
from tatcli.workflows.evidence import EvidenceConfig
from tatcli.workflows.restore import RestoreConfig, restore


def test_a_packed_slice_that_does_not_fit_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    codes = io.BytesIO()
    Image.new("I;16", (512, 512)).save(codes, "JPEG2000", irreversible=False, no_jp2=True)
    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID, slice_.file_meta.MediaStorageSOPClassUID = JPEG2000Lossless, CTImageStorage
    slice_.SOPClassUID, slice_.SOPInstanceUID, slice_.SeriesInstanceUID = CTImageStorage, "1.2.3", "1.2"
    slice_.file_meta.MediaStorageSOPInstanceUID, slice_.Modality = "1.2.3", "CT"
    slice_.Rows = slice_.Columns = 60000
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation, slice_.PixelRepresentation = 1, "MONOCHROME2", 0
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
    slice_.PixelSpacing, slice_.SliceThickness = [1, 1], 1
    slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
    slice_.PixelData = encapsulate([codes.getvalue()])
    slice_["PixelData"].is_undefined_length = True
    path = tmp_path / "slice.dcm"
    slice_.save_as(path, enforce_file_format=True)
    monkeypatch.setattr("tatcli.volumes.reading.read_volume", lambda *_, **__: pytest.fail("its pixels were read"))
    config = RestoreConfig(input=path, task="ct", output=tmp_path / "out.nii.gz", device="cpu", max_memory=4 * 2**30)
    with pytest.raises(DeviceError, match=r"slice\.dcm: expected to stay within .* got a scan that takes"):
        restore(config)


def test_a_packed_nifti_that_does_not_fit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "ct.nii.gz"
    nib.Nifti1Image(np.full((512, 512, 200), -1000, np.int16), np.diag([1.0, 1.0, 3.0, 1.0])).to_filename(path)
    monkeypatch.setattr("tatcli.volumes.reading.read_volume", lambda *_, **__: pytest.fail("its voxels were read"))
    for limit, evidence in (
        (900, EvidenceConfig(residual=tmp_path / "r.nii.gz")),  # 512 MiB and 10 bytes for each of 50 Mi voxels
        (2000, EvidenceConfig(uncertainty=tmp_path / "u.nii.gz")),  # and 22 for the spread
    ):
        config = RestoreConfig(
            input=path,
            task="ct",
            output=tmp_path / "out.nii.gz",
            evidence=evidence,
            device="cpu",
            max_memory=limit * 2**20,
        )
        with pytest.raises(DeviceError, match=r"ct\.nii\.gz: expected to stay within .* got a scan that takes"):
            restore(config)
