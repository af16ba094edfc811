"""What a batch is asked to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tatcli.errors import UsageError
from tatcli.processor import MOST_THREADS

if TYPE_CHECKING:
    from tatcli.workflows.restore import RestoreConfig

__all__ = ["BatchConfig", "Endurance", "Selection", "Shard", "check_words", "local_workers"]

DEFAULT_TIMEOUT: Final = 600.0
"""Seconds; a slice of 2048x2048 on one slow core takes a minute."""
LONGEST_TIMEOUT: Final = 1e6
"""Seconds; the system's own waiting has an end, too."""
_LOCAL: Final = "local:"
_ADDRESS: Final = re.compile(r"(?:(?:tcp|tls|ucx|wss?)://)?[^\s/]+:([0-9]{1,5})/?", re.ASCII)
"""Of a dask scheduler."""
_PORTS: Final = range(1, 65536)


@dataclass(frozen=True)
class Shard:
    """A part of the scans, chosen by a stable hash of their places: part ``index`` of ``count``, from 1 on."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read I/N.

        Raises:
            UsageError: it isn't one, or I isn't in 1..N.
        """
        index, slash, count = text.partition("/")
        if slash and index.strip().isdecimal() and count.strip().isdecimal() and 1 <= int(index) <= int(count):
            return cls(int(index), int(count))
        msg = f"--shard {text!r}: expected I/N with I from 1 to N, such as 3/16"
        raise UsageError(msg)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which scans are meant.

    Attributes:
        inputs: files, folders, patterns, manifests (.csv, .tsv), BIDS datasets, or ``-`` for a list on stdin.
        lists: files with one path a line.
        include: patterns; what is found in folders has to match one. Empty: everything.
        exclude: patterns; what is found and matches one is left out.
        shard: the part that this run restores; None: all.
    """

    inputs: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    shard: Shard | None = None

    def __post_init__(self) -> None:
        check_words(self.inputs)


def check_words(inputs: Iterable[str]) -> None:
    """Refuse empty words, which would stand for the current folder.

    Raises:
        UsageError: there is one.
    """
    if not all(word.strip() for word in inputs):
        msg = "SCAN: expected a path, got an empty word (an unset variable?); use . for the current folder"
        raise UsageError(msg)


def local_workers(address: str) -> int | None:
    """The N of ``local:N``; None for the address of a scheduler.

    Raises:
        UsageError: it is neither.
    """
    number = address.removeprefix(_LOCAL)
    if number != address and number.isdecimal() and 1 <= int(number) <= MOST_THREADS:
        return int(number)
    scheduler = _ADDRESS.fullmatch(address)
    if number == address and scheduler is not None and int(scheduler[1]) in _PORTS:
        return None
    msg = f"--cluster {address!r}: expected the address of a scheduler (tcp://HOST:PORT), or local:N with N workers"
    raise UsageError(msg + f" (ports to {_PORTS[-1]}, workers to {MOST_THREADS})")


@dataclass(frozen=True, kw_only=True)
class Endurance:
    """What happens when something goes wrong.

    Attributes:
        force: redo what is finished.
        fail_fast: end at the first failure.
        retries: how often a scan is tried again after a failure that may pass.
        timeout: seconds without a sign of life after which a scan is given up; 0: never.
    """

    force: bool = False
    fail_fast: bool = False
    retries: int = 1
    timeout: float = DEFAULT_TIMEOUT

    def __post_init__(self) -> None:
        if self.retries < 0:
            msg = f"--retries {self.retries}: expected 0 or more"
            raise UsageError(msg)
        if not 0 <= self.timeout <= LONGEST_TIMEOUT:  # NaN is neither
            msg = f"--timeout {self.timeout:g}: expected 0 (never) or up to {LONGEST_TIMEOUT:.0f} seconds"
            raise UsageError(msg)


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Options of ``tat restore`` for many scans.

    Attributes:
        scan: how each scan is restored; its ``input`` isn't looked at, its ``output`` is the folder of the outputs
            (None: beside the inputs).
        selection: which scans.
        endurance: what happens when something goes wrong.
        pattern: names of the outputs, with {folder}, {name}, {ext}, {task}; None: those of the inputs.
        devices: one model is loaded on each.
        cluster: address of a dask.distributed scheduler, or ``local:N``; None: this process and its children.
        events: where the run's events go, JSON lines.
        failures: where failed scans are listed; None: failures.csv in the outputs' folder.
        summary: where the batch's own report (JSON) goes.
    """

    scan: RestoreConfig
    selection: Selection
    endurance: Endurance = field(default_factory=Endurance)
    pattern: str | None = None
    devices: tuple[str, ...] = ("auto",)
    cluster: str | None = None
    events: Path | None = None
    failures: Path | None = None
    summary: Path | None = None

    def __post_init__(self) -> None:
        if self.cluster is None:
            return
        local_workers(self.cluster)
        if len(self.devices) > 1:
            told = ",".join(self.devices)
            msg = f"--device {told}: expected one device with --cluster, where each worker has its own"
            raise UsageError(msg)
