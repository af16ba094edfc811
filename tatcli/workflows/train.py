"""``tat train``: prepare references, train or resume, write weights with their card."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import tatcli
from tatcli.errors import OutputError, UsageError
from tatcli.model.config import find_preset
from tatcli.model.tat import Tat
from tatcli.model.weights import WeightsCard, card_for_tasks, file_sha256, load_weights, save_weights
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.growth import grown
from tatcli.training.loop import Progress, Trainer
from tatcli.training.pairs import find_scans
from tatcli.training.references import Reference, prepare_references
from tatcli.training.validation import ValidationScore
from tatcli.volumes.replacing import replaced

__all__ = ["TrainReport", "train"]

CONFIG_FILE = "config.json"
MANIFEST = "MANIFEST.tsv"


@dataclass(frozen=True)
class TrainReport:
    """What a run gave.

    Attributes:
        output: run folder.
        weights: averaged weights, with their card beside them.
        steps: optimiser updates.
        seconds: of training, over all resumptions.
        parameters: of the network.
        validation: scores of each task by the last validation.
    """

    output: Path
    weights: Path
    steps: int
    seconds: float
    parameters: int
    validation: dict[str, ValidationScore]

    def to_json(self) -> dict[str, Any]:
        """JSON form."""
        scores = {task: asdict(score) | {"gain": score.gain} for task, score in self.validation.items()}
        return asdict(self) | {"output": str(self.output), "weights": str(self.weights), "validation": scores}


def train(
    config: TrainConfig,
    *,
    card: Path | None = None,
    command: str = "",
    on_prepare: Callable[[str, str], None] = lambda *_: None,
    on_step: Callable[[Progress], None] = lambda _: None,
) -> TrainReport:
    """Train, or go on with the run in ``config.output``.

    Args:
        config: options of the run.
        card: JSON with further fields of the weights' card (name, limits, license, training).
        command: the command line, for the card.
        on_prepare: called with each scan's name before it is read, and again with why where it is left out.
        on_step: called after each step.

    Raises:
        UsageError: no scans, or the folder holds a run with other options.
        OutputError: the run folder can't be written.
        TrainingDiverged: the loss became NaN or infinite.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    extra = _read_card_fields(card)
    find_preset(config.preset)
    try:
        config.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{config.output}: can't be used as a run folder: {error.strerror}"
        raise OutputError(msg) from error
    start = load_weights(config.init)[0] if config.init else None
    if config.grow:
        if start is None:
            msg = "--grow: expected --init with the network to deepen, got none"
            raise UsageError(msg)
        start = grown(start, find_preset(config.preset))
    references = {task: prepare_references(TASKS[task], "train", config, on_scan=on_prepare) for task in config.tasks}
    validation = {task: _validation(task, config, on_prepare) for task in config.tasks}
    trainer = Trainer(config, references, {task: scans for task, scans in validation.items() if scans}, start=start)
    with replaced(config.output / CONFIG_FILE, extension=".json") as temporary:
        temporary.write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
    scores = trainer.run(on_step=on_step)
    made = _card(trainer, extra, command=command)
    path = config.output / f"{made.name}.safetensors"
    save_weights(trainer.ema.network, made, path, overwrite=True)
    return TrainReport(config.output, path, trainer.step, trainer.seconds, _parameters(trainer.network), scores)


def _validation(task: str, config: TrainConfig, on_prepare: Callable[[str, str], None]) -> list[Reference]:
    """Validation scans of a task; a dataset need not have any."""
    try:
        return prepare_references(TASKS[task], "val", config, on_scan=on_prepare)
    except UsageError:
        return []


def _parameters(network: Tat) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _read_card_fields(card: Path | None) -> dict[str, Any]:
    if card is None:
        return {}
    try:
        fields = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{card}: expected JSON with fields of a weights card, got {type(error).__name__}: {error}"
        raise UsageError(msg) from error
    if not isinstance(fields, dict) or not fields.keys() <= {"name", "limits", "license", "training"}:
        msg = f"{card}: expected an object with name, limits, license or training"
        raise UsageError(msg)
    return fields


def _card(trainer: Trainer, extra: dict[str, Any], *, command: str) -> WeightsCard:
    config = trainer.config
    card = card_for_tasks(extra.get("name", config.preset), trainer.network.config, config.tasks)
    training = {
        "command": command,
        "recipe": {key: value for key, value in config.to_dict().items() if key not in ("data", "output", "cache")},
        "steps": trainer.step,
        "hours": round(trainer.seconds / 3600, 2),
        "date": datetime.now(UTC).date().isoformat(),
        "parameters": _parameters(trainer.network),
        "torch": torch.__version__,
        "data": _data(config),
        **extra.get("training", {}),
    }
    return replace(
        card,
        training=training,
        limits=tuple(extra.get("limits", ())),
        license=str(extra.get("license", "unknown")),
        version=tatcli.__version__,
    )


def _data(config: TrainConfig) -> list[dict[str, str]]:
    """Files of the train split, with source and terms where ``ROOT/MANIFEST.tsv`` tells them."""
    told = {}
    manifest = config.data / MANIFEST
    if manifest.is_file():
        with manifest.open(encoding="utf-8", newline="") as stream:
            told = {row["file"]: row for row in csv.DictReader(stream, delimiter="\t")}
    rows = []
    for task in config.tasks:
        for pair in find_scans(config.data, TASKS[task], "train"):
            name = pair.reference.relative_to(config.data).as_posix()
            row = told.get(name, {})
            digest = row.get("sha256") or (file_sha256(pair.reference) if pair.reference.is_file() else "")
            rows.append(
                {"file": name, "source": row.get("source", ""), "terms": row.get("terms", ""), "sha256": digest}
            )
    return rows
