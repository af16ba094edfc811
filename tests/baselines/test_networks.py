"""Comparison networks: sizes in closed form, shapes, what makes each what it is, and their weights."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tatcli.baselines.edsr import Edsr
from tatcli.baselines.networks import (
    NETWORKS,
    ComparisonCard,
    find_network,
    load_comparison_weights,
    save_comparison_weights,
)
from tatcli.baselines.red_cnn import RedCnn
from tatcli.baselines.routed import ChannelRouting, InstructionNetwork, RoutedTat, SpatialRouting
from tatcli.baselines.static_tat import StaticTat
from tatcli.baselines.unet import UNet
from tatcli.errors import OutputError, UsageError, WeightsError
from tatcli.model.config import PRESETS, TatConfig
from tatcli.model.tat import Tat
from tatcli.model.weights import card_for_tasks

TINY = TatConfig(
    width=8, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1), refinement_blocks=1, tren_width=4,
    train_patch=32,
)  # fmt: skip
CONFIGS = {
    "static-tat": TINY.to_dict(),
    "routed": TINY.to_dict(),
    "unet": {"width": 4},
    "red-cnn": {"width": 4},
    "edsr": {"width": 4, "blocks": 2},
}


def card_of(name, tasks) -> ComparisonCard:
    return ComparisonCard(network=name, config=CONFIGS[name], tasks=tasks, training={"steps": 3})


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_edsr_has_its_papers_size() -> None:
    """16 blocks of 64 channels, one more convolution, and the layers between 64 channels and 16 pixels."""
    body = (2 * 16 + 1) * (9 * 64 * 64 + 64)
    assert count(Edsr()) == (9 * 16 * 64 + 64) + body + (9 * 64 * 16 + 16) == 1_237_136


def test_edsr_moves_with_its_grid_and_leaves_sizes_alone() -> None:
    """Its pixels are blocks of 4: a shift by four pixels shifts the result, away from the border."""
    network = Edsr(width=8, blocks=2).eval()
    x = torch.rand(1, 1, 61, 70)
    with torch.no_grad():
        restored, shifted = network(x), network(x[:, :, 4:, 8:])
    assert restored.shape == x.shape
    assert float((restored - x).abs().mean()) > 1e-3
    torch.testing.assert_close(restored[:, :, 32:-32, 36:-32], shifted[:, :, 28:-32, 28:-32])


def test_edsr_scales_what_its_blocks_add() -> None:
    torch.manual_seed(0)
    plain, scaled = Edsr(width=4, blocks=1), Edsr(width=4, blocks=1, scale=0.25)
    scaled.load_state_dict(plain.state_dict())
    y = torch.randn(1, 4, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(scaled.blocks[0](y) - y, 0.25 * (plain.blocks[0](y) - y))


def test_red_cnn_has_its_papers_size() -> None:
    """5x5 kernels, 96 filters: 1 -> 96, eight times 96 -> 96, 96 -> 1, each with biases."""
    assert count(RedCnn()) == (25 * 96 + 96) + 8 * (25 * 96 * 96 + 96) + (25 * 96 + 1) == 1_848_865


@pytest.mark.parametrize("width", [32, 64])
def test_unet_has_its_papers_size(width) -> None:
    c = [width * 2**level for level in range(5)]
    block = lambda i, o: 9 * i * o + 9 * o * o + 4 * o  # noqa: E731 - two convolutions, two normalisations
    down = block(1, c[0]) + sum(block(a, b) for a, b in pairwise(c))
    up = sum(4 * 2 * b * b + b + block(2 * b, b) for b in c[:-1])
    assert count(UNet(width)) == down + up + width + 1
    if width == 64:
        assert count(UNet(width)) == pytest.approx(31.0e6, rel=0.01)  # the size that is quoted for the original


@pytest.mark.parametrize("config", [TINY, PRESETS["tat-small"]])
def test_the_static_network_is_tat_without_tren_and_gains(config) -> None:
    tat = Tat(config)
    gains = sum(p.numel() for name, p in tat.named_parameters() if name.endswith(".gain"))
    assert gains > 0
    assert count(StaticTat(config)) == count(tat) - count(tat.tren) - gains


def test_static_kernels_start_as_tats_do() -> None:
    torch.manual_seed(0)
    tat = Tat(TINY).state_dict()
    torch.manual_seed(0)
    static = StaticTat(TINY).state_dict()
    started = [key for key in static if key.endswith("depthwise.shared")]
    assert {key.split(".")[0] for key in started} >= {"encoder1", "latent", "decoder1", "refinement"}
    for key in started:  # other layers follow in the sequence of random numbers
        assert static[key].std().item() == pytest.approx(tat[key].std().item(), rel=0.15), key
    assert static["decoder1.0.attention.depthwise.shared"].std().item() > 0.8


def test_at_the_start_tat_is_its_static_network() -> None:
    """TAT's gains are zero before training, so both compute the same with the same weights."""
    tat, static = Tat(TINY).eval(), StaticTat(TINY).eval()
    shared = {key: value for key, value in tat.state_dict().items() if key in static.state_dict()}
    static.load_state_dict(shared)
    x = torch.rand(1, 1, 40, 32)
    with torch.no_grad():
        torch.testing.assert_close(static(x), tat(x))


def test_routing_adds_its_parts_alone() -> None:
    size, entries, experts = 16, 4, 3
    routed = RoutedTat(TINY, size=size, entries=entries, experts=experts)
    dims = [TINY.dim(3), TINY.decoder_dim(2), TINY.decoder_dim(1), TINY.decoder_dim(0)]
    latent = TINY.dim(3)
    instruction = entries * size + (latent * size + size) + (size * entries + entries)
    spatial = sum((d + 1) * experts + (size + 1) * experts + experts * (10 * d + d * d + d) for d in dims)
    channel = sum((size + 1) * d + d * d + d for d in dims)
    assert count(routed) == count(StaticTat(TINY)) + instruction + spatial + channel


@pytest.mark.parametrize("name", NETWORKS)
def test_any_size_goes_in_and_out_and_gradients_reach_everything(name) -> None:
    torch.manual_seed(0)
    network = find_network(name).build(CONFIGS[name])
    for shape in ((1, 1, 37, 50), (2, 1, 32, 40)):
        assert network(torch.rand(shape)).shape == shape
    network(torch.rand(2, 1, 48, 48)).square().mean().backward()
    without = [key for key, p in network.named_parameters() if p.grad is None]
    assert without == []


def test_red_cnn_needs_no_padding() -> None:
    """With all weights zero only the outer shortcut is left: the input, through its ReLU-free end."""
    network = RedCnn(4)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.rand(1, 1, 24, 30)
    torch.testing.assert_close(network(x), x)


def test_each_pixel_takes_two_experts_and_half_of_the_channels_pass() -> None:
    torch.manual_seed(0)
    spatial = SpatialRouting(6, size=5, experts=4)
    for index, expert in enumerate(spatial.experts):  # each answers with its own constant
        for parameter in expert.parameters():
            torch.nn.init.zeros_(parameter)
        torch.nn.init.constant_(expert[2].bias, 10.0**index)
    x, z = torch.randn(1, 6, 8, 8), torch.randn(1, 5)
    added = (spatial(x, z) - x)[0, 0]
    logits = (spatial.see(x) + spatial.instruct(z)[:, :, None, None])[0]
    top = logits.topk(2, dim=0)
    expected = (top.values.softmax(dim=0) * 10.0**top.indices).sum(dim=0)
    torch.testing.assert_close(added, expected, rtol=1e-4, atol=1e-4)
    channel = ChannelRouting(6, size=5)
    gates = channel.instruct(z)[0].sigmoid()
    torch.nn.init.eye_(channel.project.weight.data[:, :, 0, 0])
    torch.nn.init.zeros_(channel.project.bias)
    share = ((channel(x, z) - x) / x)[0, :, 0, 0]
    kept = gates > gates.median()
    torch.testing.assert_close(share, torch.where(kept, gates, torch.zeros(())), rtol=1e-3, atol=1e-4)


def test_the_instruction_is_a_mixture_and_leaves_the_encoder_alone() -> None:
    network = InstructionNetwork(6, size=5, entries=3)
    latent = torch.randn(2, 6, 4, 4, requires_grad=True)
    z = network(latent)
    shares = network.weigh(latent.mean(dim=(2, 3))).softmax(dim=1)
    torch.testing.assert_close(z, shares @ network.dictionary)
    z.sum().backward()
    assert latent.grad is None


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_come_back(name, tmp_path) -> None:
    torch.manual_seed(0)
    network = find_network(name).build(CONFIGS[name]).eval()
    tasks = card_for_tasks("x", TINY, ("ct-denoise",)).tasks
    tasks = {"ct-denoise": replace(tasks["ct-denoise"], domain={"noise": (1.0, 2.0)})}
    path = tmp_path / "trained.safetensors"
    save_comparison_weights(network, path, card=card_of(name, tasks))
    loaded, card = load_comparison_weights(name, path)
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), network(x))
    assert (card.name, card.tasks, card.training) == (name, tasks, {"steps": 3})
    with pytest.raises(OutputError, match="exists"):
        save_comparison_weights(network, path, card=card_of(name, tasks))
    save_comparison_weights(network, path, card=card_of(name, tasks), overwrite=True)


def test_weights_that_dont_fit(tmp_path) -> None:
    tasks = card_for_tasks("x", TINY).tasks
    path = tmp_path / "net.safetensors"
    with pytest.raises(UsageError, match="unknown network 'resnet': expected one of tat, static-tat"):
        load_comparison_weights("resnet", path)
    with pytest.raises(WeightsError, match=r"expected a network's card net.json beside it, got nothing there"):
        load_comparison_weights("unet", path)
    path.with_suffix(".json").write_text("{}", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"card net.json beside it, got one without 'network'"):
        load_comparison_weights("unet", path)
    path.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match=r"ending in .safetensors"):
        save_comparison_weights(UNet(4), tmp_path / "net.pt", card=card_of("unet", tasks))
    save_comparison_weights(UNet(4), path, card=card_of("unet", tasks))
    with pytest.raises(WeightsError, match=r"expected weights of red-cnn, got those of unet; say --networks unet="):
        load_comparison_weights("red-cnn", path)
    card = path.with_suffix(".json")
    fields = json.loads(card.read_text(encoding="utf-8"))
    card.write_text(json.dumps(fields | {"config": {"width": 8}}), encoding="utf-8")
    with pytest.raises(WeightsError, match="expected the weights of the card's config"):
        load_comparison_weights("unet", path)
    card.write_text(json.dumps(fields | {"tasks": ["ct-denoise"]}), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"expected a network's card net.json beside it, got"):
        load_comparison_weights("unet", path)
    card.write_text(json.dumps(fields), encoding="utf-8")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="the card's sha256"):
        load_comparison_weights("unet", path)
