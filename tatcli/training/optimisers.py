"""What moves the weights: AdamW for all of them, or Muon for those that are matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tatcli.training.config import TrainConfig
from tatcli.training.distributed import World

__all__ = ["Muon", "is_matrix", "make_optimisers", "orthogonalised"]

BETAS: Final = (0.9, 0.99)
"""AdamW's."""
LEAST_INPUTS: Final = 8
"""Rows shorter than this are no matrix worth orthogonalising."""
ADAMW_RMS: Final = 0.2
"""Root mean square of AdamW's usual updates at rate 1, to which Muon's are scaled (Liu et al., section 2.2)."""
QUINTIC: Final = (3.4445, -4.7750, 2.0315)
"""a, b, c of the iteration X <- a X + b (X X') X + c (X X')^2 X (Jordan et al.)."""
ITERATIONS: Final = 5


def make_optimisers(
    network: nn.Module, loss: nn.Module, config: TrainConfig, *, world: World | None = None
) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW, and after it Muon if the config asks for it, which then has the network's matrices.

    Args:
        network: that is trained.
        loss: whose parameters, if it has any, are trained with it, always by AdamW.
        config: of the run.
        world: the processes that train it.
    """
    chosen = [weight for weight in network.parameters() if config.optimizer == "muon" and is_matrix(weight)]
    taken = {id(weight) for weight in chosen}
    others = [weight for weight in (*network.parameters(), *loss.parameters()) if id(weight) not in taken]
    adamw = torch.optim.AdamW(others, lr=config.learning_rate, betas=BETAS, weight_decay=config.weight_decay)
    if not chosen:
        return (adamw,)
    return adamw, Muon(chosen, lr=config.learning_rate, weight_decay=config.weight_decay, world=world)


def is_matrix(weight: Tensor) -> bool:
    """Whether it maps several channels to several: the weights of linear layers and of full convolutions.

    Depthwise kernels, norms, biases, scales, and the network's first and last convolution, whose images have one
    channel, are not.
    """
    depthwise = weight.ndim == 4 and weight.shape[1] == 1
    return weight.ndim >= 2 and not depthwise and weight.shape[0] > 1 and weight[0].numel() >= LEAST_INPUTS


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: all directions of a matrix are learned at one pace, not the strongest ones first.

    The update of a weight, seen as a matrix of (outputs, all inputs), is 0.2 sqrt(max(rows, columns)) times the nearest
    semi-orthogonal matrix to its Nesterov momentum, so that its size is AdamW's, and rates and decay found for AdamW
    hold for it. Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the
    scale: J. Liu et al., "Muon is scalable for LLM training", arXiv:2502.16982, 2025.

    Args:
        weights: of two or more axes.
        lr: learning rate.
        momentum: share of the past that is kept.
        weight_decay: per step and rate, as AdamW's.
        world: the processes that have the same weights and gradients, and share the iterations between them.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        world: World | None = None,
    ) -> None:
        self.world = world or World()
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient.

        Args:
            closure: not taken: the gradients are there already.
        """
        if closure is not None:
            msg = "Muon.step: expected no closure, got one; compute the gradients before"
            raise ValueError(msg)
        for group in self.param_groups:
            moving = [weight for weight in group["params"] if weight.grad is not None]
            for weight, update in zip(moving, self._updates(moving, group["momentum"]), strict=True):
                scale = ADAMW_RMS * max(len(weight), weight[0].numel()) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * scale)

    def _updates(self, weights: list[Tensor], momentum: float) -> list[Tensor]:
        """The orthogonalised momentum of each weight; every process computes its part of them, all get all."""
        owners = _owners([(len(weight), weight[0].numel()) for weight in weights], self.world.size)
        updates = []
        for weight, owner in zip(weights, owners, strict=True):
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            gradient = cast("Tensor", weight.grad)
            past = state["momentum"].mul_(momentum).add_(gradient)
            if owner == self.world.rank:
                direction = gradient.add(past, alpha=momentum).reshape(len(weight), -1)
                updates.append(orthogonalised(direction).reshape(weight.shape))
            else:
                updates.append(weight.new_zeros(weight.shape))
        if self.world.size == 1:
            return updates
        shared = self.world.total(torch.cat([update.flatten() for update in updates]))
        parts = torch.split(shared, [update.numel() for update in updates])
        return [part.view(update.shape) for part, update in zip(parts, updates, strict=True)]


def _owners(shapes: list[tuple[int, int]], processes: int) -> list[int]:
    """Which process orthogonalises each matrix of (rows, columns): the costliest first, whoever has the least to do."""
    costs = [min(shape) ** 2 * (2 * max(shape) + min(shape)) for shape in shapes]
    load, owners = [0] * processes, [0] * len(shapes)
    for index in sorted(range(len(shapes)), key=lambda index: -costs[index]):
        owners[index] = load.index(min(load))
        load[owners[index]] += costs[index]
    return owners


def orthogonalised(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """About U V' of the matrix U S V': its singular values are brought between 0.7 and 1.2; one of zeros stays so.

    Five Newton-Schulz iterations in float32 instead of a decomposition. Singular values below a thousandth of the
    matrix's norm may end lower.
    """
    a, b, c = QUINTIC
    wide = matrix.float() if matrix.shape[0] <= matrix.shape[1] else matrix.float().T
    found = wide / wide.norm().clamp(min=1e-20)
    for _ in range(ITERATIONS):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    upright: Tensor = found if matrix.shape[0] <= matrix.shape[1] else found.T
    return upright.to(matrix.dtype)
