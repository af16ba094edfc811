"""What a DICOM source can't be written as is said once its header is read: before the weights are even looked for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from tatcli.errors import GeometryError, OutputError, TatError, UsageError
from tatcli.inference import RestoreOptions
from tatcli.volumes import read_volume, write_volume
from tatcli.volumes.dicom_options import DicomOptions
from tatcli.workflows.batch.vetting import vet
from tatcli.workflows.batch.work import Work
from tatcli.workflows.restore import RestoreConfig, restore
from tatcli.workflows.simulate import SimulateConfig, simulate_scan

SIDE = 20
SAGITTAL, ACROSS = [0, 1, 0, 0, 0, -1], np.array([1.0, 0, 0])


@pytest.fixture
def sagittal(tmp_path: Path) -> Path:
    """An isotropic sagittal MRI of 20 x 20 x 20 voxels: taken axially unless the caller says otherwise."""
    folder = tmp_path / "sagittal"
    folder.mkdir()
    source = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    pixels = source.pixel_array[:SIDE, :SIDE]
    for index in range(SIDE):
        source.Rows, source.Columns, source.PixelData = SIDE, SIDE, np.ascontiguousarray(pixels + index).tobytes()
        source.ImageOrientationPatient, source.ImagePositionPatient = SAGITTAL, list(ACROSS * index)
        source.PixelSpacing, source.SliceThickness, source.InstanceNumber = [1, 1], 1, index + 1
        source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{index + 1}"
        source.save_as(folder / f"{index}.dcm")
    return folder


def refusal(**config: object) -> TatError:
    """What restoring with weights that don't exist ends with."""
    with pytest.raises(TatError) as caught:
        restore(RestoreConfig(weights="none-such", **config))
    return caught.value


def test_several_objects_need_a_folder(sagittal: Path, tmp_path: Path) -> None:
    error = refusal(input=sagittal, output=tmp_path / "out.dcm")
    assert isinstance(error, OutputError)
    assert str(error).startswith(f"{tmp_path / 'out.dcm'}: expected a folder for the {SIDE} objects of a series")


def test_a_finer_grid_must_keep_the_acquired_slices(sagittal: Path, tmp_path: Path) -> None:
    config = {"input": sagittal, "output": tmp_path / "out"}
    error = refusal(**config, options=RestoreOptions(scale=2))
    assert isinstance(error, GeometryError)
    assert "expected the slices that the scanner acquired" in str(error)
    assert str(error).endswith("; write .nii.gz, or take --axis sagittal")
    for fitting in (
        {**config, "options": RestoreOptions(scale=2, axis="sagittal")},
        {**config, "options": RestoreOptions()},
        {"input": sagittal, "output": tmp_path / "out.nii.gz", "options": RestoreOptions(scale=2)},
    ):
        assert "none-such" in str(refusal(**fitting))


@pytest.mark.parametrize(
    ("scale", "private", "message"),
    [
        (1, "drop", "--private drop: expected images that stand without private attributes"),
        (2, "keep", "expected a Siemens mosaic's own matrix"),
    ],
)
def test_mosaics(
    sagittal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: int, private: str, message: str
) -> None:
    volume = read_volume(sagittal)
    for (image,) in zip(*volume.provenance.header.frames, strict=True):
        object.__setattr__(image, "tile", (0, 0))
    monkeypatch.setattr("tatcli.volumes.reading.read_volume", lambda *_, **__: volume)
    restoring = RestoreOptions(scale=scale, axis="sagittal")
    dicom = DicomOptions(private=private)
    assert message in str(refusal(input=sagittal, output=tmp_path / "out", options=restoring, dicom=dicom))


def test_anonymising_needs_its_package(sagittal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dicomanonymizer.simpledicomanonymizer", None)
    error = refusal(input=sagittal, output=tmp_path / "out.nii.gz", dicom=DicomOptions(anonymise=True))
    assert "out.nii.gz: expected DICOM output with --anonymise" in str(error)
    error = refusal(input=sagittal, output=tmp_path / "out", dicom=DicomOptions(anonymise=True))
    assert isinstance(error, UsageError)
    assert "pip install 'tatcli[anonymise]'" in str(error)


def test_only_enhanced_objects_of_known_kinds_become_classic(tmp_path: Path) -> None:
    source = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"
    source.NumberOfFrames, source.PerFrameFunctionalGroupsSequence = 1, [Dataset()]
    source.save_as(tmp_path / "scan.dcm")
    error = refusal(input=tmp_path / "scan.dcm", output=tmp_path / "out", dicom=DicomOptions(enhanced="classic"))
    assert isinstance(error, OutputError)
    assert "expected enhanced CT, MR or PET to make classic images of" in str(error)


def test_a_batch_says_so_when_it_looks_at_the_scan(sagittal: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    config = RestoreConfig(
        input=sagittal, output=tmp_path / "out" / "scan", format="dicom", options=RestoreOptions(scale=2)
    )
    with pytest.raises(GeometryError, match="expected the slices that the scanner acquired"):
        vet(Work(config=config, place="sagittal", area=tmp_path / "area"), "ab" * 32)


def test_the_writer_goes_by_the_same_rule(sagittal: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_volume(read_volume(sagittal), tmp_path / "out.dcm")
    assert str(caught.value).startswith(f"{tmp_path / 'out.dcm'}: expected a folder for the {SIDE} objects")


def test_simulation_asks_first_too(sagittal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tatcli.degradation.simulate", lambda *_, **__: pytest.fail("simulated in vain"))
    with pytest.raises(OutputError, match=f"expected a folder for the {SIDE} objects"):
        simulate_scan(SimulateConfig(input=sagittal, task="auto", output=tmp_path / "out.dcm"))
