"""Weights files: round trip, verification, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tatcli.errors import OutputError, WeightsError
from tatcli.intensity import FixedRange, Window
from tatcli.model import Tat, TatConfig, list_weights, load_weights, save_weights
from tatcli.model.weights import card_for_tasks, read_card
from tatcli.tasks import TASKS

CONFIG = TatConfig(
    width=8, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1), refinement_blocks=1, tren_width=4
)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Tat]:
    torch.manual_seed(0)
    network = Tat(CONFIG)
    path = tmp_path / "mine.safetensors"
    save_weights(network, card_for_tasks("mine", CONFIG), str(path))
    return path, network


def test_round_trip(saved: tuple[Path, Tat]) -> None:
    path, network = saved
    loaded, card = load_weights(path)
    assert not loaded.training
    assert card.config == CONFIG
    assert card.intensity_rule("ct") == FixedRange(Window(-1024, 3072))
    assert card.tasks.keys() == TASKS.keys()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, network.state_dict()[name].half().float()), name


def test_loading_draws_no_random_numbers(saved: tuple[Path, Tat]) -> None:
    """An experiment with a seed gives the same, whether it restores or not."""
    torch.manual_seed(3)
    wanted = torch.randn(4)
    torch.manual_seed(3)
    load_weights(saved[0])
    assert torch.equal(torch.randn(4), wanted)


def test_found_by_name(saved: tuple[Path, Tat], monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = saved
    monkeypatch.setenv("TAT_WEIGHTS_DIR", str(path.parent))
    assert list_weights()["mine"] == path
    assert load_weights("mine")[1].name == "mine"


def test_not_overwritten(saved: tuple[Path, Tat]) -> None:
    path, network = saved
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        save_weights(network, card_for_tasks("mine", CONFIG), path)
    assert path.read_bytes() == before
    other = path.with_name("notes.json")
    other.write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.json: exists"):
        save_weights(network, card_for_tasks("mine", CONFIG), other.with_suffix(".safetensors"))
    assert other.read_text() == "mine"


def test_one_flipped_bit_is_noticed(saved: tuple[Path, Tat]) -> None:
    path, _ = saved
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="expected sha256"):
        load_weights(path)
    load_weights(path, verify=False)


def test_truncated(saved: tuple[Path, Tat]) -> None:
    path, _ = saved
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match="expected a safetensors file"):
        load_weights(path, verify=False)


def test_wrong_config(saved: tuple[Path, Tat]) -> None:
    path, _ = saved
    card = json.loads(path.with_suffix(".json").read_text())
    card["config"]["latent_blocks"] = 2
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=r"missing latent\.1\."):
        load_weights(path)


@pytest.mark.parametrize("text", ["", "[]", '{"name": "x"}', '{"name": "x", "config": {"depth": 3}, "tasks": {}}'])
def test_bad_cards(saved: tuple[Path, Tat], text: str) -> None:
    path, _ = saved
    path.with_suffix(".json").write_text(text)
    with pytest.raises(WeightsError):
        read_card(path)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [("config", "heads", [1, 2]), ("config", "decoder_blocks", [1]), ("config", "width", 3), ("", "strengths", [1])],
)
def test_cards_of_no_network(saved: tuple[Path, Tat], part: str, field: str, value: object) -> None:
    path, _ = saved
    card = json.loads(path.with_suffix(".json").read_text())
    (card[part] if part else card["tasks"]["mri-sr"])[field] = value
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError):
        read_card(path)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("width", 8.0, "a whole number from 0 to 4096 as width, got 8.0"),
        ("width", 10**10, "a whole number from 0 to 4096 as width, got 10000000000"),
        ("encoder_blocks", [1, 1, 1.5], r"whole numbers from 0 to 256 as encoder_blocks, got \(1, 1, 1.5\)"),
        ("encoder_blocks", 3, "whole numbers from 0 to 256 as encoder_blocks, got 3"),
        ("latent_blocks", [1, 2], r"a whole number from 0 to 256 as latent_blocks, got \(1, 2\)"),
        ("heads", [1, 2, 4, 8.0], r"whole numbers from 1 to 4096 as heads, got \(1, 2, 4, 8.0\)"),
        ("expansion", "2", "a number from 0 to 64 as expansion, got '2'"),
        ("expansion", float("nan"), "a number from 0 to 64 as expansion, got nan"),
        ("expansion", 0, "at least one hidden channel, got an expansion of 0"),
        ("windows", ["a"] * 4, r"whole numbers from 0 to 1048576 as windows, got \('a', "),
    ],
)
def test_cards_whose_sizes_are_none(saved: tuple[Path, Tat], field: str, value: object, expected: str) -> None:
    path, _ = saved
    card = json.loads(path.with_suffix(".json").read_text())
    card["config"][field] = value
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=f"network config: expected {expected}"):
        load_weights(path)


def test_cards_of_another_size_take_no_memory(saved: tuple[Path, Tat]) -> None:
    """As a card may that was edited, or lies beside the wrong file: its network would have 2e13 weights."""
    path, _ = saved
    card = json.loads(path.with_suffix(".json").read_text())
    card["config"] |= {"width": 4096, "expansion": 64, "latent_blocks": 256}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="keys don't fit the card's config: missing latent"):
        load_weights(path)


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "robust", "percentile": 200},
        {"kind": "robust", "percentile": float("nan")},
        {"kind": "robust", "percentile": 99.5, "scale": -1},
        {"kind": "robust", "percentile": 99.5, "scale": float("inf")},
        {"kind": "fixed", "lower": 0, "upper": float("inf")},
    ],
)
def test_cards_whose_range_is_none(saved: tuple[Path, Tat], rule: dict[str, object]) -> None:
    path, _ = saved
    card = json.loads(path.with_suffix(".json").read_text())
    card["tasks"]["mri-sr"]["intensity"] = rule
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=r"expected a weights card .* intensity rule: expected"):
        read_card(path)


def test_no_card(saved: tuple[Path, Tat]) -> None:
    path, _ = saved
    path.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match=r"expected its card mine\.json"):
        load_weights(path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"\x80\x04")
    with pytest.raises(WeightsError, match="tat weights import"):
        load_weights(path)


def test_unknown_name() -> None:
    with pytest.raises(WeightsError, match="expected a name"):
        load_weights("no-such-weights")


def test_untrained_task(saved: tuple[Path, Tat]) -> None:
    card = card_for_tasks("ct-only", CONFIG, ("ct-denoise",))
    with pytest.raises(WeightsError, match="not for mri-sr"):
        card.intensity_rule("mri-sr")


def test_overflow_is_refused(tmp_path: Path) -> None:
    network = Tat(CONFIG)
    torch.nn.init.constant_(network.output.weight, 1e6)
    with pytest.raises(WeightsError, match=r"output\.weight not finite"):
        save_weights(network, card_for_tasks("x", CONFIG), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
