"""Weights: list, verify, and import checkpoints of the published network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tatcli.errors import UsageError, WeightsError
from tatcli.tasks import MRI_RANGES, TASKS

if TYPE_CHECKING:
    from torch import Tensor

    from tatcli.model.weights import TaskCard, WeightsCard

__all__ = [
    "ImportConfig",
    "ImportReport",
    "VerifyReport",
    "import_weights",
    "installed_weights",
    "show_weights",
    "verify_weights",
    "weights_json",
]

_CONTAINERS: Final = ("params_ema", "params", "state_dict", "model", "network", "net")
"""Where training frameworks put the parameters within a checkpoint, the averaged ones first."""
_PREFIX: Final = "module."
"""Added to every name by data-parallel training."""


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Options of ``tat weights import``.

    Attributes:
        checkpoint: a PyTorch checkpoint (.pt, .pth) or a safetensors file under the official names.
        output: a .safetensors file; None: the checkpoint's name beside it.
        name: of the weights; None: the output's.
        mri_range: which range MR scans were trained in: ``paper`` ([0, 4095]) or ``robust`` (each scan's own).
        overwrite: whether existing weights may be replaced.
    """

    checkpoint: Path
    output: Path | None = None
    name: str | None = None
    mri_range: str = "paper"
    overwrite: bool = False


@dataclass(frozen=True)
class ImportReport:
    """The weights written and their card."""

    output: Path
    card: WeightsCard
    parameters: int


@dataclass(frozen=True)
class VerifyReport:
    """One file's verification; ``problem`` is '' where the hash, the card and every key fit."""

    name: str
    path: Path
    problem: str


def installed_weights() -> dict[str, tuple[Path, WeightsCard]]:
    """Name -> (file, card) of the installed weights."""
    from tatcli.model.weights import list_weights, read_card

    return {name: (path, read_card(path)) for name, path in list_weights().items()}


def show_weights(name_or_path: str) -> tuple[Path, WeightsCard]:
    """The file and card of these weights.

    Raises:
        WeightsError: no such weights, or no card.
    """
    from tatcli.model.weights import find_weights, read_card

    path = find_weights(name_or_path)
    return path, read_card(path)


def verify_weights(names: tuple[str, ...] = ()) -> tuple[VerifyReport, ...]:
    """Load weights and compare their hash with the card's: those named, or all that are installed.

    Raises:
        WeightsError: a name that isn't installed; nothing is installed.
    """
    from tatcli.model.weights import find_weights, list_weights, load_weights

    wanted = names or tuple(list_weights())
    if not wanted:
        msg = "weights: expected installed weights to verify, found none; name a .safetensors file"
        raise WeightsError(msg)
    reports = []
    for name in wanted:
        path = find_weights(name)
        try:
            load_weights(path)
        except WeightsError as error:
            reports.append(VerifyReport(name, path, str(error)))
        else:
            reports.append(VerifyReport(name, path, ""))
    return tuple(reports)


def import_weights(config: ImportConfig) -> ImportReport:
    """Turn a checkpoint under the official names into safetensors (float32) and a card.

    Raises:
        WeightsError: the checkpoint is missing, damaged, needs code to load, or is no TAT.
        OutputError: the output exists or can't be written.
        UsageError: an unknown MR range.
    """
    if config.mri_range not in MRI_RANGES:
        msg = f"--mri-range {config.mri_range!r}: expected one of {', '.join(MRI_RANGES)}"
        raise UsageError(msg)
    output = config.output or config.checkpoint.with_suffix(".safetensors")
    if output.suffix != ".safetensors":
        msg = f"{output}: expected an output ending in .safetensors"
        raise UsageError(msg)
    from tatcli.volumes.replacing import checked_output

    for path in (output, output.with_suffix(".json")):
        checked_output(path, source=config.checkpoint, overwrite=config.overwrite)
    import torch

    from tatcli.model.official import from_official
    from tatcli.model.weights import card_for_tasks, save_weights

    network = from_official(_state_of(config.checkpoint))
    card = card_for_tasks(config.name or output.stem, network.config)
    tasks = {name: _task_card(name, config.mri_range) for name in card.tasks}
    limits = ("imported: what it was trained on, and how well it does, is not known here",)
    training = {"imported from": config.checkpoint.name}
    card = replace(card, tasks=tasks, limits=limits, training=training)
    card = save_weights(network, card, output, dtype=torch.float32, overwrite=config.overwrite)
    return ImportReport(output, card, sum(parameter.numel() for parameter in network.parameters()))


def _task_card(name: str, mri_range: str) -> TaskCard:
    """The published training: each task at one strength, in the paper's ranges."""
    from tatcli.model.weights import TaskCard

    task = TASKS[name]
    rule = MRI_RANGES[mri_range] if name == "mri-sr" else task.intensity
    return TaskCard(rule, (task.default_strength, task.default_strength))


def _state_of(path: Path) -> dict[str, Tensor]:
    """The parameters in a checkpoint, without what training wrapped around them."""
    state: Any = _read(path)
    for _ in range(3):
        inner = next((state[key] for key in _CONTAINERS if isinstance(state, Mapping) and key in state), None)
        if not isinstance(inner, Mapping):
            break
        state = inner
    import torch

    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        msg = f"{path}: expected a checkpoint of named tensors, got other things; save the network's state_dict"
        raise WeightsError(msg)
    return {str(key).removeprefix(_PREFIX): value.float() for key, value in state.items()}


def _read(path: Path) -> Any:
    import torch

    if not path.is_file():
        msg = f"{path}: expected a checkpoint, found none"
        raise WeightsError(msg)
    if path.suffix == ".safetensors":
        import safetensors.torch
        from safetensors import SafetensorError

        try:
            return safetensors.torch.load_file(path)
        except (SafetensorError, OSError) as error:
            msg = f"{path}: expected a safetensors file, got: {error}"
            raise WeightsError(msg) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        msg = f"{path}: expected tensors alone, got a file that is damaged or needs code to load; save its state_dict"
        raise WeightsError(msg) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"{path}: expected a PyTorch checkpoint, got one that doesn't read ({reason}); get it again"
        raise WeightsError(msg) from error


def weights_json(path: Path, card: WeightsCard) -> dict[str, Any]:
    """A card with its file's path, for JSON output."""
    return {"path": str(path), **card.to_dict()}
