"""What the system says about its processor."""

from __future__ import annotations

import os

import pytest

from tatcli import control_groups, processor
from tatcli.processor import processor_field, usable_cores

TWO_CORES = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: A processor: of some kind
flags\t\t: fpu avx512_bf16

processor\t: 1
vendor_id\t: AuthenticAMD
"""


@pytest.fixture
def described(monkeypatch, tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(TWO_CORES)
    monkeypatch.setattr(processor, "_DESCRIPTION", path)
    return path


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (("vendor_id",), "GenuineIntel"),
        (("model name",), "A processor: of some kind"),
        (("Features", "flags"), "fpu avx512_bf16"),
        (("model",), ""),
    ],
)
def test_the_first_processors_field(described, names, value):
    assert processor_field(*names) == value


def test_a_system_that_says_nothing(described):
    described.unlink()
    assert processor_field("vendor_id") == ""


@pytest.fixture
def limited(monkeypatch, tmp_path):
    """Eight cores, and a process in such control groups."""

    def make(group, files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
        monkeypatch.setattr(control_groups, "_MINE", tmp_path / "mine")
        monkeypatch.setattr(control_groups, "_ROOT", tmp_path)
        (tmp_path / "mine").write_text(group)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")

    return make


@pytest.mark.parametrize(
    ("group", "files", "cores"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/job/step\n", {"job/cpu.max": "150000 100000", "job/step/cpu.max": "max 100000"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000"}, 1),
        ("0::/\n", {"cpu.max": "1600000 100000"}, 8),
        ("3:cpuacct,cpu:/docker/a\n", {"cpu/cpu.cfs_quota_us": 300000, "cpu/cpu.cfs_period_us": 100000}, 3),
        ("3:cpuacct,cpu:/\n", {"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000}, 8),
        ("3:cpuset:/\n", {"cpu/cpu.cfs_quota_us": 300000, "cpu/cpu.cfs_period_us": 100000}, 8),
    ],
)
def test_usable_cores_within_the_limits_of_control_groups(limited, group, files, cores):
    limited(group, files)
    assert usable_cores() == cores
