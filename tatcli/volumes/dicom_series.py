"""DICOM series: which ones a folder holds, and which one is meant."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tatcli.errors import UsageError, VolumeReadError
from tatcli.volumes.dicom_archives import Unpacked, find_files, is_zip
from tatcli.volumes.dicom_files import is_media_directory, read_dataset, tolerant
from tatcli.volumes.dicom_images import DicomImage, has_pixels, images_of, series_uid, text_of
from tatcli.volumes.dicom_parts import split_parts
from tatcli.volumes.members import is_settled, members_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["DicomFolder", "DicomSeries", "SeriesInfo", "choose_series", "list_series", "read_folder", "series_of"]

_last: tuple[tuple[str, ...] | None, DicomFolder | None] = (None, None)
"""The state of the folder that was read last, and what it held."""


@dataclass(frozen=True)
class SeriesInfo:
    """A series as a user sees it.

    Attributes:
        uid: SeriesInstanceUID.
        number: SeriesNumber.
        description: SeriesDescription.
        modality: CT, MR, PT ...
        images: how many images it has.
        localizer: whether it is a scout and nothing else.
        problem: why it can't be read, '' where nothing is known against it.
        part: what tells this stack from the others of a series that has several, else ''.
    """

    uid: str
    number: str
    description: str
    modality: str
    images: int
    localizer: bool = False
    problem: str = ""
    part: str = ""

    def __str__(self) -> str:
        scout = ", localizer" if self.localizer else ""
        number, images = self.number or "-", f"{self.images} image{'' if self.images == 1 else 's'}"
        part = f":{self.part}" if self.part else ""
        return f"number {number}{part} {self.description!r} ({self.modality or '?'}, {images}{scout}), UID {self.uid}"

    @property
    def choice(self) -> str:
        """What chooses it and no other: its UID, with :PART where it has one."""
        return f"{self.uid}:{self.part}" if self.part else self.uid

    def is_named(self, wanted: str) -> bool:
        """Whether this is what a user calls it: UID, number or description, the part after a colon."""
        if self.part and wanted.casefold().endswith(f":{self.part}".casefold()):
            wanted = wanted[: -len(self.part) - 1]
        return wanted in (self.uid, self.number) or wanted.casefold() == self.description.casefold() != ""


@dataclass(frozen=True)
class DicomSeries:
    """The images of one series in a folder, unsorted, without its scouts and without copies.

    Attributes:
        info: what names it.
        images: at least one, or none where ``problem`` says why.
        problem: the error that reading one of its files gave.
        warnings: what was left out.
    """

    info: SeriesInfo
    images: tuple[DicomImage, ...]
    problem: VolumeReadError | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DicomFolder:
    """All series of a folder.

    Attributes:
        path: the folder.
        series: in the order of their numbers.
        warnings: what was skipped.
        unpacked: the temporary folder of an archive's files, which exist as long as this is held.
    """

    path: Path
    series: tuple[DicomSeries, ...]
    warnings: tuple[str, ...] = ()
    unpacked: Unpacked | None = None

    @property
    def scans(self) -> list[DicomSeries]:
        """The series without the scouts, unless there is nothing else."""
        return [series for series in self.series if not series.info.localizer] or list(self.series)


def list_series(path: str | os.PathLike[str]) -> tuple[SeriesInfo, ...]:
    """The series in a folder and its subfolders, a zip archive or a DICOMDIR, by number.

    Raises:
        VolumeReadError: the folder can't be read, or holds no DICOM images.
    """
    return tuple(series.info for series in read_folder(Path(path)).series)


def read_folder(path: Path) -> DicomFolder:
    """Read every header in a folder, a zip archive or a DICOMDIR, and sort the images into series.

    A file that can't be used (colour, a damaged header) spoils its own series only. The series of a folder are often
    wanted one after the other: while all of its files are the same, the last folder's headers aren't read again.

    Raises:
        VolumeReadError: the folder or archive can't be read, or holds no DICOM images.
    """
    global _last  # noqa: PLW0603  one folder's, whichever thread read it
    state = None if is_zip(path) else _state_of(path)  # what an archive was unpacked to is not kept
    known, folder = _last
    if state is None or known != state or folder is None:
        folder = _read_folder(path)
        if state is not None and _state_of(path) == state:
            _last = state, folder
    return folder


def _state_of(path: Path) -> tuple[str, ...] | None:
    """What tells whether anything in a folder, or beside a DICOMDIR, has changed; None: too lately to be told by it."""
    files = members_of(path if path.is_dir() else path.parent)
    try:
        statuses = [file.stat() for file in files]
    except OSError:
        return None
    changes = [max(status.st_mtime_ns, status.st_ctime_ns) for status in statuses]
    if not is_settled(max(changes, default=0)):
        return None
    entries = [
        (str(file), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for file, status in zip(files, statuses, strict=True)
    ]
    return str(path), hashlib.sha256(repr(entries).encode(errors="surrogateescape")).hexdigest()


def _read_folder(path: Path) -> DicomFolder:
    scan = find_files(path)
    found = _Findings()
    for file in scan.files:
        found.add(file)
    series = found.series()
    if not series and found.damaged:
        raise found.damaged[0]
    if not series:
        files = len(scan.files) + scan.skipped
        msg = f"{path}: expected a DICOM series, got no DICOM images among {files} files; check it"
        raise VolumeReadError(msg)
    warnings = list(scan.warnings)
    if scan.skipped:
        warnings.append(f"skipped {scan.skipped} {'file that is' if scan.skipped == 1 else 'files that are'} not DICOM")
    if found.without_pixels:
        warnings.append(f"skipped {found.without_pixels} DICOM object{'s' * (found.without_pixels > 1)} without pixels")
    if found.damaged:
        damaged = f"{len(found.damaged)} damaged DICOM file{'s' * (len(found.damaged) > 1)}"
        warnings.append(f"skipped {damaged}, the first: {found.damaged[0]}")
    return DicomFolder(path, tuple(sorted(series, key=_by_number)), tuple(warnings), scan.unpacked)


@dataclass
class _Findings:
    """What the files of a folder turned out to be, while they are read one after the other."""

    images: dict[str, list[DicomImage]] = field(default_factory=dict)
    problems: dict[str, tuple[SeriesInfo, VolumeReadError]] = field(default_factory=dict)
    damaged: list[VolumeReadError] = field(default_factory=list)
    without_pixels: int = 0

    def add(self, file: Path) -> None:
        try:
            dataset = read_dataset(file)
            with tolerant(file):
                is_image = not is_media_directory(dataset) and has_pixels(dataset)
                info = _info_of_header(dataset)
        except VolumeReadError as error:
            self.damaged.append(error)
            return
        if not is_image:
            self.without_pixels += 1
            return
        try:
            for image in images_of(dataset, file):
                self.images.setdefault(image.series, []).append(image)
        except VolumeReadError as error:
            self.problems.setdefault(info.uid, (info, error))

    def series(self) -> list[DicomSeries]:
        found = [
            series for uid, members in self.images.items() for series in series_of(members, self.problems.get(uid))
        ]
        unusable = [(info, error) for uid, (info, error) in self.problems.items() if uid not in self.images]
        return found + [DicomSeries(info, (), error) for info, error in unusable]


def choose_series(folder: DicomFolder, wanted: str | None = None) -> DicomSeries:
    """The series that is meant.

    Args:
        folder: what was found.
        wanted: a SeriesInstanceUID, a series number or a description, followed by :PART where a series has several
            parts; None where the folder holds only one series, scouts not counted.

    Raises:
        UsageError: no such series, several such, or several and none chosen; the message lists them.
        VolumeReadError: the series can't be read.
    """
    if wanted is None:
        candidates = folder.scans
        complaint = f"expected one series, got {len(candidates)}"
    else:
        candidates = [series for series in folder.series if series.info.is_named(wanted)]
        complaint = f"expected one series {wanted!r}, got {len(candidates)}"
    if len(candidates) != 1:
        listed = "; ".join(str(series.info) for series in folder.series)
        parts = "[:PART]" if any(series.info.part for series in folder.series) else ""
        msg = f"{folder.path}: {complaint}; choose with --series UID or NUMBER{parts} from: {listed}"
        raise UsageError(msg)
    chosen = candidates[0]
    if chosen.problem is not None:
        raise chosen.problem
    return chosen


def series_of(
    members: list[DicomImage], problem: tuple[SeriesInfo, VolumeReadError] | None = None
) -> list[DicomSeries]:
    """The stacks of one series from all its images: scouts and second copies of the same instance are left out."""
    warnings = []
    kept = [image for image in members if not image.is_localizer]
    localizer = not kept
    if kept and len(kept) < len(members):
        warnings.append(f"left out {len(members) - len(kept)} localizer images")
    kept = kept or members
    kept, copies = _without_copies(kept)
    if copies:
        warnings.append(f"left out {copies} further copies of the same SOP instances")
    names = [image.instance for image in kept if image.instance]
    if len(set(names)) < len(names):
        warnings.append(f"{len(names)} images share {len(set(names))} SOPInstanceUIDs: their places tell them apart")
    error = None if problem is None else problem[1]
    whole = SeriesInfo(
        uid=kept[0].series,
        number=kept[0].number,
        description=kept[0].description,
        modality=kept[0].modality,
        images=len(kept),
        localizer=localizer,
        problem="" if error is None else str(error),
    )
    return [
        DicomSeries(replace(whole, images=len(images), part=part), images, error, tuple(warnings))
        for part, images in split_parts(kept)
    ]


def _without_copies(images: list[DicomImage]) -> tuple[list[DicomImage], int]:
    """The images without second copies of the same instance, and how many of those there were.

    Images of other places or times are no copies: anonymisation may have given them all the same UID, or none.
    """
    seen: dict[tuple[object, ...], DicomImage] = {}
    for index, image in enumerate(images):
        when = tuple(sorted(image.dimensions.items()))
        seen.setdefault((image.instance or index, image.position, image.orientation, when), image)
    return list(seen.values()), len(images) - len(seen)


def _info_of_header(dataset: Dataset) -> SeriesInfo:
    """The names in a header whose images can't be used."""
    number, description = text_of(dataset, "SeriesNumber"), text_of(dataset, "SeriesDescription")
    return SeriesInfo(series_uid(dataset), number, description, text_of(dataset, "Modality"), images=1)


def _by_number(series: DicomSeries) -> tuple[int, str, str]:
    number = series.info.number
    return (int(number) if number.isdigit() else 10**9, series.info.uid, series.info.part)
