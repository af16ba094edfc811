"""Released weights: a safetensors file and its card (JSON), found by name, verified by hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import safetensors.torch
import torch
from safetensors import SafetensorError

import tatcli
from tatcli.errors import OutputError, WeightsError, reason_of
from tatcli.intensity import IntensityRule, rule_from_dict
from tatcli.model.config import TatConfig
from tatcli.model.tat import Tat
from tatcli.tasks import TASKS, Task, find_task
from tatcli.volumes.replacing import replaced

__all__ = [
    "DEFAULT_WEIGHTS",
    "TaskCard",
    "WeightsCard",
    "card_fields",
    "card_for_tasks",
    "file_sha256",
    "find_weights",
    "list_weights",
    "load_weights",
    "read_card",
    "save_weights",
    "weights_folders",
]

DEFAULT_WEIGHTS: Final = "tat-small"
FOLDER_VARIABLE: Final = "TAT_WEIGHTS_DIR"
SUFFIX: Final = ".safetensors"
PICKLES: Final = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".tar")


@dataclass(frozen=True)
class TaskCard:
    """What the weights know of one task.

    Attributes:
        intensity: the map onto the network's range that they were trained with; restore applies exactly this one.
        strengths: range of degradation strengths that they were trained over.
        domain: what the training's LQ scans were like: name -> lowest and highest value, see
            :mod:`tatcli.inference.domain`; empty where it wasn't measured.
    """

    intensity: IntensityRule
    strengths: tuple[float, float]
    domain: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        form: dict[str, Any] = {"intensity": self.intensity.to_dict(), "strengths": list(self.strengths)}
        return form | ({"domain": {name: list(ends) for name, ends in self.domain.items()}} if self.domain else {})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        weakest, strongest = fields["strengths"]
        domain = {name: (float(low), float(high)) for name, (low, high) in fields.get("domain", {}).items()}
        return cls(rule_from_dict(fields["intensity"]), (float(weakest), float(strongest)), domain)


@dataclass(frozen=True)
class WeightsCard:
    """What a weights file holds, where it came from, and what it is good for.

    Attributes:
        name: as given to ``--weights``.
        config: the network's sizes.
        tasks: by task name.
        training: data with its terms, recipe, command, steps, date.
        metrics: measured on validation data, with the command that measures them.
        limits: what the weights must not be used for, or are weak at.
        license: of the weights.
        sha256: of the safetensors file, in hexadecimal.
        version: of tat, when they were made.
    """

    name: str
    config: TatConfig
    tasks: Mapping[str, TaskCard]
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    license: str = "unknown"
    sha256: str = ""
    version: str = ""

    def intensity_rule(self, task: Task | str) -> IntensityRule:
        """The map onto the network's range for this task.

        Raises:
            WeightsError: the weights were not trained for it.
        """
        name = find_task(task).name if isinstance(task, str) else task.name
        if name not in self.tasks:
            known = ", ".join(self.tasks) or "no task"
            msg = f"weights {self.name}: trained for {known}, not for {name}; choose other --weights"
            raise WeightsError(msg)
        return self.tasks[name].intensity

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        fields = asdict(self)
        fields["config"] = self.config.to_dict()
        fields["tasks"] = {name: task.to_dict() for name, task in self.tasks.items()}
        fields["limits"] = list(self.limits)
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; unknown fields of newer cards are ignored.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: a field is missing or has the wrong form.
            WeightsError: the config's fields make no network.
        """
        tasks = {name: TaskCard.from_dict(task) for name, task in fields["tasks"].items()}
        return cls(
            name=str(fields["name"]),
            config=TatConfig.from_dict(fields["config"]),
            tasks=tasks,
            training=dict(fields.get("training", {})),
            metrics=dict(fields.get("metrics", {})),
            limits=tuple(fields.get("limits", ())),
            license=str(fields.get("license", "unknown")),
            sha256=str(fields.get("sha256", "")),
            version=str(fields.get("version", "")),
        )


def card_for_tasks(name: str, config: TatConfig, tasks: tuple[str, ...] = tuple(TASKS)) -> WeightsCard:
    """A card with the tasks' own intensity rules and strengths."""
    cards = {task: TaskCard(TASKS[task].intensity, TASKS[task].training_strengths) for task in tasks}
    return WeightsCard(name=name, config=config, tasks=cards, version=tatcli.__version__)


def weights_folders() -> list[Path]:
    """Where names are looked up: $TAT_WEIGHTS_DIR, the installed package, the repository."""
    package = Path(tatcli.__file__).resolve().parent
    chosen = os.environ.get(FOLDER_VARIABLE)
    return [*([Path(chosen)] if chosen else []), package / "weights", package.parent / "weights"]


def list_weights() -> dict[str, Path]:
    """Name -> file of all released weights that are installed (a file counts when its card lies beside it)."""
    found: dict[str, Path] = {}
    for folder in weights_folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
            if path.with_suffix(".json").is_file():
                found.setdefault(path.stem, path)
    return found


def find_weights(name_or_path: str | Path) -> Path:
    """The safetensors file of these weights.

    Raises:
        WeightsError: no such file or name; a pickle.
    """
    path = Path(name_or_path)
    if path.suffix.lower() in PICKLES:
        msg = f"{path}: pickle weights are refused (loading can run code); convert them with: tat weights import {path}"
        raise WeightsError(msg)
    if path.suffix == SUFFIX:
        if path.is_file():
            return path
        msg = f"{path}: expected a weights file, found none"
        raise WeightsError(msg)
    installed = list_weights()
    if str(name_or_path) not in installed:
        known = ", ".join(installed) or "none installed"
        msg = f"weights {str(name_or_path)!r}: expected a name ({known}) or a path to a {SUFFIX} file"
        raise WeightsError(msg)
    return installed[str(name_or_path)]


def card_fields(path: Path) -> dict[str, Any]:
    """The card beside a weights file as it stands there: TAT's or a comparison network's, of this version or a newer.

    Raises:
        WeightsError: missing or malformed.
    """
    card = path.with_suffix(".json")
    try:
        fields: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
        if not isinstance(fields["tasks"], dict):
            raise TypeError(fields["tasks"])  # noqa: TRY301
    except FileNotFoundError:
        msg = f"{path}: expected its card {card.name} beside it, found none"
        raise WeightsError(msg) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{card}: expected a weights card (JSON), got {reason_of(error)}"
        raise WeightsError(msg) from error
    return fields


def read_card(path: Path) -> WeightsCard:
    """The card beside a file with TAT's weights.

    Raises:
        WeightsError: missing or malformed, or of a comparison network.
    """
    fields = card_fields(path)
    if network := fields.get("network"):
        msg = f"{path}: expected weights of TAT, got those of {network}; "
        raise WeightsError(msg + f"see tat benchmark quality --networks {network}={path}")
    try:
        return WeightsCard.from_dict(fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        card = path.with_suffix(".json")
        msg = f"{card}: expected a weights card (JSON), got {reason_of(error)}"
        raise WeightsError(msg) from error


def load_weights(name_or_path: str | Path = DEFAULT_WEIGHTS, *, verify: bool = True) -> tuple[Tat, WeightsCard]:
    """The network (float32, eval mode, CPU) and its card.

    Args:
        name_or_path: an installed name, or a ``.safetensors`` file with its card beside it.
        verify: compare the file's SHA-256 with the card's.

    Raises:
        WeightsError: missing, damaged, a pickle, or of another architecture.
    """
    path = find_weights(name_or_path)
    card = read_card(path)
    if verify and (digest := file_sha256(path)) != card.sha256:
        wanted = card.sha256 or "(none in the card)"
        msg = f"{path}: expected sha256 {wanted}, got {digest}; the file is damaged or not the card's"
        raise WeightsError(msg)
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        msg = f"{path}: expected a safetensors file, got: {error}"
        raise WeightsError(msg) from error
    with torch.random.fork_rng(devices=()):  # what a new network draws is nobody's loss: it is replaced
        network = Tat(card.config)
    expected = network.state_dict()
    problems = [f"missing {key}" for key in expected if key not in tensors]
    problems += [f"unexpected {key}" for key in tensors if key not in expected]
    problems += [
        f"{key} has shape {tuple(tensors[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    if problems:
        msg = f"{path}: {len(problems)} keys don't fit the card's config: {'; '.join(problems[:5])}"
        raise WeightsError(msg)
    network.load_state_dict({key: value.float() for key, value in tensors.items()})
    return network.eval(), card


def save_weights(
    network: Tat, card: WeightsCard, path: str | Path, *, dtype: torch.dtype = torch.float16, overwrite: bool = False
) -> WeightsCard:
    """Write the weights, and the card (with the file's hash) beside them, each whole or not at all.

    Raises:
        OutputError: the file or its card exists and ``overwrite`` is not set; its folder can't be written.
        WeightsError: ``path`` doesn't end in ``.safetensors``; a weight overflows ``dtype``.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        msg = f"{path}: expected a path ending in {SUFFIX}"
        raise WeightsError(msg)
    card_path = path.with_suffix(".json")
    for final in (path, card_path):
        if final.exists() and not overwrite:
            msg = f"{final}: exists; choose another path or --overwrite"
            raise OutputError(msg)
    tensors = {name: value.detach().cpu().to(dtype).contiguous() for name, value in network.state_dict().items()}
    broken = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        msg = f"{path}: {', '.join(broken[:5])} not finite as {dtype}; weights not saved"
        raise WeightsError(msg)
    data = safetensors.torch.save(tensors, metadata={"format": "pt"})
    card = replace(card, config=network.config, sha256=hashlib.sha256(data).hexdigest())
    written = {path: data, card_path: (json.dumps(card.to_dict(), indent=2) + "\n").encode()}
    for final, content in written.items():
        with replaced(final, extension=final.suffix) as temporary:
            temporary.write_bytes(content)
    return card


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
