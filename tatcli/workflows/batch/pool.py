"""Who does the work: the devices of this machine, each with a lane. A cluster does it in the same way elsewhere."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from tatcli.errors import DeviceError
from tatcli.processor import usable_cores
from tatcli.workflows.batch.isolated import as_errors
from tatcli.workflows.batch.lane import Lane, LaneSettings
from tatcli.workflows.batch.roles import EngineSettings
from tatcli.workflows.batch.work import Failure, Outcome, Work

if TYPE_CHECKING:
    from tatcli.workflows.batch.config import BatchConfig

__all__ = ["LocalPool", "Message", "Pool", "lane_settings", "threads_for"]

_CPU_SLOTS: Final = 2
"""Scans under way in one lane: while one is computed, the other is written and the next one read."""
_GPU_SLOTS: Final = 4
"""A GPU computes as fast as one thread reads."""


@dataclass(frozen=True)
class Message:
    """What a pool tells: ``outcome`` with the outcome, else what a scan is at."""

    kind: str
    work: Work
    content: Any


class Pool(Protocol):
    """Takes scans and tells what becomes of them."""

    def __enter__(self) -> Self:
        """Ready to work."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End whatever is under way."""

    @property
    def weights(self) -> Mapping[str, str]:
        """Name and SHA-256 of the weights that scans are restored with."""

    @property
    def room(self) -> int:
        """How many scans it is worth giving at once."""

    def submit(self, work: Work) -> None:
        """Give it a scan."""

    def next(self, timeout: float) -> Message | None:
        """What happened next; None: nothing within so many seconds."""


class LocalPool:
    """Lanes in child processes of this one, one for each device."""

    def __init__(self, lanes: Sequence[LaneSettings]) -> None:
        self._lanes = [Lane(settings) for settings in lanes]
        self._slots = [settings.engine.slots for settings in lanes]
        self._works: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, args=(lane,), name="tat-lane", daemon=True)
            for lane, slots in zip(self._lanes, self._slots, strict=True)
            for _ in range(slots)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in self._threads:
            self._works.put(None)
        for lane in self._lanes:
            lane.close()
        for thread in self._threads:  # they give their locks back
            thread.join(timeout=10.0)

    @property
    def weights(self) -> Mapping[str, str]:
        """Those that the first device's network has; the others must have the same.

        Raises:
            WeightsError, DeviceError: it can't be loaded.
        """
        with as_errors("the process that loads the network", DeviceError):
            info = self._lanes[0].warm_up()
        for lane in self._lanes:
            lane.weights = info["weights"]
        return {"name": info["name"], "sha256": info["weights"]}

    @property
    def room(self) -> int:
        """Two for each place in a lane."""
        return 2 * sum(self._slots)

    def submit(self, work: Work) -> None:
        """Give it a scan."""
        self._works.put(work)

    def next(self, timeout: float) -> Message | None:
        """What happened next."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            return None

    def _serve(self, lane: Lane) -> None:
        while (work := self._works.get()) is not None:

            def hear(kind: str, content: Any, work: Work = work) -> None:
                self._messages.put(Message(kind, work, content))

            try:
                outcome = lane.run(work, hear)
            except Exception as error:  # noqa: BLE001 - a bug, or the disk: one scan's, not the batch's
                outcome = Outcome(work=work, status="failed", failure=Failure.of(error, "plan"))
            self._messages.put(Message("outcome", work, outcome))


def lane_settings(config: BatchConfig, *, weights: str = "", workers: int = 1) -> list[LaneSettings]:
    """The settings of a lane for each device.

    Args:
        config: of the batch.
        weights: SHA-256; '': whatever they have on this machine.
        workers: how many processes share the machine, each with such lanes.
    """
    scan, count = config.scan, workers * len(config.devices)
    engine = EngineSettings(
        weights=scan.weights,
        precision=scan.precision,
        threads=scan.threads or threads_for(count),
        compiled=scan.compiled,
        memory=scan.max_memory,
        engines=count,
    )
    return [
        LaneSettings(
            engine=replace(engine, device=device, slots=_GPU_SLOTS if device.startswith("cuda") else _CPU_SLOTS),
            weights=weights,
            timeout=config.endurance.timeout,
        )
        for device in config.devices
    ]


def threads_for(engines: int) -> int | None:
    """Threads for each of several networks on this machine; None: one network has as many as PyTorch takes."""
    if engines == 1:
        return None
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = usable_cores()
    return max(1, min(cores, int(asked) if asked.isdecimal() else cores) // engines)
