#!/usr/bin/env python3
"""What the spread of restorations and data consistency are worth, on scans whose truth is known.

Usage: python examples/evidence.py ROOT

ROOT holds scans as for `tat evaluate --data ROOT`; those of its split val are degraded at the default strengths. Of
each one's middle slice: the correlation of spread and true error inside the body, and the ratio of their root mean
squares. Of two slices of each MRI scan, a third of the way from either end: the gain in PSNR (dB) by putting the
measured k-space back, with the factor given and with the lines found in the spectrum of this one slice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tatcli import Restorer
from tatcli.inference import RestoreOptions
from tatcli.inference.uncertainty import restoration_spread
from tatcli.metrics import PROTOCOLS, score_volume
from tatcli.metrics.body import body_mask
from tatcli.tasks import Task
from tatcli.training import find_scans
from tatcli.workflows.evaluation.dataset import tasks_of
from tatcli.workflows.evaluation.degraded import DegradedScan, degrade


def spread_beside_error(restorer: Restorer, scan: DegradedScan, task: Task) -> str:
    """One line on the scan's middle slice."""
    middle = [scan.count // 2]
    lq = scan.part(middle)
    truth = scan.slices(middle)[1].reshape(lq.array.shape)
    body = body_mask(truth, task)
    error = np.abs(restorer(lq, task).array - truth)[body]
    spread = restoration_spread(restorer, lq, task).array[body]
    ratio = np.sqrt(np.mean(np.square(error)) / np.mean(np.square(spread)))
    return f"spread and error: Pearson {np.corrcoef(error, spread)[0, 1]:.2f}, the error {ratio:.1f} times as large"


def consistency_gain(restorer: Restorer, scan: DegradedScan, task: Task, index: int) -> str:
    """One line on one slice."""
    lq = scan.part([index])
    truth = scan.slices([index])[1].reshape(lq.array.shape)

    def psnr(options: RestoreOptions) -> float:
        arrays = (np.moveaxis(array, scan.axis, 0) for array in (restorer(lq, task, options=options).array, truth))
        found = score_volume(*arrays, task=task, window=scan.window, protocol=PROTOCOLS["paper"]).mean
        return float("nan") if found is None else found.psnr  # of a constant slice there is nothing to score

    before = psnr(RestoreOptions(data_consistency=False))
    given, found = (
        psnr(options) - before for options in (RestoreOptions(kspace_factor=task.default_strength), RestoreOptions())
    )
    return f"data consistency, slice {index}: {given:+.3f} dB with the factor given, {found:+.3f} with the lines found"


def main() -> None:
    """Print the lines of every scan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--weights", default="tat-small")
    arguments = parser.parse_args()
    restorer = Restorer(arguments.weights)
    for task in tasks_of(arguments.root, (), "val"):
        for pair in find_scans(arguments.root, task, "val"):
            rule = restorer.card.intensity_rule(task)
            scan = degrade(pair, task, rule=rule, strength=task.default_strength, seed=0)
            if scan is None:  # constant
                continue
            print(pair.name, spread_beside_error(restorer, scan, task), flush=True)
            if task.modality == "MR":
                for index in (scan.count // 3, 2 * scan.count // 3):
                    print(pair.name, consistency_gain(restorer, scan, task, index), flush=True)


if __name__ == "__main__":
    main()
