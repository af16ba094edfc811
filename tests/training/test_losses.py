"""Each loss against its formula, and what padding may do: nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
import torch

from tatcli.model.loss_balancing import BalancedLoss
from tatcli.tasks import MRI_RANGES, TASKS
from tatcli.training.config import LossName, TrainConfig
from tatcli.training.distributed import World
from tatcli.training.losses import BalancedTaskLoss, PsnrLoss, UncertaintyLoss, make_loss
from tatcli.training.scored_range import scored_range
from tatcli.training.steps import Stepper

WHOLE = (-math.inf, math.inf)


def images(error: float) -> tuple[torch.Tensor, ...]:
    """Restored is off by ``error`` in one sample, by twice that in the other; the third row is padding, and rubbish."""
    hq = torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(hq)
    mask[:, :, 2] = 0
    restored = hq + error * torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
    restored = torch.where(mask == 0, torch.full_like(hq, 1e3), restored)
    return restored.requires_grad_(), hq, hq + 0.1, mask


def loss_of(name: LossName, error: float, weights: torch.Tensor | None = None, tasks: int = 1) -> BalancedLoss:
    weights = torch.ones(2) if weights is None else weights
    return make_loss(name, ranges=[WHOLE] * tasks)(images(error), weights, torch.arange(2) % tasks)


def test_l1() -> None:
    found = loss_of("l1", 0.01, torch.tensor([1.0, 3.0]))
    assert found.l1.tolist() == pytest.approx([0.01, 0.02], rel=1e-4)
    assert float(found.loss.detach()) == pytest.approx((0.01 + 3 * 0.02) / 2, rel=1e-4)
    assert found.sigma.tolist() == [1, 1]


def test_psnr_counts_decibels() -> None:
    found = loss_of("psnr", 0.01)
    assert float(found.loss.detach()) == pytest.approx((math.log(0.01) + math.log(0.02)) / 2, rel=1e-3)
    better = loss_of("psnr", 0.01 * 10 ** (-1 / 20))
    assert float((found.loss - better.loss).detach()) == pytest.approx(math.log(10) / 20, rel=1e-2)  # 1 dB in both


def test_psnr_pulls_every_sample_alike() -> None:
    """The gradient's norm is each sample's own over its error: an easy sample isn't drowned by a hard one."""
    given = images(0.01)
    make_loss("psnr", ranges=[WHOLE])(given, torch.ones(2), torch.zeros(2, dtype=torch.long)).loss.backward()
    gradient = given[0].grad
    assert gradient is not None
    assert bool((gradient[:, :, 2] == 0).all())
    pulls = (gradient * (given[0].detach() - given[1]) * given[3]).flatten(1).sum(dim=1)
    assert pulls.tolist() == pytest.approx([0.5, 0.5], rel=1e-3)


def test_psnr_counts_what_is_scored() -> None:
    """By hand: of errors of 0.4, 0.1 and 0.2, the evaluation window shows 0.1, 0.1 and nothing; the rest counts 0.1."""
    hq = torch.tensor([0.1, 0.5, 0.8]).view(1, 1, 1, 3)
    restored = torch.tensor([0.5, 0.6, 1.0]).view(1, 1, 1, 3).requires_grad_()
    loss = make_loss("psnr", ranges=[WHOLE, (0.4, 0.7)])
    found = loss((restored, hq, hq, torch.ones_like(hq)), torch.ones(1), torch.tensor([1]))
    squares = 0.1 * (0.16 + 0.01 + 0.04) / 3 + 0.9 * (0.01 + 0.01 + 0) / 3
    assert float(found.loss.detach()) == pytest.approx(0.5 * math.log(squares), rel=1e-5)
    assert found.l1.tolist() == pytest.approx([0.7 / 3])
    found.loss.backward()
    assert restored.grad is not None
    pulls = [0.1 * 0.4 + 0.9 * 0.1, 0.1, 0.1 * 0.2]
    assert restored.grad.flatten().tolist() == pytest.approx([pull / 3 / squares for pull in pulls], rel=1e-4)
    everywhere = loss((restored, hq, hq, torch.ones_like(hq)), torch.ones(1), torch.tensor([0]))
    assert float(everywhere.loss.detach()) == pytest.approx(0.5 * math.log(0.21 / 3), rel=1e-5)


def test_what_is_scored_of_the_network_range() -> None:
    ct, pet, mri = (TASKS[name] for name in ("ct-denoise", "pet-synthesis", "mri-sr"))
    assert scored_range(ct, ct.intensity) == pytest.approx(((1024 - 160) / 4096, (1024 + 240) / 4096))
    assert scored_range(pet, pet.intensity) == WHOLE
    assert scored_range(mri, mri.intensity) == scored_range(mri, MRI_RANGES["paper"]) == WHOLE


def test_a_run_scores_each_task_in_its_own_range() -> None:
    """Tasks count by their place in the run's options, whatever their order there."""
    config = TrainConfig(data=Path("d"), output=Path("o"), tasks=("mri", "ct", "pet"), loss="psnr")
    loss = Stepper(torch.nn.Conv2d(1, 1, 3), config, world=World()).loss
    assert isinstance(loss, PsnrLoss)
    soft = [(1024 - 160) / 4096, (1024 + 240) / 4096]
    assert loss.bounds.tolist() == [list(WHOLE), pytest.approx(soft), list(WHOLE)]


def test_balanced_is_the_balancers() -> None:
    loss = BalancedTaskLoss()
    given = images(0.01)
    expected = loss.balancer(*given[:3], given[3], torch.ones(2))
    found = loss(given, torch.ones(2), torch.zeros(2, dtype=torch.long))
    assert float(found.loss.detach()) == float(expected.loss.detach())
    assert torch.equal(found.sigma, expected.sigma)


def test_balancing_by_hand() -> None:
    """0.5 l / sigma^2 + 0.5 ln(1 + sigma^2) at sigma 2, and the three features that sigma follows from."""
    loss = BalancedTaskLoss()
    torch.nn.init.constant_(loss.balancer.fc_out.bias, 2.0)
    restored, hq, lq, mask = images(0.01)
    found = loss((restored, hq, lq, mask), torch.tensor([1.0, 3.0]), torch.zeros(2, dtype=torch.long))
    each = [0.5 * error / 4 + 0.5 * math.log(5) for error in (0.01, 0.02)]
    assert float(found.loss.detach()) == pytest.approx((each[0] + 3 * each[1]) / 2, rel=1e-4)
    assert found.sigma.tolist() == [2.0, 2.0]
    features, _ = loss.balancer.features(restored, hq, lq, mask)
    assert features.flatten().tolist() == pytest.approx([0.1, 0.09, 0.01, 0.1, 0.12, 0.02], rel=1e-3)


def test_samples_count_by_their_weights() -> None:
    weights = torch.tensor([1.0, 3.0])
    psnr = loss_of("psnr", 0.01, weights)
    assert float(psnr.loss.detach()) == pytest.approx((math.log(0.01) + 3 * math.log(0.02)) / 2, rel=1e-3)
    uncertainty = loss_of("uncertainty", 0.01, weights, tasks=2)
    assert float(uncertainty.loss.detach()) == pytest.approx(0.5 * (0.01 + 3 * 0.02) / 2, rel=1e-4)


def test_uncertainty_is_kendalls() -> None:
    """0.5 l / sigma^2 + log sigma for each task, lowest where sigma^2 is the task's error."""
    loss = UncertaintyLoss(2)
    with torch.no_grad():
        loss.log_variances.copy_(torch.tensor([0.01, 0.02]).log())
    found = loss(images(0.01), torch.ones(2), torch.tensor([0, 1]))
    expected = [0.5 + 0.5 * math.log(0.01), 0.5 + 0.5 * math.log(0.02)]
    assert float(found.loss.detach()) == pytest.approx(sum(expected) / 2, rel=1e-4)
    assert found.sigma.tolist() == pytest.approx([0.1, math.sqrt(0.02)], rel=1e-4)
    found.loss.backward()
    assert loss.log_variances.grad is not None
    assert loss.log_variances.grad.tolist() == pytest.approx([0, 0], abs=1e-4)
    started = loss_of("uncertainty", 0.01, tasks=2)  # sigma is 1: half the L1 loss
    assert float(started.loss.detach()) == pytest.approx(0.5 * 0.015, rel=1e-4)


def test_only_losses_that_learn_have_parameters() -> None:
    sizes = {
        name: sum(p.numel() for p in make_loss(name, ranges=[WHOLE] * 3).parameters()) for name in get_args(LossName)
    }
    assert sizes == {"balanced": 64 + 32 + 4352 + 4112 + 17, "l1": 0, "psnr": 0, "uncertainty": 3}
