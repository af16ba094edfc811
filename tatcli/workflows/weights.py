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
    """One file's verification; ``problem`` is '' where it is there, and the hash, the card and every key fit."""

    name: str
    problem: str


def installed_weights() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Name -> (file, fields of its card) of the installed weights, those of comparison networks too."""
    from tatcli.model.weights import list_weights

    return {name: (path, _card(path)) for name, path in list_weights().items()}


def show_weights(name_or_path: str) -> tuple[Path, dict[str, Any]]:
    """The file of these weights and the fields of its card.

    Raises:
        WeightsError: no such weights, or no card.
    """
    from tatcli.model.weights import find_weights

    path = find_weights(name_or_path)
    return path, _card(path)


def _card(path: Path) -> dict[str, Any]:
    """The fields of a card: of TAT's all that there are, of a comparison network's those that stand there."""
    from tatcli.model.weights import card_fields, read_card

    fields = card_fields(path)
    return fields if "network" in fields else fields | read_card(path).to_dict()


def verify_weights(names: tuple[str, ...] = ()) -> tuple[VerifyReport, ...]:
    """Load weights and compare their hash with the card's: those named, or all that are installed.

    Raises:
        WeightsError: nothing is installed.
    """
    from tatcli.baselines.networks import load_any_weights
    from tatcli.model.weights import find_weights, list_weights

    wanted = names or tuple(list_weights())
    if not wanted:
        msg = "weights: expected installed weights to verify, found none; name a .safetensors file"
        raise WeightsError(msg)
    reports = []
    for name in wanted:
        problem = ""
        try:
            load_any_weights(find_weights(name))
        except WeightsError as error:
            problem = str(error)
        reports.append(VerifyReport(name, problem))
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

    state = _state_of(config.checkpoint)
    try:
        network = from_official(state)
    except WeightsError as error:
        msg = f"{config.checkpoint}: {error}"
        raise WeightsError(msg) from error
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


def weights_json(path: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A card's fields with its file's path, for JSON output."""
    return {"path": str(path), **fields}
