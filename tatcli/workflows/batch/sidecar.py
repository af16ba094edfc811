"""The record beside a finished output, and whether it still holds: same input, weights and options, same output."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import tatcli
from tatcli.volumes.bids_pet import derived_fields
from tatcli.volumes.dicom_files import is_dicom
from tatcli.volumes.formats import stem_of
from tatcli.volumes.members import members_of
from tatcli.volumes.replacing import replaced

if TYPE_CHECKING:
    from tatcli.workflows.batch.work import Work

__all__ = [
    "Contents",
    "Sidecar",
    "contents_of",
    "has_sidecar",
    "note_of",
    "request_of",
    "sidecar_of",
    "stamp_of",
]

_EXTENSION: Final = ".tat.json"
_OTHERS: Final = frozenset(
    (
        *(".nii", ".gz", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".raw", ".zraw", ".npy"),
        *(".json", ".jsonl", ".csv", ".tsv", ".txt", ".log", ".html", ".png"),
    )
)
"""Extensions of what lies beside DICOM files, and comes there as a batch goes on."""


@dataclass(frozen=True)
class Contents:
    """What a file or folder held.

    Attributes:
        sha256: of the file; of several, of their digests in ascending order.
        bytes: in all.
        files: how many.
        stamp: of names, sizes and times of change: while it is the same, nothing of it was written.
    """

    sha256: str
    bytes: int
    files: int
    stamp: str


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What an output was made of.

    Attributes:
        request: weights and options, all that decides what the output is.
        input, output: what they held.
        version: of tat.
        finished: UTC, ISO 8601.
        report: of the run, as ``tat restore --report`` writes it.
    """

    request: Mapping[str, Any]
    input: Contents
    output: Contents
    version: str
    finished: str
    report: Mapping[str, Any]

    @classmethod
    def make(cls, request: Mapping[str, Any], *, source: Contents, output: Contents, report: Mapping[str, Any]) -> Self:
        """The sidecar of an output that was just made."""
        return cls(
            request=request,
            input=source,
            output=output,
            version=tatcli.__version__,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            report=report,
        )

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The sidecar in this file; None where there is none, or only a damaged one."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                request=fields["request"],
                input=Contents(**fields["input"]),
                output=Contents(**fields["output"]),
                version=fields["version"],
                finished=fields["finished"],
                report=fields["report"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            OutputError: the system refuses to write.
        """
        with replaced(path, extension=".json") as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    def describes(self, output: Path) -> bool:
        """Whether the output is the one that was written then."""
        try:
            if stamp_of(output) == self.output.stamp:
                return True
            return contents_of(output).sha256 == self.output.sha256
        except OSError:
            return False


def sidecar_of(output: Path) -> Path:
    """Where an output's sidecar lies."""
    return output.with_name(output.name + _EXTENSION)


def has_sidecar(output: Path) -> bool:
    """Whether there is one; none where the system can't have a name of this length."""
    return os.path.exists(sidecar_of(output))  # noqa: PTH110  Path.exists raises where a name is too long


def note_of(output: Path) -> Path:
    """Where what a BIDS dataset keeps beside an output lies."""
    return output.with_name(stem_of(output) + ".json")


def request_of(work: Work, weights: str) -> dict[str, Any]:
    """All that decides what an output is, beside the input: what differs from a sidecar's makes it to be redone.

    Where and how fast it is computed don't: device, threads, memory.

    Args:
        work: the scan.
        weights: SHA-256 of the weights file.
    """
    config = work.config
    request = {
        "weights": weights,
        "task": config.task,
        "series": config.series,
        "units": None if config.units is None else config.units.value,
        "pet": None if config.pet is None else str(config.pet),
        "precision": config.precision,
        "options": asdict(config.options),
        "dicom": asdict(config.dicom) if config.format == "dicom" else None,
        "note": None if work.note is None else dict(work.note),
    }
    if work.note is None and (fields := derived_fields(config.input, pet=config.pet)) is not None:
        request["metadata"] = fields  # PET in NIfTI: what its values are
    as_read_back: dict[str, Any] = json.loads(json.dumps(request))
    return as_read_back


def stamp_of(path: Path) -> str:
    """Names, sizes and times of change of a file, or of the files of a folder, hashed.

    A folder is one of DICOM files: what a batch writes into it (other scans' outputs, its events) is no change.

    Raises:
        OSError: it isn't there, or can't be looked at.
    """
    files = members_of(path)
    if path.is_dir():
        files = [file for file in files if file.suffix.lower() not in _OTHERS or is_dicom(file)]
    statuses = ((os.path.relpath(file, path.parent), file.stat()) for file in files)
    entries = [(name, status.st_size, status.st_mtime_ns) for name, status in statuses]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:32]


def contents_of(path: Path) -> Contents:
    """What a file or a folder holds; with a MetaImage header, the voxels' file too.

    Raises:
        OSError: it can't be read.
    """
    from tatcli.reporting.run_report import file_record

    stamp, files = stamp_of(path), members_of(path)
    record = file_record(files[0]) if len(files) == 1 else file_record(path, files)
    return Contents(record.sha256, record.bytes, record.files, stamp)
