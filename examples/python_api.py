#!/usr/bin/env python3
"""tat from Python: degrade a scan, restore it, write and score both.

Usage: python examples/python_api.py SCAN FOLDER [--task TASK]
       (without a scan of your own: first python examples/make_phantom.py phantom.nii.gz)
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tatcli import TASKS, Restorer, evaluate, read_volume, simulate, write_volume
from tatcli.workflows.evaluate import EvaluateConfig


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description="Degrade a scan, restore it, write and score both.")
    parser.add_argument("scan", type=Path, help="of high quality")
    parser.add_argument("folder", type=Path, help="for the results; is made if absent")
    parser.add_argument("--task", default="ct-denoise", choices=TASKS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)

    reference = read_volume(arguments.scan, units=TASKS[arguments.task].units)  # NIfTI doesn't say; DICOM does
    low_quality = simulate(reference, arguments.task, seed=1)  # at the paper's strength
    restorer = Restorer("tat-small", device="auto")  # loads the weights once, restores any number of scans
    restored = restorer(low_quality, arguments.task)

    print("orientation", restored.geometry.orientation, "spacing (mm)", restored.geometry.spacing)
    print("history:", *restored.provenance.steps, sep="\n  ")
    before = write_volume(low_quality, arguments.folder / "low_quality.nii.gz", overwrite=True)
    after = write_volume(restored, arguments.folder / "restored.nii.gz", overwrite=True)

    config = EvaluateConfig(restored=after, input=before, reference=arguments.scan, tasks=(arguments.task,))
    for row in evaluate(config).tasks[0].methods:
        print(f"{row.method:9s} PSNR {row.score.psnr:.2f} dB, SSIM {row.score.ssim:.4f}, RMSE {row.score.rmse:.2f}")


if __name__ == "__main__":
    main()
