"""What a pass over a scan in pieces gives is what the whole gives."""

from __future__ import annotations

import numpy as np
import pytest

from tatcli.inference import value_summary
from tatcli.inference.survey import survey, windows_for
from tatcli.inference.value_summary import summarise
from tatcli.intensity import FixedRange, RobustRange, Window
from tatcli.volumes import read_volume, write_volume
from tatcli.volumes.reading import open_planes
from tatcli.volumes.varying_frames import telling_frame, varying_frames

FIXED, ROBUST = FixedRange(Window(-10.0, 20.0)), RobustRange(97.3, 1.5)


@pytest.fixture
def scan(tmp_path, volume_of, monkeypatch):
    """A file with two frames, holes and padding, and few samples of it."""
    monkeypatch.setattr(value_summary, "_SAMPLE", 100)
    array = np.random.default_rng(0).normal(50, 100, (2, 7, 11, 13)).astype(np.float32)
    array[0, 1, 2, 3:6] = np.nan, np.inf, -np.inf
    array[:, :, :2] = -2000
    return write_volume(volume_of(array), tmp_path / "x.nii.gz")


def test_the_summary(scan, monkeypatch):
    expected = summarise(read_volume(scan))
    for run in (1, 2**22):
        monkeypatch.setattr("tatcli.volumes.planes._RUN_BYTES", run)
        for source in (open_planes(scan), open_planes(scan).held()):
            found = survey(source, FIXED)
            assert not found.percentiles
            assert (found.summary.lower, found.summary.upper) == (expected.lower, expected.upper)
            assert (found.summary.nonfinite, found.summary.padding) == (3, -2000.0)
            np.testing.assert_array_equal(found.summary.sample, expected.sample)
            assert 100 <= found.summary.sample.size + 3 <= 120


@pytest.mark.parametrize(("levels", "telling"), [((0, 0, 5), 2), ((5, 0, 0), 0), ((0, 0, 0), 0), ((-1, 5, 5), 1)])
def test_the_frame_that_tells_is_the_first_that_varies(levels, telling, volume_of, tmp_path, monkeypatch):
    monkeypatch.setattr("tatcli.volumes.planes._RUN_BYTES", 1)
    ramp = np.broadcast_to(np.arange(7, dtype=np.float32)[:, None, None], (7, 11, 13))  # each plane is constant
    array = np.stack([np.where(level > 0, level * ramp, level) for level in levels]).astype(np.float32)
    array[:, 0, 0, 0] = np.nan
    path = write_volume(volume_of(array), tmp_path / "y.nii.gz")
    assert survey(open_planes(path), FIXED).telling_frame == telling
    assert telling_frame(read_volume(path)) == telling
    assert varying_frames(read_volume(path)) == [level > 0 for level in levels]


def test_the_windows(scan):
    volume = read_volume(scan)
    for source in (open_planes(scan), open_planes(scan).held()):
        for expected in (FIXED, ROBUST):  # what the task says may differ from what the weights say
            found = survey(source, expected)
            assert windows_for(source, FIXED, found) == [FIXED.window] * 2
            assert windows_for(source, ROBUST, found) == [ROBUST.window_for(frame) for frame in volume.iter_frames()]
