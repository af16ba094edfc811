"""The network that a run trains: TAT or one that it is compared with, from nothing or from weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tatcli.baselines.networks import find_network, load_comparison_weights
from tatcli.baselines.red_cnn import RedCnn
from tatcli.errors import UsageError, WeightsError
from tatcli.model.config import TatConfig, find_preset, preset_of
from tatcli.model.tat import Tat
from tatcli.model.weights import WeightsCard, load_weights
from tatcli.tasks import MRI_RANGES, TASKS
from tatcli.training.checkpoints import started_from
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
        init: name and hash of the weights that it starts from, for its card; empty: from nothing.
        doubts: what makes the outcome doubtful, one line each.
    """

    name: str
    module: nn.Module
    config: Mapping[str, Any]
    init: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @property
    def start(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that the run goes on where the weights it started from are gone or others."""
        return {"network": self.name, "sizes": dict(self.config), "init": dict(self.init)}


def make_network(config: TrainConfig) -> TrainedNetwork:
    """The network of these options.

    A new one starts as the identity: its last layer is zero, so that the first steps improve on the input instead of
    finding it. The config's seed decides the rest. Where ``config.output`` holds a run that goes on, the weights that
    it started from aren't needed any more: its checkpoint has the network's sizes, and gives it its weights.

    Raises:
        UsageError: an unknown network or preset; options that don't go with it.
        WeightsError: the weights to start from are missing, damaged, or of another network.
    """
    torch.manual_seed(config.seed)
    if config.init and (start := started_from(config.output)).get("network") == config.network:
        return _going_on(start)
    if config.network == TAT:
        _without_width(config)
        return _tat(config)
    if config.grow:
        msg = f"--grow: expected with --network tat, got {config.network}"
        raise UsageError(msg)
    known = find_network(config.network)
    sizes = _sizes(config, known.name)
    module = known.build(sizes)
    if not config.init:
        _start_from_identity(module)
        return TrainedNetwork(known.name, module, sizes)
    loaded, card = load_comparison_weights(known.name, Path(config.init))
    try:
        module.load_state_dict(loaded.state_dict())
    except RuntimeError as error:
        msg = f"{config.init}: expected weights of {known.name} with the sizes of --preset and --network-width"
        raise WeightsError(msg + f", got: {' '.join(str(error).split())[:200]}") from error
    return TrainedNetwork(known.name, module, sizes, _told(card), _doubts(card, config))


def _going_on(start: Mapping[str, Any]) -> TrainedNetwork:
    """The network of a run that has a checkpoint."""
    name, sizes = str(start["network"]), dict(start["sizes"])
    module: nn.Module = Tat(TatConfig.from_dict(sizes)) if name == TAT else find_network(name).build(sizes)
    return TrainedNetwork(name, module, sizes, dict(start["init"]))


def _told(card: WeightsCard) -> dict[str, str]:
    return {"name": card.name, "sha256": card.sha256}


def _doubts(card: WeightsCard, config: TrainConfig) -> tuple[str, ...]:
    """Tasks whose scans the weights to start from were shown in another range than the run shows them in."""
    names = {rule: name for name, rule in MRI_RANGES.items()}
    found = []
    for task in config.tasks:
        now = config.intensity(TASKS[task])
        before = card.tasks[task].intensity if task in card.tasks else now
        if before != now:
            told = f"--init {config.init}: {task} was trained in the network range {names.get(before, before)}"
            found.append(f"{told}, and goes on in {names.get(now, now)}; see --mri-range")
    return tuple(found)


def _tat(config: TrainConfig) -> TrainedNetwork:
    if not config.init:
        if config.grow:
            msg = "--grow: expected --init with the network to deepen, got none"
            raise UsageError(msg)
        network = Tat(find_preset(config.size))
        _start_from_identity(network)
        return TrainedNetwork(TAT, network, network.config.to_dict())
    network, card = load_weights(config.init)
    if config.grow:
        network = grown(network, find_preset(config.size))
    elif config.preset and not network.config.is_size_of(find_preset(config.preset)):
        found = preset_of(network.config) or "another"
        msg = f"--preset {config.preset}: expected the size of --init {config.init}, which is {found}"
        raise UsageError(msg + "; leave --preset out, or --grow them")
    return TrainedNetwork(TAT, network, network.config.to_dict(), _told(card), _doubts(card, config))


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
