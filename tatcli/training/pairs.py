"""Finding scans: LQ/HQ pairs by equal names, or references that are degraded on the fly.

Layouts: ``ROOT/<modality or task>/<split>/{LQ,HQ}/name.ext`` or ``ROOT/<modality or task>/<split>/**/name.ext``. A scan
is a file, volume or single slice, or a folder of DICOM files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tatcli.errors import UsageError
from tatcli.tasks import Task
from tatcli.volumes.dicom_files import holds_dicom

__all__ = ["ScanPair", "find_pairs", "find_scans", "has_scans"]

EXTENSIONS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".npy", ".bin")


@dataclass(frozen=True)
class ScanPair:
    """A reference and, where the dataset has it, its low-quality partner.

    Attributes:
        name: file name without its extension.
        reference: HQ file, or folder of a DICOM series.
        lq: LQ partner; None: simulate it.
    """

    name: str
    reference: Path
    lq: Path | None = None


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
    """All scans of a task and split that can be used, sorted by path, and the names of HQ scans without LQ partner.

    Raises:
        UsageError: no folder for the task and split, or no scans in it.
    """
    folder = _split_folder(root, task, split)
    lonely: list[str] = []
    if not (folder / "HQ").is_dir():
        scans = [ScanPair(stem(path), path) for path in _scans_below(folder)]
    else:
        partners = {_place(path, folder / "LQ"): path for path in _scans_below(folder / "LQ")}
        found = [
            ScanPair(stem(path), path, partners.get(_place(path, folder / "HQ")))
            for path in _scans_below(folder / "HQ")
        ]
        scans = [pair for pair in found if pair.lq is not None]
        lonely = [pair.name for pair in found if pair.lq is None]
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


def _place(path: Path, folder: Path) -> str:
    """Where a scan lies below LQ or HQ, without its extension: slices of several patients may have equal names."""
    return (path.relative_to(folder).parent / stem(path)).as_posix()


def _split_folder(root: Path, task: Task, split: str) -> Path:
    folder = _find_folder(root, task, split)
    if folder is None:
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
    """Scan files at any depth, and folders that hold DICOM files."""
    found = []
    for path in sorted(folder.rglob("*")):
        is_scan = path.is_file() and path.name.lower().endswith(EXTENSIONS)
        if is_scan or (path.is_dir() and holds_dicom(_of_unknown_kind(path))):
            found.append(path)
    return found


def _of_unknown_kind(folder: Path) -> Iterator[Path]:
    """What has none of the extensions: exports often name their DICOM files without one."""
    return (path for path in folder.iterdir() if not path.name.lower().endswith(EXTENSIONS))
