"""How likely scans are drawn: by subject, or by voxel."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.training.subjects import shares, subject_of


def test_the_pattern_tells_the_subject() -> None:
    assert subject_of("p03_t1", r"^(p\d+)") == "p03"
    assert subject_of("p03_t1", r"p\d+") == "p03"
    assert subject_of("p03_t1", r"x(\d)") == subject_of("p03_t1", None) == "p03_t1"


def test_every_subject_is_as_likely_whatever_its_scans() -> None:
    found = shares([100, 300, 50], ["a", "a", "b"])
    np.testing.assert_allclose(found, [0.125, 0.375, 0.5])


def test_every_voxel_is_as_likely() -> None:
    np.testing.assert_allclose(shares([100, 300, 50], None), [100 / 450, 300 / 450, 50 / 450])
    assert shares([7], ["a"]).tolist() == pytest.approx([1.0])
