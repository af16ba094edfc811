"""Parallel-beam projection and filtered back-projection, by the Fourier slice theorem.

A projection's 1-D spectrum is a radial line of the slice's 2-D spectrum. Both directions therefore are an FFT plus an
interpolation between a Cartesian and a polar frequency grid: a sparse matrix with Kaiser-Bessel weights (gridding:
Jackson et al., IEEE TMI 10:473, 1991; Beatty et al., IEEE TMI 24:799, 2005), the same for every slice of a scan. One
512 x 512 back-projection from 720 views costs about 0.1 s on one CPU core.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.fft
import scipy.sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ParallelBeam", "parallel_beam"]

_KERNEL_WIDTH: Final = 4
_OVERSAMPLING: Final = 1.5
_DETECTOR_MARGIN: Final = 1.5  # times the longer side: a square's diagonal is 1.41 of it
_CACHED_GEOMETRIES: Final = 4


class ParallelBeam:
    """A parallel-beam scanner for slices of one shape and pixel size, views spread evenly over half a turn.

    Attributes:
        shape: (rows, columns) of the slice.
        spacing: (row, column) pixel size, mm.
        views: number of angles in [0, pi).
        pitch: distance between detector bins, mm: the smaller pixel size.
        bins: number of detector bins; the centre of rotation projects on bin ``bins // 2``.
        frequencies: (bins // 2 + 1,) radial frequencies, cycles/mm.
    """

    def __init__(self, shape: tuple[int, int], spacing: tuple[float, float], *, views: int) -> None:
        self.shape = shape
        self.spacing = spacing
        self.views = views
        self.pitch = min(spacing)
        longest = max(count * size for count, size in zip(shape, spacing, strict=True))
        self.bins = scipy.fft.next_fast_len(int(np.ceil(_DETECTOR_MARGIN * longest / self.pitch)) + 1, real=True)
        self.bins += self.bins % 2
        self.frequencies = np.asarray(np.fft.rfftfreq(self.bins, self.pitch), dtype=np.float64)
        self._grid = tuple(
            scipy.fft.next_fast_len(int(np.ceil(_OVERSAMPLING * count)) + _KERNEL_WIDTH) for count in shape
        )
        angles = np.arange(views) * (np.pi / views)
        # cycles per pixel along (rows, columns) of every (view, radial frequency); rows run along y, columns along x
        rows = np.sin(angles)[:, None] * self.frequencies * spacing[0]
        columns = np.cos(angles)[:, None] * self.frequencies * spacing[1]
        self._spread, self._phase = self._gridding(rows.ravel(), columns.ravel())
        self._apodisation = np.outer(*(_kernel_transform(n, g) for n, g in zip(shape, self._grid, strict=True)))
        # bin 0 of an FFT is at t = 0; a projection's centre is at bins // 2
        self._centre: NDArray[np.complex64] = np.where(np.arange(self.frequencies.size) % 2, -1, 1).astype(np.complex64)

    def project(self, slice_: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Line integrals of a slice.

        Args:
            slice_: (rows, columns), per mm (such as a linear attenuation coefficient).

        Returns:
            (views, bins), dimensionless.
        """
        padded = np.zeros(self._grid, dtype=np.float32)
        rows, columns = self._pixel_index()
        padded[np.ix_(rows, columns)] = slice_ / self._apodisation
        spectrum = scipy.fft.fft2(padded).astype(np.complex64).ravel()
        samples = self._spread.T @ np.stack([spectrum.real, spectrum.imag], axis=1)
        polar = (samples[:, 0] + 1j * samples[:, 1]) * self._phase.conj()
        polar = polar.reshape(self.views, -1) * (
            self._centre * np.float32(self.spacing[0] * self.spacing[1] / self.pitch)
        )
        return np.asarray(scipy.fft.irfft(polar, n=self.bins, axis=1), dtype=np.float32)

    def back_project(
        self, sinograms: NDArray[np.floating[Any]], response: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        """Filter projections and smear them back: the integral over views of (projection * filter)(t).

        Args:
            sinograms: (count, views, bins).
            response: (count or 1, bins // 2 + 1): the filter's transfer function at ``frequencies``. ``frequencies``
                itself (a ramp) inverts :meth:`project`.

        Returns:
            (count, rows, columns).
        """
        spectra = scipy.fft.rfft(np.asarray(sinograms, dtype=np.float32), axis=2)
        weight = self._centre * (np.pi / self.views)
        # irfft counts the inner frequencies twice (they stand for their negatives too)
        double = np.full(self.frequencies.size, 2.0, dtype=np.float32)
        double[[0, -1]] = 1.0
        spectra *= (np.asarray(response) * double * weight / self.bins).astype(np.complex64)[:, None, :]
        samples = spectra.reshape(len(spectra), -1) * self._phase
        columns = np.ascontiguousarray(np.concatenate([samples.real, samples.imag]).T)
        gridded = (self._spread @ columns).T.reshape(2, len(spectra), *self._grid)
        rows, cols = self._pixel_index()
        images = np.empty((len(spectra), *self.shape), dtype=np.float32)
        for image, real, imaginary in zip(images, *gridded, strict=True):
            field = scipy.fft.ifft2(real + 1j * imaginary, norm="forward", overwrite_x=True).real
            np.divide(field[np.ix_(rows, cols)], self._apodisation, out=image, casting="same_kind")
        return images

    def _pixel_index(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Where the slice's rows and columns lie in the padded FFT grid (pixel n // 2 at 0, wrapped)."""
        rows, columns = ((np.arange(n) - n // 2) % g for n, g in zip(self.shape, self._grid, strict=True))
        return rows, columns

    def _gridding(
        self, rows: NDArray[np.float64], columns: NDArray[np.float64]
    ) -> tuple[scipy.sparse.csr_array, NDArray[np.complex64]]:
        """The polar -> Cartesian spreading matrix, and the phases that put the rotation centre amid the pixels."""
        row_index, row_weight = _kernel_samples(rows * self._grid[0], self._grid[0])
        column_index, column_weight = _kernel_samples(columns * self._grid[1], self._grid[1])
        index = row_index[:, :, None] * np.int32(self._grid[1]) + column_index[:, None, :]
        weight = row_weight[:, :, None] * column_weight[:, None, :]
        pointers = np.arange(rows.size + 1, dtype=np.int32) * _KERNEL_WIDTH**2
        shape = (self._grid[0] * self._grid[1], rows.size)
        matrix = scipy.sparse.csc_array((weight.ravel(), index.ravel(), pointers), shape=shape)
        offset = [n // 2 - (n - 1) / 2 for n in self.shape]  # from the geometric centre to pixel n // 2
        phase = np.exp(2j * np.pi * (rows * offset[0] + columns * offset[1])).astype(np.complex64)
        return matrix.tocsr(), phase


@lru_cache(maxsize=_CACHED_GEOMETRIES)
def parallel_beam(shape: tuple[int, int], spacing: tuple[float, float], *, views: int) -> ParallelBeam:
    """A :class:`ParallelBeam`, kept for the next slices of the same grid (building one takes about half a second)."""
    return ParallelBeam(shape, spacing, views=views)


def _shape_parameter() -> float:
    """Beatty's Kaiser-Bessel shape for the chosen width and oversampling (his equation 5)."""
    ratio = _KERNEL_WIDTH / _OVERSAMPLING
    return float(np.pi * np.sqrt((ratio * (_OVERSAMPLING - 0.5)) ** 2 - 0.8))


def _kernel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Kaiser-Bessel kernel at a distance in grid cells."""
    inside = np.maximum(0.0, 1.0 - (2.0 * distance / _KERNEL_WIDTH) ** 2)
    return np.asarray(np.i0(_shape_parameter() * np.sqrt(inside)) / np.i0(_shape_parameter()))


def _kernel_samples(positions: NDArray[np.float64], size: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Grid cells next to each position (wrapped around) and the kernel's weights there, (positions, width) each."""
    first = np.floor(positions - _KERNEL_WIDTH / 2).astype(np.int64) + 1
    cells = first[:, None] + np.arange(_KERNEL_WIDTH)
    # a table lookup is enough here: the kernel is smooth, and np.i0 on millions of samples is slow
    table = np.linspace(0.0, _KERNEL_WIDTH / 2, 4096)
    weights = np.interp(np.abs(positions[:, None] - cells), table, _kernel(table))
    return (cells % size).astype(np.int32), weights.astype(np.float32)


def _kernel_transform(count: int, size: int) -> NDArray[np.float32]:
    """What the kernel's smoothing of the spectrum does in the image: a factor for each of ``count`` pixels."""
    pixels = np.arange(count) - count // 2
    distance = np.linspace(-_KERNEL_WIDTH / 2, _KERNEL_WIDTH / 2, 2001)
    values = _kernel(distance)
    step = distance[1] - distance[0]
    transform = (values * np.cos(2 * np.pi * np.outer(pixels, distance) / size)).sum(axis=1) * step
    return np.asarray(transform, dtype=np.float32)
