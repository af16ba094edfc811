"""Data consistency for mri-sr: the measured low frequencies of the input put back into the restored scan.

A scan of low in-plane resolution knows the k-space lines around DC and has zeros outside. A network may alter the known
lines too; here they are replaced by the measured ones, and only what wasn't measured is left to the network.

What was measured. Scanners store the magnitude y = |t| of the band-limited image t, and where t rings below zero (in
the air around edges) its sign is lost: the k-space of y itself is not what was measured. The restored scan r gives the
sign back, as in phase retrieval (Gerchberg & Saxton, Optik 35:237, 1972): with the projection P onto the known lines,
t' = y P(r) / |P(r)| and out = r + Re P(t' - r). On the validation scans putting the lines of y back instead costs 0.02
dB at a factor of 4, and up to 0.14 of SSIM, as it brings the ringing back.

Which lines are known. Along an in-plane axis of n samples:

- from a factor f, the m = min(n, max(1, round(n / f))) lines -floor(m / 2) ... ceil(m / 2) - 1 that were kept (see
  ``degradation.low_resolution_mri``);
- estimated, the lines |k| <= h: P(k) is the mean power of the lines k and -k over all slices and over the lines
  |j| <= max(2, n_j / 16) of the other axis. At a border b the drop D(b) is the mean of log10 P over the four lines
  b - 4 ... b - 1 less that over b + 1 ... b + 4. The border is where D is largest among max(8, n / 12) <= b <=
  n / 2 - 5 (factors up to 6; nearer to DC every spectrum falls steeply), and h = b - 2, since b may be off by one and
  the outermost line half kept. A drop below 0.8 (a factor of 6 in power) is no border: real spectra fall slowly,
  zero-filled ones at once (0.2-0.7 and 0.9-3.5 in 20 brain and knee scans at factors 1.5, 2, 3 and 4).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.fft

from tatcli.degradation.low_resolution_mri import kept_lines
from tatcli.errors import UsageError
from tatcli.inference.holes import filled
from tatcli.volumes.slices import slices_along

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tatcli.tasks import Task
    from tatcli.volumes.volume import Volume

__all__ = ["KnownLines", "estimate_known_lines", "known_lines", "with_measured_lines"]

SMALLEST_DROP: Final = 0.8
_LINES: Final = 4
_MOST_SLICES: Final = 24


@dataclass(frozen=True)
class KnownLines:
    """The square of k-space that was measured.

    Attributes:
        rows, columns: (lowest, highest) known line along either axis.
        shape: (rows, columns) of a slice.
        drop: log10 of the power's fall at the border along either axis; None where a factor was given.
        margin: lines inside an estimated border that are left to the network, since it may be off by one.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    shape: tuple[int, int]
    drop: tuple[float, float] | None = None
    margin: int = 0

    @property
    def factors(self) -> tuple[float, float]:
        """How many times fewer lines were measured than the matrix has, along rows and columns."""
        rows, columns = (high - low + 1 + 2 * self.margin for low, high in (self.rows, self.columns))
        return self.shape[0] / rows, self.shape[1] / columns

    def mask(self) -> NDArray[np.bool_]:
        """(rows, columns) in FFT order, DC first."""
        along = []
        for n, (low, high) in zip(self.shape, (self.rows, self.columns), strict=True):
            line = np.fft.fftfreq(n, 1.0 / n).round()
            along.append((line >= low) & (line <= high))
        return np.asarray(along[0][:, None] & along[1])


def known_lines(shape: tuple[int, int], factor: float) -> KnownLines:
    """The lines that a k-space factor keeps.

    Raises:
        UsageError: the factor is below 1.
    """
    if not factor >= 1.0:
        msg = f"--kspace-factor: expected at least 1, got {factor:g}"
        raise UsageError(msg)
    kept = [int(kept_lines(n, factor).sum()) for n in shape]
    rows, columns = ((-(m // 2), m - m // 2 - 1) for m in kept)
    return KnownLines(rows, columns, shape)


def estimate_known_lines(stack: NDArray[np.float32]) -> KnownLines | None:
    """The known lines by the input's own spectrum, as defined above.

    Args:
        stack: (slices, rows, columns); of more than 24 slices, 24 evenly spaced ones are looked at.

    Returns:
        None where the spectrum has no border along both axes: the scan isn't zero-filled.
    """
    count = len(stack)
    chosen = np.unique(np.linspace(0, count - 1, min(_MOST_SLICES, count)).round().astype(int))
    rows, columns = stack.shape[1:]
    power = np.zeros((rows, columns))
    for index in chosen:
        power += np.square(np.abs(scipy.fft.fft2(filled(stack[index], fallback=0.0).astype(np.float64))))
    down, across = _border(power), _border(power.T)
    if down is None or across is None:
        return None
    row, column = down[0] - 2, across[0] - 2
    return KnownLines((-row, row), (-column, column), (rows, columns), (down[1], across[1]), margin=1)


def with_measured_lines(
    restored: Volume, measured: Volume, task: Task, *, axis: int, factor: float | None = None
) -> tuple[Volume, KnownLines]:
    """The restored scan with the known lines of the input.

    Args:
        restored: by the network.
        measured: the network's input, on the same grid.
        task: must be mri-sr.
        axis: that was sliced through.
        factor: of k-space; None: estimated from the input.

    Returns:
        The scan, and which lines were put back. Voxels that are not finite stay as they are; elsewhere values below 0
        may appear as in any Fourier interpolation.

    Raises:
        UsageError: another task; no factor given, and no border in the spectrum.
    """
    if task.name != "mri-sr":
        msg = f"--data-consistency: expected only with mri-sr, got {task.name}; leave it out"
        raise UsageError(msg)
    stacks = [slices_along(frame, axis) for frame in measured.iter_frames()]
    shape = (int(stacks[0].shape[1]), int(stacks[0].shape[2]))
    known = known_lines(shape, factor) if factor is not None else estimate_known_lines(np.concatenate(stacks))
    if known is None:
        msg = "--data-consistency: expected an input with empty outer k-space, got a full spectrum; say --kspace-factor"
        raise UsageError(msg)
    mask = known.mask()
    array = restored.array.copy()
    for frame, before in zip(array.reshape(-1, *restored.geometry.shape), stacks, strict=True):
        for slice_, source in zip(slices_along(frame, axis), before, strict=True):
            finite = np.isfinite(slice_) & np.isfinite(source)
            correction = _correction(np.where(finite, slice_, 0.0), np.where(finite, source, 0.0), mask)
            slice_[finite] += correction[finite].astype(np.float32)
    down, across = known.factors
    lines = f"lines {known.rows[0]} to {known.rows[1]} x {known.columns[0]} to {known.columns[1]}"
    step = f"measured k-space put back: {lines}, factors {down:.3g} x {across:.3g}"
    consistent = restored.with_array(array, step=step)
    return replace(consistent, provenance=replace(consistent.provenance, stored=restored.provenance.stored)), known


def _correction(
    restored: NDArray[np.floating[Any]], magnitude: NDArray[np.floating[Any]], mask: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Re P(t' - r) of one slice."""
    k_space = scipy.fft.fft2(restored.astype(np.float64))
    projected = scipy.fft.ifft2(k_space * mask)
    size = np.abs(projected)
    phase = np.where(size > 0.0, projected / np.where(size > 0.0, size, 1.0), 1.0)
    measured = scipy.fft.fft2(magnitude.astype(np.float64) * phase)
    return np.asarray(scipy.fft.ifft2((measured - k_space) * mask).real)


def _border(power: NDArray[np.float64]) -> tuple[int, float] | None:
    """(border, drop) along the first axis."""
    count, other = power.shape
    line = np.abs(np.fft.fftfreq(other, 1.0 / other).round())
    along = power[:, line <= max(2, other // 16)].mean(axis=1)
    half = count // 2
    index = np.arange(half)
    level = np.log10(0.5 * (along[index] + along[-index]) + 1e-30 * along.max() + np.finfo(float).tiny)
    candidates = range(max(2 * _LINES, -(-count // 12)), half - _LINES)
    drops = {b: float(level[b - _LINES : b].mean() - level[b + 1 : b + 1 + _LINES].mean()) for b in candidates}
    if not drops:
        return None
    best = max(drops, key=lambda b: drops[b])
    return (best, drops[best]) if drops[best] >= SMALLEST_DROP else None
