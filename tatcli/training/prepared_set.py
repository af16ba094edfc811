"""A prepared training set: two flat files for each task and split, mapped into memory, and an index into them.

``<task>.<split>.hq`` holds the slices of all its references as float32, ``<task>.<split>.fields`` the precomputed part
of their degradation as float16 (noise in units of the scan's own, low-count slices, or the LQ partners), one scan
after the other. ``index.jsonl`` gains a scan's line when its bytes are on disk, so that a run that stops anywhere can
go on: what was written after the last line is cut off. ``set.json`` comes last and says that the set is whole.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import UsageError, VolumeReadError, reason_of
from tatcli.intensity import FixedRange, Window
from tatcli.tasks import Task
from tatcli.training.config import TrainConfig
from tatcli.training.references import Reference
from tatcli.training.set_parts import append_part
from tatcli.training.subjects import PATIENT
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.replacing import replaced, sync
from tatcli.volumes.slices import is_isotropic

__all__ = [
    "TYPES",
    "Entry",
    "SetWriter",
    "file_of",
    "has_entries",
    "is_prepared",
    "prepared_entries",
    "prepared_references",
    "read_index",
]

_MOST_LOST: Final = 5.0
"""Seconds of work that a power cut may cost: waiting for the disk after each of many thousand slices takes longer."""
FORMAT: Final = 1
"""Raised whenever the files change, so that old sets are not misread."""
SET_FILE: Final = "set.json"
INDEX: Final = "index.jsonl"
TYPES: Final[dict[str, np.dtype[Any]]] = {"hq": np.dtype("<f4"), "fields": np.dtype("<f2")}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A scan in the index.

    Attributes:
        key: what it was made from, and how.
        task, split, name, subject: whose it is, and what for.
        facts: window, reference noise, ``rejected``: why it can't be a reference, else None; and ``unit``, by which a
            scan's values were divided (1 but where half precision can't hold its LQ partner); ``crc32`` of its parts.
        shapes: of its part of each file: hq (slices, rows, columns), fields (slices, fields, rows, columns).
        starts: where its part begins, in elements.
        source: what the manifest tells: file, sha256, units, spacing and so on.
    """

    key: str
    task: str
    split: str
    name: str
    subject: str
    facts: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, list[int]] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def rejected(self) -> str | None:
        """Why it can't be a reference; None where it is one."""
        reason = self.facts.get("rejected")
        return None if reason is None else str(reason)

    def public(self) -> dict[str, str]:
        """What a weights card tells of it: no path, and no name of a folder or file, which may be a patient's."""
        told = {key: str(self.source.get(key, "")) for key in ("source", "terms", "sha256")}
        nameless = self.subject.startswith((PATIENT, "sub-", "synthetic-"))
        return {"file": f"{self.subject}/{self.name}" if nameless else f"scan-{told['sha256'][:12]}"} | told


def is_prepared(root: Path) -> bool:
    """Whether a folder is a set that ``tat prepare`` made, or began."""
    return (root / INDEX).is_file()


def prepared_entries(root: Path) -> list[Entry]:
    """The index of a whole set, by subject and name.

    Raises:
        UsageError: the set isn't whole, or of another version.
    """
    try:
        told = json.loads((root / SET_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{root}: expected a whole training set, got one whose preparation stopped; run tat prepare again"
        raise UsageError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"{root / SET_FILE}: expected JSON of tat prepare, got {reason_of(error)}; prepare the set again"
        raise UsageError(msg) from error
    if told.get("format") != FORMAT:
        msg = f"{root}: expected a training set of format {FORMAT}, got {told.get('format')}; prepare it again"
        raise UsageError(msg)
    return sorted(read_index(root), key=lambda entry: (entry.subject, entry.name, entry.key))


def has_entries(root: Path, task: Task, split: str) -> bool:
    """Whether a set has references of a task and split.

    Raises:
        UsageError: the set isn't whole, or of another version.
    """
    return bool(_entries(root, task, split))


def prepared_references(root: Path, task: Task, split: str, config: TrainConfig) -> list[Reference]:
    """The references of a task and split, mapped into memory.

    What was decided when the set was made (slices, noise fields and their seed, PET's strengths) stays as it is.

    Raises:
        UsageError: none of this task and split, or the set isn't whole.
        VolumeReadError: its files are shorter than the index says.
    """
    chosen = _entries(root, task, split)
    if not chosen:
        msg = f"{root}: expected references for {task.name} in the split {split}, found none; see its MANIFEST.tsv"
        raise UsageError(msg)
    flat = {kind: _mapped(root, task.name, split, kind) for kind in TYPES}
    share = config.share(task.name) if split == "train" else 1.0
    references = []
    for entry in chosen:
        parts = {kind: _part(flat[kind], entry, kind, root) for kind in entry.shapes}
        rule, unit = config.intensity(task), entry.facts.get("unit", 1.0)
        fixed = (rule.window.lower / unit, rule.window.upper / unit) if isinstance(rule, FixedRange) else None
        reference = Reference(
            name=entry.name,
            task=task,
            window=Window(*(fixed or entry.facts["window"])),
            hq=parts["hq"],
            fields=parts.get("fields"),
            noise=entry.facts["noise"],
            default_share=share,
            subject=entry.subject,
        )
        every = config.planes == "all" and split == "train" and _in_all_planes(entry, task)
        references += [reference.sliced(axis) for axis in range(3)] if every else [reference]
    return references


def _entries(root: Path, task: Task, split: str) -> list[Entry]:
    used = (entry for entry in prepared_entries(root) if entry.rejected is None)
    return [entry for entry in used if (entry.task, entry.split) == (task.name, split)]


def _in_all_planes(entry: Entry, task: Task) -> bool:
    """Whether the set has all slices of a scan that can be sliced in any direction; PET has to be made for it."""
    if task.modality == "PT":
        return bool(entry.facts.get("all_planes"))
    shape = [int(length) for length in str(entry.source["shape"]).split("x")]
    spacing = [float(step) for step in str(entry.source["spacing"]).split("x")]
    geometry = Geometry.from_spacing((spacing[0], spacing[1], spacing[2]), (shape[0], shape[1], shape[2]))
    return is_isotropic(geometry) and math.prod(shape) == math.prod(entry.shapes["hq"])


class SetWriter:
    """Appends scans to a set, and goes on with one that was begun.

    Args:
        root: the set's folder; made where it doesn't exist.

    Raises:
        VolumeReadError: an index that can't be read, or files shorter than it says.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._pending: list[Entry] = []
        self._unsynced: set[Path] = set()
        self._synced = time.monotonic()
        self.entries = list(read_index(root, repair=True)) if is_prepared(root) else []
        (root / INDEX).touch()
        self._ends: dict[str, int] = {}
        for entry in self.entries:
            for kind, shape in entry.shapes.items():
                place = file_of(entry.task, entry.split, kind)
                self._ends[place] = max(self._ends.get(place, 0), entry.starts[kind] + int(np.prod(shape)))
        for kind, dtype in TYPES.items():
            for path in root.glob(f"*.{kind}"):
                end = self._ends.setdefault(path.name, 0) * dtype.itemsize
                if path.stat().st_size < end:
                    msg = f"{path}: expected {end} bytes as the index says, got {path.stat().st_size}; prepare it again"
                    raise VolumeReadError(msg)
                os.truncate(path, end)

    def reopen(self) -> None:
        """Take away the mark of a whole set while something is added."""
        (self.root / SET_FILE).unlink(missing_ok=True)

    def add(self, entry: Entry, part: Path) -> Entry:
        """Append what :func:`~tatcli.training.references.prepare_scan` wrote to a folder; the index tells it last.

        Args:
            entry: all but facts, shapes and starts; what is returned has them.
            part: the folder.
        """
        facts = json.loads((part / "facts.json").read_text(encoding="utf-8"))
        shapes: dict[str, list[int]] = {}
        starts: dict[str, int] = {}
        sums = {}
        for kind, dtype in TYPES.items():
            if not (made := part / f"{kind}.npy").exists():
                continue
            place = file_of(entry.task, entry.split, kind)
            starts[kind] = self._ends.get(place, 0)
            shapes[kind], sums[kind] = append_part(made, self.root / place, dtype)
            self._unsynced.add(self.root / place)
            self._ends[place] = starts[kind] + math.prod(shapes[kind])
        whole = replace(entry, facts=facts | {"crc32": sums}, shapes=shapes, starts=starts)
        self._tell(whole)
        shutil.rmtree(part, ignore_errors=True)
        return whole

    def reject(self, entry: Entry, reason: str) -> Entry:
        """Tell why a scan isn't in the set."""
        whole = replace(entry, facts={"rejected": reason})
        self._tell(whole)
        return whole

    def flush(self) -> None:
        """Wait until everything that was added is on disk, then tell the index."""
        for path in self._unsynced:
            sync(path)
        with (self.root / INDEX).open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(asdict(entry)) + "\n" for entry in self._pending)
        sync(self.root / INDEX)
        self._pending, self._unsynced, self._synced = [], set(), time.monotonic()

    def finish(self, options: dict[str, Any]) -> None:
        """Mark the set as whole."""
        self.flush()
        with replaced(self.root / SET_FILE, extension=".json") as temporary:
            temporary.write_text(json.dumps({"format": FORMAT, "options": options}, indent=2) + "\n", encoding="utf-8")

    def _tell(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._pending.append(entry)
        if time.monotonic() - self._synced > _MOST_LOST:
            self.flush()


def file_of(task: str, split: str, kind: str) -> str:
    """The name of a file of the set."""
    return f"{task}.{split}.{kind}"


def read_index(root: Path, *, repair: bool = False) -> Iterator[Entry]:
    """The entries in the order of the files; a last line that was cut off is dropped, with ``repair`` from disk too."""
    path = root / INDEX
    content = path.read_bytes()  # (Windows ends lines by two bytes)
    whole = content[: content.rfind(b"\n") + 1]
    if repair and whole != content:
        os.truncate(path, len(whole))
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            yield Entry(**json.loads(line))
        except (ValueError, TypeError) as error:
            msg = f"{path}: line {number}: expected an entry of tat prepare, got something else; prepare the set again"
            raise VolumeReadError(msg) from error


def _mapped(root: Path, task: str, split: str, kind: str) -> NDArray[Any]:
    """A whole file, as one array of elements; empty where there is none."""
    path = root / file_of(task, split, kind)
    if not path.is_file() or path.stat().st_size == 0:
        return np.empty(0, dtype=TYPES[kind])
    return np.memmap(path, dtype=TYPES[kind], mode="r")


def _part(flat: NDArray[Any], entry: Entry, kind: str, root: Path) -> NDArray[Any]:
    shape, start = entry.shapes[kind], entry.starts[kind]
    stop = start + int(np.prod(shape))
    if stop > flat.size:
        path = root / file_of(entry.task, entry.split, kind)
        msg = f"{path}: expected {stop} numbers as the index says, got {flat.size}; prepare the set again"
        raise VolumeReadError(msg)
    return flat[start:stop].reshape(shape)
