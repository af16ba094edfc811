"""The nominal work: the published network's figures, and one block by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tatcli.model.config import PRESETS
from tatcli.model.fused import without_kernels
from tatcli.model.tat import Tat
from tatcli.workflows.benchmark.nominal import nominal_flop
from tiny_networks import TINY

BASE = PRESETS["tat-base"]


@pytest.mark.parametrize(("size", "gflop"), [(128, 85.5), (256, 376.6), (512, 1397.0)])
def test_the_papers_network(size, gflop):
    assert nominal_flop(BASE, size, size) / 1e9 == pytest.approx(gflop, rel=1e-3)


def test_one_more_block_by_hand():
    more = replace(TINY, encoder_blocks=(1, 2, 1))
    dim, heads, hidden, pixels = 16, 2, 32, 16 * 24  # level 2 of a 32x48 slice; its windows are 24x24: 16x24 are one
    attention = dim * 3 * dim + 9 * 3 * dim + 2 * dim * dim // heads + dim * dim
    feedforward = dim * 2 * hidden + 9 * 2 * hidden + hidden * dim
    added = nominal_flop(more, 32, 48) - nominal_flop(TINY, 32, 48)
    assert added == 2 * pixels * (attention + feedforward)


def test_overlapping_windows_count_in_full():
    more = replace(TINY, latent_blocks=2)
    # Level 4 of a 64x80 slice is 8x10, its windows 6x6: along 8 at 0 and 2, along 10 at 0 and 4.
    dim, heads, hidden, pixels, visited = 64, 8, 128, 8 * 10, 12 * 12
    plain = dim * 3 * dim + 9 * 3 * dim + dim * dim + 3 * dim * hidden + 9 * 2 * hidden
    added = nominal_flop(more, 64, 80) - nominal_flop(TINY, 64, 80)
    assert added == 2 * (pixels * plain + visited * 2 * dim * dim // heads)


def test_padding_counts():
    assert nominal_flop(TINY, 33, 57) == nominal_flop(TINY, 40, 64)


@pytest.mark.parametrize("config", [TINY, replace(TINY, width=12, expansion=2.66, tren_width=6)])
def test_it_is_what_pytorch_counts(config):
    """On a slice that is one window; there the folded projection is the only work that the network saves."""
    network = Tat(config)
    with FlopCounterMode(display=False) as counter, without_kernels():  # it doesn't see into the fused ones
        network(torch.rand(1, 1, 32, 32))
    applied = 0  # W_o A costs dim^3 / heads once instead of dim^2 / heads for A v at each pixel
    for level, blocks in ((0, 1), (1, 1), (2, 1), (3, 1), (2, 1), (1, 1)):
        applied += blocks * (dim := config.dim(level)) ** 2 // config.heads[level] * ((32 >> level) ** 2 - dim)
    applied += 2 * (dim := config.decoder_dim(0)) ** 2 * (32**2 - dim)  # decoder 1 and refinement
    assert nominal_flop(config, 32, 32) - 2 * applied == counter.get_total_flops()
