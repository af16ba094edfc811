"""What a candidate holds, from its headers: scans with their subject, task and hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tatcli.errors import TatError
from tatcli.tasks import TASKS, task_for_modality
from tatcli.training.pairs import stem
from tatcli.training.subjects import PATIENT, bids_subject, named_by
from tatcli.volumes.bids_pet import derived_fields
from tatcli.volumes.members import members_of
from tatcli.workflows.preparing.candidates import Candidate
from tatcli.workflows.preparing.config import PrepareConfig

__all__ = ["Found", "survey"]


@dataclass(frozen=True)
class Found:
    """A scan, before its voxels are read.

    Attributes:
        candidate: where it was found.
        name: of the file, or of the series.
        subject: whom it is of; a DICOM PatientID is hashed.
        named: the subject is a PatientID's, BIDS' or the pattern's, and no mere folder's or file's name.
        task: its name; None where nothing tells.
        sha256: of all its files and its partner's.
        files: those.
        folder: what to read: the file, or the folder of the series.
        series: which one of the folder.
        metadata: JSON of what sidecars say of its values and its partner's (PET in NIfTI), else ''.
        problem: why it can't be a reference, else ''.
    """

    candidate: Candidate
    name: str
    subject: str
    task: str | None
    sha256: str = ""
    folder: Path = field(default_factory=Path)
    series: str | None = None
    problem: str = ""
    metadata: str = ""
    files: tuple[Path, ...] = ()
    named: bool = False

    @property
    def shown(self) -> str:
        """What it is called in the manifest."""
        return self.candidate.shown + (f" [{self.series}]" if self.series else "")

    @property
    def is_as_found(self) -> bool:
        """Whether its files still have the bytes that they were found with."""
        try:
            return _sha256(self.files) == self.sha256
        except OSError:
            return False


def survey(candidate: Candidate, config: PrepareConfig) -> list[Found]:
    """The scans of a candidate; one that can't be read is told with its problem."""
    try:
        return _series(candidate, config) if candidate.dicom else [_file(candidate, config)]
    except (TatError, OSError) as error:
        problem = str(error) if isinstance(error, TatError) else f"expected a readable file, got {error.strerror}"
        return [Found(candidate, stem(candidate.path), _by_path(candidate, config), None, problem=problem)]


def _file(candidate: Candidate, config: PrepareConfig) -> Found:
    path = candidate.path
    task = candidate.task or config.task
    problem = "" if task else "nothing names its modality: give --task, or put it into a folder CT, PET or MRI"
    files = (*members_of(path), *_partner_files(candidate))
    named = _named(candidate, config) is not None
    found = Found(candidate, stem(path), _by_path(candidate, config), task, _sha256(files), path, None, problem)
    return _checked(replace(found, metadata=_metadata(candidate), files=files, named=named))


def _series(candidate: Candidate, config: PrepareConfig) -> list[Found]:
    from tatcli.volumes.dicom_files import read_dataset
    from tatcli.volumes.dicom_series import read_folder

    found = []
    for series in read_folder(candidate.path).series:
        info = series.info
        name = "-".join(word for word in (info.number, info.description.replace("/", "_"), info.part) if word)
        if not series.images:
            subject = _by_path(candidate, config)
            found.append(Found(candidate, name, subject, None, series=info.choice, problem=info.problem))
            continue
        images = sorted({image.path for image in series.images})
        apart = sum(any(path.is_relative_to(other) for other in candidate.apart) for path in images)
        if apart == len(images):
            continue  # that folder's
        files = (*images, *_partner_files(candidate))
        patient = str(getattr(read_dataset(images[0]), "PatientID", None) or "").strip()
        task = task_for_modality(info.modality)
        problem = "" if task else f"no task takes the modality {info.modality or '?'}"
        if apart:
            problem = "its files lie in several folders, whose names say different things of them"
        scan = Found(
            candidate=candidate,
            name=name or "series",
            subject=_of_patient(candidate, config, patient),
            task=task.name if task else None,
            sha256=_sha256(files),
            files=files,
            folder=Path(os.path.commonpath([image.parent for image in images])),
            series=info.choice,
            problem="a localizer" if info.localizer else problem,
            named=bool(patient) or _named(candidate, config) is not None,
        )
        found.append(_checked(scan))
    return found


def _checked(scan: Found) -> Found:
    if scan.problem:
        return scan
    asked = scan.candidate.task
    if scan.candidate.lonely:
        return replace(scan, problem="it has no partner of equal name in LQ")
    if asked is not None and scan.task != asked:
        modality = TASKS[asked].modality
        return replace(scan, problem=f"it lies in a folder for {modality}, and its header says otherwise")
    return scan


def _of_patient(candidate: Candidate, config: PrepareConfig, patient: str) -> str:
    if not patient or named_by(config.subject, candidate.shown) is not None:
        return _by_path(candidate, config)
    return PATIENT + hashlib.sha256(f"tat:{patient}".encode()).hexdigest()[:12]


def _named(candidate: Candidate, config: PrepareConfig) -> str | None:
    """The pattern's match, or BIDS' sub-."""
    named = named_by(config.subject, candidate.shown)
    return bids_subject(candidate.shown) if named is None else named


def _by_path(candidate: Candidate, config: PrepareConfig) -> str:
    """As named, else the topmost folder of its own, or the file's name.

    A folder stands for one subject: of two in one folder all scans end up in one split together.
    """
    named = _named(candidate, config)
    if named is not None:
        return named
    return candidate.parts[0] if candidate.parts else stem(candidate.path)


def _metadata(candidate: Candidate) -> str:
    told = [fields for path in (candidate.path, candidate.lq) if path and (fields := derived_fields(path)) is not None]
    return json.dumps(told, sort_keys=True) if told else ""


def _partner_files(candidate: Candidate) -> list[Path]:
    return [] if candidate.lq is None else members_of(candidate.lq)


def _sha256(files: Iterable[Path]) -> str:
    """Of one file its own; of several that of theirs, in order."""
    digests = []
    for path in files:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
