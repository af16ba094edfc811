"""The training loop: steps, log, validation, checkpoints, and stopping where the run can go on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from tatcli.errors import UsageError
from tatcli.training.checkpoints import load_checkpoint, save_checkpoint
from tatcli.training.config import TrainConfig
from tatcli.training.distributed import World
from tatcli.training.log import LOG, RunLog, TaskMeans
from tatcli.training.references import Reference
from tatcli.training.sampler import Sampler
from tatcli.training.steps import Stepper, TrainingDiverged
from tatcli.training.stopping import StopRequest
from tatcli.training.teacher import TeachingNetwork
from tatcli.training.validation import Sample, ValidationScore, validate

__all__ = ["LOG", "Progress", "Trainer", "TrainingDiverged"]


@dataclass(frozen=True)
class Progress:
    """State after a step, for a progress bar; with scores where the step was validated."""

    step: int
    loss: float
    l1: dict[str, float]
    validation: dict[str, ValidationScore]


class Trainer:
    """A run in a folder: starts it, or goes on from its checkpoint.

    Args:
        config: options of the run.
        references: training scans of each task.
        validation: validation scans of each task (may be empty).
        network: to train, initialised.
        world: the processes that train together; the first one validates and writes.
        teachers: trained networks whose restorations are mixed into the targets.
    """

    def __init__(
        self,
        config: TrainConfig,
        references: Mapping[str, Sequence[Reference]],
        validation: Mapping[str, Sequence[Reference]],
        *,
        network: nn.Module,
        world: World | None = None,
        teachers: Sequence[TeachingNetwork] = (),
    ) -> None:
        self.config = config
        self.validation = validation
        self.world = world or World()
        self.sampler = Sampler(references, config, world=self.world)
        self.network = network.to(config.device)
        self.stepper = Stepper(self.network, config, world=self.world, teachers=teachers)
        self.step = 0
        self.seconds = 0.0
        self.data: list[dict[str, str]] = []
        """What is trained on, as the weights' card tells it; none where a checkpoint is from before it was kept."""
        self.start: dict[str, Any] = {}
        """What the network was before its first step, see :func:`~tatcli.training.checkpoints.started_from`."""
        self.former_data: list[dict[str, str]] = []
        """What was trained on, and isn't any more since the run went on with other scans."""
        self._means = TaskMeans(config.tasks)
        self._saved = time.monotonic()
        state = load_checkpoint(config.output, config)
        if state is not None:
            self._restore(state)

    @property
    def averaged(self) -> nn.Module:
        """The network with averaged weights: what is validated and released."""
        return self.stepper.ema.network

    def run(
        self,
        *,
        on_step: Callable[[Progress], None] = lambda _: None,
        on_sample: Callable[[int, Sample], None] = lambda *_: None,
        on_validation: Callable[[dict[str, ValidationScore]], None] = lambda _: None,
    ) -> dict[str, ValidationScore]:
        """Train to the last step; returns the last validation (of the first process).

        Args:
            on_step: called after each step, and its validation.
            on_sample: called with the step and a restored slice, at each validation.
            on_validation: called with each validation's scores (in the first process).

        Raises:
            TrainingDiverged: a loss is not finite or has exploded, or the network died; the checkpoint is from before
                that step.
            KeyboardInterrupt, SystemExit: a signal came; the checkpoint is from after the last step.
        """
        config = self.config
        started = time.monotonic() - self.seconds
        scores: dict[str, ValidationScore] = {}
        log = RunLog(config.output, board=config.tensorboard, start=self.step) if self.world.first else None
        try:
            with _deterministic(wanted=config.deterministic), StopRequest() as stop:
                for batch in self.sampler.batches(self.step, config.steps):
                    done = self.stepper.update(batch, self.step, stop=stop.made)
                    self._means.add(done.tasks, done.l1, done.sigma)
                    self.step += 1
                    self.seconds = time.monotonic() - started
                    l1 = self._means.means()["l1"]
                    self._log_step(log)
                    found = self._validated(log, on_sample)
                    if found:
                        on_validation(found)
                    scores = found or scores
                    on_step(Progress(self.step, done.loss, l1, found))
                    if done.stopped:
                        stop.obey()
                    self._checkpoint_in_turn()
        except (KeyboardInterrupt, SystemExit, TrainingDiverged) as error:
            self.checkpoint()
            if log is not None:
                log.add(
                    "stopped",
                    self.step,
                    self.seconds,
                    why=str(error) if isinstance(error, TrainingDiverged) else "signal",
                )
            raise
        finally:
            if log is not None:
                log.close()
        return scores

    def checkpoint(self) -> None:
        """Save everything that the run needs to go on."""
        if self.world.first:
            state = {"step": self.step, "seconds": self.seconds, "passes": self._passes, **self.stepper.state()}
            state |= {"data": self.data, "former_data": self.former_data, "means": self._means.sums}
            state |= {"start": self.start}
            save_checkpoint(self.config.output, self.config, state)
        self._saved = time.monotonic()

    @property
    def _passes(self) -> int:
        """Passes of all processes together in a step."""
        return self.world.size * self.config.accumulate

    @property
    def _last(self) -> bool:
        return self.step == self.config.steps

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("passes", 1) != self._passes:
            msg = (
                f"{self.config.output}: a resumed run needs as many processes x --accumulate: expected "
                f"{state.get('passes', 1)}, got {self.world.size} x {self.config.accumulate}"
            )
            raise UsageError(msg)
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.data, self.former_data = state.get("data", []), state.get("former_data", [])
        if self.world.first:  # (of other processes' samples since the last entry nothing is kept)
            self._means.sums = state.get("means", self._means.sums)
        self.stepper.restore(state)

    def _log_step(self, log: RunLog | None) -> None:
        if self.step % self.config.log_every == 0 or self._last:
            found = self._means.take(self.world, self.stepper.device)
            if log is not None:
                log.add("train", self.step, self.seconds, lr=self.stepper.rate(self.step - 1), **found)

    def _validated(self, log: RunLog | None, on_sample: Callable[[int, Sample], None]) -> dict[str, ValidationScore]:
        """The scores, where it is time for them and this is the first process."""
        due = self.step % self.config.validate_every == 0 or self._last
        if log is None or not (self.validation and due):
            return {}
        scores = validate(
            self.averaged, self.validation, self.config, on_sample=lambda sample: on_sample(self.step, sample)
        )
        told = {task: asdict(score) | {"gain": score.gain} for task, score in scores.items()}
        log.add("validation", self.step, self.seconds, tasks=told)
        return scores

    def _checkpoint_in_turn(self) -> None:
        minutes = (time.monotonic() - self._saved) / 60
        in_time = bool(self.config.checkpoint_minutes) and minutes >= self.config.checkpoint_minutes
        if self._last or in_time or self.step % self.config.checkpoint_every == 0:
            self.checkpoint()


@contextmanager
def _deterministic(*, wanted: bool) -> Iterator[None]:
    """PyTorch refuses operations whose sums differ from run to run, while the block runs."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS's word for it, read at its first use
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
