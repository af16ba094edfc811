"""The weights that a run leaves, with their card: what was trained, on what, how, and by which command."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

import tatcli
from tatcli.baselines.networks import ComparisonCard, save_comparison_weights
from tatcli.errors import UsageError
from tatcli.model.config import TatConfig, preset_of
from tatcli.model.tat import Tat
from tatcli.model.weights import TaskCard, WeightsCard, file_sha256, save_weights
from tatcli.tasks import TASKS
from tatcli.training.config import PLACES, TrainConfig
from tatcli.training.loop import Trainer
from tatcli.training.pairs import find_scans, has_scans
from tatcli.training.prepared_set import is_prepared, prepared_entries
from tatcli.training.references import Reference
from tatcli.workflows.provenance import told_by_manifest
from tatcli.workflows.training.network import TAT, TrainedNetwork

__all__ = ["parameter_count", "read_card_fields", "save_trained", "weights_path"]

References = Mapping[str, Sequence[Reference]]
"""Task -> the scans that a run trains on."""

_FIELDS: Final[dict[str, tuple[type, str]]] = {
    "name": (str, "text"),
    "limits": (list, "a list of texts"),
    "license": (str, "text"),
    "training": (dict, "an object"),
}
_NAME: Final = re.compile(r"\w[\w .+-]{0,99}")
"""A file's name without its extension, in RUN and nowhere else."""


def read_card_fields(card: Path | None) -> dict[str, Any]:
    """Further fields of the weights' card, from a JSON file.

    Raises:
        UsageError: it can't be read, or holds other fields than name, limits, license, training, or other types.
    """
    if card is None:
        return {}
    try:
        fields = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{card}: expected JSON with fields of a weights card, got {type(error).__name__}: {error}"
        raise UsageError(msg) from error
    if not isinstance(fields, dict) or not fields.keys() <= _FIELDS.keys():
        msg = f"{card}: expected an object with name, limits, license or training"
        raise UsageError(msg)
    for name, value in fields.items():
        kind, wanted = _FIELDS[name]
        texts = value if name == "limits" and isinstance(value, list) else []
        if not isinstance(value, kind) or not all(isinstance(text, str) for text in texts):
            msg = f"{card}: {name}: expected {wanted}, got {json.dumps(value)}"
            raise UsageError(msg)
    if not _NAME.fullmatch(fields.get("name", "mine")):
        msg = f"{card}: name: expected the name of a file, of letters, digits, spaces, '-', '+' and '.', got "
        raise UsageError(msg + json.dumps(fields["name"]))
    return fields


def save_trained(
    network: TrainedNetwork, trainer: Trainer, extra: dict[str, Any], *, references: References, command: str
) -> Path:
    """Write the averaged weights and their card into the run's folder (the first process does); returns the file.

    Args:
        network: what was trained.
        trainer: by whom.
        extra: of :func:`read_card_fields`.
        references: task -> what it was trained on: scans that were left out aren't named.
        command: the command line.
    """
    config = trainer.config
    path = weights_path(network, config, extra)
    if not trainer.world.first:
        return path
    tasks = {task: TaskCard(config.intensity(TASKS[task]), TASKS[task].training_strengths) for task in config.tasks}
    training = _training(trainer, references, command=command) | extra.get("training", {})
    if network.name != TAT:
        known = ComparisonCard(
            network=network.name,
            config=network.config,
            tasks=tasks,
            training=training,
            limits=tuple(extra.get("limits", ())),
            license=str(extra.get("license", "unknown")),
        )
        save_comparison_weights(trainer.averaged, path, card=known, overwrite=True)
        return path
    card = WeightsCard(
        name=path.name.removesuffix(".safetensors"), config=TatConfig.from_dict(dict(network.config)), tasks=tasks
    )
    card = replace(
        card,
        training=training,
        limits=tuple(extra.get("limits", ())),
        license=str(extra.get("license", "unknown")),
        version=tatcli.__version__,
    )
    assert isinstance(trainer.averaged, Tat)  # noqa: S101 - it is what make_network made
    save_weights(trainer.averaged, card, path, overwrite=True)
    return path


def weights_path(network: TrainedNetwork, config: TrainConfig, extra: dict[str, Any]) -> Path:
    """Where :func:`save_trained` writes: by the card's name, the size or, of a comparison network, its name."""
    name = network.name
    if name == TAT:
        name = config.preset or preset_of(TatConfig.from_dict(dict(network.config))) or TAT
    return config.output / f"{extra.get('name', name)}.safetensors"


def parameter_count(network: nn.Module) -> int:
    """Parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def _training(trainer: Trainer, references: References, *, command: str) -> dict[str, Any]:
    config = trainer.config
    return {
        "command": command,
        "recipe": {key: value for key, value in config.to_dict().items() if key not in PLACES},  # (nobody's business)
        "processes": trainer.world.size,
        "steps": trainer.step,
        "hours": round(trainer.seconds / 3600, 2),
        "date": datetime.now(UTC).date().isoformat(),
        "parameters": parameter_count(trainer.network),
        "torch": torch.__version__,
        "data": _data(config, references),
    }


def _data(config: TrainConfig, references: References) -> list[dict[str, str]]:
    """Files that were trained on, with source and terms where ``ROOT/MANIFEST.tsv`` tells them."""
    return [
        row
        for root in (config.data, *config.also)
        for row in (_prepared(root, config.tasks) if is_prepared(root) else _listed(root, references))
    ]


def _prepared(root: Path, tasks: tuple[str, ...]) -> list[dict[str, str]]:
    used = (entry for entry in prepared_entries(root) if entry.split == "train" and not entry.rejected)
    return [entry.public() for entry in used if entry.task in tasks]


def _listed(root: Path, references: References) -> list[dict[str, str]]:
    told = told_by_manifest(root)
    rows = []
    for task, used in references.items():
        places = {reference.name for reference in used}
        for pair in find_scans(root, TASKS[task], "train") if has_scans(root, TASKS[task], "train") else ():
            if pair.place not in places:
                continue
            name = pair.reference.relative_to(root).as_posix()
            row = told.get(name, {})
            digest = row.get("sha256") or (file_sha256(pair.reference) if pair.reference.is_file() else "")
            rows.append(
                {"file": name, "source": row.get("source", ""), "terms": row.get("terms", ""), "sha256": digest}
            )
    return rows
