"""What the ablation's table says of one seed, and of several."""

from __future__ import annotations

from dataclasses import replace

from tatcli.cli.benchmark.ablation import _cells
from tatcli.workflows.benchmark.ablation_report import ArmRow

ROW = ArmRow(
    task="ct-denoise",
    arm="l1",
    psnr=34.651,
    ssim=0.92971,
    rmse=7.69,
    gain=2.79,
    interval=None,
    spread=(34.48, 34.82),
    difference=-0.28,
    difference_spread=(-0.33, -0.23),
    subjects=1,
    seeds=2,
)


def test_a_spread_needs_several_seeds():
    assert _cells(ROW) == (
        "l1", "34.65", "+2.79", "-", "34.48 - 34.82", "-0.28 (-0.33 to -0.23)", "0.9297", "7.69",
    )  # fmt: skip
    assert _cells(replace(ROW, seeds=1))[4:6] == ("-", "-0.28")
