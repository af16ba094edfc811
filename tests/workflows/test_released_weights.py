"""The released weights: whole, small, and worth using."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tatcli import Restorer, simulate
from tatcli.degradation.ct_kernel import find_kernel
from tatcli.degradation.low_dose_ct import ct_noise_realisations
from tatcli.intensity import Units
from tatcli.metrics import psnr
from tatcli.model import PRESETS
from tatcli.model.weights import DEFAULT_WEIGHTS, file_sha256, find_weights, read_card
from tatcli.tasks import TASKS
from tatcli.volumes import Geometry, Volume
from tatcli.workflows.evaluate import EvaluateConfig, evaluate


def test_the_file_fits_its_card_and_the_size_limit():
    path = find_weights(DEFAULT_WEIGHTS)
    card = read_card(path)
    assert path.stat().st_size <= 20 * 2**20
    assert file_sha256(path) == card.sha256
    assert card.config == PRESETS["tat-small"]
    assert card.tasks.keys() == TASKS.keys()
    for field in (card.training, card.metrics, card.limits):
        assert field
    assert all(row["terms"] for row in card.training["data"])


def test_a_noisy_phantom_comes_closer_to_its_reference():
    """Quarter dose on discs of soft tissue, which nobody trained on: less noise, and no shift of the mean."""
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    clean = np.full((256, 256), -1000.0, np.float32)
    for radius, cx, cy, hu in ((0.9, 0, 0, 40), (0.3, -0.4, 0, 90), (0.15, 0.4, 0.3, -60), (0.1, 0.4, -0.4, 180)):
        clean[np.hypot(x - cx, y - cy) < radius] = hu
    noise = ct_noise_realisations(clean, spacing_mm=(0.8, 0.8), kernels=[find_kernel("standard")], seed=0)[0]
    spacing = np.diag([0.8, 0.8, 5.0, 1.0])
    reference = Volume((clean + 10 * noise)[None], Geometry(spacing, (1, 256, 256)), Units.HU)
    low = simulate(reference, "ct-denoise", strength=0.25, seed=1, reference_noise=10.0)
    restored = Restorer(DEFAULT_WEIGHTS, device="cpu")(low, "ct-denoise")
    window = TASKS["ct-denoise"].evaluation_window
    truth, before, after = (window.clip(image) for image in (clean, low.array[0], restored.array[0]))
    gain = psnr(after, truth, data_range=400.0) - psnr(before, truth, data_range=400.0)
    assert gain > 2
    inside = np.hypot(x, y) < 0.85
    assert abs((restored.array[0] - low.array[0])[inside].mean()) < 1.5


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(("task", "gain"), [("ct", 4.0), ("pet", 5.0), ("mri", 0.8)])
def test_gains_on_validation_scans(shared: Path, task: str, gain: float):
    """The simulated degradations of the paper, on the middle slice of every validation scan.

    In one plane: three take PET's whole volume three times through the network, a minute for 0.8 dB more.
    """
    config = EvaluateConfig(data=shared / "data", tasks=(task,), baselines=(), max_slices=1, planes=1, device="cpu")
    (report,) = evaluate(config).tasks
    before, after = (next(row for row in report.methods if row.method == name).score for name in ("lq", "tat-small"))
    assert after.psnr - before.psnr >= gain
    assert after.ssim > before.ssim
