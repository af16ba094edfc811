"""A degraded scan as DICOM: derived objects of the same study that say what was done to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from torch import nn

from tatcli.errors import GeometryError, UsageError
from tatcli.inference import Restorer
from tatcli.model.config import PRESETS
from tatcli.model.weights import card_for_tasks
from tatcli.tasks import TASKS
from tatcli.volumes import read_volume
from tatcli.volumes.dicom_origin import is_restored
from tatcli.workflows.evaluation.degraded import read_scan
from tatcli.workflows.restore import RestoreConfig, restore
from tatcli.workflows.simulate import SimulateConfig, simulate_scan
from tatcli.workflows.usable_scans import usable_scan


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


def test_what_was_simulated_was_not_restored(tmp_path: Path) -> None:
    """Both are the work of tat: a node, which leaves alone what was restored, takes what was simulated."""
    source = Path(str(get_testdata_file("CT_small.dcm")))
    simulate_scan(SimulateConfig(input=source, task="ct-denoise", output=tmp_path / "low", reference_noise=20.0))
    identity = Restorer.from_network(nn.Identity(), card_for_tasks("identity", PRESETS["tat-small"]), device="cpu")
    again = "the series was restored by tat already, and is now restored again"
    for before, after in (("low", "once"), ("once", "twice")):
        (path,) = (tmp_path / before).iterdir()
        assert is_restored(pydicom.dcmread(path)) == (before == "once")
        done = restore(RestoreConfig(input=tmp_path / before, output=tmp_path / after), restorer=identity)
        assert (again in done.warnings) == (before == "once")


def test_references_are_read_without_their_padding(tmp_path: Path) -> None:
    """To train on as to score: 63000 is what their header says stands for nothing, and no metal."""
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    pixels = dataset.pixel_array.astype(np.uint16)
    pixels[:, :20] = 63000
    dataset.PixelRepresentation, dataset.PixelData = 0, pixels.tobytes()
    del dataset.PixelPaddingValue
    dataset.add_new("PixelPaddingValue", "US", 63000)
    dataset.save_as(tmp_path / "ct.dcm")
    task = TASKS["ct-denoise"]
    expected = pixels + dataset.RescaleIntercept
    expected[:, :20] = -1024
    whole = read_volume(tmp_path / "ct.dcm")
    assert whole.array.max() == 63000 + dataset.RescaleIntercept
    for seen in (usable_scan(whole, task), read_scan(tmp_path / "ct.dcm", task)):
        np.testing.assert_array_equal(seen.array[0], expected)
