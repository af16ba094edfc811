"""Find scans: in folders, by patterns and lists. DICOM files count by the folder, which holds a series or several."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final

from tatcli.errors import UsageError, VolumeReadError
from tatcli.volumes.dicom_archives import is_zip
from tatcli.volumes.dicom_files import is_dicom
from tatcli.volumes.formats import extension_of, format_of
from tatcli.volumes.members import is_foreign
from tatcli.workflows.batch.sidecar import has_sidecar

__all__ = ["IMAGES", "Found", "Rules", "find_scans", "read_list", "walk"]

IMAGES: Final = ("nifti", "nrrd", "metaimage")
"""Formats that hold a scan in a file of their own."""
_MEDIUM: Final = "DICOMDIR"


@dataclass(frozen=True)
class Found:
    """A scan.

    Attributes:
        path: file, or folder of DICOM files; absolute.
        place: the same in the tree of inputs.
        kind: its format.
    """

    path: Path
    place: PurePosixPath
    kind: str


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What of a folder counts.

    Attributes:
        include: patterns of names, or of paths within the folder (with a slash); empty: everything.
        exclude: the same for what doesn't; a folder that matches isn't looked into.
        outside: folders that aren't looked into: those of the outputs.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    outside: frozenset[Path] = field(default_factory=frozenset)

    def take(self, place: PurePosixPath) -> bool:
        """Whether a scan counts."""
        return (not self.include or _matches(place, self.include)) and not _matches(place, self.exclude)

    def enter(self, folder: Path, place: PurePosixPath) -> bool:
        """Whether a folder is looked into."""
        return not (folder.name.startswith(".") or self.excludes(place) or folder in self.outside)

    def excludes(self, place: PurePosixPath) -> bool:
        """Whether a file, or all of a folder, was left out by name."""
        return _matches(place, self.exclude)


def find_scans(inputs: Iterable[str], rules: Rules) -> list[Found]:
    """All scans that these words stand for, each once, in a fixed order.

    The tree of inputs begins at the one folder that was given, else at what all inputs have in common.

    Args:
        inputs: files, folders, patterns (``*``, ``?``, ``[...]``, ``**``).
        rules: what of folders counts.

    Raises:
        VolumeReadError: a pattern that nothing matches, a folder that can't be listed.
        UsageError: inputs on several drives, which have no folder in common.
    """
    words = list(dict.fromkeys(inputs))
    given = [_given(word) for word in words]
    only = given[0] if len(given) == 1 else None
    if only is not None and len(only[1]) == 1 and only[1][0].is_dir():
        base = only[1][0]
    else:
        base = _in_common([anchor for anchor, _ in given]) if given else Path.cwd()
    found: dict[Path, Found] = {}
    for _, paths in given:
        for path in paths:
            for scan in _scans_at(path, base, rules):
                found.setdefault(scan.path, scan)
    return list(found.values())


def _in_common(folders: list[Path]) -> Path:
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        drives = ", ".join(sorted({folder.drive for folder in folders}))
        msg = f"inputs: expected scans on one drive, got {drives}; restore those of each drive by themselves"
        raise UsageError(msg) from error


def read_list(text: str, folder: Path) -> list[str]:
    """The paths of a list, one a line; empty lines and those that begin with # don't count.

    Args:
        text: the list.
        folder: to which relative paths are relative.

    Raises:
        UsageError: it has other separators than lines.
    """
    if "\0" in text:
        msg = "list of scans: expected one path a line in UTF-8, got NUL characters (UTF-16, or find -print0?)"
        raise UsageError(msg)
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())  # as Windows begins UTF-8
    return [str(folder / line) for line in lines if line and not line.startswith("#")]


def walk(folder: Path, base: Path, rules: Rules) -> Iterator[Found]:
    """The scans of a folder and its subfolders, then those of folders that are linked there.

    A folder that has DICOM files, or a DICOMDIR, is one input, together with all DICOM files below it. A link to a
    folder that was looked into, that holds the first one, or is the outputs' isn't followed, and of what lies below a
    link only what is new: each scan counts once.

    Raises:
        VolumeReadError: a folder can't be listed.
        UsageError: a folder is excluded whose DICOM files belong to an input above it.
    """
    begun: list[Path] = []
    walked: set[Path] = set()
    outputs = {Path(os.path.realpath(output)) for output in rules.outside}
    links = deque([folder])
    while links:
        start = links.popleft()
        real = Path(os.path.realpath(start))
        if begun and (real in walked | outputs or begun[0].is_relative_to(real)):
            continue
        begun.append(real)
        dicom: Path | None = None
        for root, folders, names in os.walk(start, onerror=_refuse, followlinks=False):
            here = Path(root)
            own = real / here.relative_to(start)
            if here != start and (own in walked or own in outputs):
                folders.clear()
                continue
            walked.add(own)
            left_out = [here / name for name in folders if rules.excludes(_place(here / name, base))]
            folders[:] = sorted(name for name in folders if rules.enter(here / name, _place(here / name, base)))
            links += [here / name for name in folders if (here / name).is_symlink()]
            if dicom is None or dicom not in (here, *here.parents):
                dicom = here if _holds_dicom(here, names) else None
                if dicom is not None and _counts(here, base, rules):
                    yield Found(here, _place(here, base), "dicom")
            if dicom is not None:
                _check_excluded(left_out, dicom)
            for name in sorted(names):
                path = here / name
                kind = _kind_of_name(path)
                if kind is not None and _counts(path, base, rules):
                    yield Found(path, _place(path, base), kind)


def _given(word: str) -> tuple[Path, list[Path]]:
    """(where the tree of inputs may begin, paths) that a word stands for; what isn't there is told later, by itself."""
    path = Path(os.path.abspath(word))  # noqa: PTH100  keeps symbolic links, unlike resolve
    if path.exists() or not glob.has_magic(word):
        return path.parent, [path]
    matches = sorted(Path(os.path.abspath(match)) for match in glob.iglob(word, recursive=True))  # noqa: PTH100, PTH207
    if not matches:
        msg = f"{word}: expected scans that match this pattern, got none; check it"
        raise VolumeReadError(msg)
    anchor = Path(word)
    while glob.has_magic(str(anchor)):
        anchor = anchor.parent
    return Path(os.path.abspath(anchor)), matches  # noqa: PTH100


def _scans_at(path: Path, base: Path, rules: Rules) -> Iterator[Found]:
    if path.is_dir():
        yield from walk(path, base, rules)
    elif not has_sidecar(path):
        yield Found(path, _place(path, base), format_of(path) or "dicom")


def _kind_of_name(path: Path) -> str | None:
    if path.name.startswith("."):
        return None
    if path.suffix.lower() == ".zip":
        return "dicom" if is_zip(path) else None
    kind = format_of(path)
    return None if kind not in IMAGES or is_foreign(path) else kind


def _holds_dicom(folder: Path, names: list[str]) -> bool:
    """Whether a folder has a DICOM file; the first one will do."""
    unknown = []
    for name in sorted(names):
        if name.startswith("."):
            continue
        if name.upper() == _MEDIUM:
            return True
        path = folder / name
        if extension_of(path) is None and path.suffix.lower() != ".zip":
            unknown.append(path)
        elif format_of(path) == "dicom" and path.is_file():
            return True
    return any(path.is_file() and is_dicom(path) for path in unknown)


def _check_excluded(folders: Iterable[Path], dicom: Path) -> None:
    """Refuse to leave out what would be read nevertheless: DICOM files go with those of the folder above them.

    Raises:
        UsageError: there are some.
    """
    for folder in folders:
        if any(_holds_dicom(Path(root), names) for root, _, names in os.walk(folder)):
            msg = f"--exclude: expected no part of a folder of DICOM files, got {folder}, whose files go with those of "
            raise UsageError(msg + f"{dicom}; name the series by --series or a manifest")


def _counts(path: Path, base: Path, rules: Rules) -> bool:
    return rules.take(_place(path, base)) and not has_sidecar(path)


def _place(path: Path, base: Path) -> PurePosixPath:
    return PurePosixPath(Path(os.path.relpath(path, base)).as_posix())


def _matches(place: PurePosixPath, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(str(place) if "/" in pattern else place.name, pattern.rstrip("/")) for pattern in patterns)


def _refuse(error: OSError) -> None:
    msg = f"{error.filename}: expected a readable folder, got {error.strerror or error}; check its permissions"
    raise VolumeReadError(msg) from error
