"""Runs: learning, exact resumption, interruption, divergence, and the weights they leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tatcli.errors import UsageError, WeightsError
from tatcli.model import load_weights
from tatcli.model.config import PRESETS
from tatcli.training.checkpoints import CHECKPOINT, load_checkpoint
from tatcli.training.config import TrainConfig
from tatcli.training.loop import LOG, Progress, TrainingDiverged
from tatcli.workflows.train import TrainReport, train

Make = Callable[..., TrainConfig]


def state(report: TrainReport) -> dict[str, torch.Tensor]:
    loaded = torch.load(report.output / CHECKPOINT, weights_only=True)
    flat = {}
    for part in ("network", "balancer", "ema"):
        flat |= {f"{part}.{key}": value for key, value in loaded[part].items()}
    return flat


def interrupt_at(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return stop


def test_resumed_run_equals_the_straight_one(make_config: Make) -> None:
    straight = train(make_config("straight"))
    with pytest.raises(KeyboardInterrupt):
        train(make_config("cut"), on_step=interrupt_at(3))
    resumed = train(make_config("cut"))
    assert resumed.steps == straight.steps == 4
    expected, found = state(straight), state(resumed)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_it_learns(make_config: Make) -> None:
    """Sixty steps on low-resolution MRI bring the validation scan closer to its reference."""
    config = make_config(
        tasks=("mri",), steps=60, batch=(4,), learning_rate=3e-3, ema=0.9, default_share=1.0, validate_every=60
    )
    score = train(config).validation["mri-sr"]
    assert score.slices == 1
    assert score.gain > 0.3


@pytest.mark.parametrize("options", [{"loss": "l1"}, {"precision": "bf16"}, {"task_weights": (2.0,)}])
def test_other_settings_run(make_config: Make, options: dict[str, object]) -> None:
    report = train(make_config(steps=1, tasks=("ct",), **options))
    assert np.isfinite(report.validation["ct-denoise"].psnr_restored)


def test_log_holds_losses_and_sigma_of_every_task(make_config: Make) -> None:
    report = train(make_config())
    lines = [json.loads(line) for line in (report.output / LOG).read_text().splitlines()]
    trained = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in trained] == [2, 4]
    for line in trained:
        assert line["l1"].keys() == line["sigma"].keys() == {"ct-denoise", "mri-sr", "pet-synthesis"}
        assert all(value > 0 for value in line["l1"].values())
        assert line["sigma"]["ct-denoise"] == pytest.approx(1, abs=0.2)
    validated = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in validated] == [2, 4]
    assert np.isfinite(validated[0]["tasks"]["pet-synthesis"]["gain"])


def test_weights_with_their_card(make_config: Make, tmp_path: Path) -> None:
    fields = tmp_path / "card.json"
    fields.write_text(json.dumps({"name": "mine", "limits": ["phantoms only"], "license": "CC0-1.0"}))
    report = train(make_config(steps=1), card=fields, command="tat train ...")
    network, card = load_weights(report.weights)
    averaged = torch.load(report.output / CHECKPOINT, weights_only=True)["ema"]
    for name, value in network.state_dict().items():
        assert torch.equal(value, averaged[name].half().float()), name
    assert report.weights.name == "mine.safetensors"
    assert card.limits == ("phantoms only",)
    assert card.license == "CC0-1.0"
    assert card.training["command"] == "tat train ..."
    assert card.training["steps"] == 1
    data = {row["file"]: row for row in card.training["data"]}
    assert data["CT/train/ct0.nii.gz"]["terms"] == "CC0"
    assert len(data["MRI/train/mri1.nii.gz"]["sha256"]) == 64
    assert not any("/val/" in name for name in data)


def test_starts_from_weights(make_config: Make) -> None:
    first = train(make_config("first", steps=2))
    second = train(make_config("second", steps=1, init=str(first.weights), learning_rate=1e-9))
    before, after = load_weights(first.weights)[0].state_dict(), load_weights(second.weights)[0].state_dict()
    for name, value in before.items():
        assert torch.allclose(after[name], value, atol=1e-5), name


def test_growing_needs_a_network(make_config: Make) -> None:
    with pytest.raises(UsageError, match="--grow: expected --init"):
        train(make_config(steps=1, grow=True))


def test_grows_to_the_preset(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(make_config("first", steps=2))
    config = load_weights(first.weights)[0].config
    deeper = replace(config, latent_blocks=config.latent_blocks + 1)
    monkeypatch.setitem(PRESETS, make_config().preset, deeper)
    second = train(make_config("second", steps=1, init=str(first.weights), grow=True, learning_rate=1e-9))
    assert load_weights(second.weights)[0].config == deeper


def test_other_options_are_not_resumed(make_config: Make) -> None:
    train(make_config(steps=1))
    with pytest.raises(UsageError, match=r"learning_rate was 0\.0002, now 0\.001"):
        train(make_config(steps=1, learning_rate=1e-3))


def test_damaged_checkpoint(make_config: Make) -> None:
    config = make_config()
    config.output.mkdir()
    (config.output / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="expected a checkpoint of tat train"):
        load_checkpoint(config.output, config)


def test_divergence_names_the_sample(make_config: Make) -> None:
    with pytest.raises(TrainingDiverged, match=r"in ct\d \(ct-denoise\)"):
        train(make_config(tasks=("ct",), steps=40, learning_rate=0.99, weight_decay=0.0, clip=1e30, loss="l1"))


def test_task_weights_scale_the_loss(make_config: Make) -> None:
    losses = []
    for weights in ((1.0,), (3.0,)):
        train(
            make_config(f"w{weights[0]}", steps=1, tasks=("ct",), task_weights=weights),
            on_step=lambda progress: losses.append(progress.loss),
        )
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-6)


def test_bad_card_fields(make_config: Make, tmp_path: Path) -> None:
    fields = tmp_path / "card.json"
    fields.write_text('{"nam": 1}')
    with pytest.raises(UsageError, match="expected an object with name"):
        train(make_config(), card=fields)
    with pytest.raises(UsageError, match="expected JSON"):
        train(make_config(), card=tmp_path / "none.json")
