"""Where a derived object comes from, in DICOM's words: source images, what was done, and by what.

See PS3.3 C.7.6.1 and C.12.1; codes are of the DICOM controlled terminology (PS3.16 Annex D).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

import tatcli

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Derivation", "code_item", "derived_type", "evidence", "is_restored", "mark_derived", "source_image"]

_MODEL: Final = "tat"
_RESTORED: Final = "restored: "
"""How the step begins that the restorer adds."""
_LONGEST_TEXT: Final = 1024
_LONGEST_NAME: Final = 64
_IMAGE_PROCESSING: Final = ("110001", "Image Processing")
_RESAMPLING: Final = ("113085", "Spatial resampling")
_SOURCE: Final = ("121322", "Source image for image processing operation")
_EQUIPMENT: Final = ("109102", "Processing Equipment")
_SECONDARY: Final = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "4", "7", "7.2", "7.3"))
"""Classic CT and MR, and secondary captures, which workstations export. PET (C.8.9.4.1.3) and enhanced objects
(C.8.16.1.2) know no value 2 but PRIMARY."""


@dataclass(frozen=True)
class Derivation:
    """What was done to the source.

    Attributes:
        steps: one line each.
        software: versions of what did it, beside tat's own: the weights and their hash.
        resampled: whether the matrix is another one.
        moment: when, with its time zone; None: not said.
    """

    steps: tuple[str, ...]
    software: tuple[str, ...] = ()
    resampled: bool = False
    moment: datetime | None = None

    @property
    def description(self) -> str:
        """In one sentence."""
        return "; ".join(
            (*self.steps, *self.software, f"tat {tatcli.__version__}, research software, not for diagnosis")
        )

    def codes(self) -> list[Dataset]:
        """DerivationCodeSequence."""
        wanted = (_IMAGE_PROCESSING, _RESAMPLING) if self.resampled else (_IMAGE_PROCESSING,)
        return [code_item(*code) for code in wanted]


def derived_type(kind: Any, sop_class: str) -> list[str]:
    """ImageType or FrameType of what is derived: the first two values are new, the rest is the source's."""
    words = [str(word) for word in ([kind] if isinstance(kind, str) else kind or [])]
    return ["DERIVED", "SECONDARY" if sop_class in _SECONDARY else "PRIMARY", *words[2:]]


def source_image(sop_class: str, instance: str, *, frame: int | None = None, resampled: bool = False) -> Dataset:
    """An item of SourceImageSequence; ``frame`` counts from 0."""
    from pydicom.dataset import Dataset as NewDataset

    item = NewDataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
    if frame is not None:
        item.ReferencedFrameNumber = frame + 1
    item.PurposeOfReferenceCodeSequence = [code_item(*_SOURCE)]
    item.SpatialLocationsPreserved = "NO" if resampled else "YES"
    return item


def evidence(study: str, series: str, sop_class: str, instances: Iterable[str]) -> Dataset:
    """An item of SourceImageEvidenceSequence: the instances of one series, by study (PS3.3 table 10-4 macro)."""
    from pydicom.dataset import Dataset as NewDataset

    of_study, of_series = NewDataset(), NewDataset()
    of_series.ReferencedSOPSequence = []
    for instance in instances:
        item = NewDataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        of_series.ReferencedSOPSequence.append(item)
    of_series.SeriesInstanceUID = series
    of_study.ReferencedSeriesSequence, of_study.StudyInstanceUID = [of_series], study
    return of_study


def mark_derived(dataset: Dataset, derivation: Derivation) -> None:
    """Say that the object is derived, how, and by what: top-level attributes of classic and enhanced objects."""
    dataset.ImageType = derived_type(dataset.get("ImageType"), str(dataset.SOPClassUID))
    before = str(dataset.get("DerivationDescription") or "").strip()
    text = "; ".join(filter(None, (before, derivation.description)))
    dataset.DerivationDescription = text if len(text) <= _LONGEST_TEXT else derivation.description[:_LONGEST_TEXT]
    dataset.DerivationCodeSequence = [*(dataset.get("DerivationCodeSequence") or []), *derivation.codes()]
    moment = _in_zone(derivation.moment, dataset.get("TimezoneOffsetFromUTC"))
    equipment = [*(dataset.get("ContributingEquipmentSequence") or []), _equipment(derivation, moment)]
    dataset.ContributingEquipmentSequence = equipment
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            del dataset[keyword]
    if moment is not None:
        dataset.InstanceCreationDate, dataset.InstanceCreationTime = f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
    if "ContentQualification" in dataset:
        dataset.ContentQualification = "RESEARCH"


def is_restored(dataset: Dataset) -> bool:
    """Whether tat has restored an object (not only simulated it, say)."""
    ours = (
        str(item.get("ContributionDescription") or "")
        for item in dataset.get("ContributingEquipmentSequence") or []
        if str(item.get("ManufacturerModelName") or "") == _MODEL
    )
    return any(step.startswith(_RESTORED) for description in ours for step in description.split("; "))


def _in_zone(moment: datetime | None, offset: Any) -> datetime | None:
    """The moment by the object's offset from UTC (&ZZXX), which holds for all times in it (PS3.3 C.12.1)."""
    match = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", str(offset or "").strip())
    if moment is None or match is None:
        return moment
    away = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return moment if away >= timedelta(days=1) else moment.astimezone(timezone(away if match[1] == "+" else -away))


def _equipment(derivation: Derivation, moment: datetime | None) -> Dataset:
    from pydicom.dataset import Dataset as NewDataset

    item = NewDataset()
    item.Manufacturer = "The tat authors"
    item.ManufacturerModelName = _MODEL
    # The hash, which fills its 64 characters, isn't last: padding would make it one too long.
    versions = (*derivation.software, f"tat {tatcli.__version__}")
    item.SoftwareVersions = [version[:_LONGEST_NAME] for version in versions]
    if moment is not None:
        item.ContributionDateTime = f"{moment:%Y%m%d%H%M%S}"
    item.ContributionDescription = derivation.description[:_LONGEST_TEXT]
    item.PurposeOfReferenceCodeSequence = [code_item(*_EQUIPMENT)]
    return item


def code_item(value: str, meaning: str) -> Dataset:
    """An item of a code sequence, of the DICOM controlled terminology."""
    from pydicom.dataset import Dataset as NewDataset

    item = NewDataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
