"""What the system says about memory, read from made-up files."""

from __future__ import annotations

import os

import pytest

from tatcli import control_groups
from tatcli.inference import system_memory
from tatcli.inference.system_memory import default_limit, free_memory, peak_resident, resident

MIB = 2**20


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system with so much available memory, and limits of the control groups on the way to this process."""

    def make(available_kb=None, groups=None, rss_kb=1000):
        proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
        (proc / "self").mkdir(parents=True, exist_ok=True)
        if available_kb is not None:
            (proc / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:  {available_kb} kB\n")
        (proc / "self" / "status").write_text(f"VmHWM:\t 2000 kB\nVmRSS:\t {rss_kb} kB\n")
        (proc / "self" / "cgroup").write_text("1:memory:/old\n0::/outer/inner\n")
        for name, (limit, used, cache) in (groups or {}).items():
            folder = cgroups / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "memory.max").write_text(f"{limit}\n")
            (folder / "memory.current").write_text(f"{used}\n")
            (folder / "memory.stat").write_text(f"anon 7\nfile {cache}\nfile_mapped 3\n")
        monkeypatch.setattr(system_memory, "_PROC", proc)
        monkeypatch.setattr(control_groups, "_MINE", proc / "self" / "cgroup")
        monkeypatch.setattr(control_groups, "_ROOT", cgroups)

    return make


def test_what_is_available_is_free(system):
    system(available_kb=4096)
    assert free_memory() == 4 * MIB
    assert resident() == 1000 * 1024
    assert peak_resident() == 2000 * 1024
    assert default_limit() == int(0.8 * 4 * MIB) + 1000 * 1024


def test_the_tightest_group_counts_without_its_cache(system):
    system(
        available_kb=4096,
        groups={"outer/inner": ("max", 5, 0), "outer": (3 * MIB, 2 * MIB, MIB), "": (9 * MIB, 0, 0)},
    )
    assert free_memory() == 2 * MIB
    system(available_kb=4096, groups={"outer": (MIB, 2 * MIB, 0)})
    assert free_memory() == 0


def test_files_in_memory_alone_cannot_be_had(system, tmp_path):
    """As in /dev/shm, or where a job's /tmp is memory."""
    system(available_kb=4096, groups={"outer": (3 * MIB, 2 * MIB, MIB)})
    stat = tmp_path / "cgroup" / "outer" / "memory.stat"
    stat.write_text(f"anon 7\nfile {MIB}\nshmem {MIB // 4}\n")
    assert free_memory() == 3 * MIB - 2 * MIB + MIB - MIB // 4


@pytest.mark.parametrize("seen", ["old/job", ""])
def test_groups_of_version_1_count(system, tmp_path, seen):
    """As on clusters with older systems; in a container the group may have another name than outside."""
    system(available_kb=4096)
    (tmp_path / "proc" / "self" / "cgroup").write_text("9:cpu,cpuacct:/old\n4:hugetlb,memory:/old/job\n0::/\n")
    for name, limit in (("old/job", 2**63 - 4096), ("", 2**63 - 4096), (seen, 3 * MIB)):
        folder = tmp_path / "cgroup" / "memory" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text(f"{2 * MIB}\n")
        (folder / "memory.stat").write_text(f"cache 5\ntotal_cache {MIB}\ntotal_shmem {MIB // 2}\n")
    assert free_memory() == 3 * MIB - 2 * MIB + MIB // 2


def test_systems_that_do_not_tell(system, monkeypatch):
    system()
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert free_memory() == 1000 * 4096 // 2
    monkeypatch.delattr(os, "sysconf")
    assert free_memory() is None
    assert default_limit() is None


def test_this_system():
    assert free_memory() is None or free_memory() > 0
    now, peak = resident(), peak_resident()
    assert now is None or 0 < now <= peak
