"""The command line in process, with tiny weights installed as tat-small, and scans made on the spot."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid
from typer.testing import CliRunner

from tatcli.cli.app import app


@pytest.fixture(autouse=True)
def installed(tiny_weights, monkeypatch):
    """Where every command finds them."""
    monkeypatch.setenv("TAT_WEIGHTS_DIR", str(tiny_weights))


@pytest.fixture
def tat():
    """Run ``tat ...``; exceptions that are bugs fail the test."""

    def run(*words):
        return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)

    return run


@pytest.fixture
def refused(tat, tmp_path):
    """Run a command that must fail: one line on stderr, nothing on stdout, no file made or changed."""

    def run(*words, code, match):
        before = snapshot(tmp_path)
        result = tat(*words)
        assert result.exit_code == code, result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        assert match in lines[0]
        assert result.stdout == ""
        assert snapshot(tmp_path) == before
        return lines[0]

    return run


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.fixture
def nifti(tmp_path):
    """Write an array (columns, rows, slices, ...) as NIfTI and return its path."""

    def make(array, name="scan.nii.gz"):
        path = tmp_path / name
        nib.Nifti1Image(array, np.diag([-0.7, -0.7, 3.0, 1.0])).to_filename(path)
        return path

    return make


@pytest.fixture
def ct_array():
    """A little CT, int16: (columns, rows, slices) = (40, 32, 3)."""
    rng = np.random.default_rng(0)
    body = np.where(np.hypot(*np.ogrid[-1:1:40j, -1:1:32j]) < 0.8, 40, -1000)[..., None]
    return (body + rng.normal(0, 20, (40, 32, 3))).round().clip(-1024, 3071).astype(np.int16)


@pytest.fixture
def ct(nifti, ct_array):
    """The same as a file."""
    return nifti(ct_array, "ct.nii.gz")


@pytest.fixture
def dicom(tmp_path, ct_array):
    """Write a DICOM series, CT or PET, into a folder."""

    def make(name="series", modality="CT", number=1, **attributes):
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        uid = generate_uid()
        for index in range(ct_array.shape[2]):
            pixels = np.ascontiguousarray(ct_array[:, :, index].T) + 1024
            dataset = Dataset()
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.SOPClassUID = CTImageStorage if modality == "CT" else PositronEmissionTomographyImageStorage
            dataset.SOPInstanceUID, dataset.SeriesInstanceUID = generate_uid(), uid
            dataset.SeriesNumber, dataset.SeriesDescription, dataset.Modality = number, f"made {number}", modality
            dataset.Rows, dataset.Columns = pixels.shape
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
            dataset.PixelRepresentation = 1
            dataset.ImagePositionPatient = [0.0, 0.0, 3.0 * index]
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            dataset.PixelSpacing, dataset.SliceThickness, dataset.InstanceNumber = [0.7, 0.7], 3, index + 1
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
            for keyword, value in attributes.items():
                setattr(dataset, keyword, value)
            dataset.PixelData = pixels.astype("<i2").tobytes()
            dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(folder / f"{number}-{index}.dcm", enforce_file_format=True)
        return folder

    return make


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Call it within the test: pytest puts its own streams in place after the fixtures."""

    def attach(stream="stderr"):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, stream, Terminal())
        return getattr(sys, stream)

    return attach
