"""A DICOM node: what it receives is restored by rules and sent on. The spool is its memory, so it may die at any time.

An object is confirmed to its sender once it is on disk. A series is restored when nothing came for a while, again if
more comes later, and under the same UIDs, so that what is sent twice after a crash is one object at the peer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import tatcli
from tatcli.errors import DeviceError, OutputError, TatError, UsageError, place_of, reason_of
from tatcli.networking.addresses import Destination, Listener
from tatcli.networking.peers import RefusedError, receiving, send
from tatcli.networking.spool import SeriesFolder, Spool
from tatcli.tasks import TASKS, find_task
from tatcli.volumes.dicom_options import DicomOptions
from tatcli.workflows.apart import Apart, BugError
from tatcli.workflows.lock import locked
from tatcli.workflows.restore import RestoreConfig, restore

if TYPE_CHECKING:
    from tatcli.inference.restorer import Restorer
    from tatcli.volumes.dicom_series import SeriesInfo

__all__ = ["NodeConfig", "Rule", "run_node"]

_SHORTEST_WAIT: Final = 5.0
_LONGEST_WAIT: Final = 600.0
"""s between attempts, to reach a destination or to restore: doubled each time."""
_MOST_WAITS: Final = 7
"""For memory that others take, some ten minutes in all: a series that is too large for the machine stays so."""
_POLL: Final = 0.5


@dataclass(frozen=True)
class Rule:
    """Series of a modality whose description matches a pattern (``*`` and ``?``, any case) get a task."""

    modality: str
    pattern: str
    task: str

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read MODALITY[:PATTERN]=TASK.

        Raises:
            UsageError: it isn't one, there is no such task, or it takes another modality.
        """
        left, equals, name = text.rpartition("=")
        modality, _, pattern = left.partition(":")
        if not equals or not modality.strip():
            msg = f"--rule {text!r}: expected MODALITY[:PATTERN]=TASK, such as 'CT:*low dose*=ct-denoise'"
            raise UsageError(msg)
        task, modality = find_task(name), modality.strip().upper()
        if modality != task.modality:
            msg = f"--rule {text!r}: expected the modality {task.modality} for {task.name}, got {modality}"
            raise UsageError(msg)
        return cls(modality, pattern.strip() or "*", task.name)

    def takes(self, info: SeriesInfo) -> bool:
        """Whether the series is meant; brackets are letters, as in Siemens' ``[HD_FoV]``."""
        pattern = self.pattern.casefold().replace("[", "[[]")
        return info.modality == self.modality and fnmatchcase(info.description.casefold(), pattern)


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """Options of ``tat node``.

    Attributes:
        spool: folder for what was received and is owed.
        listener: how the node is reached.
        destinations: where derived series go.
        rules: the first that takes a series decides; none: every CT, PET and MR by its modality.
        weights, device: for restoring.
        dicom: how derived objects are made; always reproducible.
        settle: a series is complete when nothing came for so many seconds.
        keep: hours for which finished series stay in the spool, so that late objects find the others.
    """

    spool: Path
    listener: Listener = field(default_factory=Listener)
    destinations: tuple[Destination, ...] = ()
    rules: tuple[Rule, ...] = ()
    weights: str | None = None
    device: str = "auto"
    dicom: DicomOptions = field(default_factory=lambda: DicomOptions(reproducible=True))
    settle: float = 30.0
    keep: float = 24.0

    def __post_init__(self) -> None:
        if not 0 <= self.settle < math.inf:  # no series would ever be complete
            msg = f"--settle {self.settle:g}: expected seconds, 0 or more"
            raise UsageError(msg)


def run_node(
    config: NodeConfig,
    *,
    restorer: Restorer | None = None,
    say: Callable[[str], None] = lambda _: None,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Run until ``until`` says so, or an exception (Ctrl-C) comes.

    Args:
        config: what is to be done.
        restorer: a loaded one, for this process; None: one in a process of its own, which scans may crash.
        say: hears of what happens, without patient data.
        until: is asked twice a second.

    Raises:
        UsageError: options that don't fit, a port that is taken.
        OutputError: the spool is no folder, can't be written to, or is another node's.
        WeightsError, DeviceError: before anything is received.
    """
    here = nullcontext(partial(restore, restorer=restorer))
    with (
        _own_spool(config.spool) as spool,
        here if restorer else Apart(config.weights, config.device) as to_restore,
        receiving(config.listener, spool) as port,
    ):
        worker = _Worker(config, spool, to_restore, say)
        say(f"{config.listener.title} listens on {config.listener.host}:{port}")
        while not until():
            worker.turn()
            time.sleep(_POLL)


@contextmanager
def _own_spool(folder: Path) -> Iterator[Spool]:
    """The spool, which no other node has while the block runs: it would take what is being written for leftovers."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            stack.enter_context(locked(folder, "tat node"))
            spool = Spool(folder)
        except OSError as error:
            msg = f"--spool {folder}: expected a folder that can be written to, got {reason_of(error)}; choose another"
            raise OutputError(msg) from error
        yield spool


class _Worker:
    """Restores and sends, one series at a time, while the receiver's threads fill the spool."""

    def __init__(
        self,
        config: NodeConfig,
        spool: Spool,
        to_restore: Callable[[RestoreConfig], object],
        say: Callable[[str], None],
    ) -> None:
        self.config, self.spool, self._to_restore, self._say = config, spool, to_restore, say
        self._rules = config.rules or tuple(Rule(task.modality, "*", task.name) for task in TASKS.values())
        self._terms = f"tat {tatcli.__version__}, {config.weights}, {self._rules}"
        self._done: dict[Path, int] = {}
        self._failures: dict[str, int] = {}
        self._setbacks: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def turn(self) -> None:
        """Everything that is due; of a series that is done with, only whether more of it came."""
        # Series at which a destination broke off are tried again last: the others would never be sent.
        for folder in sorted(self.spool.series(), key=lambda folder: self._setbacks.get(folder.name, 0)):
            try:
                self._look_at(folder)
            except FileNotFoundError:
                if folder.received.is_dir():  # else somebody deleted it
                    raise

    def _look_at(self, folder: SeriesFolder) -> None:
        if folder.quiet_for() < self.config.settle:
            return
        change = folder.last_change()
        if self._done.get(folder.path) != change:
            if not folder.inputs():
                return
            self._serve(folder)
            owed = any(folder.unsent(str(destination)) for destination in self.config.destinations)
            if owed or not (folder.is_restored() or folder.is_refused(self._terms)):
                return
            self._done[folder.path] = change
        if folder.quiet_for() > self.config.keep * 3600:
            self._done.pop(folder.path, None)
            self.spool.forget(folder, change)

    def _serve(self, folder: SeriesFolder) -> None:
        if not folder.is_restored() and not folder.is_refused(self._terms) and self._is_due(folder.name):
            try:
                self._restore(folder)
            except BugError as error:
                self._wait(folder, f"not restored, {error}")
            except (OutputError, OSError) as error:  # of the spool's disk
                self._wait(folder, f"not restored: {error if isinstance(error, TatError) else reason_of(error)}")
            except Exception as error:  # noqa: BLE001 - one series must not keep the others from being served
                self._wait(folder, f"not restored, a bug in tat ({place_of(error)})")
        for destination in self.config.destinations:
            self._send(folder, destination)

    def _restore(self, folder: SeriesFolder) -> None:
        from tatcli.volumes.dicom_series import list_series

        inputs, count, reasons = folder.inputs(), 0, []
        try:
            with folder.restoring(inputs) as staging:
                for info in list_series(folder.received):
                    try:
                        count += self._restore_part(folder, info, staging / f"{count:05d}")
                    except (OutputError, DeviceError):
                        raise
                    except TatError as error:
                        reasons.append(str(error))
                if not count:
                    msg = "; ".join(reasons) or "no rule takes it"
                    raise TatError(msg)  # noqa: TRY301 - leaves the staging folder behind
        except TatError as error:
            lacks_memory = isinstance(error, DeviceError) and self._failures.get(folder.name, 0) < _MOST_WAITS
            if lacks_memory or isinstance(error, OutputError):  # of the spool's disk: both may pass
                self._wait(folder, str(error))
                return
            self._failures.pop(folder.name, None)
            folder.refuse(str(error), inputs, terms=self._terms)
            self._say(f"series {folder.name}: {len(inputs)} objects, not restored: {error}")
            return
        self._failures.pop(folder.name, None)
        left = f"; not restored: {'; '.join(reasons)}" if reasons else ""
        self._say(f"series {folder.name}: {len(inputs)} objects received, {count} restored{left}")

    def _restore_part(self, folder: SeriesFolder, info: SeriesInfo, target: Path) -> int:
        rule = next((rule for rule in self._rules if rule.takes(info)), None)
        if rule is None or info.localizer or _is_ours(folder):
            return 0
        config = RestoreConfig(
            input=folder.received,
            series=info.choice,
            task=rule.task,
            output=target,
            format="dicom",
            dicom=self.config.dicom,
        )
        self._to_restore(config)
        return len(list(target.iterdir()))

    def _send(self, folder: SeriesFolder, destination: Destination) -> None:
        whom = f"{folder.name} to {destination}"
        if not self._is_due(str(destination)) or not self._is_due(whom):
            return
        files = folder.unsent(str(destination))
        if not files:
            return
        sent, listener = 0, self.config.listener
        try:
            for file in send(files, destination, title=listener.title, tls=listener.tls):
                folder.confirm(file, str(destination))
                sent += 1
        except (TatError, OSError) as error:
            # A peer that is away is so for all series; what it refuses of one says nothing of the others, and neither
            # does a full disk, on which no note can be made of what was sent.
            culprit = whom if isinstance(error, RefusedError | OSError) else str(destination)
            reason = str(error) if isinstance(error, TatError) else reason_of(error)
            self._setbacks[folder.name] = self._setbacks.get(folder.name, 0) + 1
            self._wait(folder, f"{sent} of {len(files)} sent: {reason}", whom=culprit)
            return
        self._setbacks.pop(folder.name, None)
        for key in (str(destination), whom):
            self._failures.pop(key, None)
        self._say(f"series {folder.name}: {sent} objects sent to {destination}")

    def _is_due(self, whom: str) -> bool:
        return time.monotonic() >= self._not_before.get(whom, 0.0)

    def _wait(self, folder: SeriesFolder, problem: str, *, whom: str = "") -> None:
        """Try again later: each time twice as long after."""
        key = whom or folder.name
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait = min(_SHORTEST_WAIT * 2 ** (failures - 1), _LONGEST_WAIT)
        self._not_before[key] = time.monotonic() + wait
        self._say(f"series {folder.name}: {problem}; again in {wait:.0f} s")


def _is_ours(folder: SeriesFolder) -> bool:
    """Whether the series was restored already: a destination that sends back what it gets must not start a circle."""
    from tatcli.volumes.dicom_files import read_dataset, tolerant
    from tatcli.volumes.dicom_origin import is_restored

    path = folder.objects()[0]
    with tolerant(path):
        return is_restored(read_dataset(path))
