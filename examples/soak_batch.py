"""A batch under fire: a thousand small scans, and everything that goes wrong on a cluster, until all is restored.

Crops of real scans are degraded, and restored twice: undisturbed, and while processes are killed at random moments, the
disk is full, the output is read-only, and some scans are damaged, crash their reader, hang it, or kill the network's
process. In the end every good scan must be there once, with the bytes of the undisturbed run, and every bad one in
failures.csv. Needs root for the small disk (a tmpfs); without, that part is left out, and the result says so.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Self

import numpy as np

import tatcli
from tatcli.intensity import Units
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.reading import read_volume
from tatcli.volumes.volume import Volume
from tatcli.volumes.writing import write_volume

TASKS = {"ct": ("ct-denoise", 0.25), "pet": ("pet-synthesis", 12.0), "mri": ("mri-sr", 2.0)}
UNITS = {"ct": Units.HU, "pet": Units.SUVBW, "mri": Units.ARBITRARY}
SLICES = 2
FAULTS = """
import os, signal, sys, time

def strike(event, arguments):
    if event != "open" or isinstance(arguments[0], int):
        return
    name = os.path.basename(os.fspath(arguments[0]))
    if not isinstance(name, str) or not name.endswith(".nii.gz"):
        return
    if name.startswith("crash") and "tat-reader" in sys.orig_argv:
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(3600)  # the signal may go to another thread, which takes its time
    if name.startswith("hang") and "tat-reader" in sys.orig_argv:
        time.sleep(3600)
    if name.startswith("kill") and "tat-engine" in sys.orig_argv:
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("stuck") and "tat-engine" in sys.orig_argv:
        time.sleep(3600)

if {"tat-reader", "tat-engine"} & set(sys.orig_argv):
    sys.addaudithook(strike)
"""
"""Python runs it at start-up: what a broken decoder or the system does to a process that opens a scan of that name."""


def main() -> int:
    """Make the scans, run, compare; 0 if all held."""
    arguments = parsed()
    folder = arguments.folder
    folder.mkdir(parents=True)
    good = make_good(folder / "in", arguments)
    bad = make_bad(folder / "in", good, arguments.bad)
    (folder / "faults").mkdir()
    (folder / "faults" / "sitecustomize.py").write_text(FAULTS, encoding="utf-8")
    run = Runs(folder, arguments)
    started = time.monotonic()
    result: dict[str, object] = {"scans": len(good), "bad": len(bad), "version": tatcli.__version__}

    clean = run.until_end(write_table(folder / "good.csv", good), folder / "clean", watch_memory=True)
    result["clean"] = {"exit": clean.code, "seconds": clean.seconds, "memory": clean.memory}

    with SmallDisk(folder / "out", arguments.disk) as small:
        held = under_fire(run, (good, bad), small, result)
    result["seconds"] = round(time.monotonic() - started, 1)
    result["held"] = clean.code == 0 and held
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    return 0 if result["held"] else 1


def under_fire(
    run: Runs, scans: tuple[list[tuple[Path, str]], list[tuple[Path, str]]], small: SmallDisk, result: dict[str, object]
) -> bool:
    """Restore everything in spite of everything; whether all held that must."""
    (good, bad), folder, arguments = scans, run.folder, run.arguments
    dice = random.Random(arguments.seed)
    table, out = write_table(folder / "all.csv", [*good, *bad]), folder / "out"
    result["small disk"] = small.works
    if small.works:
        full = run.until_end(table, out)  # it fills up
        result["disk full"] = {"exit": full.code, "failed for space": failed_with(out, "No space left")}
        small.remount(f"size={arguments.disk}M,ro")
        read_only = run.until_end(table, out)
        result["read-only"] = {"exit": read_only.code, "last words": read_only.words[-200:]}
        small.remount("size=2G,rw")
    kills: Counter[str] = Counter()
    while sum(kills.values()) < arguments.kills and not run.killed(table, out, dice, kills):
        pass
    last = run.until_end(table, out)
    again = run.until_end(table, out)
    result["kills"] = dict(kills)
    result["last run"] = {"exit": last.code, "seconds": last.seconds}
    result |= compare(folder, good, bad, run.events)
    result["a further run restores"] = again.restored
    return all(
        [
            last.code == (6 if bad else 0),
            again.restored == 0,
            result["identical to the undisturbed run"] == result["outputs"] == len(good),
            result["restored more than once"] == 0,
            result["bad ones listed"] == len(bad),
            result["good ones listed"] == 0,
            result["left over"] == [],
        ]
    )


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder for scans and outputs")
    parser.add_argument("--data", type=Path, help="real scans in ct/, pet/ and mri/; default: made-up ones")
    parser.add_argument("--scans", type=int, default=1000, help="good scans")
    parser.add_argument("--bad", type=int, default=4, help="bad scans of each kind")
    parser.add_argument("--kills", type=int, default=12, help="processes that are killed at random moments")
    parser.add_argument("--disk", type=int, default=4, help="MiB of the small disk")
    parser.add_argument("--side", type=int, default=48, help="pixels along the side of a crop")
    parser.add_argument("--timeout", type=float, default=10.0, help="of the runs, seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--tat", nargs=argparse.REMAINDER, default=[], help="the rest: options of tat restore")
    return parser.parse_args()


# --- scans -----------------------------------------------------------------------------------------------------------


def make_good(folder: Path, arguments: argparse.Namespace) -> list[tuple[Path, str]]:
    """(crop, task): each of its own place in a degraded scan."""
    rng = np.random.default_rng(arguments.seed)
    sources = [degraded for kind in TASKS for degraded in degraded_scans(kind, arguments.data, rng)]
    made = []
    for index in range(arguments.scans):
        kind, volume = sources[index % len(sources)]
        path = folder / kind / f"{index:05d}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(crop(volume, arguments.side, rng), path)
        made.append((path, TASKS[kind][0]))
    return made


def degraded_scans(kind: str, data: Path | None, rng: np.random.Generator) -> list[tuple[str, Volume]]:
    """A few slices of every scan of a kind, degraded."""
    task, strength = TASKS[kind]
    if data is None:
        return [(kind, made_up(kind, rng))]
    found = []
    for path in sorted((data / kind).rglob("*.nii.gz")):
        volume = read_volume(path, units=UNITS[kind])
        count, rows, columns = volume.geometry.shape
        if volume.frames > 1 or count < SLICES or min(rows, columns) < 64:
            continue
        middle = volume.array[count // 2 - 1 : count // 2 - 1 + SLICES]
        slab = Volume(np.array(middle), Geometry(volume.geometry.affine, middle.shape), volume.units)
        found.append((kind, tatcli.simulate(slab, task, strength=strength, seed=int(rng.integers(2**31)))))
    return found


def made_up(kind: str, rng: np.random.Generator) -> Volume:
    """Noise in the task's units, where there are no real scans."""
    noise = rng.normal(0, 1, (SLICES, 128, 128)).astype(np.float32)
    values = {
        "ct": np.rint(noise * 40 + np.where(noise > 0, 40, -60)),
        "pet": np.abs(noise),
        "mri": np.abs(noise * 300),
    }
    affine = np.diag([0.8, 0.8, 4.0, 1.0])
    return Volume(values[kind].astype(np.float32), Geometry(affine, noise.shape), UNITS[kind])


def crop(volume: Volume, side: int, rng: np.random.Generator) -> Volume:
    """A square of all slices, not a constant one."""
    _, rows, columns = volume.array.shape
    height, width = min(side, rows), min(side, columns)
    while True:
        top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
        part = np.array(volume.array[:, top : top + height, left : left + width])
        if part.max() - part.min() > 0.02 * (volume.array.max() - volume.array.min()):
            return Volume(part, Geometry(volume.geometry.affine, part.shape), volume.units)


def make_bad(folder: Path, good: list[tuple[Path, str]], count: int) -> list[tuple[Path, str]]:
    """Scans that can't be restored: cut short, no image, not there, and such that crash, hang or kill a process."""
    made = []
    for index in range(count):
        source, task = good[index]
        data = source.read_bytes()
        contents = {
            "cut": data[: len(data) // 2],
            "text": b"not an image",
            "empty": b"",
            "gone": None,
            "crash": data,
            "hang": data if index == 0 else None,
            "kill": data,
        }
        for name, content in contents.items():
            path = folder / "bad" / f"{name}{index}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_bytes(content)
            made.append((path, task))
    return made


def write_table(path: Path, scans: list[tuple[Path, str]]) -> Path:
    """The manifest."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("path", "task"))
        table.writerows((scan.relative_to(path.parent), task) for scan, task in scans)
    return path


# --- runs ------------------------------------------------------------------------------------------------------------


class End:
    """How a run ended."""

    def __init__(self, code: int, seconds: float, words: str, memory: dict[str, object]) -> None:
        self.code, self.seconds, self.words, self.memory = code, round(seconds, 1), words, memory
        match = re.search(r"(\d+) of \d+ scans restored", words)
        self.restored = int(match[1]) if match else -1


class Runs:
    """Starts ``tat restore`` again and again."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.folder, self.arguments = folder, arguments
        self.events = folder / "events.jsonl"

    def start(self, table: Path, out: Path) -> subprocess.Popen[str]:
        """A run in a process of its own."""
        paths = [str(self.folder / "faults"), *filter(None, [os.environ.get("PYTHONPATH")])]
        events = self.events if out.name == "out" else self.folder / "clean.jsonl"
        command = [sys.executable, "-c", "from tatcli.cli.app import main; main()", "restore", str(table)]
        command += ["-o", str(out), "--events", str(events), "--failures", str(self.folder / f"{out.name}.csv")]
        command += ["--timeout", str(self.arguments.timeout), *self.arguments.tat]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    def until_end(self, table: Path, out: Path, *, watch_memory: bool = False) -> End:
        """A run that nobody disturbs."""
        begin = time.monotonic()
        process = self.start(table, out)
        samples: dict[str, list[float]] = {"main": [], "tat-engine": [], "tat-reader": []}
        if watch_memory:
            while process.poll() is None:
                time.sleep(0.5)
                for name, pid in [("main", process.pid), *children(process.pid)]:
                    size = resident(pid)
                    if size:
                        samples[name].append(size)
        _, words = process.communicate()
        memory = {name: first_and_last(sizes) for name, sizes in samples.items() if len(sizes) > 8}
        return End(process.returncode, time.monotonic() - begin, words, memory)

    def killed(self, table: Path, out: Path, dice: random.Random, kills: Counter[str]) -> bool:
        """A run of which processes are killed until it is the main one's turn; whether it ended before."""
        process = self.start(table, out)
        while process.poll() is None:
            time.sleep(dice.uniform(1.0, 8.0))
            victims = [("main", process.pid), *children(process.pid)]
            name, pid = dice.choice(victims)
            if process.poll() is None:
                os.kill(pid, signal.SIGKILL)
                kills[name] += 1
        process.communicate()
        return process.returncode >= 0


def children(pid: int) -> list[tuple[str, int]]:
    """(role, number) of a run's child processes."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if entry.name.isdigit() and int(status[1]) == pid:
            found += [(role, int(entry.name)) for role in ("tat-engine", "tat-reader") if role.encode() in words]
    return found


def resident(pid: int) -> float:
    """MiB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


def first_and_last(sizes: list[float]) -> dict[str, float]:
    """Medians of the second and the last quarter of the run, MiB: the first one is starting."""
    quarter = len(sizes) // 4
    second, last = sizes[quarter : 2 * quarter], sizes[-quarter:]
    return {"second quarter": round(statistics.median(second), 1), "last quarter": round(statistics.median(last), 1)}


class SmallDisk:
    """A tmpfs of a few MiB at the outputs' folder."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}M", "tmpfs", str(folder)]
        try:
            self.works = subprocess.run(command, check=False, capture_output=True).returncode == 0
        except FileNotFoundError:
            self.works = False

    def remount(self, options: str) -> None:
        """With another size, or read-only."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.works:  # with all that is on it
            subprocess.run(["umount", "-l", str(self.folder)], check=False)


# --- what came out ---------------------------------------------------------------------------------------------------


def failed_with(out: Path, words: str) -> int:
    """How many scans failed for a reason."""
    path = out.parent / f"{out.name}.csv"
    if not path.exists():
        return 0
    with path.open(encoding="utf-8") as stream:
        return sum(words in row["reason"] for row in csv.DictReader(stream))


def compare(folder: Path, good: list[tuple[Path, str]], bad: list[tuple[Path, str]], log: Path) -> dict[str, object]:
    """The disturbed runs' outputs against the undisturbed one's, and what was told of them."""
    clean, out = hashes(folder / "clean"), hashes(folder / "out")
    done: Counter[str] = Counter()
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # cut short by a kill
            continue
        if event["event"] == "done":
            done[event["scan"]] += 1
    with (folder / "out.csv").open(encoding="utf-8") as stream:
        listed = {row["path"] for row in csv.DictReader(stream)}
    left = [str(path.relative_to(folder)) for path in (folder / "out").rglob("*") if ".tat-work" in path.parts]
    return {
        "identical to the undisturbed run": sum(clean[name] == out.get(name) for name in clean),
        "outputs": len(out),
        "restored more than once": sum(count > 1 for count in done.values()),
        "bad ones listed": len(listed & {str(path.absolute()) for path, _ in bad}),
        "good ones listed": len(listed & {str(path.absolute()) for path, _ in good}),
        "left over": left,
    }


def hashes(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of every output."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.nii.gz")
        if ".tat-work" not in path.parts
    }


if __name__ == "__main__":
    sys.exit(main())
