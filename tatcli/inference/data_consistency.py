"""Data consistency for mri-sr: the measured low frequencies of the input put back into the restored slices.

A scan of low in-plane resolution knows the k-space lines around DC and has zeros outside. A network may alter the known
lines too; here they are replaced by the measured ones, and only what wasn't measured is left to the network.

What was measured. Scanners store the magnitude y = |t| of the band-limited image t, and where t rings below zero (in
the air around edges) its sign is lost: the k-space of y itself is not what was measured. The restored slice r gives the
sign back, as in phase retrieval (Gerchberg & Saxton, Optik 35:237, 1972): with the projection P onto the known lines,
t' = y P(r) / |P(r)|, and the known lines of r become those of t'; this is repeated, from the better r. Of an even
number m of lines the outermost, -m/2, is known on one side of DC only. As the true slice is real, the opposite line is
known too: it is the conjugate. Of such a line y tells the half that is even about DC, and the phase of r gives the
other half, so its change is half of what is missing and is taken twice. Values of y below 0 (a scan that was stored
with its sign) are taken as they are.

On the validation scans, at a factor of 4, the six slices of README's table gain 0.040 dB so, which is all that the
reference's own lines would give; one pass that knows the outermost line on one side only gains 0.032. Putting the lines
of y back costs 0.02, and up to 0.14 of SSIM, as it brings the ringing back.

Which lines are known. Along an in-plane axis of n samples:

- from a factor f, the m = min(n, max(1, round(n / f))) lines -floor(m / 2) ... ceil(m / 2) - 1 that were kept (see
  ``degradation.low_resolution_mri``);
- estimated, by the mean power P(k) of the lines k and -k over up to 24 slices and over the other axis' lines
  |j| <= max(2, n_j / 16). At a border b the drop D(b) is the mean of log10 P over the four lines b - 4 ... b - 1 less
  that over b + 1 ... b + 4. The border is where D is largest among max(8, n / 12) <= b <= n / 2 - 5 (factors up to 6;
  nearer to DC every spectrum falls steeply). A drop below 0.8 (a factor of 6 in power) is no border: real spectra fall
  slowly, zero-filled ones at once (0.2-0.7 and 0.8-3.1 in 27 brain and knee scans at factors 1.5, 2, 2.6, 3 and 4).
  The outermost known line e is the one before the steepest step within two lines of b, now over all lines inside the
  other axis' border. Of an even m it holds a quarter of the power (the real part of a line that is known on one side):
  log10 P(e - 1) / P(e) was at least 0.25 there and at most 0.20 for odd m. So m was found exactly along all 270 axes
  of those scans; from 6 slices along 269, from a single one along 260. Lines that a filter damped, or that an
  interpolation or turn altered, aren't put back (:mod:`tatcli.inference.kspace_shutter`);
- where no border shows so, by the power without what the seams of the image's sides put there
  (:mod:`tatcli.inference.kspace_seam`). Of 20 brains and knees that were cut off after their k-space had been, in
  three ways at 1.5, 2, 3 and 4, a border then shows in 239 of 240 instead of 108, in none of 80 that hadn't been.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.fft

from tatcli.degradation.low_resolution_mri import kept_lines
from tatcli.errors import UsageError
from tatcli.inference.holes import filled
from tatcli.inference.kspace_seam import powers
from tatcli.inference.kspace_shutter import is_altered
from tatcli.volumes.slices import evenly_spaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Complex64, Float32
    from numpy.typing import NDArray

    from tatcli.inference.options import RestoreOptions

__all__ = [
    "SMALLEST_MATRIX",
    "SPECTRUM_SLICES",
    "KnownLines",
    "MeasuredLines",
    "estimate_factors",
    "estimate_known_lines",
    "known_lines",
    "lines_to_put_back",
]

SMALLEST_DROP: Final = 0.8
SPECTRUM_SLICES: Final = 24
"""Of the frame that tells what the scan is like are looked at."""
SMALLEST_MATRIX: Final = 96
"""A smaller matrix has too few lines to see a border in: one of four 64x64 echo-planar scans seemed to have one."""
_LINES: Final = 4
_INSIDE: Final = 3
"""Lines inside a border that are surely known."""
_HALF_KNOWN: Final = 0.22
"""Fall of log10 power from which on a line counts as known on one side of DC only."""
_PASSES: Final = 3
"""Of the phase retrieval; a fourth brings less than 0.0001 dB."""


@dataclass(frozen=True)
class KnownLines:
    """The square of k-space that was measured.

    Attributes:
        rows, columns: (lowest, highest) known line along either axis.
        shape: (rows, columns) of a slice.
        altered: whether the lines look as if they weren't those that were measured: they are left to the network.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    shape: tuple[int, int]
    altered: bool = False

    @property
    def factors(self) -> tuple[float, float]:
        """How many times fewer lines were measured than the matrix has, along rows and columns."""
        rows, columns = (high - low + 1 for low, high in (self.rows, self.columns))
        return self.shape[0] / rows, self.shape[1] / columns

    @property
    def step(self) -> str:
        """What putting them back does to a scan, or why that isn't done, for its history."""
        lines = f"lines {self.rows[0]} to {self.rows[1]} x {self.columns[0]} to {self.columns[1]}"
        if self.altered:
            return f"k-space not put back: {lines} look filtered, interpolated or turned"
        down, across = self.factors
        return f"measured k-space put back: {lines}, factors {down:.3g} x {across:.3g}"


def known_lines(shape: tuple[int, int], factor: float) -> KnownLines:
    """The lines that a k-space factor keeps.

    Raises:
        UsageError: the factor is below 1.
    """
    if not factor >= 1.0:
        msg = f"--kspace-factor: expected at least 1, got {factor:g}"
        raise UsageError(msg)
    rows, columns = (_centred(int(kept_lines(n, factor).sum())) for n in shape)
    return KnownLines(rows, columns, shape)


def estimate_known_lines(stack: NDArray[np.float32]) -> KnownLines | None:
    """The known lines by the input's own spectrum, as defined above.

    Args:
        stack: (slices, rows, columns); of more than 24 slices, 24 evenly spaced ones are looked at.

    Returns:
        None where the spectrum has no border along both axes: the scan isn't zero-filled.
    """
    return next((known for known in map(_known_inside, _powers(stack)) if known is not None), None)


def estimate_factors(stack: NDArray[np.float32]) -> tuple[float, float]:
    """How many times fewer lines than the matrix has were measured, along rows and columns; 1: the axis isn't cut.

    Args:
        stack: as for :func:`estimate_known_lines`.
    """
    looked_at = []
    for power in _powers(stack):
        if (known := _known_inside(power)) is not None:
            return known.factors
        looked_at.append(power)
    for power in looked_at:
        down, across = (_factor(axis) for axis in (power, power.T))
        if max(down, across) > 1.0:
            return down, across
    return 1.0, 1.0


def _factor(power: NDArray[np.float64]) -> float:
    """By how much the first axis alone is cut."""
    border = _border(power)
    return 1.0 if border is None else len(power) / _lines_inside(power, border, power.shape[1] // 2)


def _powers(stack: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
    return powers([filled(stack[index], fallback=0.0) for index in evenly_spaced(len(stack), SPECTRUM_SLICES)])


def _known_inside(power: NDArray[np.float64]) -> KnownLines | None:
    """The known lines where there is a border along both axes of this power."""
    rows, columns = power.shape
    down, across = _border(power), _border(power.T)
    if down is None or across is None:
        return None
    found = _centred(_lines_inside(power, down, across)), _centred(_lines_inside(power.T, across, down))
    highest = found[0][1], found[1][1]
    levels = _level(power, max(2, highest[1] // 2)), _level(power.T, max(2, highest[0] // 2))
    return KnownLines(*found, (rows, columns), altered=is_altered(power, highest, levels))


def lines_to_put_back(stack: NDArray[np.float32], options: RestoreOptions) -> KnownLines | None:
    """Which lines a restoration puts back, or leaves as altered, whose options allow it.

    Args:
        stack: (slices, rows, columns), the network's input: the slices of one frame, the first that isn't empty, or
            those of them that ``evenly_spaced(len(stack), SPECTRUM_SLICES)`` names.
        options: may say the factor; ``scale`` is one too.

    Returns:
        None: none, as the spectrum has no border. Altered lines are marked so, unless they were asked for.

    Raises:
        UsageError: asked for, no factor given, and no border in the spectrum.
    """
    shape = (int(stack.shape[1]), int(stack.shape[2]))
    if options.known_factor is not None:
        return known_lines(shape, options.known_factor)
    found = estimate_known_lines(stack) if min(shape) >= SMALLEST_MATRIX else None
    if options.data_consistency and found is None:
        msg = "--data-consistency: expected an input with empty outer k-space, got a full spectrum; say --kspace-factor"
        raise UsageError(msg)
    return replace(found, altered=False) if found is not None and options.data_consistency else found


class MeasuredLines:
    """Puts the known lines of a scan's input slices back into its restored ones.

    Args:
        known: which.
    """

    def __init__(self, known: KnownLines) -> None:
        self._shape = known.shape
        pairs = [_with_opposites(n, lines) for n, lines in zip(known.shape, (known.rows, known.columns), strict=True)]
        (self._rows, rows, up), (self._columns, columns, left) = pairs
        self._opposite = np.ix_(up, left)
        measured = (rows[:, None] & columns).astype(np.float32)
        self._measured = measured
        # of a line and its opposite: the mean where both are known, twice the one that is
        self._weights = np.where(measured == measured[self._opposite], np.float32(0.5), np.float32(2.0))

    def __call__(
        self, restored: Float32[np.ndarray, "rows columns"], measured: Float32[np.ndarray, "rows columns"]
    ) -> Float32[np.ndarray, "rows columns"]:
        """The restored slice with the known lines of t', both as defined above.

        Args:
            restored: by the network; finite.
            measured: its input; finite.

        Returns:
            A new array. Where neither slice has values below 0, it has none.
        """
        before: NDArray[np.complex64] = self._lines(restored)
        lines = before
        for _ in range(_PASSES):
            phase = self._image(lines * self._measured)
            size = np.abs(phase)
            np.divide(phase, size, out=phase, where=size > 0.0)
            phase[(size == 0.0) | (measured < 0.0)] = 1.0
            change = (self._lines(phase * measured) - lines) * self._measured
            change += change[self._opposite].conj()
            lines = np.asarray(lines + change * self._weights, dtype=np.complex64)
        out = restored + self._image(lines - before).real
        return np.asarray(np.maximum(out, np.minimum(np.minimum(restored, measured), 0.0)))

    def _lines(self, image: NDArray[np.float32] | NDArray[np.complex64]) -> Complex64[np.ndarray, "lines lines"]:
        """The known lines and their opposites of an image's k-space."""
        along = scipy.fft.fft(image, axis=1)[:, self._columns]
        return np.asarray(scipy.fft.fft(along, axis=0)[self._rows], dtype=np.complex64)

    def _image(self, lines: NDArray[np.complex64]) -> Complex64[np.ndarray, "rows columns"]:
        """The image of these lines alone; k-space is empty elsewhere."""
        down = np.zeros((self._shape[0], len(self._columns)), dtype=np.complex64)
        down[self._rows] = lines
        along = np.zeros(self._shape, dtype=np.complex64)
        along[:, self._columns] = scipy.fft.ifft(down, axis=0, overwrite_x=True)
        return np.asarray(scipy.fft.ifft(along, axis=1, overwrite_x=True), dtype=np.complex64)


def _centred(count: int) -> tuple[int, int]:
    """(lowest, highest) of so many lines around DC."""
    return -(count // 2), count - count // 2 - 1


def _with_opposites(count: int, lines: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.intp]]:
    """Of an axis: the known lines and their opposites, in FFT order; which are known; where each one's opposite is."""
    known = np.arange(lines[0], lines[1] + 1) % count
    both = np.unique(np.concatenate([known, -known % count]))
    return both, np.isin(both, known), np.searchsorted(both, -both % count)


def _level(power: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """log10 of the mean power of each line along the first axis, over the lines |j| <= most of the other."""
    count, other = power.shape
    line = np.abs(np.fft.fftfreq(other, 1.0 / other).round())
    along = power[:, line <= most].mean(axis=1)
    index = np.arange(count // 2)
    return np.asarray(np.log10(0.5 * (along[index] + along[-index]) + 1e-30 * along.max() + np.finfo(float).tiny))


def _border(power: NDArray[np.float64]) -> int | None:
    """The border b along the first axis; None: there is none."""
    count, other = power.shape
    level = _level(power, max(2, other // 16))
    candidates = range(max(2 * _LINES, -(-count // 12)), len(level) - _LINES)
    drops = {b: float(level[b - _LINES : b].mean() - level[b + 1 : b + 1 + _LINES].mean()) for b in candidates}
    if not drops:
        return None
    best = max(drops, key=lambda b: drops[b])
    return best if drops[best] >= SMALLEST_DROP else None


def _lines_inside(power: NDArray[np.float64], border: int, other_border: int) -> int:
    """Number of lines inside a border along the first axis."""
    level = _level(power, other_border - _INSIDE)
    outermost = max(range(border - 2, border + 2), key=lambda k: level[k] - level[k + 1])
    one_sided = level[outermost - 1] - level[outermost] > _HALF_KNOWN
    return 2 * outermost + (0 if one_sided else 1)
