"""The weights that a run leaves, with their card: what was trained, on what, how, and by which command."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

import tatcli
from tatcli.baselines.networks import ComparisonCard, load_any_weights, save_comparison_weights
from tatcli.errors import WeightsError
from tatcli.model.config import TatConfig, preset_of
from tatcli.model.tat import Tat
from tatcli.model.weights import TaskCard, WeightsCard, card_fields, save_weights
from tatcli.reporting.run_report import file_record
from tatcli.tasks import TASKS, Task
from tatcli.training.config import PLACES, TrainConfig
from tatcli.training.loop import Trainer
from tatcli.training.pairs import find_scans, has_scans
from tatcli.training.prepared_set import is_prepared, prepared_entries
from tatcli.training.references import Reference
from tatcli.training.validation import ValidationScore
from tatcli.volumes.members import members_of
from tatcli.volumes.replacing import replaced
from tatcli.workflows.provenance import told_by_manifest
from tatcli.workflows.training.network import TAT, TrainedNetwork

__all__ = ["Best", "RunWeights", "best_path", "parameter_count", "weights_path"]

_ENDING: Final = ".safetensors"


class RunWeights:
    """The averaged weights that a run leaves, with their cards: the last ones, and those that validation liked best.

    Args:
        network: what is trained.
        trainer: by whom.
        extra: of :func:`~tatcli.workflows.training.card_file.read_card_fields`.
        references: task -> what it is trained on: scans that were left out aren't named.
        command: the command line.

    Attributes:
        path: of the last weights.
        best: the best ones so far; None: there are none.
        gone, new: scans that the run was trained on before and that aren't there any more, and those that came.
    """

    def __init__(
        self,
        network: TrainedNetwork,
        trainer: Trainer,
        extra: dict[str, Any],
        *,
        references: Mapping[str, Sequence[Reference]],
        command: str,
    ) -> None:
        self._network, self._trainer, self._extra = network, trainer, extra
        self._command = command
        self._ended = trainer.step >= trainer.config.steps
        self.path = weights_path(network, trainer.config, extra)
        self.gone, self.new = 0, 0
        if trainer.world.first:
            self._tell(_data(trainer.config, references))
        self.best = Best.of(self.path) if trainer.step else None  # (a run that begins knows nothing of a former one)

    @property
    def has_other_data(self) -> bool:
        """Whether the scans are others than those that the run was trained on before."""
        return bool(self.gone or self.new)

    def _tell(self, found: list[dict[str, str]]) -> None:
        """Note what the run goes on with, unless it is at its end; now, since the scans may go meanwhile."""
        trainer = self._trainer
        known = trainer.data or (_told_by_card(self.path) if trainer.step else [])
        untold = {row["file"] for row in known if not row["sha256"]}  # (folders', before they were hashed)
        before, now = (
            {(row["file"], "" if row["file"] in untold else row["sha256"]): row for row in rows}
            for rows in (known, found)
        )
        if before:
            self.gone, self.new = len(before.keys() - now.keys()), len(now.keys() - before.keys())
        if not self.has_other_data:
            trainer.data = found
        elif trainer.step < trainer.config.steps:
            former = {(row["file"], row["sha256"]): row for row in trainer.former_data} | before
            trainer.former_data = [row for key, row in former.items() if key not in now]
            trainer.data = found

    def save(self) -> None:
        """Write the weights as they are (the first process does).

        A run that had ended before, and wrote them, changes nothing but what ``extra`` says anew: their card tells when
        and where they were made, and may tell more since (:mod:`tatcli.workflows.domain`).
        """
        if not self._trainer.world.first:
            return
        if not (self._ended and self._is_written()):
            self._write(self.path, {})
        elif self._extra:
            amended = card_fields(self.path)
            amended |= {key: self._extra[key] for key in ("limits", "license") if key in self._extra}
            amended["training"] |= self._extra.get("training", {})
            with replaced(self.path.with_suffix(".json"), extension=".json") as temporary:
                temporary.write_text(json.dumps(amended, indent=2) + "\n", encoding="utf-8")

    def _is_written(self) -> bool:
        """Whether the file has these weights, with a card that fits."""
        try:
            found = load_any_weights(self.path)[0].state_dict()
        except WeightsError:
            return False
        mine = {name: value.cpu() for name, value in self._trainer.averaged.state_dict().items()}
        # (TAT's are kept as halves, comparison networks' as they are)
        return found.keys() == mine.keys() and all(
            torch.equal(value, mine[name]) or torch.equal(value, mine[name].half().float())
            for name, value in found.items()
        )

    def offer(self, scores: Mapping[str, ValidationScore]) -> None:
        """Write the weights as the best ones, if their gain, in the mean of tasks, is the largest so far."""
        gains = {task: round(score.gain, 4) for task, score in scores.items() if math.isfinite(score.gain)}
        if not gains:
            return
        found = Best(best_path(self.path), self._trainer.step, sum(gains.values()) / len(gains))
        if self.best is None or found.gain > self.best.gain:
            self._write(found.path, {"validation": {"gain": gains}})
            self.best = found

    def _write(self, path: Path, training: Mapping[str, Any]) -> None:
        network, config, averaged = self._network, self._trainer.config, self._trainer.averaged
        tasks = {
            name: TaskCard(config.intensity(TASKS[name]), _strengths(TASKS[name], config)) for name in config.tasks
        }
        training = self._training() | self._extra.get("training", {}) | training
        limits, license_ = tuple(self._extra.get("limits", ())), str(self._extra.get("license", "unknown"))
        if network.name != TAT:
            known = ComparisonCard(
                network=network.name,
                config=network.config,
                tasks=tasks,
                training=training,
                limits=limits,
                license=license_,
            )
            save_comparison_weights(averaged, path, card=known, overwrite=True)
            return
        card = WeightsCard(
            name=path.name.removesuffix(_ENDING),
            config=TatConfig.from_dict(dict(network.config)),
            tasks=tasks,
            training=training,
            limits=limits,
            license=license_,
            version=tatcli.__version__,
        )
        assert isinstance(averaged, Tat)  # noqa: S101 - it is what make_network made
        save_weights(averaged, card, path, overwrite=True)

    def _training(self) -> dict[str, Any]:
        trainer, config = self._trainer, self._trainer.config
        recipe = {key: value for key, value in config.to_dict().items() if key not in PLACES}  # (nobody's business)
        init = {"init": dict(self._network.init)} if self._network.init else {}
        return init | {
            "command": self._command,
            "recipe": recipe,
            "processes": trainer.world.size,
            "steps": trainer.step,
            "hours": round(trainer.seconds / 3600, 2),
            "date": datetime.now(UTC).date().isoformat(),
            "parameters": parameter_count(trainer.network),
            "torch": torch.__version__,
            "data": [*trainer.data, *trainer.former_data],
        }


@dataclass(frozen=True)
class Best:
    """The weights that did best on the validation scans.

    Attributes:
        path: of the file.
        step: they were averaged up to.
        gain: of PSNR over the degraded scans, in the mean of tasks, dB.
    """

    path: Path
    step: int
    gain: float

    @classmethod
    def of(cls, last: Path) -> Best | None:
        """Those of a run whose last weights go to this path, as their card tells; None: there are none yet."""
        path = best_path(last)
        try:
            training = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["training"]
            gains = [float(gain) for gain in training["validation"]["gain"].values()]
            return cls(path, int(training["steps"]), sum(gains) / len(gains))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
            return None


def _told_by_card(path: Path) -> list[dict[str, str]]:
    """What a run's last weights were trained on, as checkpoints didn't always; nothing where no card says it."""
    try:
        return [{"file": row["file"], "sha256": row["sha256"]} | row for row in card_fields(path)["training"]["data"]]
    except (WeightsError, KeyError, TypeError):
        return []


def best_path(last: Path) -> Path:
    """Where a run's best weights go, beside its last ones."""
    return last.with_name(f"{last.name.removesuffix(_ENDING)}-best{_ENDING}")


def weights_path(network: TrainedNetwork, config: TrainConfig, extra: Mapping[str, Any]) -> Path:
    """Where a run's last weights go: by the card's name, the size or, of a comparison network, its name."""
    name = network.name
    if name == TAT:
        name = config.preset or preset_of(TatConfig.from_dict(dict(network.config))) or TAT
    return config.output / f"{extra.get('name', name)}{_ENDING}"


def parameter_count(network: nn.Module) -> int:
    """Parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def _strengths(task: Task, config: TrainConfig) -> tuple[float, float]:
    """The range that samples were drawn from (a prepared set's PET was degraded when it was made)."""
    made_before = task.modality == "PT" and any(is_prepared(root) for root in (config.data, *config.also))
    if config.share(task.name) < 1.0 or made_before:
        return task.training_strengths
    return task.default_strength, task.default_strength


def _data(config: TrainConfig, references: Mapping[str, Sequence[Reference]]) -> list[dict[str, str]]:
    """Files that are trained on, with source and terms where ``ROOT/MANIFEST.tsv`` tells them."""
    return [
        row
        for root in (config.data, *config.also)
        for row in (_prepared(root, config.tasks) if is_prepared(root) else _listed(root, references))
    ]


def _prepared(root: Path, tasks: tuple[str, ...]) -> list[dict[str, str]]:
    used = (entry for entry in prepared_entries(root) if entry.split == "train" and not entry.rejected)
    return [entry.public() for entry in used if entry.task in tasks]


def _listed(root: Path, references: Mapping[str, Sequence[Reference]]) -> list[dict[str, str]]:
    told = told_by_manifest(root)
    rows = []
    for task, used in references.items():
        places = {reference.name for reference in used if reference.root == root}
        for pair in find_scans(root, TASKS[task], "train") if has_scans(root, TASKS[task], "train") else ():
            if pair.place not in places:
                continue
            name = pair.reference.relative_to(root).as_posix()
            row = told.get(name, {})
            digest = row.get("sha256") or file_record(pair.reference, members_of(pair.reference)).sha256
            rows.append(
                {"file": name, "source": row.get("source", ""), "terms": row.get("terms", ""), "sha256": digest}
            )
    return rows
