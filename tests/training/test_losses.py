"""Each loss against its formula, and what padding may do: nothing."""

from __future__ import annotations

import math

import pytest
import torch

from tatcli.model import LossBalancer
from tatcli.training.losses import batch_loss


def images(error: float) -> tuple[torch.Tensor, ...]:
    """Restored is off by ``error`` in one sample, by twice that in the other; the third row is padding, and rubbish."""
    hq = torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(hq)
    mask[:, :, 2] = 0
    restored = hq + error * torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
    restored = torch.where(mask == 0, torch.full_like(hq, 1e3), restored)
    return restored.requires_grad_(), hq, hq + 0.1, mask


def test_l1() -> None:
    found = batch_loss("l1", LossBalancer(), images(0.01), torch.tensor([1.0, 3.0]))
    assert found.l1.tolist() == pytest.approx([0.01, 0.02], rel=1e-4)
    assert float(found.loss.detach()) == pytest.approx((0.01 + 3 * 0.02) / 2, rel=1e-4)
    assert found.sigma.tolist() == [1, 1]


def test_psnr_counts_decibels() -> None:
    found = batch_loss("psnr", LossBalancer(), images(0.01), torch.ones(2))
    assert float(found.loss.detach()) == pytest.approx((math.log(0.01) + math.log(0.02)) / 2, rel=1e-3)
    better = batch_loss("psnr", LossBalancer(), images(0.01 * 10 ** (-1 / 20)), torch.ones(2))
    assert float((found.loss - better.loss).detach()) == pytest.approx(math.log(10) / 20, rel=1e-2)  # 1 dB in both


def test_psnr_pulls_every_sample_alike() -> None:
    """The gradient's norm is each sample's own over its error: an easy sample isn't drowned by a hard one."""
    given = images(0.01)
    batch_loss("psnr", LossBalancer(), given, torch.ones(2)).loss.backward()
    gradient = given[0].grad
    assert gradient is not None
    assert bool((gradient[:, :, 2] == 0).all())
    pulls = (gradient * (given[0].detach() - given[1]) * given[3]).flatten(1).sum(dim=1)
    assert pulls.tolist() == pytest.approx([0.5, 0.5], rel=1e-3)


def test_balanced_is_the_balancers() -> None:
    balancer = LossBalancer()
    given = images(0.01)
    expected = balancer(*given[:3], given[3], torch.ones(2))
    found = batch_loss("balanced", balancer, given, torch.ones(2))
    assert float(found.loss.detach()) == float(expected.loss.detach())
    assert torch.equal(found.sigma, expected.sigma)
