"""Where crops lie: on the patient, or where the error is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tatcli.intensity import Window
from tatcli.tasks import TASKS
from tatcli.training.config import TrainConfig
from tatcli.training.crops import LEAST_FOREGROUND, UNIFORM_SHARE, by_error, by_foreground, error_sums
from tatcli.training.references import prepare_references
from tatcli.training.sampler import Sampler

WINDOW = Window(0.0, 100.0)
HU = Window(-1024.0, 3072.0)


def slice_with_error(rows: int = 40, columns: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    hq = np.full((rows, columns), 50, dtype=np.float32)
    lq = hq + rng.normal(0, 1, hq.shape).astype(np.float32)
    lq[20:28, 4:12] += rng.normal(0, 12, (8, 8)).astype(np.float32)
    return lq, hq


@pytest.mark.parametrize("patch", [1, 7, 40, 45, 60])
def test_sums_of_every_crop(patch: int) -> None:
    error = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    sums = error_sums(error, patch)
    assert sums.shape == (max(40 - patch, 0) + 1, max(50 - patch, 0) + 1)
    for top, left in ((0, 0), (sums.shape[0] - 1, 0), (sums.shape[0] // 2, sums.shape[1] - 1)):
        expected = np.square(error[top : top + patch, left : left + patch].astype(np.float64)).sum()
        assert sums[top, left] == pytest.approx(expected, rel=1e-9)


def test_as_likely_as_their_error() -> None:
    """Judged by the ratio of their errors, crops give the slice's ratio; the uniform ones are mixed in."""
    lq, hq = slice_with_error()
    patch, draws = 10, 6000
    sums = error_sums(lq - hq, patch)
    likely = (1 - UNIFORM_SHARE) * sums / sums.sum() + UNIFORM_SHARE / sums.size
    rng = np.random.default_rng(1)
    drawn = np.zeros(sums.shape)
    for _ in range(draws):
        rows, columns = by_error(lq, hq, WINDOW, patch, rng)
        assert (rows.stop - rows.start, columns.stop - columns.start) == (patch, patch)
        drawn[rows.start, columns.start] += 1
    near = np.zeros(sums.shape, dtype=bool)
    near[16:24, :8] = True  # crops with most of the strong error
    assert likely[near].sum() > 3 * near.mean()
    assert drawn[near].sum() / draws == pytest.approx(likely[near].sum(), abs=0.03)
    assert drawn[~near].sum() / draws == pytest.approx(likely[~near].sum(), abs=0.03)


def test_errors_outside_the_window_do_not_count() -> None:
    """A metal implant at 8000 HU is clipped in both: no crop is drawn to it."""
    hq = np.full((30, 30), 50, dtype=np.float32)
    lq = hq.copy()
    hq[2:6, 2:6], lq[2:6, 2:6] = 5000, 9000
    lq[20:24, 20:24] += 10
    rng = np.random.default_rng(0)
    places = [by_error(lq, hq, WINDOW, 5, rng) for _ in range(200)]
    assert np.mean([15 < rows.start < 25 and 15 < columns.start < 25 for rows, columns in places]) > 0.75


def test_errors_that_are_not_scored_count_a_tenth() -> None:
    """Two equal errors, one in soft tissue and one in lung: eleven crops by error to one."""
    hq = np.full((30, 60), 50, dtype=np.float32)
    hq[:, 30:] = -800
    lq = hq.copy()
    lq[14, 14] += 40
    lq[14, 44] += 40
    rng = np.random.default_rng(0)
    soft, lung = 0, 0
    for _ in range(600):
        rows, columns = by_error(lq, hq, HU, 5, rng, scored=Window(-160.0, 240.0))
        soft += bool(lq[rows, columns].max() == 90)
        lung += bool((lq[rows, columns] == -760).any())
    assert soft / 600 == pytest.approx(0.8 / 1.1, abs=0.05)
    assert lung / 600 == pytest.approx(0.08 / 1.1, abs=0.04)


def test_without_any_error_anywhere() -> None:
    hq = np.full((30, 40), 50, dtype=np.float32)
    rng = np.random.default_rng(0)
    starts = np.array([[part.start for part in by_error(hq, hq, WINDOW, 10, rng)] for _ in range(400)])
    assert starts.min() == 0
    assert starts.max(axis=0).tolist() == [20, 30]
    assert starts.mean(axis=0) == pytest.approx([10, 15], abs=1.5)


def test_slices_smaller_than_the_crop_are_taken_whole() -> None:
    lq, hq = slice_with_error(30, 34)
    rows, columns = by_error(lq, hq, WINDOW, 32, np.random.default_rng(0))
    assert rows == slice(0, 32)
    assert columns.start in (0, 1, 2)
    assert hq[rows, columns].shape == (30, 32)


def test_foreground_shows_the_patient() -> None:
    hq = np.zeros((4, 60, 60), dtype=np.float32)
    hq[2, 40:, 40:] = 80  # in one slice only
    rng = np.random.default_rng(0)
    drawn = [by_foreground(hq, WINDOW, 20, rng) for _ in range(300)]
    shown = [(hq[index][place] > 1.5).mean() >= LEAST_FOREGROUND for index, place in drawn]
    uniformly = 1 / 4 * 0.1
    assert np.mean(shown) > 3 * uniformly


def test_foreground_begins_just_above_air_and_may_lie_at_any_edge() -> None:
    """Lung of -900 HU is the patient, air of -1000 isn't; the last row and column are reached as the first ones are."""
    hq = np.full((1, 12, 12), -1000, dtype=np.float32)
    hq[0, :, 6:] = -900
    rng = np.random.default_rng(0)
    places = [by_foreground(hq, HU, 4, rng)[1] for _ in range(200)]
    assert np.mean([columns.start < 3 for _, columns in places]) < 0.02
    assert {rows.start for rows, _ in places} == set(range(9))
    assert max(columns.start for _, columns in places) == 8


def test_batches_by_error_have_more_of_it(make_config: Callable[..., TrainConfig]) -> None:
    found = {}
    for crops in ("foreground", "error"):
        config = make_config(crops=crops, patch=(16,), batch=(4,))
        references = {task: prepare_references(TASKS[task], "train", config) for task in config.tasks}
        sampler = Sampler(references, config)
        batches = [sampler.batch(step) for step in range(12)]
        assert {batch.lq.shape for batch in batches} == {(12, 1, 16, 16)}
        errors: dict[str, list[float]] = {}
        for batch in batches:
            for lq, hq, task in zip(batch.lq, batch.hq, batch.tasks, strict=True):
                errors.setdefault(task, []).append(float((lq - hq).square().mean()))
        found[crops] = {task: float(np.mean(values)) for task, values in errors.items()}
        again = sampler.batch(3)
        assert float(again.lq.sum()) == float(batches[3].lq.sum())
    assert found["error"]["mri-sr"] > 1.2 * found["foreground"]["mri-sr"]
