"""What classic PET needs and enhanced PET says in other words (PS3.3 C.8.9.1, C.8.9.4 and C.8.22)."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tatcli.volumes.dicom_coding import as_ds
from tatcli.volumes.dicom_images import DicomImage
from tatcli.volumes.pet_header import PetHeader, moment

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["complete_pet"]

_CORRECTIONS: Final = {
    "DecayCorrected": "DECY", "AttenuationCorrected": "ATTN", "ScatterCorrected": "SCAT", "DeadTimeCorrected": "DTIM",
    "GantryMotionCorrected": "MOTN", "PatientMotionCorrected": "PMOT", "CountLossNormalizationCorrected": "CLN",
    "RandomsCorrected": "RAN", "NonUniformRadialSamplingCorrected": "RADL", "SensitivityCalibrated": "DCAL",
    "DetectorNormalizationCorrection": "NORM",
}  # fmt: skip
"""Flags of the enhanced PET corrections module (C.8.22.6) -> words of CorrectedImage."""
_MAY_BE_EMPTY: Final = ("AcquisitionDate", "AcquisitionTime", "ActualFrameDuration", "CollimatorType")
"""Type 2."""


def complete_pet(new: Dataset, image: DicomImage, frames: tuple[tuple[DicomImage, ...], ...]) -> None:
    """Add the attributes of type 1 and 2 that a frame of enhanced PET lacks as an object of its own.

    Args:
        new: the frame with all that its functional groups say at the top level; is changed.
        image: the frame as it was read.
        frames: for every frame of the scan the images by position, the series' whole.
    """
    header = image.pet or PetHeader()
    _complete(new, {"Units": header.units, "CountsSource": "EMISSION"})
    _complete(new, {"DecayCorrection": header.decay_correction or "NONE"})
    if "CorrectedImage" not in new:
        new.CorrectedImage = [word for flag, word in _CORRECTIONS.items() if str(new.get(flag)) == "YES"] or None
    _complete_times(new, header)
    _complete_place(new, image, frames)
    _complete(new, dict.fromkeys(_MAY_BE_EMPTY))


def _complete_times(new: Dataset, header: PetHeader) -> None:
    """Times of the frame count from the series' (C.8.9.1.1.2), which is that of the decay correction where known."""
    if header.corrected_to is not None:
        new.SeriesDate, new.SeriesTime = f"{header.corrected_to:%Y%m%d}", _time(header.corrected_to)
    if new.get("FrameAcquisitionDuration") is not None:  # ms, both
        _complete(new, {"ActualFrameDuration": round(float(new.FrameAcquisitionDuration))})
    start = moment(new.get("SeriesTime"), date=new.get("SeriesDate"))
    acquired = moment(new.get("FrameAcquisitionDateTime"))
    middle = moment(new.get("FrameReferenceDateTime")) or acquired
    reference = 0.0 if start is None or middle is None else (middle - start).total_seconds()
    _complete(new, {"FrameReferenceTime": as_ds(reference * 1000.0)})
    duration = float(new.get("ActualFrameDuration") or 0.0) / 1000.0
    if new.DecayCorrection == "START" and start and acquired and duration and header.half_life:
        decay = math.log(2.0) / header.half_life
        within = decay * duration
        factor = math.exp(decay * (acquired - start).total_seconds()) * within / -math.expm1(-within)
        _complete(new, {"DecayFactor": as_ds(factor)})


def _complete_place(new: Dataset, image: DicomImage, frames: tuple[tuple[DicomImage, ...], ...]) -> None:
    """Where the image stands in the series: slices first, then times or phases (C.8.9.4.1.9)."""
    times, slices = len(frames), len(frames[0])
    index = next(i for i, other in enumerate(one for frame in frames for one in frame) if other is image)
    kind = "WHOLE BODY" if "WHOLE_BODY" in image.kind else "STATIC"
    if times > 1:
        kind = "GATED" if new.get("TriggerTime") is not None else "DYNAMIC"
        numbers = {"NumberOfTimeSlots": times, "NumberOfRRIntervals": 1} if kind == "GATED" else {}
        _complete(new, numbers or {"NumberOfTimeSlices": times})
    _complete(new, {"SeriesType": [kind, "IMAGE"], "NumberOfSlices": slices, "ImageIndex": index + 1})


def _complete(new: Dataset, values: dict[str, Any]) -> None:
    for keyword, value in values.items():
        if keyword not in new:
            setattr(new, keyword, value)


def _time(moment: datetime) -> str:
    return f"{moment:%H%M%S}" + (f".{moment.microsecond:06d}" if moment.microsecond else "")
