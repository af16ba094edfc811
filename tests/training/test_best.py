"""A run keeps the weights that did best on the validation scans, beside its last ones, across interruptions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from tatcli.model import load_weights
from tatcli.training import loop
from tatcli.training.config import TrainConfig
from tatcli.training.loop import Progress
from tatcli.training.validation import ValidationScore
from tatcli.workflows.train import train

Make = Callable[..., TrainConfig]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, torch.Tensor]]]:
    """Let validations give these gains, one after the other; returns the weights that they saw."""

    def script(*gains: Mapping[str, float]) -> list[dict[str, torch.Tensor]]:
        left: Iterator[Mapping[str, float]] = iter(gains)
        seen = []

        def validate(network: nn.Module, *_: object, **__: object) -> dict[str, ValidationScore]:
            seen.append({name: value.clone() for name, value in network.state_dict().items()})
            return {task: ValidationScore(30.0, 30.0 + gain, slices=1) for task, gain in next(left).items()}

        monkeypatch.setattr(loop, "validate", validate)
        return seen

    return script


def test_the_best_weights_are_kept(make_config: Make, scored) -> None:
    """By the mean of tasks; of equal ones the first, and what isn't finite doesn't count."""
    gains = ({"mri-sr": 0.1, "ct-denoise": 1.0}, {"mri-sr": 0.5, "ct-denoise": 0.9}, {"mri-sr": 0.5, "ct-denoise": 0.9})
    seen = scored(*gains, {"mri-sr": 0.2, "ct-denoise": float("inf")})
    report = train(make_config(steps=4, validate_every=1, tasks=("mri", "ct"), learning_rate=1e-2), command="tat train")
    assert report.best is not None
    assert (report.best.step, report.best.gain) == (2, pytest.approx(0.7))
    assert report.best.path == report.output / "tiny-best.safetensors"
    network, card = load_weights(report.best.path)
    for name, value in network.state_dict().items():
        assert torch.equal(value, seen[1][name].half().float()), name
    assert (card.name, card.training["steps"], card.training["command"]) == ("tiny-best", 2, "tat train")
    assert card.training["validation"] == {"gain": {"mri-sr": 0.5, "ct-denoise": 0.9}}
    last, known = load_weights(report.weights)
    assert (report.weights.name, known.training["steps"]) == ("tiny.safetensors", 4)
    assert any(not torch.equal(value, network.state_dict()[name]) for name, value in last.state_dict().items())
    assert json.loads(json.dumps(report.to_json()))["best"]["step"] == 2


def test_a_resumed_run_knows_its_best(make_config: Make, scored) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    config = make_config(steps=5, validate_every=1, tasks=("mri",))
    scored({"mri-sr": 0.3}, {"mri-sr": 0.1})
    with pytest.raises(KeyboardInterrupt):
        train(config, on_step=stop)
    best = config.output / "tiny-best.safetensors"
    kept = best.read_bytes()
    scored({"mri-sr": 0.2}, {"mri-sr": 0.25}, {"mri-sr": 0.15})
    report = train(config)
    assert report.best is not None
    assert (report.best.step, report.best.gain) == (1, pytest.approx(0.3))
    assert best.read_bytes() == kept
    again = train(config)  # nothing is left to do
    assert again.best == report.best


def test_a_run_that_begins_knows_nothing_of_a_former_one(make_config: Make, scored, tmp_path: Path) -> None:
    config = make_config(steps=1, validate_every=1, tasks=("mri",))
    scored({"mri-sr": 0.3})
    train(config)
    for left in config.output.iterdir():
        if not left.name.startswith("tiny-best"):
            left.rename(tmp_path / left.name)
    scored({"mri-sr": 0.2})
    report = train(config)
    assert report.best is not None
    assert (report.best.step, report.best.gain) == (1, pytest.approx(0.2))


def test_without_validation_there_is_none(make_config: Make, dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "data" / "MRI"
    root.mkdir(parents=True)
    (root / "train").symlink_to(dataset / "MRI" / "train")
    report = train(make_config(data=tmp_path / "data", steps=1, tasks=("mri",)))
    assert report.best is None
    assert not list(report.output.glob("*-best*"))
