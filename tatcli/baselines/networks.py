"""Comparison networks: the registry, and their weights (safetensors with a card beside them, verified by hash)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tatcli.errors import OutputError, UsageError, WeightsError, reason_of
from tatcli.model.config import TatConfig
from tatcli.model.weights import TaskCard, WeightsCard, card_fields, file_sha256, load_weights
from tatcli.volumes.replacing import replaced

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "NETWORKS",
    "ComparisonCard",
    "ComparisonNetwork",
    "find_network",
    "load_any_weights",
    "load_comparison_weights",
    "save_comparison_weights",
]


@dataclass(frozen=True)
class ComparisonNetwork:
    """A network that TAT is compared with.

    Attributes:
        name: the CLI name.
        summary: one line with its paper.
        build: config -> the untrained network, (batch, 1, rows, columns) -> the same shape in the network's range.
    """

    name: str
    summary: str
    build: Callable[[Mapping[str, Any]], nn.Module]


@dataclass(frozen=True, kw_only=True)
class ComparisonCard:
    """What is known of a trained comparison network.

    Attributes:
        network: its name in :data:`NETWORKS`.
        config: what its ``build`` takes.
        tasks: what it was trained for, with the intensity rules.
        training: data, recipe, steps.
        limits: what users should know.
        license: of the weights.
    """

    network: str
    config: Mapping[str, Any]
    tasks: Mapping[str, TaskCard]
    training: Mapping[str, Any] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    license: str = "unknown"


def _unet(config: Mapping[str, Any]) -> nn.Module:
    from tatcli.baselines.unet import UNet

    return UNet(**config)


def _red_cnn(config: Mapping[str, Any]) -> nn.Module:
    from tatcli.baselines.red_cnn import RedCnn

    return RedCnn(**config)


def _edsr(config: Mapping[str, Any]) -> nn.Module:
    from tatcli.baselines.edsr import Edsr

    return Edsr(**config)


def _static_tat(config: Mapping[str, Any]) -> nn.Module:
    from tatcli.baselines.static_tat import StaticTat

    return StaticTat(TatConfig.from_dict(dict(config)))


def _routed(config: Mapping[str, Any]) -> nn.Module:
    from tatcli.baselines.routed import RoutedTat

    own = {key: value for key, value in config.items() if key in ("size", "entries", "experts")}
    return RoutedTat(TatConfig.from_dict({k: v for k, v in config.items() if k not in own}), **own)


NETWORKS: Final[dict[str, ComparisonNetwork]] = {
    network.name: network
    for network in (
        ComparisonNetwork("static-tat", "TAT with static kernels, a Restormer (Zamir et al., CVPR 2022)", _static_tat),
        ComparisonNetwork("unet", "residual U-Net (Ronneberger et al. 2015; Jin et al., IEEE TIP 2017)", _unet),
        ComparisonNetwork("red-cnn", "RED-CNN (Chen et al., IEEE TMI 2017)", _red_cnn),
        ComparisonNetwork("edsr", "EDSR on the coarse grid, for MRI (Lim et al., CVPR Workshops 2017)", _edsr),
        ComparisonNetwork("routed", "static TAT with routing of AMIR's type (Yang et al., MICCAI 2024)", _routed),
    )
}


def find_network(name: str) -> ComparisonNetwork:
    """The network of this name.

    Raises:
        UsageError: no such network; the message lists the known ones.
    """
    network = NETWORKS.get(name.strip().lower())
    if network is None:
        msg = f"unknown network {name!r}: expected one of {', '.join(['tat', *NETWORKS])}"
        raise UsageError(msg)
    return network


def save_comparison_weights(network: nn.Module, path: Path, *, card: ComparisonCard, overwrite: bool = False) -> None:
    """Write a comparison network's weights as safetensors, and a card beside them.

    Args:
        network: trained.
        path: ending in ``.safetensors``.
        card: what is known of it.
        overwrite: whether the file and its card may exist.

    Raises:
        UsageError: an unknown network.
        WeightsError: the path doesn't end in ``.safetensors``.
        OutputError: a file exists or can't be written.
    """
    import safetensors.torch

    card_path = path.with_suffix(".json")
    if path.suffix != ".safetensors":
        msg = f"{path}: expected a path ending in .safetensors"
        raise WeightsError(msg)
    for target in (path, card_path):
        if target.exists() and not overwrite:
            msg = f"{target}: exists; choose another path"
            raise OutputError(msg)
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    data = safetensors.torch.save(tensors, metadata={"format": "pt"})
    told = {
        "name": path.stem,
        "network": find_network(card.network).name,
        "config": dict(card.config),
        "tasks": {task: known.to_dict() for task, known in card.tasks.items()},
        "training": dict(card.training),
        "limits": list(card.limits),
        "license": card.license,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    for target, content in ((path, data), (card_path, (json.dumps(told, indent=2) + "\n").encode())):
        with replaced(target, extension=target.suffix) as temporary:
            temporary.write_bytes(content)


def load_comparison_weights(name: str, path: Path) -> tuple[nn.Module, WeightsCard]:
    """A trained comparison network (float32, eval mode, CPU) and what is known of it.

    Args:
        name: of the network in :data:`NETWORKS`; must be what the card says.
        path: the ``.safetensors`` file, its card beside it.

    Raises:
        UsageError: an unknown network.
        WeightsError: missing, damaged, or of another network.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    known = find_network(name)
    try:
        fields = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        wanted, config, sha256 = str(fields["network"]), dict(fields["config"]), str(fields["sha256"])
        tasks = {task: TaskCard.from_dict(card) for task, card in fields["tasks"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path}: expected a network's card {path.with_suffix('.json').name} beside it"
        msg += f", got {f'one without {error}' if isinstance(error, KeyError) else reason_of(error)}"
        raise WeightsError(msg) from error
    if wanted != known.name:
        msg = f"{path}: expected weights of {known.name}, got those of {wanted}; say --networks {wanted}={path}"
        raise WeightsError(msg)
    if not path.is_file() or file_sha256(path) != sha256:
        msg = f"{path}: expected a file with the card's sha256, got none or another; it is damaged or not the card's"
        raise WeightsError(msg)
    try:
        network = known.build(config)
        network.load_state_dict(safetensors.torch.load_file(path))
    except (SafetensorError, RuntimeError, TypeError, OSError) as error:
        msg = f"{path}: expected the weights of the card's config, got: {' '.join(str(error).split())[:200]}"
        raise WeightsError(msg) from error
    # the restorer reads name, hash and intensity rules; a TAT config means nothing for other networks
    card = WeightsCard(
        name=known.name,
        config=TatConfig(),
        tasks=tasks,
        training=fields.get("training", {}),
        limits=tuple(fields.get("limits", ())),
        license=str(fields.get("license", "unknown")),
        sha256=sha256,
    )
    return network.float().eval(), card


def load_any_weights(path: Path) -> tuple[nn.Module, WeightsCard]:
    """A TAT, or the comparison network that the card beside the file names.

    Raises:
        WeightsError: missing, damaged, or of a network that is not known here.
    """
    network = card_fields(path).get("network")
    if network is None:
        return load_weights(path)
    try:
        return load_comparison_weights(str(network), path)
    except UsageError as error:
        msg = f"{path}: {error}; the weights may need a newer tat"
        raise WeightsError(msg) from error
