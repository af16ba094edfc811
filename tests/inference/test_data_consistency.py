"""Measured k-space: which lines, and that they come back exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
from torch import nn

from tatcli.degradation.low_resolution_mri import kept_lines, low_resolution
from tatcli.errors import UsageError
from tatcli.inference import RestoreOptions, Restorer
from tatcli.inference.data_consistency import (
    KnownLines,
    MeasuredLines,
    estimate_factors,
    estimate_known_lines,
    known_lines,
    lines_to_put_back,
)
from tatcli.inference.kspace_seam import seam_lines
from tatcli.inference.kspace_shutter import is_altered
from tatcli.intensity import Units
from tatcli.metrics import rmse
from tatcli.model.config import PRESETS
from tatcli.model.weights import card_for_tasks
from tatcli.tasks import TASKS
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.volume import Volume

MRI = TASKS["mri-sr"]
EMPTY_OUTSIDE = "expected an input with empty outer k-space, got a full spectrum; say --kspace-factor"


def head(shape=(4, 120, 96), seed=0) -> np.ndarray:
    """Ellipses with texture and noise, so that the spectrum is full."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    volume = np.zeros(shape)
    for slice_ in volume:
        slice_[x**2 + y**2 < 0.7] = 500.0
        for _ in range(12):
            cx, cy, r = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.03, 0.2)
            slice_[(x - cx) ** 2 + (y - cy) ** 2 < r**2] = rng.uniform(200, 900)
    return (volume + rng.normal(100, 20, shape)).astype(np.float32)


def scan(array: np.ndarray, affine=None) -> Volume:
    grid = Geometry(np.diag([1.0, 1.0, 4.0, 1.0]) if affine is None else affine, array.shape[-3:])
    return Volume(array.astype(np.float32), grid, Units.ARBITRARY)


def square(shape: tuple[int, int], factor: float) -> np.ndarray:
    """Where the lines are that a factor keeps, in FFT order."""
    return kept_lines(shape[0], factor)[:, None] & kept_lines(shape[1], factor)


def put_back(restored: np.ndarray, measured: np.ndarray, known: KnownLines) -> np.ndarray:
    lines = MeasuredLines(known)
    pairs = zip(restored.astype(np.float32), measured.astype(np.float32), strict=True)
    return np.stack([lines(one, other) for one, other in pairs])


class Brighter(nn.Module):
    """Adds a hundredth of the range everywhere: an error of the line DC alone."""

    def forward(self, x):
        return x + 0.01


@pytest.fixture(scope="module")
def brighter() -> Restorer:
    return Restorer.from_network(Brighter(), card_for_tasks("brighter", PRESETS["tat-small"]), device="cpu")


@pytest.mark.parametrize("factor", [1.5, 1.8, 2.0, 2.5, 3.0, 4.0])  # even and odd numbers of lines
@pytest.mark.parametrize("slices", [1, 12])
def test_the_lines_are_found(factor, slices) -> None:
    """Exactly from a dozen slices; from a single small one to a line."""
    found = estimate_known_lines(low_resolution(head((slices, 132, 110)), factor))
    assert found is not None
    wanted = known_lines((132, 110), factor)
    for one, other in ((found.rows, wanted.rows), (found.columns, wanted.columns)):
        np.testing.assert_allclose(one, other, atol=1 if slices == 1 else 0)
    assert found.shape == (132, 110)


def test_so_few_lines_that_no_corner_is_left() -> None:
    found = estimate_known_lines(low_resolution(head((2, 96, 100)), 6.0))
    assert found is not None
    assert (found.rows, found.columns, found.altered) == ((-8, 7), (-8, 8), False)


def test_a_full_spectrum_has_no_border() -> None:
    assert estimate_known_lines(head()) is None
    one_way = scipy.fft.ifft(scipy.fft.fft(head(), axis=1) * kept_lines(120, 4.0)[None, :, None], axis=1).real
    assert estimate_known_lines(one_way.astype(np.float32)) is None


@pytest.mark.parametrize("factor", [2.0, 3.0, 4.0])
@pytest.mark.parametrize("part", [np.s_[:, 60:180], np.s_[:, :, 37:150], np.s_[:, 40:201, 20:190]])
def test_the_border_shows_where_the_scan_was_cut_off(factor, part) -> None:
    """Anatomy that reaches two sides, and differs there, fills all lines of k-space: the seam's, not the scan's."""
    whole = head((6, 240, 200))
    found = estimate_known_lines(low_resolution(whole, factor)[part])
    assert found is not None
    assert not found.altered
    np.testing.assert_allclose(found.factors, factor, rtol=0.03)  # the border isn't at a whole line any more
    assert estimate_known_lines(whole[part]) is None
    assert estimate_factors(whole[part]) == (1.0, 1.0)


def test_the_seams_are_those_of_the_sides() -> None:
    """The smooth part's Laplacian is the jumps at the sides, and nothing elsewhere (Moisan's definition)."""
    u = np.random.default_rng(0).normal(size=(37, 50)).cumsum(axis=0)
    smooth = scipy.fft.ifft2(seam_lines(u))
    np.testing.assert_allclose(smooth.imag, 0.0, atol=1e-12)
    laplacian = sum(np.roll(smooth.real, step, axis) for step in (1, -1) for axis in (0, 1)) - 4.0 * smooth.real
    jumps = np.zeros_like(u)
    jumps[0] += u[-1] - u[0]
    jumps[-1] += u[0] - u[-1]
    jumps[:, 0] += u[:, -1] - u[:, 0]
    jumps[:, -1] += u[:, 0] - u[:, -1]
    np.testing.assert_allclose(laplacian, jumps, atol=1e-10)
    u[-1] = u[0]
    u[:, -1] = u[:, 0]
    np.testing.assert_allclose(seam_lines(u), 0.0, atol=1e-10)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("factor", [1.6, 2.0, 4.0])
def test_one_axis_may_be_cut_alone(axis, factor) -> None:
    whole = head((6, 132, 110))
    kept = kept_lines(whole.shape[axis], factor)
    lines = np.moveaxis(scipy.fft.fft(whole, axis=axis), axis, 2) * kept
    cut = np.moveaxis(np.abs(scipy.fft.ifft(lines, axis=2)), 2, axis).astype(np.float32)
    wanted = [1.0, 1.0]
    wanted[axis - 1] = whole.shape[axis] / kept.sum()
    assert estimate_factors(cut) == tuple(wanted)
    assert estimate_known_lines(cut) is None


def test_lines_of_a_factor() -> None:
    found = known_lines((120, 97), 4.0)
    assert (found.rows, found.columns) == ((-15, 14), (-12, 11))
    assert found.factors == (4.0, 97 / 24)
    with pytest.raises(UsageError, match=r"expected at least 1, got 0.5"):
        known_lines((120, 96), 0.5)


@pytest.mark.parametrize("factor", [None, 4.0])
@pytest.mark.parametrize("shape", [(8, 120, 96), (8, 116, 92)])  # 30 x 24 lines, 29 x 23 lines
def test_known_lines_come_back_and_the_others_stay(factor, shape) -> None:
    """Where the band-limited image is positive everywhere its magnitude has the measured lines themselves."""
    hq = head(shape) + 300.0
    lq = low_resolution(hq, 4.0)
    restored = lq + np.random.default_rng(1).normal(0, 30, lq.shape).astype(np.float32)
    known = known_lines(shape[1:], 4.0) if factor else estimate_known_lines(lq)
    out = put_back(restored, lq, known)
    assert known == known_lines(shape[1:], 4.0)
    mask = square(shape[1:], 4.0)
    opposite = np.roll(mask[::-1, ::-1], 1, axis=(0, 1))
    spectrum, wanted, before = (scipy.fft.fft2(a.astype(np.float64)) for a in (out, hq, restored))
    error = np.abs(before - wanted)[:, mask]
    # of an even number of lines the outermost is the reference's own line too, on both sides of DC
    np.testing.assert_allclose(spectrum[:, mask | opposite], wanted[:, mask | opposite], atol=0.02 * error.max())
    neither = ~(mask | opposite)
    np.testing.assert_allclose(spectrum[:, neither], before[:, neither], atol=1e-6 * np.abs(wanted).max())


def test_everything_known_is_the_input() -> None:
    hq = head()
    out = put_back(0.9 * hq + 30.0, hq, known_lines((120, 96), 1.0))
    np.testing.assert_allclose(out, hq, atol=0.01)


def test_the_lost_sign_is_restored() -> None:
    """A truth with silent air rings below zero there: it stays as it is, and errors of its known lines go."""
    hq = head()
    hq[hq < 180.0] = 0.0
    lq = low_resolution(hq, 4.0)
    known = known_lines((120, 96), 4.0)
    np.testing.assert_allclose(put_back(hq, lq, known), hq, atol=0.01)
    error = 8.0 * np.cos(2 * np.pi * 5 * np.arange(96) / 96)[None, None].astype(np.float32)
    out = put_back(hq + error, lq, known)
    assert rmse(out, hq) < 0.1 * rmse(hq + error, hq)
    naive = hq + scipy.fft.ifft2(scipy.fft.fft2(lq - hq) * square((120, 96), 4.0)).real  # the magnitude's own lines
    assert rmse(naive, hq) > 5.0 * rmse(out, hq)


def test_values_stay_above_zero_unless_the_scan_has_a_sign() -> None:
    hq = head()
    hq[hq < 180.0] = 0.0
    lq, known = low_resolution(hq, 4.0), known_lines((120, 96), 4.0)
    blurred = 0.5 * (lq + hq)
    assert put_back(blurred, lq, known).min() >= 0.0
    signed = scipy.fft.ifft2(scipy.fft.fft2(hq) * square((120, 96), 4.0)).real
    out = put_back(blurred, signed, known)
    assert signed.min() < -10.0
    assert out.min() < 0.0
    assert rmse(out, hq) <= rmse(blurred, hq)


def test_it_helps_a_network_that_bends_what_was_measured() -> None:
    hq = head()
    lq = low_resolution(hq, 2.0)
    bent = 0.9 * hq + 30.0
    out = put_back(bent, lq, estimate_known_lines(lq))
    assert rmse(out, hq) < 0.5 * rmse(bent, hq)


def test_the_restorer_puts_back_what_the_spectrum_shows(brighter) -> None:
    """Its network adds an offset, which is measured, so that nothing of it is left; frames, axes and holes as ever."""
    lq = low_resolution(head((8, 116, 108)) + 300.0, 4.0)  # an odd number of lines: y holds all of them
    turned = np.moveaxis(lq, 0, 2).copy()
    frames = np.stack([turned, 2 * turned])
    frames[1, 0, 0, 0] = np.nan
    dynamic = scan(frames, np.diag([4.0, 1.0, 1.0, 1.0]))
    out = brighter(dynamic, "mri")
    np.testing.assert_allclose(out.array[0], turned, atol=0.01)
    np.testing.assert_allclose(out.array[1], frames[1], atol=2.0)  # a hole is filled, which bends its surroundings
    assert np.isnan(out.array).sum() == 1
    assert "lines -14 to 14 x -13 to 13, factors 4 x 4" in out.provenance.steps[-1]
    left = brighter(dynamic, "mri", options=RestoreOptions(data_consistency=False))
    np.testing.assert_allclose(left.array[0] - turned, 0.01 * np.percentile(turned, 99.5), rtol=0.05)
    assert "restored" in left.provenance.steps[-1]


def test_the_restorer_leaves_a_full_spectrum_alone(brighter) -> None:
    hq = head()
    for options in (RestoreOptions(), RestoreOptions(data_consistency=False)):
        out = brighter(scan(hq), "mri", options=options)
        assert float((out.array - hq).mean()) > 5.0
        assert "put back" not in " ".join(out.provenance.steps)
    with pytest.raises(UsageError, match=EMPTY_OUTSIDE):
        brighter(scan(hq), "mri", options=RestoreOptions(data_consistency=True))
    told = brighter(scan(hq), "mri", options=RestoreOptions(kspace_factor=2.0))
    assert abs(float((told.array - hq).mean())) < 0.3
    assert "factors 2 x 2" in told.provenance.steps[-1]


def test_a_coarse_grid_says_its_factor(brighter) -> None:
    out = brighter(scan(head()), "mri", options=RestoreOptions(scale=2))
    assert out.array.shape == (4, 240, 192)
    assert out.array.mean() == pytest.approx(float(head().mean()), rel=1e-3)
    assert "lines -60 to 59 x -48 to 47" in out.provenance.steps[-1]


def test_what_decides() -> None:
    lq, hq = low_resolution(head(), 3.0), head()
    assert lines_to_put_back(hq, RestoreOptions()) is None
    assert lines_to_put_back(lq, RestoreOptions()).rows == (-20, 19)
    assert lines_to_put_back(hq, RestoreOptions(kspace_factor=2.0)).rows == (-30, 29)
    assert lines_to_put_back(hq, RestoreOptions(scale=4)).rows == (-15, 14)
    assert lines_to_put_back(lq[:, :92, :92], RestoreOptions()) is None  # too small to tell
    with pytest.raises(UsageError, match=EMPTY_OUTSIDE):
        lines_to_put_back(hq, RestoreOptions(data_consistency=True))
    assert RestoreOptions().puts_back(MRI)
    assert not RestoreOptions(data_consistency=False).puts_back(MRI)
    assert not RestoreOptions().puts_back(TASKS["ct-denoise"])


def damped(array: np.ndarray, along) -> np.ndarray:
    """The central half of k-space under a filter: a function of the two axes' distances from DC, 1 at the border."""
    row, column = (np.fft.fftfreq(n, 1.0 / n) / (n / 4) for n in array.shape[1:])
    kept = kept_lines(array.shape[1], 2.0)[:, None] & kept_lines(array.shape[2], 2.0)
    filter_ = along(np.clip(np.abs(row), 0, 1)[:, None], np.clip(np.abs(column), 0, 1)[None])
    return np.abs(scipy.fft.ifft2(scipy.fft.fft2(array) * kept * filter_)).astype(np.float32)


ALTERED = {
    "Hann": lambda y, x: np.cos(np.pi / 2 * y) ** 2 * np.cos(np.pi / 2 * x) ** 2,
    "Hamming": lambda y, x: (0.54 + 0.46 * np.cos(np.pi * y)) * (0.54 + 0.46 * np.cos(np.pi * x)),
    "Fermi": lambda y, x: 1.0 / (1.0 + np.exp((np.hypot(y, x) - 0.9) / 0.03)),
    "ellipse": lambda y, x: y**2 + x**2 <= 1.0,
}


@pytest.mark.parametrize("name", ALTERED)
@pytest.mark.parametrize("slices", [1, 12])
def test_lines_that_a_filter_damped_are_not_put_back(name, slices) -> None:
    lq = damped(head((slices, 220, 196)), ALTERED[name])
    found = estimate_known_lines(lq)
    assert found is not None
    assert found.altered
    assert lines_to_put_back(lq, RestoreOptions()) == found
    assert lines_to_put_back(lq, RestoreOptions(data_consistency=True)) == replace(found, altered=False)
    assert lines_to_put_back(lq, RestoreOptions(kspace_factor=2.0)).rows == (-55, 54)


def test_a_scan_tells_that_altered_lines_were_left_to_the_network(brighter) -> None:
    lq = scan(damped(head((2, 220, 196)), ALTERED["Hann"]))
    left = brighter(lq, MRI)
    alone = brighter(lq, MRI, options=RestoreOptions(data_consistency=False))
    forced = brighter(lq, MRI, options=RestoreOptions(data_consistency=True))
    np.testing.assert_array_equal(left.array, alone.array)
    assert np.abs(forced.array - alone.array).max() > 1.0
    (told,) = left.provenance.steps[1:]
    assert told == "k-space not put back: lines -54 to 53 x -48 to 47 look filtered, interpolated or turned"
    assert alone.provenance.steps[1:] == ()
    assert forced.provenance.steps[1:] == (
        "measured k-space put back: lines -54 to 53 x -48 to 47, factors 2.04 x 2.04",
    )


def test_lines_of_an_interpolated_or_turned_scan_are_not_put_back() -> None:
    hq = head((6, 220, 196))
    coarse = np.abs(scipy.fft.ifft2(scipy.fft.fft2(hq)[:, kept_lines(220, 2.0)][..., kept_lines(196, 2.0)]))
    spline = scipy.ndimage.zoom(coarse, (1, 2, 2), order=3, mode="grid-wrap", grid_mode=True).astype(np.float32)
    turned = scipy.ndimage.rotate(low_resolution(hq, 2.0), 15.0, axes=(1, 2), reshape=False).astype(np.float32)
    for lq in (spline, turned):
        assert lines_to_put_back(lq, RestoreOptions()).altered


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("slices", [1, 12])
def test_lines_that_were_only_cut_off_are_put_back(factor, slices) -> None:
    cut = low_resolution(head((slices, 220, 196)), factor)
    for lq in (cut, np.rint(cut / 4.0).astype(np.float32)):
        found = lines_to_put_back(lq, RestoreOptions())
        assert found is not None
        assert not found.altered
        np.testing.assert_allclose(found.factors, (factor, factor), rtol=0.02)


def test_what_is_refused() -> None:
    for options, name in (
        (RestoreOptions(data_consistency=True), "--data-consistency"),
        (RestoreOptions(kspace_factor=2.0), "--kspace-factor"),
    ):
        with pytest.raises(UsageError, match=f"{name}: expected only with mri-sr, got ct-denoise"):
            options.puts_back(TASKS["ct-denoise"])
    with pytest.raises(UsageError, match=r"--kspace-factor: expected a number from 1, got 0\.5"):
        RestoreOptions(kspace_factor=0.5)
    with pytest.raises(UsageError, match=r"--kspace-factor: expected a number from 1, got inf"):
        RestoreOptions(kspace_factor=float("inf"))
    with pytest.raises(UsageError, match=r"--kspace-factor: expected at least --scale, 2, .*, got 1\.5"):
        RestoreOptions(kspace_factor=1.5, scale=2)
    assert RestoreOptions(kspace_factor=2.0, scale=2).known_factor == 2.0
    with pytest.raises(UsageError, match="expected without --no-data-consistency"):
        RestoreOptions(kspace_factor=2.0, data_consistency=False)


LINES = np.arange(64)
CUT = np.where(LINES <= 24, 0.0, -4.0)
"""log10 of the power of lines that were cut off at once beyond 24."""


def falling(exponent: float) -> np.ndarray:
    """The outer quarter falls as k^exponent."""
    return np.where(LINES <= 24, exponent * np.log10(np.maximum(LINES, 18) / 18.0), -9.0)


def gradual(middle: float) -> np.ndarray:
    """From 0 to -3, with four lines in between."""
    return np.select([LINES <= 24, LINES <= 28], [0.0, middle], -3.0)


@pytest.mark.parametrize(
    ("corners", "level", "altered"),
    [
        (0.0, CUT, False),
        (-1.1, CUT, False),  # decades; more than 1.2 are an ellipse
        (-1.3, CUT, True),
        (0.0, falling(-9.0), False),  # steeper than k^-10 is a filter
        (0.0, falling(-11.0), True),
        (0.0, gradual(-1.6), False),  # of the largest fall, 1.95 over lines 25 and 4 to both sides, 1.6 is 0.82
        (0.0, gradual(-1.2), True),  # and of 1.95 over line 27, 1.2 is 0.62
    ],
)
def test_the_signs_of_altered_lines_by_hand(corners: float, level: np.ndarray, altered: bool) -> None:
    row, column = (np.abs(np.fft.fftfreq(n, 1.0 / n)) for n in (128, 128))
    radius = (row[:, None] / 24.5) ** 2 + (column / 24.5) ** 2
    inside = (row[:, None] <= 24) & (column <= 24)
    power = np.where(inside, np.where(radius > 1.0, 10.0**corners, 1.0), 1e-9)
    for levels in ((level, CUT), (CUT, level)):
        assert is_altered(power, (24, 24), levels) is altered
