"""Child processes: what they are started with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tatcli.workflows.batch.isolated import Isolated
from tatcli.workflows.batch.roles import EngineSettings


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_children_do_not_inherit_dasks_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    child = Isolated("reader", EngineSettings())
    try:
        told = Path(f"/proc/{child.start().pid}/environ").read_bytes().split(b"\0")
    finally:
        child.close()
    assert b"SOMETHING_ELSE=kept" in told
    assert not [line for line in told if line.startswith(b"MALLOC_TRIM")]
