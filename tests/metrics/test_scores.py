"""Protocols: data ranges, what is averaged, what is skipped."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tatcli.errors import UsageError
from tatcli.intensity import FixedRange, RobustRange, Window
from tatcli.metrics import (
    PROTOCOLS,
    Score,
    evaluation_window,
    find_protocol,
    mean_score,
    psnr,
    rmse,
    score_volume,
    ssim,
)
from tatcli.tasks import TASKS

CT, PET, MRI = (TASKS[name] for name in ("ct-denoise", "pet-synthesis", "mri-sr"))
WINDOW = Window(-160.0, 240.0)


def pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reference = rng.uniform(-1000.0, 1500.0, (3, 20, 16)).astype(np.float32)
    return (reference + rng.normal(0.0, 30.0, reference.shape)).astype(np.float32), reference


def score(restored, reference, *, task=CT, window=WINDOW, protocol="paper"):
    return score_volume(restored, reference, task=task, window=window, protocol=find_protocol(protocol))


def test_paper_takes_each_clipped_slices_own_range_and_the_mean_over_slices() -> None:
    restored, reference = pair()
    reference[1] = reference[1].clip(0.0, 100.0)
    scores = score(restored, reference)
    assert [s.data_range for s in scores.slices] == [400.0, 100.0, 400.0]
    x, y = (np.clip(a[1].astype(np.float64), -160.0, 240.0) for a in (restored, reference))
    assert scores.slices[1].psnr == pytest.approx(psnr(x, y, data_range=100.0))
    assert scores.slices[1].ssim == pytest.approx(ssim(x, y, data_range=100.0))
    assert scores.slices[1].rmse == pytest.approx(rmse(x, y))
    assert scores.mean is not None
    assert scores.mean.psnr == pytest.approx(np.mean([s.psnr for s in scores.slices]))
    assert scores.mean.rmse == pytest.approx(np.mean([s.rmse for s in scores.slices]))


@pytest.mark.parametrize(("task", "expected"), [(CT, 4095.0), (PET, 20.0), (MRI, 4095.0)])
def test_fixed_takes_the_tasks_range(task, expected) -> None:
    restored, reference = pair()
    scores = score(restored, reference, task=task, window=Window(0.0, 300.0), protocol="fixed")
    assert {s.data_range for s in scores.slices} == {expected}
    first = scores.slices[0]
    assert first.psnr == pytest.approx(20 * math.log10(expected / first.rmse))


def test_volume_pools_the_square_error() -> None:
    restored, reference = pair()
    restored[2] = reference[2]  # perfect: its own PSNR is infinite, the volume's isn't
    scores = score(restored, reference, protocol="volume")
    x, y = (np.clip(a.astype(np.float64), -160.0, 240.0) for a in (restored, reference))
    assert scores.mean is not None
    assert scores.mean.psnr == pytest.approx(psnr(x, y, data_range=400.0))
    assert scores.mean.rmse == pytest.approx(rmse(x, y))
    assert scores.mean.ssim == pytest.approx(np.mean([ssim(a, b, data_range=400.0) for a, b in zip(x, y, strict=True)]))
    assert scores.slices[2].psnr == math.inf


def test_volume_takes_an_mris_own_range() -> None:
    reference = np.full((2, 12, 12), 30.0, dtype=np.float32)
    reference[1, 5:, 5:] = 90.0

    def data_ranges(truth: np.ndarray, task=MRI) -> set[float]:
        scores = score(np.nan_to_num(truth) + 1, truth, task=task, window=Window(0.0, 200.0), protocol="volume")
        return {found.data_range for found in scores.slices}

    assert data_ranges(reference) == {60.0}  # of both slices, although the first is constant
    assert data_ranges(reference, CT) == {200.0}
    reference[1, 11, 11], reference[0, 0, 0] = 250.0, np.nan
    assert data_ranges(reference) == {170.0}  # 250 is clipped
    for constant in (30.0, np.nan):
        assert data_ranges(np.full_like(reference, constant)) == {200.0}


def test_constant_reference_slices_are_skipped_and_counted() -> None:
    restored, reference = pair()
    reference[0] = 1000.0  # constant after clipping only
    reference[0, 3] = 2000.0
    scores = score(restored, reference)
    assert scores.skipped == 1
    assert [s.index for s in scores.slices] == [1, 2]
    assert [s.index for s in scores.numbered([10, 20, 30]).slices] == [20, 30]


def test_a_constant_reference_has_no_score() -> None:
    restored, _ = pair()
    scores = score(restored, np.zeros_like(restored))
    assert (scores.mean, scores.slices, scores.skipped) == (None, (), 3)
    assert scores.to_dict()["mean"] is None


def test_some_slices_of_an_mri_are_scored_by_the_whole_volumes_range() -> None:
    task, window = TASKS["mri-sr"], Window(0.0, 900.0)
    truth = np.stack([np.linspace(0, top, 400).reshape(20, 20) for top in (1000.0, 300.0)])
    restored = truth + 3.0
    options = {"task": task, "window": window, "protocol": find_protocol("volume")}
    part = score_volume(restored[1:], truth[1:], **options, extent=Window(0.0, 1000.0))
    assert part.mean.psnr == pytest.approx(20 * np.log10(900 / 3))  # 900: what the window leaves of the range
    assert score_volume(restored[1:], truth[1:], **options).mean.psnr == pytest.approx(20 * np.log10(300 / 3))


def test_identical_volumes_are_perfect() -> None:
    _, reference = pair()
    for protocol in PROTOCOLS:
        mean = score(reference, reference, protocol=protocol).mean
        assert mean == Score(math.inf, pytest.approx(1.0), 0.0, 0.0)


def test_voxels_outside_the_window_dont_count() -> None:
    _, reference = pair()
    restored = np.where(reference > 240.0, reference + 5000.0, reference)
    restored = np.where(reference < -160.0, -1e30, restored)
    assert score(restored, reference).mean == score(reference, reference).mean


def test_infinite_and_unknown_voxels() -> None:
    restored, reference = pair()
    expected = score(restored, reference)
    high = reference[0] > 240.0
    reference[0][high], restored[0][high] = np.inf, np.inf
    same = score(restored, reference)
    assert same.slices[1] == expected.slices[1]
    reference[1, 2, 3] = np.nan
    restored[1, 2, 3] = np.nan
    with_hole = score(restored, reference)
    filled, truth = restored.copy(), reference.copy()
    filled[1, 2, 3] = truth[1, 2, 3] = -160.0
    assert with_hole == score(filled, truth)


def test_a_hole_in_the_restored_volume_is_an_error() -> None:
    restored, reference = pair()
    restored[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="got NaN"):
        score(restored, reference)


def test_shapes_must_agree() -> None:
    restored, reference = pair()
    with pytest.raises(ValueError, match=r"got \(2, 20, 16\)"):
        score(restored[:2], reference)


def test_evaluation_windows() -> None:
    values = np.linspace(0.0, 1000.0, 1001)
    assert evaluation_window(CT, values) == Window(-160.0, 240.0)
    assert evaluation_window(PET, values, rule=FixedRange(Window(0.0, 5.0))) == Window(0.0, 20.0)
    assert evaluation_window(MRI, values).upper == pytest.approx(995.0, abs=1.0)
    assert evaluation_window(MRI, values, rule=FixedRange(Window(0.0, 4095.0))) == Window(0.0, 4095.0)
    assert evaluation_window(MRI, values, rule=RobustRange(50.0)).upper == pytest.approx(500.0, abs=1.0)


def test_unknown_protocols_are_refused() -> None:
    assert find_protocol(" Paper") is PROTOCOLS["paper"]
    with pytest.raises(UsageError, match="expected one of paper, fixed, volume"):
        find_protocol("papers")


def test_the_mean_of_nothing() -> None:
    with pytest.raises(ValueError, match="got none"):
        mean_score([])


def test_a_mask_leaves_only_its_voxels() -> None:
    restored, reference = pair()
    mask = np.zeros(reference.shape, dtype=bool)
    mask[0, 2:9, 3:12] = True
    mask[2, 5, 5:8] = True
    scores = score_volume(restored, reference, task=CT, window=WINDOW, protocol=find_protocol("paper"), mask=mask)
    assert [s.index for s in scores.slices] == [0, 2]
    assert scores.skipped == 1
    x, y = (np.clip(a[0].astype(np.float64), -160.0, 240.0) for a in (restored, reference))
    assert scores.slices[0].rmse == pytest.approx(rmse(x[mask[0]], y[mask[0]]))
    assert scores.slices[0].data_range == 400.0
    everywhere = np.ones(reference.shape, dtype=bool)
    whole = score_volume(restored, reference, task=CT, window=WINDOW, protocol=find_protocol("volume"), mask=everywhere)
    assert whole == score(restored, reference, protocol="volume")
    part = score_volume(restored, reference, task=CT, window=WINDOW, protocol=find_protocol("volume"), mask=mask)
    clipped = [np.clip(a.astype(np.float64), -160.0, 240.0)[mask] for a in (restored, reference)]
    assert part.mean is not None
    assert part.mean.rmse == pytest.approx(rmse(*clipped))
    assert part.mean.psnr == pytest.approx(psnr(*clipped, data_range=400.0))
    with pytest.raises(ValueError, match="mask of the volumes' shape"):
        score_volume(restored, reference, task=CT, window=WINDOW, protocol=find_protocol("paper"), mask=mask[:1])


@pytest.mark.parametrize(("protocol", "left"), [("paper", [1]), ("fixed", [1]), ("volume", [0, 1, 2])])
@pytest.mark.parametrize("beyond", [-1000.0, 900.0])
def test_a_mask_of_what_clipping_cut_off_has_nothing_to_score(protocol: str, left: list[int], beyond: float) -> None:
    """Else any method that stays beyond the window too is infinitely good, and so is the mean."""
    _, reference = pair()
    restored = reference + 5.0
    mask = np.zeros(reference.shape, dtype=bool)
    mask[:, 2:6, 2:6] = True
    reference[[0, 2], 2:6, 2:6] = restored[[0, 2], 2:6, 2:6] = beyond
    reference[1, 2:6, 2:6], restored[1, 2:6, 2:6] = 40.0, 50.0  # constant, but not by the window
    scores = score_volume(restored, reference, task=CT, window=WINDOW, protocol=find_protocol(protocol), mask=mask)
    assert [one.index for one in scores.slices] == left
    assert scores.skipped == 3 - len(left)
    assert scores.mean is not None
    assert scores.mean.rmse == pytest.approx(10.0 if protocol != "volume" else 10.0 / np.sqrt(3))
    mask[1] = False
    none = score_volume(restored, reference, task=CT, window=WINDOW, protocol=find_protocol(protocol), mask=mask)
    assert (none.mean, none.skipped) == (None, 3)
