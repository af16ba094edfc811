"""One case of the speed benchmark: a network, a size, a batch, a precision, in a process of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Case", "Measured", "measure_case"]

_SHORTEST: Final = 0.2
"""A repeat takes at least so many seconds: as many passes as that needs."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured.

    Attributes:
        weights: a name or path.
        size: side of the square slices, pixels.
        batch: slices in one pass.
        device, precision, threads: of the machine.
        repeats: how often it is timed.
        launched: when the process was started, seconds since the epoch.
        compiled: through PyTorch's compiler.
    """

    weights: str
    size: int
    batch: int
    device: str
    precision: str
    threads: int | None
    repeats: int
    launched: float
    compiled: bool = False


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found.

    Attributes:
        config: of the network, in JSON form.
        weights: their name and hash.
        device, precision, threads: as settled.
        seconds: for one slice, of each repeat.
        startup: seconds from the start of the process, for importing, for the weights, for the first pass.
        peak_rss_bytes: of the process, from its start to the end of the repeats.
        peak_device_bytes: of tensors on a CUDA device.
        breakdown: fraction of a pass, by kind of operation.
    """

    config: dict[str, Any]
    weights: str
    device: str
    precision: str
    threads: int
    seconds: tuple[float, ...]
    startup: dict[str, float]
    peak_rss_bytes: int | None
    peak_device_bytes: int | None
    breakdown: dict[str, float]


def measure_case(case: Case) -> Measured:
    """Measure in this process, which should be fresh: its start-up and its peak of memory are part of the result.

    Raises:
        WeightsError, DeviceError: see :class:`~tatcli.inference.restorer.Restorer`.
    """
    import numpy as np

    from tatcli.inference.cuda_graphs import AFTER, GraphedNetwork
    from tatcli.inference.passes import Pass, Passes
    from tatcli.inference.restorer import Restorer
    from tatcli.inference.runtime import peak_memory

    imported = time.time()
    restorer = Restorer(
        case.weights, device=case.device, precision=case.precision, threads=case.threads, compiled=case.compiled
    )
    loaded = time.time()
    shape = (case.batch, case.size, case.size)
    slices = np.random.default_rng(0).random(shape, dtype=np.float32)
    passes = Passes(restorer.network, restorer.runtime, Pass(case.batch), _refuse_to_shrink)
    passes.corrections(slices)
    first = time.time()

    _seconds(passes, slices, AFTER if restorer.runtime.device.type == "cuda" else 1)  # a graph is recorded by then
    count = max(1, round(_SHORTEST / _seconds(passes, slices, 1)))
    seconds = tuple(_seconds(passes, slices, count) / (count * case.batch) for _ in range(case.repeats))
    resident, on_device = peak_memory(restorer.runtime.device)

    from tatcli.workflows.benchmark.breakdown import measure_breakdown

    if isinstance(restorer.network, GraphedNetwork):  # in a replay nobody sees which operation a kernel is of
        passes = Passes(restorer.network.network, restorer.runtime, Pass(case.batch), _refuse_to_shrink)
    return Measured(
        config=restorer.card.config.to_dict(),
        weights=f"{restorer.card.name} {restorer.card.sha256[:12]}",
        device=restorer.runtime.device_name,
        precision=restorer.runtime.precision,
        threads=restorer.runtime.threads,
        seconds=seconds,
        startup={"import": imported - case.launched, "weights": loaded - imported, "first_slice": first - loaded},
        peak_rss_bytes=resident,
        peak_device_bytes=on_device,
        breakdown=measure_breakdown(lambda: passes.corrections(slices), restorer.runtime),
    )


def _seconds(passes: Any, slices: Any, count: int) -> float:
    """Wall time of so many passes; each ends with the correction in the CPU's memory."""
    start = time.perf_counter()
    for _ in range(count):
        passes.corrections(slices)
    return time.perf_counter() - start


def _refuse_to_shrink(message: str) -> None:
    """A case that doesn't fit is no result: with less at a time it would be another case."""
    from tatcli.errors import DeviceError

    msg = f"tat benchmark: {message}; measure a smaller --batch or --sizes"
    raise DeviceError(msg)
