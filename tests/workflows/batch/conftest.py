"""Batches with tiny weights and tiny scans, and faults that strike their child processes from outside."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from soak_batch import FAULTS
from tatcli.workflows.batch.config import BatchConfig, Endurance, Selection
from tatcli.workflows.batch.engine import Engine
from tatcli.workflows.batch.locks import Lock
from tatcli.workflows.batch.roles import Assignment, EngineSettings
from tatcli.workflows.batch.staging import lock_path
from tatcli.workflows.batch.vetting import vet
from tatcli.workflows.restore import RestoreConfig


@pytest.fixture(autouse=True)
def installed(tiny_weights, monkeypatch):
    """Where every process finds them; one thread each."""
    monkeypatch.setenv("TAT_WEIGHTS_DIR", str(tiny_weights))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TAT_NATIVE", "0")


@pytest.fixture
def faults(tmp_path, monkeypatch):
    """Scans called crash, hang, killed and stuck do so to the process that opens them."""
    folder = tmp_path / "faults"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FAULTS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture
def scan(tmp_path):
    """Write a little CT (columns, rows, slices) = (40, 32, 2) and return its path; the seed decides the noise."""

    def make(name, seed=0):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = np.where(np.hypot(*np.ogrid[-1:1:40j, -1:1:32j]) < 0.8, 40, -1000)[..., None]
        noisy = body + np.random.default_rng(seed).normal(0, 20, (40, 32, 2))
        image = nib.Nifti1Image(noisy.round().clip(-1024, 3071).astype(np.int16), np.diag([-0.7, -0.7, 3.0, 1.0]))
        image.to_filename(path)
        return path

    return make


@pytest.fixture
def batch(tmp_path):
    """A batch over ``in`` to ``out``; keywords go to their part of the config."""

    def make(*inputs, task="ct", output=None, **others):
        endurance = {key: others.pop(key) for key in ("force", "fail_fast", "retries", "timeout") if key in others}
        selection = {key: others.pop(key) for key in ("lists", "include", "exclude", "shard") if key in others}
        batch_wide = {key: others.pop(key) for key in ("pattern", "devices", "cluster", "events") if key in others}
        scan = RestoreConfig(input=Path(), task=task, output=output or tmp_path / "out", device="cpu", **others)
        words = tuple(str(word) for word in inputs or (tmp_path / "in",))
        return BatchConfig(
            scan=scan,
            selection=Selection(inputs=words, **selection),
            endurance=Endurance(**{"timeout": 120.0, **endurance}),
            **batch_wide,
        )

    return make


@pytest.fixture
def series(tmp_path):
    """Write a CT series (or another modality) of two slices into a folder."""

    def make(folder, number, modality="CT", uid=None):
        place = tmp_path / "in" / folder
        place.mkdir(parents=True, exist_ok=True)
        for index in range(2):
            body = np.where(np.hypot(*np.ogrid[-1:1:32j, -1:1:40j]) < 0.8, 40, -1000)
            pixels = (body + np.random.default_rng(10 * number + index).normal(0, 20, body.shape)).astype(
                np.int16
            ) + 1024
            dataset = Dataset()
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.SOPClassUID = CTImageStorage
            dataset.SOPInstanceUID, dataset.SeriesInstanceUID = f"1.2.{number}.{index + 1}", uid or f"1.2.{number}"
            dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "1.2", "1.3"
            dataset.SeriesNumber, dataset.SeriesDescription, dataset.Modality = number, "thin slices", modality
            dataset.Rows, dataset.Columns = pixels.shape
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
            dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0.0, 0.0, 3.0 * index], [1, 0, 0, 0, 1, 0]
            dataset.PixelSpacing, dataset.SliceThickness, dataset.InstanceNumber = [0.7, 0.7], 3, index + 1
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
            dataset.PixelData = pixels.astype("<i2").tobytes()
            dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(place / f"{number}-{index}.dcm", enforce_file_format=True)
        return place

    return make


@pytest.fixture
def restored(tiny_weights):
    """Do what a lane does, in this process."""
    engine = Engine(EngineSettings(device="cpu", threads=1))
    weights = hashlib.sha256((tiny_weights / "tat-small.safetensors").read_bytes()).hexdigest()
    assert engine.info["weights"] == weights

    def run(work, *, between=lambda: None):
        vetted = vet(work, weights)
        if vetted.finished or vetted.parts:
            return vetted
        lock = Lock.take(lock_path(work))
        between()
        try:
            request = Assignment(
                work=work, weights=weights, source=vetted.source, lock=lock.path, token=lock.token, alone=True
            )
            engine.answer(request, lambda *_: None)
        finally:
            lock.release()
        return vetted

    run.weights = weights
    return run


def names(folder: Path) -> list[str]:
    """What lies in a folder, sidecars aside."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".tat.json"))
    return sorted(path.relative_to(folder).as_posix() for path in files)


@pytest.fixture
def listing():
    """What lies in a folder, sidecars aside."""
    return names
