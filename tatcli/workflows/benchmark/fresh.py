"""Measurements in a fresh process, so that one doesn't see the memory, caches and settings of another.

Run as a module, this is such a process: it reads a job (JSON) and writes what was measured (JSON).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tatcli
from tatcli import errors
from tatcli.errors import DeviceError, TatError

__all__ = ["answer", "measure_afresh"]


def measure_afresh(kind: str, **job: Any) -> dict[str, Any]:
    """Start a process for one job and wait for its result.

    Args:
        kind: ``case`` (fields of :class:`~tatcli.workflows.benchmark.case.Case`), ``machine`` (``device``, ``threads``,
            ``precisions``) or ``volume`` (parameters of
            :func:`~tatcli.workflows.benchmark.scan_case.measure_scan`).
        job: its fields.

    Raises:
        TatError: what the process raised.
        DeviceError: it was killed, as happens when memory runs out.
    """
    with tempfile.TemporaryDirectory(prefix="tat-benchmark-") as folder:
        asked, answered = Path(folder) / "job.json", Path(folder) / "result.json"
        asked.write_text(json.dumps({"kind": kind, "launched": time.time(), **job}), encoding="utf-8")
        package = str(Path(tatcli.__file__).resolve().parents[1])
        search = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        done = subprocess.run(  # noqa: S603 - this very interpreter, with files made above
            [sys.executable, "-m", __name__, str(asked), str(answered)],
            env=os.environ | {"PYTHONPATH": search},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not answered.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            msg = f"tat benchmark: expected a measurement, got a process that ended with {done.returncode} ({last})"
            raise DeviceError(msg)
        result: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
    if "error" in result:
        raise getattr(errors, result["error"])(result["message"])
    return result


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """What a job asks for, measured in this process.

    Args:
        job: ``kind``, ``launched`` and the job's fields.

    Raises:
        TatError: it can't be measured.
    """
    kind, launched = job.pop("kind"), job.pop("launched")
    if kind == "case":
        from tatcli.workflows.benchmark.case import Case, measure_case

        return asdict(measure_case(Case(launched=launched, **job)))
    if kind == "volume":
        from tatcli.workflows.benchmark.scan_case import measure_scan

        return asdict(measure_scan(Path(job.pop("scan")), Path(job.pop("one")), **job))
    return _machine(**job)


def _machine(device: str, threads: int | None, precisions: list[str]) -> dict[str, Any]:
    from tatcli.inference.gpus import check_it_computes
    from tatcli.inference.runtime import prepare_runtime
    from tatcli.workflows.benchmark.machine import measure_copy_rate, measure_peak, this_machine

    runtimes = [prepare_runtime(device=device, precision=precision, threads=threads) for precision in precisions]
    check_it_computes(runtimes[0].device)
    return {
        "machine": asdict(this_machine(runtimes[0])),
        "copy_bytes_per_s": measure_copy_rate(runtimes[0]),
        "peaks": {runtime.precision: asdict(measure_peak(runtime)) for runtime in runtimes},
    }


def _main() -> None:
    asked, answered = map(Path, sys.argv[1:])
    try:
        result = answer(json.loads(asked.read_text(encoding="utf-8")))
    except TatError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    answered.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    _main()
