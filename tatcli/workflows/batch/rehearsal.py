"""``--dry-run``: what a batch would do, and what it would take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tatcli.errors import DeviceError
from tatcli.workflows.batch.estimate import Cost, Grid, Look, Measure, Seen
from tatcli.workflows.batch.failures import check_failures
from tatcli.workflows.batch.isolated import Gone, Refused, as_errors
from tatcli.workflows.batch.lane import Lane
from tatcli.workflows.batch.planning import Plan, plan
from tatcli.workflows.batch.pool import lane_settings
from tatcli.workflows.batch.summary import check_summary
from tatcli.workflows.batch.work import Work

if TYPE_CHECKING:
    from tatcli.workflows.batch.config import BatchConfig

__all__ = ["Rehearsal", "Step", "rehearse"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What would become of a scan.

    Attributes:
        work: the scan.
        what: ``restore``, ``finished``, or ``fails``.
        reason: why it fails, as far as headers tell.
        grid, cost: of a scan that would be restored.
    """

    work: Work
    what: str
    reason: str = ""
    grid: Grid | None = None
    cost: Cost | None = None


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What a batch would do.

    Attributes:
        steps: of all scans, in their order.
        seconds: of computing, on this machine's first device, all devices sharing the work.
        memory: most that one scan takes, bytes.
    """

    steps: tuple[Step, ...]
    seconds: float
    memory: int


def rehearse(config: BatchConfig, *, read_stdin: Callable[[], str]) -> Rehearsal:
    """Look at all headers, time the network on a slice, and plan every scan's memory. Nothing is written.

    Raises:
        UsageError, VolumeReadError, WeightsError, DeviceError: as for the batch itself.
    """
    planned = plan(config, read_stdin=read_stdin)
    check_failures(config, planned.folder)
    check_summary(config)
    lane = Lane(lane_settings(config)[0])
    with closing(lane), as_errors("the process that loads the network", DeviceError):
        weights = lane.warm_up()["weights"]
        steps = list(_seen(planned, lane, weights))
        grids = [step.grid for step in steps if step.grid is not None]
        costs = iter(lane.ask_engine(Measure(grids)) if grids else [])
    costed = tuple(step if step.grid is None else replace(step, cost=next(costs)) for step in steps)
    seconds = sum(step.cost.seconds for step in costed if step.cost is not None) / len(config.devices)
    memory = max((step.cost.memory or 0 for step in costed if step.cost is not None), default=0)
    return Rehearsal(steps=costed, seconds=seconds, memory=memory)


def _seen(planned: Plan, lane: Lane, weights: str) -> Iterator[Step]:
    waiting = deque(planned.works)
    while waiting:
        work = waiting.popleft()
        try:
            seen = lane.ask_reader(Look(work, weights))
        except Refused as refused:
            yield Step(work=work, what="fails", reason=refused.failure.reason)
            continue
        except Gone as gone:
            yield Step(work=work, what="fails", reason=f"the process that read it {gone}")
            continue
        assert isinstance(seen, Seen)  # noqa: S101
        if seen.parts:
            waiting.extendleft(reversed(seen.parts))
        elif seen.finished:
            yield Step(work=work, what="finished")
        else:
            yield Step(work=work, what="restore", grid=seen.grid)
