"""A short batch under fire, by the example that does it with a thousand real scans."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parents[3] / "examples" / "soak_batch.py"


@pytest.mark.slow
@pytest.mark.waits
def test_a_batch_under_fire_ends_with_every_good_scan_once_and_every_bad_one_listed(tmp_path):
    words = ("--scans", "24", "--bad", "1", "--kills", "2", "--disk", "1", "--timeout", "12")
    command = [
        sys.executable,
        SOAK,
        tmp_path / "soak",
        *words,
        "--json",
        tmp_path / "result.json",
        "--tat",
        "--device",
        "cpu",
        "--retries",
        "0",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["identical to the undisturbed run"] == 24
    assert result["bad ones listed"] == result["bad"] == 7
    assert result["a further run restores"] == 0
    assert result["left over"] == []
