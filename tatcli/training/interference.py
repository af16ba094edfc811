"""Task interference: how far the tasks pull the same parameters in different directions.

For each task the gradient of its L1 loss is summed over two halves of some batches. The cosine between the halves of
two tasks says whether they agree (1), don't care (0) or interfere (below 0); that between the halves of one task is
what the noise of so few batches leaves of 1, and so the yardstick.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from itertools import combinations_with_replacement
from typing import Final

import torch
from torch import Tensor, nn

from tatcli.training.losses import L1Loss, Objective
from tatcli.training.sampler import Batch, Sampler

__all__ = ["GROUPS", "is_adaptive", "task_interference"]

GROUPS: Final = ("shared", "adaptive")

Cosines = dict[str, dict[str, float]]


def is_adaptive(name: str) -> bool:
    """Whether a parameter of TAT is of its adaptive part: TREN, or a gain of a generated kernel."""
    return name.startswith("tren.") or name.endswith(".gain")


def task_interference(
    network: nn.Module,
    sampler: Sampler,
    *,
    batches: int,
    adaptive: Callable[[str], bool] = is_adaptive,
) -> Cosines:
    """Cosines between the tasks' gradients.

    Args:
        network: as it is to be judged, on the sampler's device.
        sampler: of the training samples.
        batches: at least 2; the even ones are one half, the odd ones the other.
        adaptive: parameter name -> whether it is adaptive; all others are shared.

    Returns:
        Group of parameters (those that the network has) -> "task | task" -> cosine; NaN where a gradient is zero.
    """
    objective = Objective(copy.deepcopy(network).requires_grad_(requires_grad=True), L1Loss(), "fp32")
    tasks = sorted(sampler.references)
    sums: list[dict[str, dict[str, Tensor]]] = [{}, {}]
    for number in range(batches):
        batch = sampler.batch(number)
        half = sums[number % 2]
        for task in tasks:
            for group, gradient in _gradients(objective, batch, task, adaptive).items():
                told = half.setdefault(group, {})
                told[task] = told[task] + gradient if task in told else gradient
    return {group: _cosines(sums[0][group], sums[1][group]) for group in GROUPS if group in sums[0]}


def _gradients(objective: Objective, batch: Batch, task: str, adaptive: Callable[[str], bool]) -> dict[str, Tensor]:
    """The flat gradient of one task's samples, for each group of parameters."""
    device = next(objective.parameters()).device
    chosen = [number for number, name in enumerate(batch.tasks) if name == task]
    images = (batch.lq[chosen].to(device), batch.hq[chosen].to(device), batch.mask[chosen].to(device))
    ones = torch.ones(len(chosen), device=device)
    names, parameters = zip(*objective.network.named_parameters(), strict=True)
    loss = objective(images, ones, ones.long()).loss
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    parts: dict[str, list[Tensor]] = {}
    for name, gradient in zip(names, gradients, strict=True):
        parts.setdefault(GROUPS[adaptive(name)], []).append(gradient.detach().flatten())
    return {group: torch.cat(flat) for group, flat in parts.items()}


def _cosines(even: Mapping[str, Tensor], odd: Mapping[str, Tensor]) -> dict[str, float]:
    def cosine(a: Tensor, b: Tensor) -> float:
        return float(a @ b / (a.norm() * b.norm()))

    pairs = combinations_with_replacement(sorted(even), 2)
    return {f"{a} | {b}": (cosine(even[a], odd[b]) + cosine(odd[a], even[b])) / 2 for a, b in pairs}
