"""How likely scans are drawn: by subject, or by voxel."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.training.subjects import shares, subject_of, subject_of_place


def test_the_pattern_tells_the_subject() -> None:
    assert subject_of("p03_t1", r"^(p\d+)") == "p03"
    assert subject_of("p03_t1", r"p\d+") == "p03"
    assert subject_of("p03_t1", r"x(\d)") == subject_of("p03_t1", None) == "p03_t1"


def test_of_alternatives_the_group_that_matched_counts() -> None:
    pattern = r"sub-(\d+)|patient(\d+)"
    assert [subject_of(name, pattern) for name in ("sub-07_t1", "patient12", "x")] == ["07", "12", "x"]
    assert subject_of("x", pattern, otherwise="folder") == "folder"


def test_folders_tell_the_subject() -> None:
    places = ("a", "pA/000", "sub-01/ses-2/anat/t1", "site/sub-02/t1", "site/pA/t1", "sub-03_t1")
    assert [subject_of_place(place) for place in places] == ["", "pA", "sub-01", "sub-02", "site", ""]


def test_every_subject_is_as_likely_whatever_its_scans() -> None:
    found = shares([100, 300, 50], ["a", "a", "b"])
    np.testing.assert_allclose(found, [0.125, 0.375, 0.5])


def test_every_voxel_is_as_likely() -> None:
    np.testing.assert_allclose(shares([100, 300, 50], None), [100 / 450, 300 / 450, 50 / 450])
    assert shares([7], ["a"]).tolist() == pytest.approx([1.0])
