"""Muon: what it does to a matrix, which weights it gets, and that a run with it can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tatcli.model import load_weights
from tatcli.model.config import PRESETS, TatConfig
from tatcli.model.tat import Tat
from tatcli.training.checkpoints import CHECKPOINT
from tatcli.training.config import TrainConfig
from tatcli.training.losses import make_loss
from tatcli.training.optimisers import Muon, _owners, is_matrix, make_optimisers, orthogonalised
from tatcli.workflows.train import train

Make = Callable[..., TrainConfig]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_singular_values_are_brought_to_one(shape: tuple[int, int]) -> None:
    """The directions stay, whatever their strength was over a factor of thirty."""
    left, _, right = torch.linalg.svd(random(*shape), full_matrices=False)
    strengths = torch.logspace(-1.5, 0, left.shape[1])
    found = left.T @ orthogonalised(7.0 * left * strengths @ right) @ right.T
    assert 0.6 < float(found.diagonal().min())
    assert float(found.diagonal().max()) < 1.3
    off = found - torch.diag(found.diagonal())
    assert float(off.abs().max()) < 1e-4
    assert torch.equal(orthogonalised(torch.zeros(shape)), torch.zeros(shape))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon from 2.9 on")
@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
def test_steps_are_those_of_pytorch(shape: tuple[int, int]) -> None:
    """Over five steps with momentum and decay, but for PyTorch's bfloat16 iterations."""
    ours, theirs = nn.Parameter(random(*shape)), nn.Parameter(random(*shape))
    mine = Muon([ours], lr=0.02, weight_decay=0.1)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        ours.grad = random(*shape, seed=step + 1)
        theirs.grad = ours.grad.clone()
        mine.step()
        other.step()
    with torch.no_grad():
        assert float((ours - theirs).norm() / (theirs - random(*shape)).norm()) < 0.01


def test_a_kernel_is_a_matrix_of_its_outputs() -> None:
    """A convolution's weight moves as the matrix (outputs, inputs x rows x columns), in any memory format."""
    kernel = random(6, 4, 3, 3)
    flat = nn.Parameter(kernel.reshape(6, 36).clone())
    weight = nn.Parameter(kernel.clone().to(memory_format=torch.channels_last))
    flat.grad = random(6, 36, seed=1)
    weight.grad = flat.grad.reshape(6, 4, 3, 3).to(memory_format=torch.channels_last)
    Muon([flat], lr=0.1).step()
    Muon([weight], lr=0.1).step()
    assert torch.allclose(weight.reshape(6, 36), flat, atol=1e-6)
    assert not torch.allclose(weight, kernel, atol=1e-3)


def test_no_closure() -> None:
    with pytest.raises(ValueError, match="expected no closure"):
        Muon([nn.Parameter(random(8, 8))], lr=0.1).step(lambda: 0.0)


def test_which_weights_are_matrices(make_config: Make) -> None:
    network = Tat(
        TatConfig(width=16, encoder_blocks=(1, 1, 1), latent_blocks=1, decoder_blocks=(1, 1, 1), refinement_blocks=1)
    )
    named = {name: is_matrix(weight) for name, weight in network.named_parameters()}
    for name, weight in network.named_parameters():
        if weight.ndim < 2 or "norm" in name or "depthwise" in name:
            assert not named[name], name
    ends = [name for name, weight in network.named_parameters() if weight.ndim == 4 and 1 in weight.shape[:2]]
    assert ends
    assert not any(named[name] for name in ends)
    share = sum(weight.numel() for name, weight in network.named_parameters() if named[name])
    assert share > 0.9 * sum(weight.numel() for weight in network.parameters())

    loss = make_loss("balanced", ranges=[(0.0, 1.0)] * 3)
    adamw, muon = make_optimisers(network, loss, make_config(optimizer="muon"))
    sets = [{id(weight) for group in each.param_groups for weight in group["params"]} for each in (adamw, muon)]
    assert sets[1] == {id(weight) for name, weight in network.named_parameters() if named[name]}
    assert not sets[0] & sets[1]
    assert sets[0] | sets[1] == {id(weight) for weight in (*network.parameters(), *loss.parameters())}
    (alone,) = make_optimisers(network, loss, make_config())
    assert len(alone.param_groups[0]["params"]) == len(sets[0] | sets[1])


def test_a_run_with_muon_is_resumed_exactly(make_config: Make) -> None:
    config = make_config("straight", tasks=("mri",), optimizer="muon", steps=4)
    straight = train(config).weights

    def stop(progress: object) -> None:
        if getattr(progress, "step", 0) == 2:
            raise KeyboardInterrupt

    cut = replace(config, output=config.output.with_name("cut"))
    with pytest.raises(KeyboardInterrupt):
        train(cut, on_step=stop)
    state = torch.load(cut.output / CHECKPOINT, weights_only=True)
    assert state["step"] == 2
    assert {tuple(each) for each in state["muon"]["state"].values()} == {("momentum",)}
    assert same(straight, train(cut).weights)
    adamw = train(replace(config, output=config.output.with_name("adamw"), optimizer="adamw")).weights
    assert not same(straight, adamw)


def same(first: Path, second: Path) -> bool:
    states = [load_weights(path)[0].state_dict() for path in (first, second)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_processes_share_the_iterations_evenly() -> None:
    """tat-small's matrices, by multiplications: two processes have half each."""
    network = Tat(PRESETS["tat-small"])
    shapes = [(len(weight), weight[0].numel()) for weight in network.parameters() if is_matrix(weight)]
    work = [min(shape) ** 2 * (2 * max(shape) + min(shape)) for shape in shapes]
    owners = _owners(shapes, 2)
    first = sum(part for part, owner in zip(work, owners, strict=True) if owner == 0)
    assert first / sum(work) == pytest.approx(0.5, abs=0.02)
    assert _owners(shapes, 1) == [0] * len(shapes)
