"""What in a folder may be a scan, and what the names of its folders say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tatcli.errors import UsageError
from tatcli.tasks import TASKS, Task
from tatcli.training.pairs import EXTENSIONS, quality_folder, stem
from tatcli.volumes.dicom_files import holds_dicom
from tatcli.volumes.members import is_foreign
from tatcli.volumes.walking import walk_folders
from tatcli.workflows.provenance import told_by_manifest

__all__ = ["SPLITS", "Candidate", "find_candidates"]

SPLITS: Final = ("train", "val", "test")
_SPLIT_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {name: name for name in SPLITS} | {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
)
"""Folder's name, in lower case -> split."""
_HQ, _LQ = "HQ", "LQ"


@dataclass(frozen=True)
class Candidate:
    """A file, or a folder of DICOM files.

    Attributes:
        path: where it is.
        root: the folder that was searched.
        shown: what it is called: the folder's name and the path below it.
        dicom: a folder of DICOM files, with any number of series.
        parts: names of the folders that it lies in, below the root, without those that name task, split and quality.
        task, split: as its folders say, or None: of tasks the innermost, of splits the outermost, and the root's own
            name only where none does.
        lq: its low-quality partner.
        lonely: it lies in HQ, and there is no partner of its name in LQ.
        source, terms: what the root's MANIFEST.tsv tells of it.
        apart: folders below it that are candidates of their own.
    """

    path: Path
    shown: str
    root: Path = field(default_factory=Path)
    dicom: bool = False
    parts: tuple[str, ...] = ()
    task: str | None = None
    split: str | None = None
    lq: Path | None = None
    lonely: bool = False
    source: str = ""
    terms: str = ""
    apart: tuple[Path, ...] = ()


def find_candidates(root: Path) -> list[Candidate]:
    """Everything in a folder that may be a scan, by path; LQ partners go with their HQ scans.

    Image files count by their extensions, wherever they lie. Of DICOM files, the topmost folder that holds some
    directly is taken, with all those that are below it, but for folders whose names tell a task, a split or a quality.
    Hidden names don't count; linked folders do, each once.

    Raises:
        UsageError: no such folder, or one that can't be listed.
    """
    if not root.is_dir():
        msg = f"{root}: expected a folder with scans, found none"
        raise UsageError(msg)
    known = _Known(told_by_manifest(root))
    found: list[Candidate] = []
    series: set[Path] = set()  # folders of DICOM files and those below them, whose files go with theirs

    def refuse(error: OSError) -> None:
        msg = f"{error.filename}: expected a readable folder, got {error.strerror}; check its permissions"
        raise UsageError(msg) from error

    for folder, names in walk_folders(root, on_error=refuse):
        images = [folder / name for name in names if _is_image(folder / name)]
        others = [folder / name for name in names if not name.lower().endswith(EXTENSIONS)]
        found += [_candidate(path, root, dicom=False, known=known) for path in images]
        if folder.parent in series and not _says_something(folder.name) and not folder.is_symlink():
            series.add(folder)
        elif holds_dicom(others):
            found.append(_candidate(folder, root, dicom=True, known=known))
            series.add(folder)
    below: dict[Path, list[Path]] = {one.path: [] for one in found if one.dicom}
    for path in below:
        for above in below.keys() & set(path.parents):
            below[above].append(path)
    found = [replace(one, apart=tuple(below[one.path])) if one.dicom else one for one in found]
    return sorted((one for one in found if _at(_LQ, _inner(one.path, root)) is None), key=lambda one: one.shown)


@dataclass(frozen=True)
class _Known:
    """What is found out once for all candidates.

    Attributes:
        told: by the root's MANIFEST.tsv.
        listed: folder of LQ partners -> name without extension -> the first scan of this name.
    """

    told: dict[str, dict[str, str]]
    listed: dict[Path, dict[str, Path]] = field(default_factory=dict)


def _candidate(path: Path, root: Path, *, dicom: bool, known: _Known) -> Candidate:
    inner = _inner(path, root)
    folders = inner if dicom else inner[:-1]
    tasks = [task for name in (root.name, *folders) if (task := _task_of(name)) is not None]
    splits = [split for name in (*folders, root.name) if (split := _SPLIT_NAMES.get(name.lower())) is not None]
    row = known.told.get(path.relative_to(root).as_posix(), {})
    at = _at(_HQ, inner)
    partner = None if at is None else _partner(path, root, at, known.listed)
    return Candidate(
        path=path,
        root=root,
        shown=(Path(root.name) / path.relative_to(root)).as_posix(),
        dicom=dicom,
        parts=tuple(name for name in folders if not _says_something(name)),
        task=tasks[-1].name if tasks else None,
        split=splits[0] if splits else None,
        lq=partner,
        lonely=at is not None and partner is None,
        source=row.get("source", ""),
        terms=row.get("terms", ""),
    )


def _task_of(name: str) -> Task | None:
    """The task that a folder is called after."""
    return next(
        (each for each in TASKS.values() if name.lower() in {each.name, each.folder.lower(), *each.aliases}), None
    )


def _says_something(name: str) -> bool:
    """Whether a folder's name tells a task, a split or a quality, and so nothing of the subject."""
    return _task_of(name) is not None or name.lower() in _SPLIT_NAMES or name.upper() in (_HQ, _LQ)


def _inner(path: Path, root: Path) -> tuple[str, ...]:
    return path.relative_to(root).parts


def _at(quality: str, inner: tuple[str, ...]) -> int | None:
    """Where a path goes through a folder HQ or LQ, in any case of its letters."""
    return next((index for index, name in enumerate(inner) if name.upper() == quality), None)


def _partner(path: Path, root: Path, at: int, listed: dict[Path, dict[str, Path]]) -> Path | None:
    """The scan of the same name, in any format, at the same place below LQ, which lies beside HQ, the folder ``at``."""
    inner = _inner(path, root)
    beside = quality_folder(root.joinpath(*inner[:at]), _LQ)
    if at == len(inner) - 1:  # HQ itself, with the files of a series
        return beside
    folder = None if beside is None else beside.joinpath(*inner[at + 1 : -1])
    if folder is None or not folder.is_dir():
        return None
    if folder not in listed:
        scans = [other for other in sorted(folder.iterdir()) if other.is_dir() or _is_image(other)]
        listed[folder] = {stem(other): other for other in reversed(scans)}
    return listed[folder].get(stem(path))


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(EXTENSIONS) and not is_foreign(path)
