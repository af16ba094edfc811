"""How likely scans are drawn: by subject, or by voxel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tatcli.errors import UsageError
from tatcli.training.config import TrainConfig
from tatcli.training.subjects import check_found, shares, subject_of, subject_of_place
from tatcli.workflows.train import train


def test_the_pattern_tells_the_subject() -> None:
    assert subject_of("p03_t1", r"^(p\d+)") == "p03"
    assert subject_of("p03_t1", r"p\d+") == "p03"
    assert subject_of("p03_t1", r"x(\d)") == subject_of("p03_t1", None) == "p03_t1"


def test_a_pattern_that_is_nowhere_is_a_mistake() -> None:
    with pytest.raises(UsageError, match=r"--subjects 'P\(.d\+\)': expected a pattern .* in none, such as p1_a"):
        check_found(r"P(\d+)", ["p1_a", "p2_b"])
    check_found(r"p(\d+)", ["other", "p2_b"])
    check_found(None, ["p1_a"])
    check_found("p", [])


def test_of_alternatives_the_group_that_matched_counts() -> None:
    pattern = r"sub-(\d+)|patient(\d+)"
    assert [subject_of(name, pattern) for name in ("sub-07_t1", "patient12", "x")] == ["07", "12", "x"]
    assert subject_of("x", pattern, otherwise="folder") == "folder"


def test_paths_tell_the_subject() -> None:
    places = (
        "a",
        "pA/000",
        "sub-01/ses-2/anat/t1",
        "site/sub-02/t1",
        "site/pA/t1",
        "sub-03_ses-1_t1",
        "site/sub-04_t1",
    )
    subjects = ["", "pA", "sub-01", "sub-02", "site", "sub-03", "sub-04"]
    assert [subject_of_place(place) for place in places] == subjects


def test_every_subject_is_as_likely_whatever_its_scans() -> None:
    found = shares([100, 300, 50], ["a", "a", "b"])
    np.testing.assert_allclose(found, [0.125, 0.375, 0.5])


def test_every_voxel_is_as_likely() -> None:
    np.testing.assert_allclose(shares([100, 300, 50], None), [100 / 450, 300 / 450, 50 / 450])
    assert shares([7], ["a"]).tolist() == pytest.approx([1.0])


def test_a_training_by_nobodys_name_is_refused(make_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(UsageError, match=r"--subjects 'patient': expected a pattern .*, such as mri0"):
        train(make_config(tasks=("mri",), subjects="patient"))
