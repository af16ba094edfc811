"""The training loop: one optimiser for network and loss balancer, cosine schedule, EMA, validation, checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tatcli.errors import TatError
from tatcli.model.config import find_preset
from tatcli.model.loss_balancing import LossBalancer
from tatcli.model.tat import Tat
from tatcli.training.checkpoints import load_checkpoint, save_checkpoint
from tatcli.training.config import TrainConfig
from tatcli.training.ema import Ema
from tatcli.training.losses import batch_loss
from tatcli.training.references import Reference
from tatcli.training.sampler import Batch, Sampler
from tatcli.training.validation import ValidationScore, validate

__all__ = ["Progress", "Trainer", "TrainingDiverged"]

LOG = "log.jsonl"
END_RATE = 1e-7
"""Learning rate at the end of the cosine."""


class TrainingDiverged(TatError):
    """The loss is no longer finite."""


@dataclass(frozen=True)
class Progress:
    """State after a step, for a progress bar."""

    step: int
    loss: float
    l1: dict[str, float]


class Trainer:
    """A run in a folder: starts it, or goes on from its checkpoint.

    Args:
        config: options of the run.
        references: training scans of each task.
        validation: validation scans of each task (may be empty).
        start: weights to start from instead of a random initialisation.
    """

    def __init__(
        self,
        config: TrainConfig,
        references: Mapping[str, Sequence[Reference]],
        validation: Mapping[str, Sequence[Reference]],
        *,
        start: Tat | None = None,
    ) -> None:
        self.config = config
        self.validation = validation
        self.sampler = Sampler(references, config)
        torch.manual_seed(config.seed)
        self.network = Tat(start.config if start else find_preset(config.preset)).to(config.device)
        if start:
            self.network.load_state_dict(start.state_dict())
        else:
            # Start from the identity: the first steps then improve on the input instead of finding it.
            nn.init.zeros_(self.network.output.weight)
        self.balancer = LossBalancer().to(config.device)
        self.parameters = [*self.network.parameters(), *self.balancer.parameters()]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.ema = Ema(self.network, config.ema)
        self.step = 0
        self.seconds = 0.0
        state = load_checkpoint(config.output, config)
        if state is not None:
            self._restore(state)

    def run(self, *, on_step: Callable[[Progress], None] = lambda _: None) -> dict[str, ValidationScore]:
        """Train to the last step; returns the last validation.

        Raises:
            TrainingDiverged: the loss became NaN or infinite; the last checkpoint is from before.
        """
        config = self.config
        started = time.monotonic() - self.seconds
        scores: dict[str, ValidationScore] = {}
        sums = _TaskMeans()
        try:
            for batch in self.sampler.batches(self.step, config.steps):
                loss, l1, sigma = self._update(batch)
                sums.add(batch.tasks, l1, sigma)
                self.step += 1
                self.seconds = time.monotonic() - started
                on_step(Progress(self.step, loss, sums.means("l1")))
                last = self.step == config.steps
                if self.step % config.checkpoint_every == 0 or last:
                    self._log("train", lr=self._rate(self.step), **sums.take())
                    self.checkpoint()
                if self.validation and (self.step % config.validate_every == 0 or last):
                    scores = validate(self.ema.network, self.validation, config)
                    self._log(
                        "validation",
                        tasks={task: asdict(score) | {"gain": score.gain} for task, score in scores.items()},
                    )
        except KeyboardInterrupt:
            self.checkpoint()
            raise
        return scores

    def checkpoint(self) -> None:
        """Save everything that the run needs to go on."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "balancer": self.balancer.state_dict(),
            "ema": self.ema.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_checkpoint(self.config.output, self.config, state)

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.network.load_state_dict(state["network"])
        self.balancer.load_state_dict(state["balancer"])
        self.ema.network.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])

    def _rate(self, step: int) -> float:
        """Learning rate of this step: linear warm-up, then cosine."""
        config = self.config
        if step < config.warmup:
            return config.learning_rate * (step + 1) / config.warmup
        done = (step - config.warmup) / max(config.steps - config.warmup, 1)
        return END_RATE + (config.learning_rate - END_RATE) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def _update(self, batch: Batch) -> tuple[float, Tensor, Tensor]:
        """One optimiser step: (loss, L1 of each sample, sigma of each sample)."""
        config = self.config
        lq, hq, mask = (part.to(config.device) for part in (batch.lq, batch.hq, batch.mask))
        weights = torch.tensor([config.weight(task) for task in batch.tasks], device=config.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(self.step)
        with torch.autocast(lq.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            restored = self.network(lq)
        loss, sigma, l1 = batch_loss(config.loss, self.balancer, (restored, hq, lq, mask), weights)
        value = float(loss.detach())
        if not math.isfinite(value):
            samples = zip(batch.scans, batch.tasks, l1.tolist(), strict=True)
            bad = (
                ", ".join(f"{scan} ({task})" for scan, task, l1_ in samples if not math.isfinite(l1_)) or "every sample"
            )
            msg = f"train: the loss became {value} at step {self.step}, in {bad}; lower --lr or drop the scan"
            raise TrainingDiverged(msg)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, config.clip)
        self.optimiser.step()
        self.ema.update(self.network, self.step)
        return value, l1.cpu(), sigma.cpu()

    def _log(self, kind: str, **fields: Any) -> None:
        line = {"kind": kind, "step": self.step, "seconds": round(self.seconds, 1), **fields}
        with (self.config.output / LOG).open("a") as stream:
            stream.write(json.dumps(line) + "\n")


class _TaskMeans:
    """Running means of each task's loss and sigma since the last log line."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, list[float]]] = {"l1": {}, "sigma": {}}

    def add(self, tasks: Sequence[str], l1: Tensor, sigma: Tensor) -> None:
        for kind, values in (("l1", l1), ("sigma", sigma)):
            for task, value in zip(tasks, values.tolist(), strict=True):
                self.values[kind].setdefault(task, []).append(value)

    def means(self, kind: str) -> dict[str, float]:
        return {task: sum(values) / len(values) for task, values in sorted(self.values[kind].items())}

    def take(self) -> dict[str, dict[str, float]]:
        means = {kind: self.means(kind) for kind in self.values}
        self.values = {kind: {} for kind in self.values}
        return means
