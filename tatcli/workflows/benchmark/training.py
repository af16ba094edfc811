"""``tat benchmark training``: samples per second of a training step, with the fused kernels and without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

from tatcli.errors import UsageError

__all__ = ["StepResult", "TrainingConfig", "TrainingReport", "benchmark_training"]

WAYS = ("kernels", "operations")
"""Through the fused kernels, and through PyTorch's operations; only the latter on a GPU or without a compiler."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Options of ``tat benchmark training``.

    Attributes:
        presets: networks, with random weights.
        patch: side of the crops.
        batch: crops in a step.
        precisions: ``fp32`` or ``bf16`` (autocast).
        device, threads: of the machine.
        repeats: timed steps of each case, the two ways in turn, after one to warm up.
    """

    presets: tuple[str, ...] = ("tat-small", "tat-base")
    patch: int = 128
    batch: int = 3
    precisions: tuple[str, ...] = ("fp32", "bf16")
    device: str = "auto"
    threads: int | None = None
    repeats: int = 5

    def __post_init__(self) -> None:
        for option, number in (("--patch", self.patch), ("--batch", self.batch), ("--repeats", self.repeats)):
            if number < 1:
                msg = f"{option}: expected at least 1, got {number}"
                raise UsageError(msg)
        if not self.presets:
            msg = "--preset: expected at least one value, got none"
            raise UsageError(msg)
        if self.patch % 8:
            msg = f"--patch: expected a multiple of 8, got {self.patch}"
            raise UsageError(msg)
        unknown = [name for name in self.precisions if name not in ("fp32", "bf16")]
        if unknown or not self.precisions:
            msg = f"--precision: expected fp32 or bf16, got {', '.join(unknown) or 'none'}"
            raise UsageError(msg)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One case: a preset in a precision, one way.

    Attributes:
        preset, precision: as asked for.
        way: ``kernels`` or ``operations``.
        samples_per_s: the median of the repeats.
        samples_per_s_min, samples_per_s_max: their spread.
    """

    preset: str
    precision: str
    way: str
    samples_per_s: float
    samples_per_s_min: float
    samples_per_s_max: float


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """All cases.

    Attributes:
        patch, batch: of a step.
        device, threads: of the machine.
        why_no_kernels: empty where there are some.
        results: the cases.
    """

    patch: int
    batch: int
    device: str
    threads: int
    why_no_kernels: str
    results: tuple[StepResult, ...]

    def to_json(self) -> str:
        """Everything."""
        from tatcli.reporting.run_report import to_json

        return to_json(self)


def benchmark_training(
    config: TrainingConfig, *, progress: Callable[[str, int, int], None] = lambda *_: None
) -> TrainingReport:
    """Time optimiser steps (forward, balanced loss, backward, clipping, AdamW) on random crops.

    Args:
        config: what to measure.
        progress: is called with (what is being done, done, in all).

    Raises:
        UsageError: an unknown preset.
        DeviceError: the device is absent, or out of memory.
    """
    from tatcli.inference.gpus import check_it_computes
    from tatcli.inference.runtime import prepare_runtime
    from tatcli.model import Tat, find_preset
    from tatcli.model.fused import without_kernels
    from tatcli.model.native_library import native_library, why_not_native
    from tatcli.workflows.training.room import check_pass, memory_watched

    runtime = prepare_runtime(device=config.device, precision="fp32", threads=config.threads)
    check_it_computes(runtime.device)
    kernels = runtime.device.type == "cpu" and native_library() is not None
    cases = list(product(config.presets, config.precisions))
    results: list[StepResult] = []
    for preset, precision in cases:
        with without_kernels():  # (which take less)
            check_pass(
                "benchmark training",
                Tat(find_preset(preset)),
                patch=config.patch,
                samples=config.batch,
                precision=precision,
                device=runtime.device,
            )
    for number, (preset, precision) in enumerate(cases):
        progress(f"{preset} {precision}", number, len(cases))
        ways = WAYS if kernels else WAYS[1:]
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        with memory_watched("benchmark training", str(runtime.device)):
            step = _step(preset, config, precision=precision, device=runtime.device)
            for repeat in range(config.repeats + 1):
                for way in ways:
                    with _way(way):
                        start = time.perf_counter()
                        step()
                        runtime.synchronise()
                        if repeat:  # the first one warms up
                            seconds[way].append(time.perf_counter() - start)
        results += [_result(preset, precision, way, config.batch, times) for way, times in seconds.items()]
    progress("done", len(cases), len(cases))
    return TrainingReport(
        patch=config.patch,
        batch=config.batch,
        device=runtime.device_name,
        threads=runtime.threads,
        why_no_kernels="" if kernels else why_not_native() or "the device is no CPU",
        results=tuple(results),
    )


def _way(way: str) -> AbstractContextManager[None]:
    from tatcli.model.fused import without_kernels

    return nullcontext() if way == "kernels" else without_kernels()


def _result(preset: str, precision: str, way: str, batch: int, seconds: list[float]) -> StepResult:
    return StepResult(
        preset=preset,
        precision=precision,
        way=way,
        samples_per_s=batch / statistics.median(seconds),
        samples_per_s_min=batch / max(seconds),
        samples_per_s_max=batch / min(seconds),
    )


def _step(preset: str, config: TrainingConfig, *, precision: str, device: Any) -> Callable[[], None]:
    """A training step on the same random crops each time."""
    import torch
    from torch import nn

    from tatcli.model import Tat, find_preset
    from tatcli.training.losses import BalancedTaskLoss, Objective

    torch.manual_seed(0)
    objective = Objective(Tat(find_preset(preset)), BalancedTaskLoss(), precision).to(device).train()
    parameters = list(objective.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-5)
    hq = torch.rand(config.batch, 1, config.patch, config.patch, device=device)
    lq, mask, weights = hq + 0.05 * torch.randn_like(hq), torch.ones_like(hq), torch.ones(config.batch, device=device)
    tasks = torch.zeros(config.batch, dtype=torch.long, device=device)

    def step() -> None:
        loss = objective((lq, hq, mask), weights, tasks).loss
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    return step
