"""Deeper networks that give what the trained ones gave, and can learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tatcli.errors import UsageError
from tatcli.model import Tat, TatConfig
from tatcli.training.growth import grown

SHALLOW = TatConfig(
    width=8, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1), refinement_blocks=0, tren_width=4
)
DEEP = replace(SHALLOW, encoder_blocks=(1, 2, 3), latent_blocks=2, decoder_blocks=(2, 1, 3), refinement_blocks=1)


@pytest.fixture
def trained() -> Tat:
    torch.manual_seed(0)
    network = Tat(SHALLOW)
    for name, parameter in network.named_parameters():
        if name.endswith("gain"):
            nn.init.normal_(parameter)
    return network


def test_the_deeper_network_gives_the_same(trained: Tat) -> None:
    deeper = grown(trained, DEEP)
    x = torch.rand(2, 1, 32, 24)
    with torch.inference_mode():
        torch.testing.assert_close(deeper(x), trained(x), rtol=0, atol=1e-6)
    assert deeper.config == DEEP
    assert grown(trained, replace(DEEP, windows=(96, 48, 24, 12))).config.windows == (96, 48, 24, 12)


def test_refinement_may_grow_only_where_there_is_some_to_add_to(trained: Tat) -> None:
    """All three of encoder 1's, decoder 1's and refinement's maps are fused; new blocks leave each as it is."""
    deeper = grown(trained, replace(SHALLOW, refinement_blocks=3))
    x = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(deeper(x), trained(x), rtol=0, atol=1e-6)


def test_new_blocks_learn(trained: Tat) -> None:
    deeper = grown(trained, DEEP)
    deeper(torch.rand(1, 1, 32, 32)).square().mean().backward()
    new = {name: p.grad for name, p in deeper.named_parameters() if name not in trained.state_dict()}
    assert len(new) > 20
    assert all(float(grad.abs().max()) > 0 for name, grad in new.items() if name.endswith("project.weight"))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (replace(DEEP, width=16), "expected width 8"),
        (replace(DEEP, tren_width=8), "only depth can grow"),
        (replace(DEEP, encoder_blocks=(1, 2, 0)), r"at least the --init network's encoder_blocks \(1, 1, 1\)"),
        (replace(DEEP, latent_blocks=0), "latent_blocks 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(trained: Tat, config: TatConfig, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        grown(trained, config)
