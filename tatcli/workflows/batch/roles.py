"""The roles of child processes: one looks at scans and may crash, one holds the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tatcli.errors import UsageError
from tatcli.workflows.batch.work import Work

__all__ = ["Assignment", "EngineSettings", "Role", "Vet", "role_of"]

Say = Callable[[str, Any], None]


class Role(Protocol):
    """What a child process does."""

    stage: str
    slots: int

    @property
    def info(self) -> Mapping[str, Any]:
        """What the parent should know of it."""

    def answer(self, request: Any, say: Say) -> Any:
        """Do what is asked; ``say(kind, content)`` tells of it meanwhile."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How the network is loaded.

    Attributes:
        weights: a name or path; None: the default ones.
        device, precision, threads: of the machine.
        compiled: the network through PyTorch's compiler, on a CUDA device.
        slots: scans under way at a time: one that is computed, others that are read or written.
        memory: bytes to stay below; None: most of what is free.
        engines: how many share the machine.
    """

    weights: str | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    compiled: bool = False
    slots: int = 2
    memory: int | None = None
    engines: int = 1


@dataclass(frozen=True, kw_only=True)
class Vet:
    """Ask the reader to look at a scan."""

    work: Work
    weights: str


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Ask the engine to restore a scan.

    Attributes:
        work: the scan.
        weights: SHA-256 that the weights should have.
        source: what the reader found the input to be.
        lock, token: of the output's lock, which the parent holds.
        alone: nothing else is under way, so it may take all memory.
    """

    work: Work
    weights: str
    source: Any
    lock: Path
    token: str
    alone: bool = False


def role_of(name: str, settings: Any) -> Role:
    """The role of this name, ready.

    Raises:
        UsageError: there is none.
        WeightsError, DeviceError: the network can't be loaded.
    """
    if name == "reader":
        from tatcli.workflows.batch.reader import Reader

        return Reader(settings)
    if name == "engine":
        from tatcli.workflows.batch.engine import Engine

        return Engine(settings)
    msg = f"{name!r}: expected the role reader or engine"
    raise UsageError(msg)
