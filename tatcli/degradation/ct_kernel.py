"""Reconstruction kernels of CT, described by the noise power spectrum that they leave in the image.

Filtered back-projection of white detector noise with the filter H gives image noise of power NPS(f) ~ H(f)^2 / f
(Riederer et al., Phys Med Biol 23:446, 1978). So a wanted spectrum is had by H(f) = sqrt(f * NPS(f)). An ideal ramp
would leave no power at f = 0; clinical images do have some (interpolation, thick slices, streaks), hence
:attr:`KernelSpec.remainder`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tatcli.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KERNELS", "KernelSpec", "find_kernel", "random_kernel"]

_UNIT_FREQUENCY: Final = 0.15
"""Cycles/mm at which every filter equals the ramp, so that kernels differ in shape and not in scale."""


@dataclass(frozen=True)
class KernelSpec:
    """A reconstruction kernel, as the radial noise power that it leaves.

    NPS(f) = (remainder + (1 - remainder) f^2 / (f^2 + rise^2)) * exp(-ln 2 * (f / cutoff)^order)

    Attributes:
        cutoff: frequency, cycles/mm, at which the apodisation has halved the noise power.
        order: steepness of the fall beyond the cutoff.
        rise: frequency, cycles/mm, above which the ramp has risen to half of its plateau.
        remainder: noise power left at the lowest frequencies, relative to the plateau; above 1: low-frequency excess.
        name: for messages.
    """

    cutoff: float = 0.42
    order: float = 4.0
    rise: float = 0.08
    remainder: float = 0.5
    name: str = "custom"

    def __post_init__(self) -> None:
        if not (self.cutoff > 0 and self.order > 0 and self.rise > 0 and self.remainder > 0):
            msg = f"CT kernel: expected positive cutoff, order, rise and remainder, got {self}"
            raise UsageError(msg)

    def __str__(self) -> str:
        shape = f"cutoff {self.cutoff:g}/mm, order {self.order:g}, rise {self.rise:g}/mm, remainder {self.remainder:g}"
        return f"{self.name} kernel ({shape})"

    def noise_power(self, frequencies: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Relative noise power at radial frequencies (cycles/mm)."""
        squared = np.square(np.asarray(frequencies, dtype=np.float64))
        ramp = self.remainder + (1.0 - self.remainder) * squared / (squared + self.rise**2)
        return np.asarray(ramp * np.exp2(-((np.sqrt(squared) / self.cutoff) ** self.order)), dtype=np.float64)

    def response(self, frequencies: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Transfer function of the back-projection filter (cycles/mm), equal to the ramp's at 0.15 cycles/mm."""
        frequencies = np.asarray(frequencies, dtype=np.float64)
        power = self.noise_power(frequencies) * _UNIT_FREQUENCY / self.noise_power(np.array(_UNIT_FREQUENCY))
        return np.sqrt(frequencies * power)


KERNELS: Final[dict[str, KernelSpec]] = {
    kernel.name: kernel
    for kernel in (
        KernelSpec(cutoff=0.34, order=3.5, rise=0.05, remainder=0.6, name="smooth"),
        KernelSpec(cutoff=0.43, order=4.5, rise=0.10, remainder=0.5, name="standard"),
        KernelSpec(cutoff=0.58, order=6.0, rise=0.25, remainder=0.35, name="sharp"),
    )
}
"""Soft-tissue kernels from smooth to sharp."""


def find_kernel(name: str) -> KernelSpec:
    """The kernel of this name.

    Raises:
        UsageError: no such kernel; the message lists the known ones.
    """
    kernel = KERNELS.get(name.strip().lower())
    if kernel is None:
        msg = f"unknown CT kernel {name!r}: expected auto, {', '.join(KERNELS)}"
        raise UsageError(msg)
    return kernel


def random_kernel(rng: np.random.Generator) -> KernelSpec:
    """A kernel drawn from the range between smooth and sharp, for training.

    Sharper kernels fall more steeply, rise later and keep less at low frequencies, as a ramp does.
    """
    sharpness = float(rng.uniform())
    return KernelSpec(
        cutoff=0.28 + 0.34 * sharpness,
        order=float(rng.uniform(1.8, 4.2)) + 2.5 * sharpness,
        rise=float(rng.uniform(0.04, 0.13)) + 0.15 * sharpness,
        remainder=float(np.exp(rng.uniform(np.log(0.3), np.log(2.0)))) * (1.0 - 0.5 * sharpness),
        name="random",
    )
