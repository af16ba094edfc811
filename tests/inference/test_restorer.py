"""The restorer: exactness, axes, frames, holes, ranges, memory."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tatcli.errors import DeviceError, TaskMismatchError, UnitsError, UsageError, WeightsError
from tatcli.inference import RestoreOptions, Restorer
from tatcli.inference.cuda_graphs import AFTER
from tatcli.inference.holes import filled
from tatcli.inference.passes import Pass
from tatcli.intensity import FixedRange, RobustRange, Units, Window
from tatcli.model.config import TatConfig
from tatcli.model.tat import Tat
from tatcli.model.weights import TaskCard, WeightsCard, card_for_tasks
from tatcli.tasks import TASKS
from tatcli.volumes import Geometry, Volume
from tiny_networks import TINY

PATCH = RestoreOptions(mode="patch", tile=32, overlap=8)
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    MemoryError(),
]
"""In the words of the allocators."""
MODES = {"slice": RestoreOptions(), "patch": PATCH, "batched": RestoreOptions(batch=3)}


class Identity(nn.Module):
    """Changes nothing."""

    def forward(self, x):
        return x.clone()


class Halfway(nn.Module):
    """Moves every pixel halfway to 0.5: local, so that tiles and batches can't change it."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, x):
        self.sizes.append(tuple(x.shape))
        return (x + 0.5) / 2


class Deepening(nn.Module):
    """Lowers every pixel by a tenth of the range."""

    def forward(self, x):
        return x - 0.1


class Hungry(Halfway):
    """Runs out of memory above a number of pixels in a pass, in the words of a given allocator."""

    def __init__(self, limit, error):
        super().__init__()
        self.limit, self.error = limit, error

    def forward(self, x):
        if x.numel() > self.limit:
            raise self.error
        return super().forward(x)


class Leaning(nn.Module):
    """Moves everything one column to the right, round the edge."""

    def forward(self, x):
        return torch.roll(x, 1, dims=3)


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


def halfway(array, lower=-1024.0, upper=3072.0):
    """What Halfway does to a CT, in HU."""
    clipped = np.clip(array, lower, upper)
    middle = (lower + upper) / 2
    return array + ((clipped + middle) / 2 - clipped)


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_an_identity_network_gives_back_every_bit(restorer_of, volume_of, ct, options, axis):
    volume = volume_of(ct)
    restored = restorer_of(Identity())(volume, "ct", options=replace(options, axis=axis))
    np.testing.assert_array_equal(bits(restored.array), bits(volume.array))
    assert restored.geometry is volume.geometry
    assert restored.provenance.warnings == ()


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_the_correction_is_added_in_physical_units(restorer_of, volume_of, ct, options):
    restored = restorer_of(Halfway())(volume_of(ct), "ct-denoise", options=options)
    np.testing.assert_allclose(restored.array, halfway(ct.astype(np.float64)), atol=2e-3)


def test_an_executor_calls_the_network_whoever_restores(restorer_of, volume_of, ct):
    threads = set()

    class Notes(Halfway):
        def forward(self, x):
            threads.add(threading.current_thread().name)
            return super().forward(x)

    restorer = restorer_of(Notes())
    volume = volume_of(ct)
    plain = restorer(volume, "ct").array
    assert threads == {threading.current_thread().name}
    threads.clear()
    with ThreadPoolExecutor(1, "network") as executor, ThreadPoolExecutor(2, "scan") as scans:
        restorer.executor = executor
        restored = [scans.submit(restorer, volume, "ct") for _ in range(2)]
        for one in restored:
            np.testing.assert_array_equal(bits(one.result().array), bits(plain))
    assert threads == {"network_0"}


def test_an_ensemble_is_the_mean_over_flips_and_turns(restorer_of, volume_of):
    """What a network does to one side it then does to all four, by a quarter."""
    array = np.random.default_rng(0).uniform(-500, 500, (2, 24, 32)).astype(np.float32)
    restored = restorer_of(Leaning())(volume_of(array), "ct", options=RestoreOptions(ensemble=True, batch=2)).array
    moved = [np.roll(array, step, axis) for axis in (1, 2) for step in (1, -1)]
    np.testing.assert_allclose(restored, np.mean(moved, axis=0), atol=2e-3)


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_an_ensemble_has_no_preferred_side(restorer_of, volume_of, options):
    """A mirrored and turned scan comes back as the restored scan, mirrored and turned."""
    torch.manual_seed(0)
    restorer = restorer_of(nn.Conv2d(1, 1, 3, padding=1))
    options = replace(options, ensemble=True)
    array = np.random.default_rng(0).uniform(-500, 500, (2, 48, 48)).astype(np.float32)
    turned = np.ascontiguousarray(np.rot90(array[:, :, ::-1], axes=(1, 2)))
    found, other = (restorer(volume_of(one), "ct", options=options).array for one in (array, turned))
    np.testing.assert_allclose(other, np.rot90(found[:, :, ::-1], axes=(1, 2)), atol=5e-3)
    alone = restorer(volume_of(array), "ct", options=replace(options, ensemble=False)).array
    assert np.abs(alone - found).max() > 1


def test_an_ensemble_stays_one_when_memory_runs_out():
    assert Pass(2, ensemble=True).smaller(512, 512) == Pass(1, ensemble=True)
    assert Pass(1, ensemble=True).smaller(512, 512) == Pass(1, 256, 64, ensemble=True)


def test_values_outside_the_range_survive(restorer_of, volume_of, ct):
    restored = restorer_of(Halfway())(volume_of(ct), "ct")
    # the correction at -2000 and 8000 is that of the range's ends
    np.testing.assert_allclose(restored.array[0, 0, :4], [-2000 + 1024, 8000 - 1024, 0, 2048], atol=2e-3)


@pytest.mark.parametrize(("task", "lower"), [("ct", -1024.0), ("pet", 0.0)])
@pytest.mark.parametrize("planes", [1, 3])
def test_nothing_is_restored_below_the_range(restorer_of, volume_of, task, lower, planes):
    """No uptake is negative, no air less dense than none; what lies lower already isn't lowered further."""
    scan = np.random.default_rng(0).uniform(lower, lower + 1000.0 / 3, (20, 24, 28)).astype(np.float32)
    scan = scan if task == "ct" else scan / 50
    scan[3, 4, 5] = lower - 40.0
    tenth = 409.6 if task == "ct" else 2.0
    options = RestoreOptions(planes=planes)
    restored = restorer_of(Deepening())(volume_of(scan, spacing=(1.0, 1.0, 1.0)), task, options=options).array
    assert restored[3, 4, 5] == scan[3, 4, 5]
    rest = np.arange(scan.size).reshape(scan.shape) != np.ravel_multi_index((3, 4, 5), scan.shape)
    assert restored[rest].min() == lower
    np.testing.assert_allclose(restored[rest], np.maximum(scan - tenth, lower)[rest], atol=1e-3)


def test_padding_below_the_range_is_kept_and_nothing_else(restorer_of, volume_of, ct):
    padded = ct.copy()
    padded[:, :9] = -3024
    padded[:, 20, 20] = -1500
    restored = restorer_of(Halfway())(volume_of(padded), "ct", options=RestoreOptions(batch=2)).array
    np.testing.assert_array_equal(restored[:, :9], padded[:, :9])
    np.testing.assert_allclose(restored[:, 9:], halfway(padded[:, 9:].astype(np.float64)), atol=2e-3)
    in_range = np.clip(ct, -1000, 1000)  # repeated, but a value like any other
    restored = restorer_of(Halfway())(volume_of(in_range), "ct").array
    np.testing.assert_allclose(restored, halfway(in_range.astype(np.float64)), atol=2e-3)


@pytest.mark.parametrize(("task", "lower"), [("ct", -1024.0), ("pet", 0.0), ("mri", 0.0)])
def test_padding_at_the_end_of_the_range_is_kept(restorer_of, volume_of, task, lower):
    """Outside a reconstruction circle, down to the slices' sides, and in a second padding; single pixels aren't."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    outside = np.broadcast_to(x**2 + y**2 > 1.0, (2, 96, 96))
    scan = np.random.default_rng(0).uniform(lower + 1.0, lower + 20.0, (2, 96, 96)).astype(np.float32)
    scan[outside] = lower
    scan[:, 20:29, 40:50] = lower - 500.0 if task == "ct" else lower
    scan[:, 60, 30:36] = lower
    scan[0, 50, 50] -= 600.0 if task == "ct" else 0.0
    options = RestoreOptions(data_consistency=False if task == "mri" else None, planes=1)
    restored = restorer_of(Halfway())(volume_of(scan), task, options=options).array
    kept = outside.copy()
    kept[:, 20:29, 40:50] = True
    np.testing.assert_array_equal(restored[kept], scan[kept])
    assert (restored[~kept] != scan[~kept]).all()


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 99), patch=st.booleans())
@settings(max_examples=25, deadline=None)
def test_identity_for_any_size(rows, columns, seed, patch):
    array = np.random.default_rng(seed).normal(0, 3000, (2, rows, columns)).astype(np.float32)
    volume = Volume(array, Geometry(np.diag([1.0, 1.0, 4.0, 1.0]), array.shape))
    restorer = Restorer.from_network(Identity(), card_for_tasks("x", TatConfig()), device="cpu")
    options = RestoreOptions(mode="patch", tile=32, check_values=False) if patch else RestoreOptions(check_values=False)
    np.testing.assert_array_equal(bits(restorer(volume, "ct", options=options).array), bits(array))


def test_slices_are_taken_across_the_coarsest_spacing(restorer_of, volume_of, ct):
    network = Halfway()
    restorer = restorer_of(network)
    restorer(volume_of(ct, spacing=(1.0, 1.0, 5.0)), "ct")
    assert set(network.sizes) == {(1, 1, 5, 40)}
    assert len(network.sizes) == 52
    network.sizes.clear()
    restorer(volume_of(ct, spacing=(1.0, 1.0, 5.0)), "ct", options=RestoreOptions(axis="axial", batch=2))
    assert network.sizes == [(2, 1, 40, 52), (2, 1, 40, 52), (1, 1, 40, 52)]


def test_a_2_d_image_is_one_slice(restorer_of, volume_of, ct):
    network = Halfway()
    image = ct[2][None]
    restored = restorer_of(network)(volume_of(image, spacing=(1.0, 1.0, 1.0)), "ct")
    assert network.sizes == [(1, 1, 40, 52)]
    np.testing.assert_allclose(restored.array, halfway(image), atol=2e-3)


def test_frames_are_restored_each_by_itself_and_in_its_own_range(restorer_of, volume_of):
    rng = np.random.default_rng(1)
    frame = rng.gamma(2.0, 100, (3, 16, 20)).astype(np.float32)
    echoes = np.stack([frame, 10 * frame])
    seen = []
    volume = volume_of(echoes)
    restored = restorer_of(Halfway())(volume, "mri", progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(restored.array[1], 10 * restored.array[0], rtol=1e-5)
    upper = np.percentile(frame, 99.5)
    np.testing.assert_allclose(restored.array[0], halfway(frame, 0.0, upper), rtol=1e-4, atol=1e-2)
    assert seen == [(done, 6) for done in range(1, 7)]


def test_the_cards_rule_is_applied_exactly(volume_of):
    rng = np.random.default_rng(1)
    frame = rng.gamma(2.0, 100, (3, 16, 20)).astype(np.float32)
    for rule in (FixedRange(Window(0.0, 4095.0)), RobustRange(90.0, 1.5)):
        card = WeightsCard("x", TatConfig(), {"mri-sr": TaskCard(rule, (4.0, 4.0))})
        restored = Restorer.from_network(Halfway(), card, device="cpu")(volume_of(frame), TASKS["mri-sr"])
        upper = rule.window_for(frame).upper
        np.testing.assert_allclose(restored.array, halfway(frame, 0.0, upper), rtol=1e-4, atol=1e-2)


def test_nan_and_infinity_stay_and_are_restored_around(restorer_of, volume_of, ct):
    holed = ct.copy()
    holed[0, 10:13, 10:13] = np.nan
    holed[1, 3, 4], holed[1, 3, 5] = np.inf, -np.inf
    holed[4] = np.nan

    class Spreads(nn.Module):
        """Sees its surroundings, so that an unfilled hole would grow."""

        def forward(self, x):
            return nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

    restorer = restorer_of(Spreads())
    for options in MODES.values():
        restored = restorer(volume_of(holed), "ct", options=options)
        np.testing.assert_array_equal(bits(restored.array)[~np.isfinite(holed)], bits(holed)[~np.isfinite(holed)])
        assert np.isfinite(restored.array[np.isfinite(holed)]).all()
        np.testing.assert_array_equal(restored.array[2:4], restorer(volume_of(ct), "ct", options=options).array[2:4])
        count = 9 + 2 + 40 * 52
        warning = f"{count} NaN or infinite voxels: restored around them, kept as they were"
        assert restored.provenance.warnings == (warning,)


def test_holes_take_their_nearest_neighbours_value():
    slice_ = np.array([[1, 2, np.nan], [np.nan, 3, np.inf]], dtype=np.float32)
    np.testing.assert_array_equal(filled(slice_, fallback=0.0), [[1, 2, 2], [1, 3, 3]])
    np.testing.assert_array_equal(filled(np.full((1, 2), np.nan, np.float32), fallback=-7.0), [[-7, -7]])
    whole = np.ones((2, 2), np.float32)
    assert filled(whole, fallback=0.0) is whole


def test_constant_slices_are_left_alone(restorer_of, volume_of, ct):
    network = Halfway()
    padded = ct.copy()
    padded[0], padded[3] = -1024, 0
    restored = restorer_of(network)(volume_of(padded), "ct", options=RestoreOptions(batch=2))
    np.testing.assert_array_equal(restored.array[[0, 3]], padded[[0, 3]])
    np.testing.assert_allclose(restored.array[[1, 2, 4]], halfway(padded[[1, 2, 4]]), atol=2e-3)
    assert network.sizes == [(1, 1, 40, 52)] * 3


def test_history_and_source_are_kept(restorer_of, volume_of, ct):
    volume = volume_of(ct, units=Units.HU, modality="CT", warnings=("odd header",), steps=("read",))
    restored = restorer_of(Identity())(volume, "ct")
    assert restored.units is Units.HU
    assert restored.provenance.warnings == ("odd header",)
    assert restored.provenance.steps == ("read", "restored: ct-denoise, weights stand-in, fp32 on cpu")


def test_scans_that_the_task_can_not_take_are_refused(restorer_of, volume_of, ct):
    restorer = restorer_of(Identity(), tasks=("ct-denoise",))
    with pytest.raises(TaskMismatchError):
        restorer(volume_of(ct, modality="MR"), "ct")
    assert restorer(volume_of(ct, modality="OT"), "ct", options=RestoreOptions(ignore_modality=True))
    normalised = volume_of((ct - ct.min()) / (ct.max() - ct.min()))
    with pytest.raises(UnitsError):
        restorer(normalised, "ct")
    assert restorer(normalised, "ct", options=RestoreOptions(check_values=False))
    with pytest.raises(WeightsError, match="trained for ct-denoise, not for pet-synthesis"):
        restorer(volume_of(np.abs(ct) / 100), "pet")


@pytest.mark.parametrize("wrong", ["scan.nii.gz", np.zeros((1, 64, 64), np.float32)])
def test_what_is_no_volume_is_named(restorer_of, wrong):
    with pytest.raises(UsageError, match=f"expected a Volume, got {type(wrong).__name__}; read_volume"):
        restorer_of(Identity())(wrong, "ct")


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mode": "cube"}, "expected one of slice, patch"),
        ({"tile": 64}, "expected with --mode patch only"),
        ({"mode": "patch", "tile": 16}, "at least 32 pixels, got 16"),
        ({"mode": "patch", "tile": 64, "overlap": 64}, "expected 0 to 63"),
        ({"mode": "patch", "overlap": -1}, "expected 0 to 255"),
        ({"batch": 0}, "--batch: expected at least 1"),
        ({"scale": 0}, "--scale: expected a whole number of at least 1"),
    ],
)
def test_options_out_of_range(fields, words):
    with pytest.raises(UsageError, match=words):
        RestoreOptions(**fields)


# --- coarse grids ----------------------------------------------------------------------------------------------------


def test_scale_zero_fills_first(restorer_of, volume_of):
    from tatcli.degradation.low_resolution_mri import zero_fill_volume

    coarse = volume_of(np.random.default_rng(2).gamma(2.0, 100, (3, 12, 10)))
    restored = restorer_of(Identity())(coarse, "mri", options=RestoreOptions(scale=2))
    assert restored.array.shape == (3, 24, 20)
    assert restored.geometry.spacing == (3.0, 0.5, 0.5)
    np.testing.assert_array_equal(restored.array, zero_fill_volume(coarse, 2, 0).array)


def test_scale_keeps_holes_from_spreading(restorer_of, volume_of):
    array = np.random.default_rng(2).gamma(2.0, 100, (2, 3, 12, 10)).astype(np.float32)
    array[0, 1, 4, 5] = np.nan
    restored = restorer_of(Identity())(volume_of(array), "mri", options=RestoreOptions(scale=3)).array
    holes = np.zeros(restored.shape, bool)
    holes[0, 1, 12:15, 15:18] = True
    np.testing.assert_array_equal(np.isnan(restored), holes)


def test_scale_is_for_mri_alone(restorer_of, volume_of, ct):
    with pytest.raises(UsageError, match="--scale: expected only with mri-sr, got ct-denoise"):
        restorer_of(Identity())(volume_of(ct), "ct", options=RestoreOptions(scale=2))


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__ + str(error)[:8])
def test_out_of_memory_halves_the_batch_and_then_tiles(restorer_of, volume_of, error):
    array = np.random.default_rng(3).normal(0, 300, (4, 200, 160)).astype(np.float32)
    expected = halfway(array.astype(np.float64))

    network = Hungry(200 * 160, error)
    restored = restorer_of(network)(volume_of(array), "ct", options=RestoreOptions(batch=4))
    assert network.sizes == [(1, 1, 200, 160)] * 4
    np.testing.assert_allclose(restored.array, expected, atol=2e-3)
    assert restored.provenance.warnings == (
        "out of memory on cpu: went on with batches of 2",
        "out of memory on cpu: went on with batches of 1",
    )

    network = Hungry(100 * 100, error)
    restored = restorer_of(network)(volume_of(array), "ct")
    assert {size[2:] for size in network.sizes} == {(96, 96)}
    np.testing.assert_allclose(restored.array, expected, atol=2e-3)
    assert restored.provenance.warnings == ("out of memory on cpu: went on with single tiles of 96",)

    with pytest.raises(DeviceError, match="cpu: out of memory even with one 96x96 tile"):
        restorer_of(Hungry(1000, error))(volume_of(array), "ct")


def test_attempts_shrink_to_an_end():
    attempts = [Pass(8)]
    while (smaller := attempts[-1].smaller(512, 512)) is not None:
        attempts.append(smaller)
    assert attempts[1:] == [Pass(4), Pass(2), Pass(1), Pass(1, 256, 64), Pass(1, 128, 32), Pass(1, 64, 16)]
    assert Pass(1).smaller(2000, 100) == Pass(1, 256, 64)
    assert Pass(1).smaller(100, 100) is None
    assert Pass(2, 128, 8).smaller(512, 512) == Pass(1, 128, 8)


def test_other_errors_are_bugs_and_pass_through(restorer_of, volume_of, ct):
    with pytest.raises(RuntimeError, match="shape mismatch"):
        restorer_of(Hungry(0, RuntimeError("shape mismatch")))(volume_of(ct), "ct")


def test_a_network_that_gives_nan_is_refused(restorer_of, volume_of, ct):
    class Broken(nn.Module):
        def forward(self, x):
            return x / 0 * 0

    with pytest.raises(WeightsError, match="the network gave NaN or infinity"):
        restorer_of(Broken())(volume_of(ct), "ct")


# --- the real network ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tat():
    torch.manual_seed(0)
    return Tat(TINY).eval()


def test_tat_restores_a_volume_as_it_restores_its_slices(tat, restorer_of, volume_of, ct):
    restored = restorer_of(tat)(volume_of(ct), "ct", options=RestoreOptions(batch=2)).array
    window = Window(-1024.0, 3072.0)
    with torch.inference_mode():
        for index, slice_ in enumerate(ct):
            x = torch.from_numpy(window.normalise(window.clip(slice_)))[None, None]
            correction = (tat(x).clamp_min(0.0) - x)[0, 0].numpy() * window.width
            np.testing.assert_allclose(restored[index], slice_ + correction, atol=0.05)
    assert np.abs(restored - ct).max() > 1.0


def test_bf16_stays_close_to_fp32(tat, volume_of, ct):
    card = card_for_tasks("x", TINY)
    volume = volume_of(ct)
    exact = Restorer.from_network(tat, card, device="cpu", precision="fp32")(volume, "ct").array
    rough = Restorer.from_network(tat, card, device="cpu", precision="bf16")(volume, "ct").array
    change = np.sqrt(np.mean((exact - ct) ** 2))
    assert 0 < np.sqrt(np.mean((rough - exact) ** 2)) < 0.1 * change


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives(tat, volume_of, ct):
    card = card_for_tasks("x", TINY)
    volume = volume_of(ct)
    here = Restorer.from_network(tat, card, device="cpu", precision="fp32")(volume, "ct").array
    last = f"cuda:{torch.cuda.device_count() - 1}"
    restorer = Restorer.from_network(copy.deepcopy(tat), card, device=last, precision="fp32")
    for _ in range(AFTER + 2):  # before it is recorded, and from the recording
        np.testing.assert_allclose(restorer(volume, "ct").array, here, atol=0.1)
    assert [*restorer.network.recordings.values()].count(None) == 0 < len(restorer.network.recordings)
    rough = Restorer.from_network(copy.deepcopy(tat), card, device=last, precision="bf16")(volume, "ct").array
    change = np.sqrt(np.mean((here - ct) ** 2))
    assert 0 < np.sqrt(np.mean((rough - here) ** 2)) < 0.1 * change
