"""Memory foretold, and what is given up so that a scan fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tatcli.inference.memory import Network, Workload, least_memory, network_bytes, plan_memory, predicted_peak
from tatcli.inference.passes import Pass
from tatcli.model.config import PRESETS

MIB, GIB = 2**20, 2**30
SMALL, BASE = Network(PRESETS["tat-small"], threads=2), Network(PRESETS["tat-base"], threads=2)
CT = Workload(shape=(1, 1000, 1024, 1024), axis=0, itemsize=2)
"""A 1024x1024x1000 int16 volume: 2000 MiB as it is stored."""
HELD = replace(CT, held=True)


def test_a_pass_costs_so_many_maps_of_the_width():
    rest = (64 + 2 * 32) * MIB
    assert network_bytes(BASE, Pass(1), 512, 512) == rest + 512 * 512 * 48 * 4 * 24
    assert network_bytes(SMALL, Pass(4), 256, 256) == rest + 4 * 256 * 256 * 32 * 4 * 24
    assert network_bytes(SMALL, Pass(1, 128, 32), 1024, 100) == rest + 128 * 104 * 32 * 4 * 24  # 100 is padded to 104
    assert network_bytes(replace(BASE, on_cpu=False), Pass(8), 512, 512) == rest


@pytest.mark.parametrize(
    ("preset", "size", "batch", "threads", "measured"),
    [
        ("tat-small", 256, 1, 1, 233), ("tat-small", 512, 1, 1, 680), ("tat-small", 512, 1, 2, 804),
        ("tat-small", 1024, 1, 1, 2606), ("tat-small", 256, 4, 1, 745), ("tat-base", 128, 1, 1, 112),
        ("tat-base", 256, 1, 1, 337), ("tat-base", 512, 1, 1, 1202),
    ],
)  # fmt: skip
def test_the_network_takes_no_more_than_predicted_and_not_much_less(preset, size, batch, threads, measured):
    """MiB by which the peak of resident memory exceeded what was there before the first pass, on two x86 cores."""
    predicted = network_bytes(Network(PRESETS[preset], threads=threads), Pass(batch), size, size) / MIB
    assert measured <= predicted <= 1.5 * measured


@pytest.mark.parametrize(
    ("preset", "size", "batch", "threads", "measured"),
    [
        ("tat-small", 256, 1, 1, 147), ("tat-small", 512, 1, 1, 419), ("tat-small", 512, 1, 2, 425),
        ("tat-small", 1024, 1, 1, 1580), ("tat-small", 256, 4, 1, 404), ("tat-base", 128, 1, 1, 150),
        ("tat-base", 256, 1, 1, 345), ("tat-base", 512, 1, 1, 741),
    ],
)  # fmt: skip
def test_so_do_the_fused_kernels(preset, size, batch, threads, measured):
    """The same with the kernels, the larger of fp32 and bf16; small passes have room to spare."""
    network = Network(PRESETS[preset], threads=threads, fused=True)
    predicted = network_bytes(network, Pass(batch), size, size) / MIB
    assert measured <= predicted <= 1.3 * measured + 60


def test_the_peak_is_the_sum_of_its_parts():
    base = 300 * MIB
    streamed = predicted_peak(CT, SMALL, Pass(1), block=0, base=base)
    assert streamed == base + network_bytes(SMALL, Pass(1), 1024, 1024) + 1024 * 1024 * (40 + 64 + 12 * 16)
    assert predicted_peak(HELD, SMALL, Pass(1), block=0, base=base) == streamed + 2000 * MIB
    # three blocks of stored and float32 numbers, two of restored ones
    per_slice = 1024 * 1024 * (3 * (2 + 4) + 2 * 4)
    assert predicted_peak(CT, SMALL, Pass(1), block=5, base=base) == streamed + 5 * per_slice
    gathered = replace(HELD, gathered=4, gathered_in_memory=True)
    assert predicted_peak(gathered, SMALL, Pass(1), block=0, base=base) == streamed + 6000 * MIB
    assert replace(gathered, gathered_in_memory=False).throughout == HELD.throughout


def test_a_big_ct_passes_in_6_gib():
    """Held as it is stored with tat-small; streamed with tat-base, whose slices need the memory."""
    plan = plan_memory([HELD, CT], SMALL, Pass(1), base=300 * MIB, limit=6 * GIB)
    assert plan.workload is HELD
    assert plan.settings == Pass(1)
    assert plan.block == 2
    assert 5 * GIB < plan.predicted <= 6 * GIB
    plan = plan_memory([HELD, CT], BASE, Pass(1), base=450 * MIB, limit=6 * GIB)
    assert plan.workload is CT
    assert plan.settings == Pass(1)
    assert plan.predicted <= 6 * GIB
    plan = plan_memory([CT], BASE, Pass(1), base=450 * MIB, limit=2 * GIB)
    assert plan.settings == Pass(1, 256, 64)
    assert plan.predicted <= 2 * GIB


def test_batches_are_given_up_before_whole_slices():
    plan = plan_memory([HELD, CT], SMALL, Pass(8), base=300 * MIB, limit=9 * GIB)
    assert plan.settings == Pass(2)
    assert plan.workload is HELD
    assert plan.block % 2 == 0


def test_without_a_limit_everything_is_as_asked():
    plan = plan_memory([HELD, CT], BASE, Pass(16), base=450 * MIB, limit=None)
    assert (plan.workload, plan.settings, plan.block) == (HELD, Pass(16), 16)


def test_blocks_across_planes_are_long_since_each_costs_a_pass():
    coronal = replace(CT, axis=1)
    assert coronal.slice_shape == (1000, 1024)
    assert plan_memory([coronal], SMALL, Pass(1), base=300 * MIB, limit=None).block == 1024
    limited = plan_memory([coronal], SMALL, Pass(1), base=300 * MIB, limit=6 * GIB)
    assert 50 < limited.block < 200
    assert limited.predicted <= 6 * GIB
    assert plan_memory([replace(coronal, held=True)], SMALL, Pass(1), base=0, limit=None).block == 2


def test_a_block_is_a_multiple_of_the_batch_or_all_there_is():
    few = replace(CT, shape=(3, 5, 64, 64))
    assert plan_memory([few], SMALL, Pass(2), base=0, limit=None).block == 5
    assert plan_memory([few], SMALL, Pass(16), base=0, limit=None).block == 5
    least = predicted_peak(few, SMALL, Pass(2), block=3, base=0)
    assert plan_memory([few], SMALL, Pass(2), base=0, limit=least).block == 2


def test_nothing_fits():
    least = least_memory([HELD, CT], SMALL, Pass(1), base=300 * MIB)
    assert least == predicted_peak(CT, SMALL, Pass(1, 64, 16), block=1, base=300 * MIB)
    assert plan_memory([HELD, CT], SMALL, Pass(1), base=300 * MIB, limit=least - 1) is None
    assert plan_memory([HELD, CT], SMALL, Pass(1), base=300 * MIB, limit=least).settings == Pass(1, 64, 16)
