"""Slices per second of a batch beside those of the network alone, both on this machine in one go.

Made-up CTs are restored by tat restore. What starting costs (Python, PyTorch, weights) is left out: the clock runs from
the end of the first scan (with --cluster local:N, of the first N: --skip N) to that of the last one. Before and
after, the network alone is timed on the same slices. Processor time is given as well: on a machine that others use, it
says more than the clock.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path


def main() -> None:
    """Make scans, time the network, the batch, and the network again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="side of the slices")
    parser.add_argument("--slices", type=int, default=50, help="of each scan")
    parser.add_argument("--scans", type=int, default=4)
    parser.add_argument("--skip", type=int, default=1, help="scans before the clock starts")
    parser.add_argument("--alone", type=int, default=8, help="slices that the network alone is timed on, twice")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--tat", nargs=argparse.REMAINDER, default=[], help="the rest: options of tat restore")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_scans(place / "in", arguments)
        before = network_alone(place / "in" / "0.nii.gz", arguments)
        batch = whole_batch(place, arguments)
        after = network_alone(place / "in" / "0.nii.gz", arguments)
    wall, processor = (sum(pair) / 2 for pair in zip(before, after, strict=True))
    slices = (arguments.scans - arguments.skip) * arguments.slices
    result = {
        "slices": slices,
        "network alone, s a slice": {"wall": round(wall, 4), "processor": round(processor, 4)},
        "batch, s a slice": {key: round(value / slices, 4) for key, value in batch.items()},
        "batch over network alone, slices/s": {
            "wall": round(wall * slices / batch["wall"], 3),
            "processor": round(processor * slices / batch["processor"], 3),
        },
    }
    print(json.dumps(result, indent=2))


def make_scans(folder: Path, arguments: argparse.Namespace) -> None:
    """The same made-up CT, so many times."""
    from tatcli.workflows.benchmark.volume import make_scan

    folder.mkdir()
    make_scan(folder / "0.nii.gz", slices=arguments.slices, size=arguments.size)
    for index in range(1, arguments.scans):
        (folder / f"{index}.nii.gz").write_bytes((folder / "0.nii.gz").read_bytes())


def network_alone(scan: Path, arguments: argparse.Namespace) -> tuple[float, float]:
    """(wall, processor) seconds a slice, in a process of its own."""
    code = f"""
import sys, time
from tatcli.inference.passes import Pass, Passes
from tatcli.inference.restorer import Restorer
from tatcli.intensity import Window
from tatcli.volumes import read_volume
restorer = Restorer(precision={arguments.precision!r})
passes = Passes(restorer.network, restorer.runtime, Pass(1), print)
window = Window(-1024.0, 3071.0)
slices = window.normalise(window.clip(read_volume({str(scan)!r}).array))
passes.corrections(slices[:1])
wall, processor = time.perf_counter(), time.process_time()
for index in range({arguments.alone}):
    passes.corrections(slices[index % len(slices)][None])
print((time.perf_counter() - wall) / {arguments.alone}, (time.process_time() - processor) / {arguments.alone})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wall, processor = map(float, done.stdout.split())
    return wall, processor


def whole_batch(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds from the first scan's beginning to the last one's end; of the processor, all processes together."""
    events = folder / "events.jsonl"
    command = [sys.executable, "-c", "from tatcli.cli.app import main; main()", "restore", str(folder / "in")]
    command += ["-o", str(folder / "out"), "--task", "ct-denoise", "--events", str(events)]
    command += ["--precision", arguments.precision, *arguments.tat]
    process = subprocess.Popen(command)
    start = last = 0.0
    while process.poll() is None:
        time.sleep(0.25)  # looking costs time, too
        done = len(ends(events))
        if not start and done >= arguments.skip:
            start = processor_time(process.pid)
        if not last and done == arguments.scans:
            last = processor_time(process.pid)
    if process.returncode:
        sys.exit(f"tat restore ended with {process.returncode}")
    moments = ends(events)
    return {"wall": (moments[-1] - moments[arguments.skip - 1]).total_seconds(), "processor": last - start}


def ends(events: Path) -> list[datetime]:
    """When scans were done."""
    lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
    return [
        datetime.fromisoformat(json.loads(line)["time"])
        for line in lines
        if '"event": "done"' in line and line[-1] == "}"
    ]


def processor_time(pid: int) -> float:
    """Seconds that a process and all below it have used."""
    found: dict[int, tuple[int, float]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            found[int(entry.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / 100)
    family = {pid}
    while True:
        more = {child for child, (parent, _) in found.items() if parent in family} - family
        if not more:
            break
        family |= more
    return sum(found[member][1] for member in family if member in found)


if __name__ == "__main__":
    main()
