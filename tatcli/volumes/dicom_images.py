"""One DICOM image at a time: what its header says, whether it is a file of its own or a frame of an enhanced object.

Enhanced multi-frame objects (PS3.3 C.7.6.16) keep per frame, in functional groups, what classic files keep at the top
level. Both become :class:`DicomImage`, so that everything after this module knows one kind only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tatcli.errors import GeometryError, VolumeReadError
from tatcli.volumes.dicom_files import tolerant
from tatcli.volumes.dicom_mosaic import mosaic_images
from tatcli.volumes.dicom_padding import Padding, padding_of
from tatcli.volumes.pet_header import NO_DATE, PetHeader, moment, pet_header

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["DISCRETE_DIMENSIONS", "TIME_DIMENSIONS", "DicomImage", "has_pixels", "images_of", "series_uid", "text_of"]

DISCRETE_DIMENSIONS: Final = ("EchoTime", "DiffusionBValue", "TemporalPosition", "AcquisitionNumber")
"""Repeats of a stack that differ in one of these have the same values at every position."""
TIME_DIMENSIONS: Final = ("TriggerTime", "FrameReferenceTime", "AcquisitionTime", "InstanceNumber")
"""Repeats that differ in time: each position has its own values, and their order tells the frames."""
_GROUPS: Final = {
    "ImagePositionPatient": ("PlanePositionSequence", "ImagePositionPatient"),
    "ImageOrientationPatient": ("PlaneOrientationSequence", "ImageOrientationPatient"),
    "PixelSpacing": ("PixelMeasuresSequence", "PixelSpacing"),
    "SliceThickness": ("PixelMeasuresSequence", "SliceThickness"),
    "SpacingBetweenSlices": ("PixelMeasuresSequence", "SpacingBetweenSlices"),
    "RescaleSlope": ("PixelValueTransformationSequence", "RescaleSlope"),
    "RescaleIntercept": ("PixelValueTransformationSequence", "RescaleIntercept"),
    "RescaleType": ("PixelValueTransformationSequence", "RescaleType"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "AcquisitionTime": ("FrameContentSequence", "FrameAcquisitionDateTime"),
    "TriggerTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
}
"""Attribute of a classic image -> the functional group and the attribute in it that say the same of a frame."""
_FRAME_TYPES: Final = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")


@dataclass(frozen=True)
class DicomImage:
    """One image of a series.

    Attributes:
        path: its file.
        frame: its index in the file; 0 for classic files.
        instance: SOPInstanceUID with the frame, empty where anonymised away.
        series: SeriesInstanceUID, or a stand-in made of number and description where there is none.
        number, description, modality: of the series.
        kind: ImageType or FrameType, values in upper case.
        rows, columns: matrix.
        position: ImagePositionPatient, LPS mm, or None.
        orientation: ImageOrientationPatient (row's, then column's direction), or None.
        pixel_spacing: mm between rows and between columns, or None.
        slice_spacing: mm to the next slice as the header claims; only used for a single image.
        slope, intercept: value = stored * slope + intercept.
        rescale_type: RescaleType, '' where absent; None where one of its two numbers is missing.
        dimensions: discrete values and times by which repeats of a position can be told apart.
        pet: what SUV needs, PET only.
        tile: first row and column of a mosaic's slice in its frame; None: the image is the whole frame.
        padding: stored numbers that stand for no tissue, None where the header names none.
    """

    path: Path
    frame: int
    instance: str
    series: str
    number: str
    description: str
    modality: str
    kind: tuple[str, ...]
    rows: int
    columns: int
    position: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, float] | None
    slice_spacing: float | None
    slope: float
    intercept: float
    rescale_type: str | None
    dimensions: dict[str, float]
    pet: PetHeader | None
    tile: tuple[int, int] | None = None
    padding: Padding | None = None

    @property
    def oriented(self) -> bool:
        """Whether it says how the patient lies."""
        return self.position is not None and self.orientation is not None

    @property
    def is_localizer(self) -> bool:
        """A scout image, which isn't part of the stack (PS3.3 C.8.2.1.1.1)."""
        return "LOCALIZER" in self.kind


def has_pixels(dataset: Dataset) -> bool:
    """Whether the header describes an image: raw data, reports, plans and presentation states don't."""
    return all(keyword in dataset for keyword in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel"))


def images_of(dataset: Dataset, path: Path) -> list[DicomImage]:
    """The images of one file.

    Raises:
        VolumeReadError: a mosaic without its CSA header, a multi-frame object without functional groups, colour, a
            rescale that isn't linear.
        GeometryError: a zero-sized matrix, a position or orientation that isn't one.
    """
    with tolerant(path):
        return _images_of(dataset, path)


def _images_of(dataset: Dataset, path: Path) -> list[DicomImage]:
    frames = int(_number(dataset.get("NumberOfFrames")) or 1)
    if int(_number(dataset.get("SamplesPerPixel")) or 1) != 1:
        got = dataset.get("PhotometricInterpretation", "colour")
        msg = f"{path.name}: expected greyscale pixels, got {got}; tat restores greyscale scans only"
        raise VolumeReadError(msg)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None and frames > 1:
        msg = f"{path.name}: expected a position for each of its {frames} frames, got none; export single-frame files"
        raise VolumeReadError(msg)
    if dataset.get("ModalityLUTSequence"):
        msg = f"{path.name}: expected a linear rescale, got a modality look-up table; convert it first"
        raise VolumeReadError(msg)
    if per_frame is None:
        image = _image(dataset, [dataset], path, frame=0)
        return mosaic_images(image, dataset) if "MOSAIC" in image.kind else [image]
    if len(per_frame) != frames:
        msg = f"{path.name}: expected functional groups for {frames} frames, got {len(per_frame)}; export it again"
        raise VolumeReadError(msg)
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    return [_image(dataset, [group, *shared, dataset], path, frame=index) for index, group in enumerate(per_frame)]


def _image(dataset: Dataset, places: list[Dataset], path: Path, *, frame: int) -> DicomImage:
    rows, columns = int(_number(dataset.get("Rows")) or 0), int(_number(dataset.get("Columns")) or 0)
    if rows < 1 or columns < 1:
        msg = f"{path.name}: expected at least one pixel, got {rows} rows and {columns} columns; the file is damaged"
        raise GeometryError(msg)
    slope, intercept = _rescale(places, path)
    position = _vector(_find(places, "ImagePositionPatient"), 3, "ImagePositionPatient", path)
    spacing = _vector(_find(places, "PixelSpacing"), 2, "PixelSpacing", path)
    modality, uid = text_of(dataset, "Modality"), text_of(dataset, "SOPInstanceUID")
    found = {name: _dimension(places, name) for name in (*DISCRETE_DIMENSIONS, *TIME_DIMENSIONS)}
    return DicomImage(
        path=path,
        frame=frame,
        instance=f"{uid}#{frame}" if uid else "",
        series=series_uid(dataset),
        number=text_of(dataset, "SeriesNumber"),
        description=text_of(dataset, "SeriesDescription"),
        modality=modality,
        kind=_frame_kind(places) or _words(dataset.get("ImageType")),
        rows=rows,
        columns=columns,
        position=None if position is None else (position[0], position[1], position[2]),
        orientation=_vector(_find(places, "ImageOrientationPatient"), 6, "ImageOrientationPatient", path),
        pixel_spacing=None if spacing is None else (spacing[0], spacing[1]),
        slice_spacing=_number(_find(places, "SpacingBetweenSlices")) or _number(_find(places, "SliceThickness")),
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        rescale_type=None if slope is None or intercept is None else str(_find(places, "RescaleType") or "").strip(),
        dimensions={name: value for name, value in found.items() if value is not None},
        pet=pet_header(dataset, places[0] if len(places) > 1 else None) if modality == "PT" else None,
        padding=padding_of(dataset),
    )


def _rescale(places: list[Dataset], path: Path) -> tuple[float | None, float | None]:
    """RescaleSlope and RescaleIntercept, None where absent; rubbish in them would make rubbish of every voxel."""
    found = []
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        value = _find(places, keyword)
        number = _number(value)
        if (value is not None and number is None) or (keyword == "RescaleSlope" and number == 0):
            msg = f"{path.name}: expected a number in {keyword} (the slope not 0), got {value}; repair the header"
            raise VolumeReadError(msg)
        found.append(number)
    return found[0], found[1]


def _find(places: list[Dataset], keyword: str) -> Any:
    """The attribute in the frame's own groups, else in the shared ones, else at the top level."""
    group, member = _GROUPS[keyword]
    for place in places:
        items = place.get(group)
        if items and items[0].get(member) not in (None, ""):
            return items[0].get(member)
        if place.get(keyword) not in (None, ""):
            return place.get(keyword)
    return None


def _dimension(places: list[Dataset], name: str) -> float | None:
    top = places[-1]
    if name == "TemporalPosition":
        return _number(_find(places, "TemporalPositionIdentifier"))
    if name == "AcquisitionTime":
        found = _find(places, name)
        return _seconds(found if found is not None else top.get("AcquisitionDateTime"), top.get("AcquisitionDate"))
    return _number(_find(places, name) if name in _GROUPS else top.get(name))


def _seconds(time: Any, date: Any) -> float | None:
    """Seconds since the year 1 of a DT, or of a TM on its date, where that is known."""
    whole = str(time or "").partition(".")[0]
    found = moment(time) if len(whole) > len("HH:MM:SS") else moment(time, date=date or NO_DATE)
    return None if found is None else (found - datetime.min).total_seconds()  # noqa: DTZ901


def _frame_kind(places: list[Dataset]) -> tuple[str, ...]:
    for place in places:
        for sequence in _FRAME_TYPES:
            if items := place.get(sequence):
                return _words(items[0].get("FrameType"))
    return ()


def _words(value: Any) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else list(value or [])
    return tuple(str(word).strip().upper() for word in words)


def series_uid(dataset: Dataset) -> str:
    """SeriesInstanceUID, or a stand-in made of number and description where there is none."""
    number, description = text_of(dataset, "SeriesNumber"), text_of(dataset, "SeriesDescription")
    return text_of(dataset, "SeriesInstanceUID") or f"without UID, number {number!r}, {description!r}"


def text_of(dataset: Dataset, keyword: str) -> str:
    """An attribute as text, '' where it is absent; of several values, as a backslash makes them, as it is stored."""
    value = dataset.get(keyword)
    if value is None:
        return ""
    return ("\\".join(map(str, value)) if _is_list(value) else str(value)).strip()


def _is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes))


def _number(value: Any) -> float | None:
    """A finite number, or None where there is none or rubbish."""
    if _is_list(value):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _vector(value: Any, length: int, keyword: str, path: Path) -> tuple[float, ...] | None:
    if value is None or isinstance(value, str) or len(value) == 0:
        return None
    numbers = [_number(part) for part in value]
    vector = tuple(number for number in numbers if number is not None)
    if len(vector) != length or len(numbers) != length:
        msg = f"{path.name}: expected {length} numbers in {keyword}, got {value}; repair the header"
        raise GeometryError(msg)
    return vector
