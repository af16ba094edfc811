"""Trained networks made deeper: blocks are appended to their stages as identities, so that nothing is lost.

A block is x + f(x) twice, and the last product of each f starts at zero (as in Net2Net, Chen et al., ICLR 2016, and
ReZero-like initialisations): the deeper network gives what the trained one gave, and learns from there.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final

import torch
from torch import Tensor

from tatcli.errors import UsageError
from tatcli.model import Tat, TatConfig

__all__ = ["grown"]

_DEPTHS: Final = ("encoder_blocks", "latent_blocks", "decoder_blocks", "refinement_blocks")


def grown(network: Tat, config: TatConfig) -> Tat:
    """A network of these sizes that gives what ``network`` gives.

    Args:
        network: trained.
        config: of the deeper network; equal but for the numbers of blocks, and its windows.

    Returns:
        In training mode, on the CPU, with the trained weights and blocks that change nothing yet.

    Raises:
        UsageError: other sizes differ, or a stage would lose blocks.
    """
    _check(network.config, config)
    deeper = Tat(config)
    trained = network.state_dict()
    state = {name: trained.get(name, _start(name, value)) for name, value in deeper.state_dict().items()}
    deeper.load_state_dict(state)
    return deeper


def _start(name: str, value: Tensor) -> Tensor:
    """Of a weight in a new block."""
    return torch.zeros_like(value) if name.endswith(".project.weight") else value


def _check(old: TatConfig, new: TatConfig) -> None:
    for field in fields(old):
        if field.name == "windows":  # no weights depend on them
            continue
        before, after = getattr(old, field.name), getattr(new, field.name)
        if field.name not in _DEPTHS:
            if before != after:
                msg = f"--grow: expected {field.name} {before} as --init has it, got {after}; only depth can grow"
                raise UsageError(msg)
            continue
        pairs = zip(before, after, strict=True) if isinstance(before, tuple) else ((before, after),)
        if any(less < more for more, less in pairs):
            msg = f"--grow: expected at least the --init network's {field.name} {before}, got {after}"
            raise UsageError(msg)
