"""Which restored scan belongs to which reference, input and mask: by equal names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tatcli.errors import MissingPartnerError, UsageError, VolumeReadError
from tatcli.volumes.formats import extension_of

__all__ = ["RESTORED", "Matched", "match_scans", "partner_in", "scan_name"]

RESTORED: Final = "restored"
_SUFFIX: Final = "_restored"


@dataclass(frozen=True)
class Matched:
    """What was found.

    Attributes:
        scans: name -> (reference, role -> partner), sorted by name.
        missing: name -> what it lacks, for restored scans without a partner in some folder.
        unused: names of references without a restored scan.
        folders: whether folders were matched; else it was one scan with its partners.
    """

    scans: dict[str, tuple[Path, dict[str, Path]]]
    missing: dict[str, MissingPartnerError] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    folders: bool = True


def match_scans(reference: Path, others: dict[str, Path]) -> Matched:
    """Pair references with their restored scans and inputs.

    Args:
        reference: a scan, or a folder of scans.
        others: role -> a scan, or a folder with a scan for each of the restored ones.

    Raises:
        UsageError: folders and single scans are mixed, a folder is empty, or names collide.
        VolumeReadError: nothing is at a path.
    """
    folders = {role: _is_folder_of_scans(path) for role, path in {"reference": reference, **others}.items()}
    if len(set(folders.values())) > 1:
        among = ", ".join(role for role, folder in folders.items() if folder)
        msg = f"evaluate: expected single scans or folders of scans throughout, got a folder as {among} only"
        raise UsageError(msg)
    if not folders["reference"]:
        return Matched({scan_name(reference): (reference, dict(others))}, folders=False)
    truths = _scans_in(reference)
    found = {role: _scans_in(path) for role, path in others.items()}
    scans: dict[str, tuple[Path, dict[str, Path]]] = {}
    missing = {}
    for name, restored in found[RESTORED].items():
        looked = {reference: truths} | {others[role]: there for role, there in found.items()}
        lacking = [folder for folder, there in looked.items() if name not in there]
        if lacking:
            msg = f"{restored.name}: expected a scan of equal name in {lacking[0]}, found none"
            missing[name] = MissingPartnerError(msg)
            continue
        scans[name] = (truths[name], {role: there[name] for role, there in found.items()})
    return Matched(scans, missing, tuple(name for name in truths if name not in found[RESTORED]))


def partner_in(path: Path, name: str) -> Path:
    """The scan of this name in a folder, or the path itself where it is one scan.

    Raises:
        MissingPartnerError: the folder has none.
        VolumeReadError: nothing is at the path.
    """
    if not _is_folder_of_scans(path):
        return path
    found = _scans_in(path)
    if name not in found:
        msg = f"{name}: expected a scan of equal name in {path}, found none"
        raise MissingPartnerError(msg)
    return found[name]


def scan_name(path: Path) -> str:
    """The name without its extension and without the suffix that restore gives."""
    extension = extension_of(path)
    return path.name[: len(path.name) - len(extension or "")].removesuffix(_SUFFIX)


def _is_folder_of_scans(path: Path) -> bool:
    """False for files and for a folder that is one DICOM series; the scans' folder has image files or folders in it."""
    if not path.exists():
        msg = f"{path}: expected a scan or a folder of scans, got nothing there; check the path"
        raise VolumeReadError(msg)
    return path.is_dir() and bool(_entries(path))


def _entries(folder: Path) -> list[Path]:
    """Image files other than DICOM, and folders."""
    return [
        entry
        for entry in sorted(folder.iterdir())
        if not entry.name.startswith(".") and (entry.is_dir() or extension_of(entry) not in (None, ".dcm", ".ima"))
    ]


def _scans_in(folder: Path) -> dict[str, Path]:
    scans: dict[str, Path] = {}
    for entry in _entries(folder):
        name = scan_name(entry)
        if name in scans:
            msg = f"{folder}: expected one scan named {name}, got {scans[name].name} and {entry.name}"
            raise UsageError(msg)
        scans[name] = entry
    return scans
