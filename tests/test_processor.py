"""What the system says about its processor."""

from __future__ import annotations

import pytest

from tatcli import processor
from tatcli.processor import processor_field

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
