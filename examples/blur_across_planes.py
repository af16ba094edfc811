#!/usr/bin/env python3
"""What a blur across each plane before the network would be worth to PET, and what it would cost in uptake.

Usage: python examples/blur_across_planes.py [--seeds 1 2 ...] [--blur MM ...]

For each seed a whole body is made up without noise, as by `tat phantom`; the 96 slices in its middle are simulated at a
twelfth of the counts and restored three times: sliced axially, coronally and sagittally, after a Gaussian filter
(standard deviations in mm, --blur) along that plane's normal; the three are averaged. A blur of 0 is what
`tat restore` does. Printed are PSNR (dB), and the mean error of SUVpeak, SUVmax and SUVmean (%) in the hot regions: of
the simulated scan, of every blur, and of Gaussian filters in 3-D of 2, 3 and 4 mm.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tatcli import Restorer, simulate
from tatcli.inference import RestoreOptions
from tatcli.metrics import PROTOCOLS, evaluation_window, score_volume
from tatcli.metrics.uptake import HotRegion, hot_regions, uptake_errors
from tatcli.phantoms import whole_body_pet
from tatcli.tasks import TASKS
from tatcli.volumes import Geometry, Volume
from tatcli.volumes.slices import PLANES

PET = TASKS["pet-synthesis"]
SLICES = 96
REFERENCE_NOISE = 0.1
"""Coefficient of variation that a full-count scan of these bodies would have: it says how many counts there are."""
GAUSSIANS_MM = (2.0, 3.0, 4.0)


def middle_of(volume: Volume) -> Volume:
    """Its slices in the middle."""
    start = (volume.array.shape[0] - SLICES) // 2
    array = volume.array[start : start + SLICES].copy()
    return replace(volume, array=array, geometry=Geometry(volume.geometry.affine, array.shape))


def restored(restorer: Restorer, scan: Volume, blur: float) -> NDArray[np.float32]:
    """The mean of the three planes' restorations, each after a blur (mm) across it."""
    planes = []
    for normal, (axis, step) in enumerate(
        zip(PLANES[1:], scan.geometry.spacing, strict=True)
    ):  # the bodies lie axially
        blurred = ndimage.gaussian_filter1d(scan.array, blur / step, axis=normal) if blur else scan.array
        options = RestoreOptions(axis=axis, planes=1)
        planes.append(restorer(replace(scan, array=blurred), PET, options=options).array)
    return np.asarray(np.mean(planes, axis=0, dtype=np.float32))


def line(array: NDArray[np.float32], truth: Volume, regions: list[HotRegion]) -> str:
    """PSNR and the errors of uptake."""
    window = evaluation_window(PET, truth.array)
    found = score_volume(array, truth.array, task=PET, window=window, protocol=PROTOCOLS["paper"]).mean
    errors = uptake_errors(array, truth.array, regions, spacing=truth.geometry.spacing)
    maximum, peak, mean = np.mean([error.percent for error in errors], axis=0) if errors else (np.nan,) * 3
    psnr = np.nan if found is None else found.psnr
    return f"{psnr:.2f} dB; of {len(errors)} regions SUVpeak {peak:+.1f} %, SUVmax {maximum:+.1f}, SUVmean {mean:+.1f}"


def main() -> None:
    """Print a line for each body and filter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, metavar="N", nargs="*", default=(1, 2, 3, 4))
    parser.add_argument("--blur", type=float, metavar="MM", nargs="*", default=(0.0, 1.5, 2.2, 3.0))
    parser.add_argument("--weights", default="tat-small")
    arguments = parser.parse_args()
    restorer = Restorer(arguments.weights)
    for seed in arguments.seeds:
        truth = middle_of(whole_body_pet(seed))
        low = simulate(truth, PET, strength=PET.default_strength, seed=seed, reference_noise=REFERENCE_NOISE)
        regions = hot_regions(truth.array, spacing=truth.geometry.spacing)
        print(f"made-up body {seed}: degraded {line(low.array, truth, regions)}", flush=True)
        for blur in arguments.blur:
            found = line(restored(restorer, low, blur), truth, regions)
            print(f"  {restorer.card.name}, blur {blur:g} mm: {found}", flush=True)
        for sigma in GAUSSIANS_MM:
            steps = [sigma / step for step in truth.geometry.spacing]
            found = line(ndimage.gaussian_filter(low.array, steps), truth, regions)
            print(f"  Gaussian {sigma:g} mm in 3-D: {found}", flush=True)


if __name__ == "__main__":
    main()
