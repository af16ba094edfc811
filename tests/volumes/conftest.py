"""Small DICOM series made on the spot, so that the ordinary and the odd cases run without real scans."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

STORAGE = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
ORIENTATIONS = [
    np.array(signs) * np.eye(3)[list(axes)].T
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
"""The 48 ways to lay three voxel axes along the patient's."""


@dataclass
class SeriesMaker:
    """Writes the images of one series into a folder; attributes given by name go into the header as they are."""

    folder: Path
    modality: str = "CT"
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
    spacing: tuple[float, float] = (0.7, 0.5)
    thickness: float = 2.0
    uid: str = field(default_factory=generate_uid)
    common: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def header(self, pixels: np.ndarray, position: Any) -> Dataset:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = Dataset()
        dataset.file_meta = meta
        dataset.SOPClassUID = STORAGE[self.modality]
        dataset.SOPInstanceUID = generate_uid()
        dataset.SeriesInstanceUID = self.uid
        dataset.SeriesNumber = 3
        dataset.SeriesDescription = "made"
        dataset.Modality = self.modality
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.Rows, dataset.Columns = pixels.shape[-2:]
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        bits = pixels.dtype.itemsize * 8
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        if position is not None:
            dataset.ImagePositionPatient = [float(value) for value in position]
            dataset.ImageOrientationPatient = list(self.orientation)
        dataset.PixelSpacing = list(self.spacing)
        dataset.SliceThickness = self.thickness
        dataset.InstanceNumber = self.count + 1
        if self.modality == "CT":
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        return dataset

    def add(self, pixels: np.ndarray, position: Any, **attributes: Any) -> Path:
        dataset = self.header(pixels, position)
        for keyword, value in {**self.common, **attributes}.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.PixelData = pixels.tobytes()
        self.folder.mkdir(parents=True, exist_ok=True)
        # Names in an order that is none: the stack must not depend on it.
        path = self.folder / f"{(self.count * 7919) % 1000:03d}.dcm"
        self.count += 1
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path, enforce_file_format=True)
        return path

    def add_stack(self, array: np.ndarray, step: Any = (0, 0, 2.0), origin: Any = (-10, 20, 5), **same: Any) -> None:
        for index, plane in enumerate(array):
            self.add(plane, np.array(origin) + index * np.array(step), **same)


@pytest.fixture
def series(tmp_path: Path) -> Callable[..., SeriesMaker]:
    """``series(modality="MR", ...)``: a maker for a series in the folder ``dicom`` of this test."""

    def make(**options: Any) -> SeriesMaker:
        options.setdefault("folder", tmp_path / "dicom")
        return SeriesMaker(**options)

    return make


@pytest.fixture
def enhanced(tmp_path: Path) -> Callable[..., Path]:
    """Write an enhanced MR object: ``enhanced(array, frames)`` with each frame's position, slope and echo time."""

    def make(array: np.ndarray, frames: list[dict[str, Any]], name: str = "enhanced.dcm") -> Path:
        maker = SeriesMaker(tmp_path / "dicom", modality="MR")
        dataset = maker.header(array, None)
        del dataset.PixelSpacing, dataset.SliceThickness
        dataset.SOPClassUID = EnhancedMRImageStorage
        dataset.NumberOfFrames = len(array)
        shared, orientation = Dataset(), Dataset()
        orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared.PlaneOrientationSequence = Sequence([orientation])
        measures = Dataset()
        measures.PixelSpacing, measures.SliceThickness = [1.5, 1.25], 3
        shared.PixelMeasuresSequence = Sequence([measures])
        dataset.SharedFunctionalGroupsSequence = Sequence([shared])
        groups = []
        for frame in frames:
            group, position, values, echo, kind = (Dataset() for _ in range(5))
            position.ImagePositionPatient = frame["position"]
            values.RescaleSlope, values.RescaleIntercept, values.RescaleType = frame.get("slope", 1), 0, "US"
            echo.EffectiveEchoTime = frame.get("echo", 10.0)
            kind.FrameType = ["ORIGINAL", "PRIMARY", "T2", frame.get("kind", "M")]
            group.PlanePositionSequence = Sequence([position])
            group.PixelValueTransformationSequence = Sequence([values])
            group.MREchoSequence = Sequence([echo])
            group.MRImageFrameTypeSequence = Sequence([kind])
            groups.append(group)
        dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
        dataset.PixelData = array.tobytes()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make


@pytest.fixture(params=range(48), ids=lambda index: f"orientation{index}")
def orientation(request: pytest.FixtureRequest) -> np.ndarray:
    """(3, 3) signed permutation matrices: every way to lay the voxel axes."""
    return ORIENTATIONS[request.param]
