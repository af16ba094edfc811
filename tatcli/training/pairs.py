"""Finding scans: LQ/HQ pairs by equal names, or references that are degraded on the fly.

Layouts: ``ROOT/<modality or task>/<split>/{LQ,HQ}/**/name.ext`` or ``ROOT/<modality or task>/<split>/**/name.ext``. A
scan is a file, volume or single slice, or a folder of DICOM files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tatcli.errors import MissingPartnerError, UsageError
from tatcli.tasks import Task
from tatcli.training.subjects import subject_of_place
from tatcli.volumes.dicom_files import holds_dicom
from tatcli.volumes.members import is_foreign
from tatcli.volumes.walking import walk_folders

__all__ = ["ScanPair", "find_pairs", "find_scans", "has_scans", "quality_folder"]

EXTENSIONS = (".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".npy", ".bin")


@dataclass(frozen=True)
class ScanPair:
    """A reference and, where the dataset has it, its low-quality partner.

    Attributes:
        name: file name without its extension.
        reference: HQ file, or folder of a DICOM series.
        lq: LQ partner; None: simulate it.
        place: where it lies below the split (or its HQ), without extension: scans of several patients may have equal
            names. It is the name where the scan lies in no folder of its own.
    """

    name: str
    reference: Path
    lq: Path | None = None
    place: str = ""

    @property
    def subject(self) -> str:
        """Whom the scan is of, as its folders say; empty where it lies in none."""
        return subject_of_place(self.place)


def find_scans(root: Path, task: Task, split: str) -> list[ScanPair]:
    """All scans of a task and split, sorted by path.

    Raises:
        UsageError: no folder for the task and split, no scans in it, or an HQ scan without its LQ partner.
    """
    scans, lonely = find_pairs(root, task, split)
    if lonely:
        msg = f"{root}: expected a partner in LQ of equal name for every HQ scan, none for {', '.join(lonely[:5])}"
        raise UsageError(msg)
    return scans


def find_pairs(root: Path, task: Task, split: str) -> tuple[list[ScanPair], list[str]]:
    """All scans of a task and split that can be used, sorted by path, and the places of HQ scans without LQ partner.

    Raises:
        UsageError: no folder for the task and split, no scans in it, or LQ scans without any HQ.
    """
    folder = _split_folder(root, task, split)
    lonely: list[str] = []
    hq, lq = quality_folder(folder, "HQ"), quality_folder(folder, "LQ")
    if hq is None:
        scans = [_pair(path, folder) for path in _scans_below(folder)]
        _check_none_is_lq(scans, folder)
    else:
        partners = {} if lq is None else {_place(path, lq): path for path in _scans_below(lq)}
        found = [_pair(path, hq, partners) for path in _scans_below(hq)]
        scans = [pair for pair in found if pair.lq is not None]
        lonely = [pair.place for pair in found if pair.lq is None]
    if not scans and not lonely:
        msg = f"{folder}: expected scans ({' '.join(EXTENSIONS)} or folders of DICOM files), found none"
        raise UsageError(msg)
    return scans, lonely


def has_scans(root: Path, task: Task, split: str) -> bool:
    """Whether a dataset has a folder for the task and split.

    Raises:
        UsageError: no dataset.
    """
    return _find_folder(root, task, split) is not None


def stem(path: Path) -> str:
    """File name without extension; both parts of ``.nii.gz`` go."""
    name = path.name
    return next(
        (name[: -len(ext)] for ext in sorted(EXTENSIONS, key=len, reverse=True) if name.lower().endswith(ext)), name
    )


def _pair(path: Path, folder: Path, partners: Mapping[str, Path] = MappingProxyType({})) -> ScanPair:
    place = _place(path, folder)
    return ScanPair(stem(path), path, partners.get(place), place)


def quality_folder(folder: Path, name: str) -> Path | None:
    """A folder's own folder HQ or LQ, in any case of its letters; None: it has none."""
    return next((each for each in sorted(folder.iterdir()) if each.name.upper() == name and each.is_dir()), None)


def _check_none_is_lq(scans: list[ScanPair], folder: Path) -> None:
    """Refuse LQ scans as references: nothing could be learned from them.

    Raises:
        MissingPartnerError: a scan lies in a folder LQ.
    """
    for pair in scans:
        inner = pair.reference.relative_to(folder)
        folders = inner.parts if pair.reference.is_dir() else inner.parts[:-1]
        if "LQ" in (name.upper() for name in folders):
            msg = f"{folder}: expected {folder.name}/HQ with a reference for each scan in LQ, found none for {inner}"
            raise MissingPartnerError(msg)


def _place(path: Path, folder: Path) -> str:
    """Where a scan lies below a folder, without its extension."""
    return (path.relative_to(folder).parent / stem(path)).as_posix()


def _split_folder(root: Path, task: Task, split: str) -> Path:
    folder = _find_folder(root, task, split)
    if folder is None:
        from tatcli.training.prepared_set import is_prepared  # (knows references, which know pairs)

        if is_prepared(root):
            msg = f"{root}: expected a dataset, with its scans in {task.folder}/{split}, got a set of tat prepare,"
            raise UsageError(msg + " which tat train takes; name the dataset that it was made from")
        msg = f"{root}: expected a folder {task.folder}/{split} (or {task.name}/{split}) for {task.name}, found none"
        raise UsageError(msg)
    return folder


def _find_folder(root: Path, task: Task, split: str) -> Path | None:
    if not root.is_dir():
        msg = f"{root}: expected a dataset folder, found none"
        raise UsageError(msg)
    names = {task.name, task.folder.lower(), *task.aliases}
    found = (folder / split for folder in sorted(root.iterdir()) if folder.name.lower() in names)
    return next((folder for folder in found if folder.is_dir()), None)


def _scans_below(folder: Path) -> list[Path]:
    """Scan files at any depth, and folders that hold DICOM files; hidden names don't count, linked folders do."""
    found = []
    for place, names in walk_folders(folder):
        paths = [place / name for name in names]
        # exports often name their DICOM files without an extension
        if place != folder and holds_dicom(path for path in paths if not path.name.lower().endswith(EXTENSIONS)):
            found.append(place)
        found += [path for path in paths if path.name.lower().endswith(EXTENSIONS) and not is_foreign(path)]
    return sorted(path for path in found if path.is_dir() or path.is_file())
