"""Tuning: the best parameter of the grid by mean PSNR on training slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tatcli.baselines import BASELINES, SliceContext, TrainingSlice, TunedBaseline, tune
from tatcli.intensity import Window
from tatcli.metrics import PROTOCOLS, psnr
from tatcli.tasks import TASKS
from tatcli.workflows.evaluation.tuned import TuningData, draw_slices

CT = TASKS["ct-denoise"]
WINDOW = Window(-160.0, 240.0)


def example(offset: float, seed: int = 0) -> TrainingSlice:
    """A slice that lies ``offset`` too low."""
    hq = np.random.default_rng(seed).uniform(0.0, 200.0, (16, 16))
    return TrainingSlice(hq - offset, hq, SliceContext(1.0, WINDOW))


def adding(grid: tuple[float, ...], tried: list[float] | None = None):
    """A baseline that adds its parameter."""

    def apply(slice_, parameter, context):
        if tried is not None:
            tried.append(parameter)
        return slice_ + parameter

    return replace(BASELINES["gaussian"], name="adding", grid=grid, apply=apply)


def test_the_best_of_the_grid() -> None:
    tuned = tune(adding((1.0, 2.0, 5.0, 9.0)), [example(5.5)], task=CT, protocol=PROTOCOLS["paper"])
    assert tuned.parameter == 5.0
    assert tuned.slices == 1
    assert not tuned.at_grid_edge
    hq = example(5.5).hq
    assert tuned.psnr[5.0] == pytest.approx(psnr(hq - 0.5, hq, data_range=hq.max() - hq.min()), abs=1e-4)


def test_the_mean_over_slices_decides() -> None:
    examples = [example(2.0), example(4.0, seed=1), example(4.0, seed=2)]
    # an exact match is infinitely good: offsets between the grid's
    tuned = tune(adding((2.1, 3.9)), examples, task=CT, protocol=PROTOCOLS["paper"])
    assert tuned.parameter == 3.9
    assert tuned.at_grid_edge
    assert tuned.slices == 3


def test_the_search_ends_once_psnr_fell_twice() -> None:
    tried: list[float] = []
    tuned = tune(adding((1.0, 3.0, 4.0, 6.0, 7.0), tried), [example(2.9)], task=CT, protocol=PROTOCOLS["paper"])
    assert tried == [1.0, 3.0, 4.0, 6.0]
    assert tuned.parameter == 3.0
    assert [entry["parameter"] for entry in tuned.to_dict()["grid"]] == tried


def test_constant_references_dont_count() -> None:
    empty = TrainingSlice(np.zeros((8, 8)), np.zeros((8, 8)), SliceContext(1.0, WINDOW))
    tuned = tune(adding((1.0, 2.0)), [empty, example(2.2)], task=CT, protocol=PROTOCOLS["paper"])
    assert (tuned.parameter, tuned.slices) == (2.0, 1)
    with pytest.raises(ValueError, match="tuning adding: expected slices with structure"):
        tune(adding((1.0,)), [empty], task=CT, protocol=PROTOCOLS["paper"])


def test_settings_are_told_in_their_units() -> None:
    """Steps are no factor, and of one value nothing was chosen."""
    steps = TunedBaseline(BASELINES["curvature-flow"], 16.0, {16.0: 30.0}, slices=1)
    assert (steps.setting, steps.at_grid_edge) == ("16 steps", False)
    assert replace(steps, parameter=1.0).setting == "1 step"
    only = TunedBaseline(BASELINES["bicubic"], 3.0, {3.0: 30.0}, slices=1)
    assert (only.setting, only.at_grid_edge) == ("", False)
    assert TunedBaseline(BASELINES["gaussian"], 2.8, {2.8: 30.0}, slices=1).at_grid_edge


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["nlm", "bilateral"])
def test_the_best_setting_for_pet_lies_within_the_grid(shared, name) -> None:
    """At the default strength: of noise that follows the signal, the noise level is that of the quieter parts."""
    pet = TASKS["pet-synthesis"]
    data = TuningData(shared / "data", "train", 2, pet.default_strength, 0)
    examples = draw_slices(data, task=pet, rule=pet.intensity)
    strongest = replace(BASELINES[name], grid=BASELINES[name].grid[-2:])
    tuned = tune(strongest, examples, task=pet, protocol=PROTOCOLS["paper"])
    assert tuned.parameter < strongest.grid[-1]
