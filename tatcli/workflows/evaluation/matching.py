"""Which restored scan belongs to which reference, input and mask: by equal names, in equal folders."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tatcli.errors import MissingPartnerError, UsageError, VolumeReadError
from tatcli.volumes.dicom_archives import is_zip
from tatcli.volumes.dicom_files import holds_dicom
from tatcli.volumes.formats import EXTENSIONS, extension_of, stem_of

__all__ = ["RESTORED", "Matched", "match_scans", "partner_in", "scan_name"]

RESTORED: Final = "restored"
_SUFFIX: Final = "_restored"
_DICOM: Final = (".dcm", ".ima")
_ZIP: Final = ".zip"


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
        reference: a scan, or a folder with scans in it and in its folders.
        others: role -> a scan, or a folder with a scan for each of the restored ones, at the same place.

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
    used = set()
    for name, restored in found[RESTORED].items():
        truth = _partner(name, truths)
        partners = {role: one for role, there in found.items() if (one := _partner(name, there)) is not None}
        lacking = [others[role] for role in others if role not in partners]
        if truth is None or lacking:
            inner = " in an equal folder" if "/" in name else ""
            where = reference if truth is None else lacking[0]
            msg = f"{restored.name}: expected a scan of equal name{inner} in {where}, found none"
            missing[name] = MissingPartnerError(msg)
        else:
            scans[name] = (truth, partners)
        used.add(truth)
    return Matched(scans, missing, tuple(name for name, path in truths.items() if path not in used))


def partner_in(path: Path, name: str) -> Path:
    """The scan of this name in a folder, or the path itself where it is one scan.

    Raises:
        MissingPartnerError: the folder has none.
        UsageError: two scans in it have one name.
        VolumeReadError: nothing is at the path.
    """
    if (direct := _spelled_out(path, name)) is not None:
        return direct
    if not _is_folder_of_scans(path):
        return path
    found = _partner(name, _scans_in(path))
    if found is None:
        msg = f"{name}: expected a scan of equal name in {path}, found none"
        raise MissingPartnerError(msg)
    return found


def scan_name(path: Path) -> str:
    """The name without its extension and without the suffix that restore gives."""
    stem = path.stem if _is_archive(path) else stem_of(path)
    return stem.removesuffix(_SUFFIX)


def _is_folder_of_scans(path: Path) -> bool:
    """False for files and for a folder that is one DICOM series; the scans' folder has image files or folders in it."""
    if not path.exists():
        msg = f"{path}: expected a scan or a folder of scans, got nothing there; check the path"
        raise VolumeReadError(msg)
    return path.is_dir() and bool(_entries(path))


def _entries(folder: Path) -> list[Path]:
    """Image files other than DICOM, zip archives of it, and folders."""
    return [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".") and _is_entry(entry)]


def _is_entry(path: Path) -> bool:
    return path.is_dir() or extension_of(path) not in (None, *_DICOM) or _is_archive(path)


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() == _ZIP and is_zip(path)


def _scans_in(folder: Path, place: str = "", above: frozenset[Path] = frozenset()) -> dict[str, Path]:
    """Place below the folder, without extension -> scan: image files, zips and folders of DICOM files, at any depth."""
    scans: dict[str, Path] = {}
    above |= {folder.resolve()}
    for entry in _entries(folder):
        name = place + scan_name(entry)
        if entry.is_dir() and not holds_dicom(entry.iterdir()):
            if entry.resolve() not in above:  # nor is a link followed round and round
                scans |= _scans_in(entry, f"{place}{entry.name}/", above)
            continue
        if name in scans:
            msg = f"{folder}: expected one scan named {name}, got {scans[name].name} and {entry.name}"
            raise UsageError(msg)
        scans[name] = entry
    return scans


def _spelled_out(folder: Path, name: str) -> Path | None:
    """The scan of this name where one file has it with an extension as usual: a long folder isn't listed for each."""
    names = [name, name + _SUFFIX]
    files = [folder / (each + extension) for each in names for extension in EXTENSIONS if extension not in _DICOM]
    found = [path for path in files if os.path.isfile(path)]  # noqa: PTH113  Path's raise where a name is too long
    folders = any(os.path.isdir(folder / each) for each in names)  # noqa: PTH112
    return found[0] if len(found) == 1 and not folders else None


def _partner(name: str, scans: dict[str, Path]) -> Path | None:
    """The scan at this place, or the only one below it: DICOM files may lie deeper than those made from them."""
    if name in scans:
        return scans[name]
    below = [path for place, path in scans.items() if place.startswith(f"{name}/")]
    return below[0] if len(below) == 1 else None
