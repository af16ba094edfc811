#!/usr/bin/env python3
"""What restoring in several planes is worth to PET, against filters that see as many slices.

Usage: python examples/planes.py ROOT [--bm3d LEVEL...]

ROOT holds scans as for `tat evaluate --data ROOT`; the PET scans of its split val are simulated at a twelfth of the
counts. Printed is the mean PSNR (dB) of six slices of each scan by the network in one, two and three planes; and, with
its parameter chosen on these slices themselves, by a Gaussian filter within slices and in 3-D; with --bm3d by BM3D of
those noise levels (in the slices' own) within slices and averaged over the three planes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tatcli import Restorer
from tatcli.baselines import BASELINES, SliceContext
from tatcli.inference import RestoreOptions
from tatcli.metrics import PROTOCOLS, score_volume
from tatcli.tasks import TASKS
from tatcli.training.pairs import find_pairs
from tatcli.volumes.slices import slices_along
from tatcli.workflows.evaluation.degraded import DegradedScan, degrade, mid_positions

PET = TASKS["pet-synthesis"]
SIGMAS_MM = np.arange(1.5, 7.1, 0.5)


class Trial:
    """One scan and what becomes of it.

    Args:
        scan: whose reference is the truth.
    """

    def __init__(self, scan: DegradedScan) -> None:
        self._scan, self._array = scan, scan.lq.array
        self._chosen = list(mid_positions(scan.count, 6))
        self._truth = scan.slices(self._chosen)[1]

    def psnr(self, array: NDArray[np.float32] | None = None) -> float:
        """Of a restored volume, or of the degraded one."""
        stack = slices_along(self._array if array is None else array, self._scan.axis)[self._chosen]
        found = score_volume(stack, self._truth, task=PET, window=self._scan.window, protocol=PROTOCOLS["paper"]).mean
        return float("nan") if found is None else found.psnr

    def network(self, restorer: Restorer, planes: int) -> float:
        """By the network in so many planes."""
        options = RestoreOptions(planes=planes, check_values=False)
        return self.psnr(restorer(self._scan.lq, PET, options=options).array)

    def gaussian(self, *, within: bool) -> float:
        """By the best Gaussian filter, within slices or in 3-D."""
        spacing = np.array(self._scan.hq.geometry.spacing)
        along = (np.arange(3) != self._scan.axis) | (not within)
        return max(self.psnr(ndimage.gaussian_filter(self._array, along * mm / spacing)) for mm in SIGMAS_MM)

    def block_matching(self, level: float, axes: tuple[int, ...]) -> float:
        """By BM3D of the slices along each axis, averaged."""
        method, out = BASELINES["bm3d"], np.zeros_like(self._array)
        for axis in axes:
            for index, slice_ in enumerate(slices_along(self._array, axis)):
                context = SliceContext.of(slice_, window=self._scan.window)
                filtered = method(slice_, level, context=context) if context.noise > 0 else slice_
                slices_along(out, axis)[index] += filtered / len(axes)
        return self.psnr(out)


def main() -> None:
    """Print a line for each method and kind of noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--weights", default="tat-small")
    parser.add_argument("--bm3d", type=float, metavar="LEVEL", nargs="*", default=())
    arguments = parser.parse_args()
    restorer = Restorer(arguments.weights, precision="fp32")
    for pair in find_pairs(arguments.root, PET, "val")[0]:
        scan = degrade(pair, PET, rule=restorer.card.intensity_rule(PET), strength=PET.default_strength, seed=0)
        if scan is None:  # constant
            continue
        trial = Trial(scan)
        print(f"{pair.name}: degraded {trial.psnr():.2f}", flush=True)
        for planes in (1, 2, 3):
            print(f"  {restorer.card.name}, planes {planes}: {trial.network(restorer, planes):.2f}", flush=True)
        for name, within in (("within slices", True), ("in 3-D", False)):
            print(f"  Gaussian {name}: {trial.gaussian(within=within):.2f}", flush=True)
        for level in arguments.bm3d:
            for name, axes in (("within slices", (scan.axis,)), ("in three planes", (0, 1, 2))):
                print(f"  BM3D {level:g} {name}: {trial.block_matching(level, axes):.2f}", flush=True)


if __name__ == "__main__":
    main()
