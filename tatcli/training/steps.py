"""One update: forward and backward in every pass and process, gradients clipped, weights and their average moved."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tatcli.errors import UsageError
from tatcli.model.loss_balancing import LossBalancer
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.distributed import World
from tatcli.training.ema import Ema
from tatcli.training.losses import Objective, make_loss
from tatcli.training.optimisers import make_optimisers
from tatcli.training.sampler import Batch
from tatcli.training.scored_range import scored_range
from tatcli.training.teacher import Teacher, TeachingNetwork

__all__ = ["StepResult", "Stepper", "TrainingDiverged"]

_OPTIMISERS: Final = ("optimiser", "muon")
"""Their names in a checkpoint, in the order of ``make_optimisers``."""
END_RATE: Final = 1e-7
"""Learning rate at the end of the cosine."""
LEAST_INPUT_ERROR: Final = 0.01
"""Added to a sample's input error where its loss is judged (network range), so that easy ones aren't judged harshly."""
IDLE_STEPS: Final = 100
"""Steps in a row that may change nothing of any input, before the network counts as dead."""
_LEAST_CHANGE: Final = 1e-5
"""Of a sample's error, relative to its input's: a network that learns is far above it within the first steps."""


class TrainingDiverged(UsageError):
    """The loss is no longer finite, or far above what doing nothing costs, or the network does nothing any more."""


@dataclass(frozen=True, eq=False)
class StepResult:
    """What a step did.

    Attributes:
        loss: mean over this process's samples.
        tasks: number of each sample's task.
        l1, sigma: of each sample.
        stopped: whether any process was asked to stop.
    """

    loss: float
    tasks: Tensor
    l1: Tensor
    sigma: Tensor
    stopped: bool


class Stepper:
    """Network, loss, optimiser, averaged weights: all that a step changes.

    Args:
        network: on the config's device.
        config: of the run.
        world: the processes that train together; their group is joined already.
        teachers: trained networks whose restorations are mixed into the targets.
    """

    def __init__(
        self, network: nn.Module, config: TrainConfig, *, world: World, teachers: Sequence[TeachingNetwork] = ()
    ) -> None:
        self.config, self.world = config, world
        self.device = torch.device(config.device)
        self.network = network.train()
        ranges = [scored_range(TASKS[task], config.intensity(TASKS[task])) for task in config.tasks]
        self.loss = make_loss(config.loss, ranges=ranges).to(self.device)
        self.parameters = [*network.parameters(), *self.loss.parameters()]
        self.optimisers = make_optimisers(network, self.loss, config, world=world)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.ema = Ema(network, config.ema)
        for known in teachers:
            known.module.to(self.device)
        shares = {task: config.taught(task) for task in config.tasks}
        self.teacher = Teacher(teachers, shares, config.precision) if teachers else None
        self._idle = 0
        objective = Objective(network, self.loss, config.precision)
        self.objective: nn.Module = objective if world.size == 1 else DistributedDataParallel(objective)

    def rate(self, step: int) -> float:
        """Learning rate of this step: linear warm-up, then cosine."""
        config = self.config
        if step < config.warmup:
            return config.learning_rate * (step + 1) / config.warmup
        done = (step - config.warmup) / max(config.steps - config.warmup, 1)
        return END_RATE + (config.learning_rate - END_RATE) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def update(self, batch: Batch, step: int, *, stop: bool = False) -> StepResult:
        """One optimiser step.

        Args:
            batch: this process's samples, of all its passes.
            step: counted from 0.
            stop: whether this process was asked to stop after it.

        Raises:
            TrainingDiverged: a loss or gradient is not finite, or a sample's error exploded, in any process, or the
                network has given back its inputs for 100 steps; nothing was changed.
        """
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.rate(step)
            optimiser.zero_grad(set_to_none=True)
        parts = batch.split(self.config.accumulate)
        passes = [self._pass(part, last=part is parts[-1]) for part in parts]
        losses, tasks, l1, sigma, inputs = (torch.cat(column) for column in zip(*passes, strict=True))
        bad = self._bad_samples(batch, l1, inputs)
        moves = bool(((l1 - inputs).abs() > _LEAST_CHANGE * inputs).any())
        diverged, stopped, alive = self.world.any([bool(bad), stop, moves], self.device)
        if diverged:
            found = ", ".join(self.world.gathered(bad))
            msg = f"train: the loss became {float(losses.mean()):g} at step {step}, in {found}"
            raise TrainingDiverged(msg + "; lower --lr or drop the scan")
        self._idle = 0 if alive else self._idle + 1
        if self._idle == IDLE_STEPS:  # features that no GELU or ReLU passes get no gradients
            msg = f"train: the network has given back its input as it was for {IDLE_STEPS} steps, up to step {step}: "
            raise TrainingDiverged(msg + "its features died; begin a new run with another --seed, or a lower --lr")
        if self._descend(batch, l1, step):
            self.ema.update(self.network, step)
        return StepResult(float(losses.mean()), tasks.cpu(), l1.cpu(), sigma.cpu(), stopped)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "network": self.network.state_dict(),
            "loss": self.loss.state_dict(),
            "ema": self.ema.network.state_dict(),
            **{name: found.state_dict() for name, found in zip(_OPTIMISERS, self.optimisers, strict=False)},
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state; those of versions that knew no other loss with parameters than the balanced one, too."""
        if "loss" not in state:
            balanced = {f"balancer.{key}": value for key, value in state["balancer"].items()}
            state = state | {"loss": balanced if self.config.loss == "balanced" else {}, "scaler": {}}
            group = state["optimiser"]["param_groups"][0]
            group["params"] = group["params"][: len(self.parameters)]
        self.network.load_state_dict(state["network"])
        self.loss.load_state_dict(state["loss"])
        self.ema.network.load_state_dict(state["ema"])
        for name, optimiser in zip(_OPTIMISERS, self.optimisers, strict=False):
            optimiser.load_state_dict(state[name])
        self.scaler.load_state_dict(state["scaler"])

    def _pass(self, part: Batch, *, last: bool) -> tuple[Tensor, ...]:
        """Gradients of one part of the batch: (loss, tasks, L1, sigma, input's L1 error), one for each sample."""
        config = self.config
        quick = self.device.type == "cuda"  # (on Apple's GPUs such copies may read what is no longer there)
        lq, hq, mask = (tensor.to(self.device, non_blocking=quick) for tensor in (part.lq, part.hq, part.mask))
        weights = torch.tensor([config.weight(task) for task in part.tasks], device=self.device)
        tasks = torch.tensor([config.tasks.index(task) for task in part.tasks], device=self.device)
        if self.teacher:
            hq = self.teacher.targets(lq, hq, part.views, part.tasks)
        with self._sharing(last=last):
            found = self.objective((lq, hq, mask), weights, tasks)
            torch.autograd.backward(self.scaler.scale(found.loss / config.accumulate))
        inputs = LossBalancer.features(lq, hq, lq, mask)[1]
        return found.loss.detach().expand(len(tasks)), tasks, found.l1, found.sigma, inputs

    @contextmanager
    def _sharing(self, *, last: bool) -> Iterator[None]:
        """Gradients are shared between processes in the last pass only."""
        if not isinstance(self.objective, DistributedDataParallel):
            yield
            return
        with warnings.catch_warnings(), nullcontext() if last else self.objective.no_sync():
            # said of axes of length 1, whose strides mean nothing
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield

    def _bad_samples(self, batch: Batch, l1: Tensor, inputs: Tensor) -> list[str]:
        """Names of the samples whose error is not finite, or has exploded."""
        limit = self.config.explode
        bad = ~l1.isfinite() | ((l1 > limit * (inputs + LEAST_INPUT_ERROR)) if limit else torch.zeros_like(l1) > 0)
        flagged = bad.tolist()
        return [_named(batch, number) for number, is_bad in enumerate(flagged) if is_bad]

    def _descend(self, batch: Batch, l1: Tensor, step: int) -> bool:
        """Clip, and move the weights; False where fp16's gradients overflowed, and nothing was moved."""
        for optimiser in self.optimisers:
            self.scaler.unscale_(optimiser)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.clip or math.inf))
        if not math.isfinite(norm):
            if self.scaler.is_enabled():
                # The scaler would skip the optimiser that overflowed alone; clipping made NaN of the other's too.
                self.scaler.update()  # (scales less from now on)
                return False
            worst = self.world.gathered([_named(batch, int(l1.argmax()))])
            msg = f"train: the gradients became {norm:g} at step {step}; the largest losses are in "
            raise TrainingDiverged(msg + f"{', '.join(worst)}; lower --lr or drop the scan")
        for optimiser in self.optimisers:
            self.scaler.step(optimiser)
        self.scaler.update()
        return True


def _named(batch: Batch, number: int) -> str:
    return f"{batch.scans[number]} ({batch.tasks[number]})"
