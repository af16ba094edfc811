"""The network that a run trains: TAT or one that it is compared with, from nothing or from weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tatcli.baselines.networks import find_network, load_comparison_weights
from tatcli.baselines.red_cnn import RedCnn
from tatcli.errors import UsageError, WeightsError
from tatcli.model.config import find_preset, preset_of
from tatcli.model.tat import Tat
from tatcli.model.weights import load_weights
from tatcli.training.config import WITH_WIDTH, TrainConfig
from tatcli.training.growth import grown

__all__ = ["TAT", "TrainedNetwork", "make_network"]

TAT = "tat"


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network ready to be trained.

    Attributes:
        name: ``tat``, or a comparison network's.
        module: it.
        config: its sizes, for its card.
    """

    name: str
    module: nn.Module
    config: Mapping[str, Any]


def make_network(config: TrainConfig) -> TrainedNetwork:
    """The network of these options.

    A new one starts as the identity: its last layer is zero, so that the first steps improve on the input instead of
    finding it. The config's seed decides the rest.

    Raises:
        UsageError: an unknown network or preset; options that don't go with it.
        WeightsError: the weights to start from are missing, damaged, or of another network.
    """
    torch.manual_seed(config.seed)
    if config.network == TAT:
        _without_width(config)
        network = _tat(config)
        return TrainedNetwork(TAT, network, network.config.to_dict())
    if config.grow:
        msg = f"--grow: expected with --network tat, got {config.network}"
        raise UsageError(msg)
    known = find_network(config.network)
    sizes = _sizes(config, known.name)
    module = known.build(sizes)
    if config.init:
        loaded, _ = load_comparison_weights(known.name, Path(config.init))
        try:
            module.load_state_dict(loaded.state_dict())
        except RuntimeError as error:
            msg = f"{config.init}: expected weights of {known.name} with the sizes of --preset and --network-width"
            raise WeightsError(msg + f", got: {' '.join(str(error).split())[:200]}") from error
    else:
        _start_from_identity(module)
    return TrainedNetwork(known.name, module, sizes)


def _tat(config: TrainConfig) -> Tat:
    if config.init:
        start = load_weights(config.init)[0]
        if config.grow:
            return grown(start, find_preset(config.size))
        if config.preset and not start.config.is_size_of(find_preset(config.preset)):
            found = preset_of(start.config) or "another"
            msg = f"--preset {config.preset}: expected the size of --init {config.init}, which is {found}"
            raise UsageError(msg + "; leave --preset out, or --grow them")
        return start
    if config.grow:
        msg = "--grow: expected --init with the network to deepen, got none"
        raise UsageError(msg)
    network = Tat(find_preset(config.size))
    _start_from_identity(network)
    return network


def _sizes(config: TrainConfig, name: str) -> dict[str, Any]:
    if name in WITH_WIDTH:
        return {"width": config.network_width} if config.network_width else {}
    _without_width(config)
    return find_preset(config.size).to_dict()


def _without_width(config: TrainConfig) -> None:
    if config.network_width:
        known = f"{', '.join(WITH_WIDTH[:-1])} or {WITH_WIDTH[-1]}"
        msg = f"--network-width: expected with --network {known}; the sizes of {config.network} are --preset's"
        raise UsageError(msg)


def _start_from_identity(network: nn.Module) -> None:
    """Zero the last layer: every network adds its result to its input."""
    last = network.decoder[-1] if isinstance(network, RedCnn) else network.get_submodule("output")
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
