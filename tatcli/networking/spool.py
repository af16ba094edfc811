"""What a node has received and still owes, on disk, so that a crash loses nothing. Names are hashes: they name nobody.

One folder per series: ``received/`` the objects as they came; ``restored/`` the derived ones with ``inputs.json``,
which says of which received objects; ``*.sent`` beside them what each destination has; ``refused.json`` why there are
none.
Every file and folder appears under its name only when it is complete and on disk.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from tatcli.volumes.replacing import renamed, replaced, sync

__all__ = ["SeriesFolder", "Spool"]

_TEMPORARY: Final = ".tat-"
_INPUTS: Final = "inputs.json"
_REFUSED: Final = "refused.json"


@dataclass(frozen=True)
class SeriesFolder:
    """A series in the spool."""

    path: Path

    @property
    def name(self) -> str:
        """For messages: the beginning of the hash of its UID."""
        return self.path.name[:12]

    @property
    def received(self) -> Path:
        """The folder of the objects as they came."""
        return self.path / "received"

    @property
    def restored(self) -> Path:
        """The folder of the derived objects."""
        return self.path / "restored"

    def objects(self) -> list[Path]:
        """What was received, in a fixed order."""
        return sorted(file for file in self.received.iterdir() if not file.name.startswith("."))

    def inputs(self) -> list[str]:
        """What was received, by name and time: an object that came again with other content is another."""
        return [f"{file.name} {file.stat().st_mtime_ns}" for file in self.objects()]

    def last_change(self) -> int:
        """When the last object came, ns: each appears in the folder by being renamed."""
        return self.received.stat().st_mtime_ns

    def quiet_for(self) -> float:
        """Seconds since the last object came."""
        return time.time() - self.last_change() / 1e9

    def is_restored(self) -> bool:
        """Whether what was restored was made of all that was received."""
        return bool(_read(self.restored / _INPUTS) == self.inputs())

    def is_refused(self, terms: str) -> bool:
        """Whether all that was received was looked at, under these terms, and isn't restored."""
        found = _read(self.path / _REFUSED)
        return isinstance(found, dict) and found.get("terms") == terms and bool(found.get("inputs") == self.inputs())

    def refuse(self, reason: str, inputs: list[str], *, terms: str) -> None:
        """Note that these objects aren't restored, and under which rules, weights and version."""
        _write(self.path / _REFUSED, {"inputs": inputs, "reason": reason, "terms": terms})

    @contextmanager
    def restoring(self, inputs: list[str]) -> Iterator[Path]:
        """A folder that becomes ``restored`` when the block succeeds; what an older set of inputs gave is replaced."""
        staging = self.path / f"{_TEMPORARY}{secrets.token_hex(8)}"
        staging.mkdir()
        try:
            yield staging
            _write(staging / _INPUTS, inputs)
            sync(staging)
            if self.restored.exists():
                renamed(self.restored, self.path / f"{_TEMPORARY}{secrets.token_hex(8)}")
            renamed(staging, self.restored)
            sync(self.path)
        finally:
            self.clean()

    def clean(self) -> None:
        """Remove what a crash or an error left half-done."""
        for left in self.path.glob(f"{_TEMPORARY}*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:  # of a refusal
                left.unlink(missing_ok=True)

    def unsent(self, destination: str) -> list[Path]:
        """Derived objects that a destination hasn't confirmed yet."""
        files = sorted(self.restored.rglob("*.dcm")) if self.restored.is_dir() else []
        return [file for file in files if not _mark(file, destination).exists()]

    def confirm(self, file: Path, destination: str) -> None:
        """Note that a destination has an object."""
        mark = _mark(file, destination)
        mark.touch()
        sync(mark.parent)


class Spool:
    """All series of a node, in one folder that nothing else uses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._coming_or_going = Lock()
        for left in root.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)
        for folder in self.series():
            folder.clean()
            for left in folder.received.glob(f"{_TEMPORARY}*"):
                left.unlink()

    def store(self, series: str, instance: str, data: bytes) -> None:
        """Keep an object: once this returns, it is on disk. One that came before, corrected since, is replaced.

        Raises:
            OutputError: the disk is full or fails.
        """
        folder = SeriesFolder(self.root / _hash(series))
        target = folder.received / f"{_hash(instance)}.dcm"
        if _holds(target, data):
            return
        with replaced(target, extension=".dcm") as temporary:
            with self._coming_or_going:
                folder.path.mkdir(exist_ok=True, mode=0o700)  # the spool may be a folder that others can look into
                folder.received.mkdir(exist_ok=True)
                temporary.touch()
            temporary.write_bytes(data)
        sync(folder.path)
        sync(self.root)

    def series(self) -> list[SeriesFolder]:
        """Every series, the one that waited longest first."""
        paths = (path for path in self.root.iterdir() if not path.name.startswith("."))
        found = [SeriesFolder(path) for path in paths if (path / "received").is_dir()]
        return sorted(found, key=lambda folder: folder.received.stat().st_mtime)

    def forget(self, folder: SeriesFolder, change: int) -> None:
        """Delete a series, unless more of it came since its last change was this one.

        It loses its name first: what a crash left of it would be taken for all of a series, and sent on.
        """
        leaving = self.root / f"{_TEMPORARY}{secrets.token_hex(8)}"
        with suppress(OSError), self._coming_or_going:  # of a disk that became read-only: another time
            if folder.last_change() != change or any(folder.received.glob(f"{_TEMPORARY}*")):
                return
            renamed(folder.path, leaving)
        shutil.rmtree(leaving, ignore_errors=True)


def _holds(file: Path, data: bytes) -> bool:
    try:
        return file.stat().st_size == len(data) and file.read_bytes() == data
    except FileNotFoundError:
        return False


def _hash(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:40]


def _mark(file: Path, destination: str) -> Path:
    return file.with_name(f"{file.stem}.{_hash(destination)[:12]}.sent")


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _write(path: Path, content: object) -> None:
    with replaced(path, extension=".json") as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
