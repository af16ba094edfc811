"""The restorer: a network loaded once, applied to any number of scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tatcli.errors import DeviceError
from tatcli.inference.coarse_grid import refined
from tatcli.inference.cuda_graphs import GraphedNetwork
from tatcli.inference.gpus import check_it_computes
from tatcli.inference.guards import check_scan
from tatcli.inference.options import RestoreOptions
from tatcli.inference.passes import Pass, Passes, first_pass
from tatcli.inference.restoration import Restoration
from tatcli.inference.runtime import Runtime, check_against_cpu, is_out_of_memory, prepare_runtime
from tatcli.inference.value_summary import ValueSummary
from tatcli.intensity import Window
from tatcli.model.weights import DEFAULT_WEIGHTS, WeightsCard, load_weights
from tatcli.tasks import Task, find_task
from tatcli.volumes.padding import put_back, without_padding
from tatcli.volumes.slices import in_plane, slices_along, through_plane_axis
from tatcli.volumes.varying_frames import telling_slices
from tatcli.volumes.volume import Volume, require_volume

if TYPE_CHECKING:
    from tatcli.inference.data_consistency import KnownLines

__all__ = ["Restorer"]


class Restorer:
    """Restores scans with one set of weights on one device.

    The network works on the scan clipped to its range, and what it changes there is added to the scan itself:
    out = in + (net(clip(in)) - clip(in)), in physical units. So voxels outside the range (metal, a bladder) survive,
    and a voxel that the network leaves alone keeps its exact value, as does padding. The network's output counts as no
    less than its range's lower end: it makes no uptake, and no magnitude, negative.

    Args:
        weights: an installed name or a ``.safetensors`` file with its card beside it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        threads: of the CPU, for the whole process; None: as PyTorch has it.
        compiled: through PyTorch's compiler, on a CUDA device.

    Attributes:
        executor: calls the network; None: whoever restores does. Threads that take turns restoring on a CPU should
            share one of a single thread: OpenMP keeps a team for every thread that computes, and teams, even idle
            ones, cost each other 5 to 15 % of the time (of two on two cores).

    Raises:
        WeightsError: missing, damaged, a pickle, or of another architecture.
        DeviceError: the device is unknown or absent, or doesn't compute in this precision.
    """

    def __init__(
        self,
        weights: str | Path = DEFAULT_WEIGHTS,
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        compiled: bool = False,
    ) -> None:
        runtime = prepare_runtime(device=device, precision=precision, threads=threads)
        network, card = load_weights(weights)
        self._hold(network, card, runtime, compiled=compiled)

    @classmethod
    def from_network(
        cls,
        network: nn.Module,
        card: WeightsCard,
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """A restorer around a network in memory, (batch, 1, rows, columns) -> the same shape, any size.

        Raises:
            DeviceError: as for the constructor.
        """
        self = cls.__new__(cls)
        self._hold(network, card, prepare_runtime(device=device, precision=precision, threads=threads))
        return self

    executor: Executor | None = None

    def _hold(self, network: nn.Module, card: WeightsCard, runtime: Runtime, *, compiled: bool = False) -> None:
        self.card = card
        self.runtime = runtime
        network = network.eval()
        check_it_computes(runtime.device)
        if runtime.device.type == "mps":
            check_against_cpu(network, runtime.device)
        network = _moved(network, runtime)
        if compiled:
            from tatcli.inference.compilation import CompiledNetwork  # PyTorch's compiler takes a second to import

            network = CompiledNetwork.for_device(network, runtime.device)
        self.network = GraphedNetwork(network) if runtime.device.type == "cuda" else network

    def __call__(
        self,
        volume: Volume,
        task: Task | str,
        *,
        options: RestoreOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Volume:
        """Restore a scan; each frame of a dynamic one by itself.

        Args:
            volume: in the task's units, or in unknown ones that the values fit.
            task: a task, its name or an alias.
            options: how; default: whole slices along the coarsest axis.
            progress: is called with (slices done, slices in all), over all planes.

        Returns:
            The same grid (a finer one with ``scale``) and units. NaN and infinite voxels are where they were. What was
            odd is added to ``provenance.warnings``.

        Raises:
            TaskMismatchError, UnitsError, VolumeReadError: the task can't take this scan.
            UsageError: no volume, an unknown task, options of mri-sr for another task, or measured k-space asked for
                that the scan doesn't show.
            WeightsError: the weights are not trained for the task.
            DeviceError: out of memory even with the smallest tiles.
        """
        require_volume(volume)
        task = find_task(task) if isinstance(task, str) else task
        options = options or RestoreOptions()
        rule = self.card.intensity_rule(task)
        summary = check_scan(
            volume, task, trust_values=not options.check_values, ignore_modality=options.ignore_modality
        )
        axis = through_plane_axis(volume.geometry, options.axis)
        axes, puts_back = options.axes(task, volume.geometry), options.puts_back(task)
        source, (volume, hidden) = volume, without_padding(volume, rule)
        volume = refined(volume, task, scale=options.scale, axis=axis)
        known = _measured(volume, axis, options) if puts_back else None

        windows = [rule.window_for(frame) for frame in volume.iter_frames()]
        slices = [volume.frames * volume.geometry.shape[axis] for axis in axes]
        told = _counters(progress, sum(slices), len(axes))
        restorations = [
            self.begin(
                summary,
                windows,
                slices=slices[number],
                settings=first_pass(options, *in_plane(volume.geometry.shape, axis), device=self.runtime.device),
                known=known,
                progress=told[number],
            )
            for number, axis in enumerate(axes)
        ]
        result = np.empty(volume.array.shape, dtype=np.float32)
        for index, (frame, target) in enumerate(
            zip(volume.iter_frames(), result.reshape(-1, *volume.geometry.shape), strict=True)
        ):
            _restore(frame, target, list(zip(axes, restorations, strict=True)), index)
        put_back(result, source, hidden)
        planes = f" in {len(axes)} planes" if len(axes) > 1 else ""
        return _finished(
            volume,
            result,
            steps=(self.step(task) + planes + options.told, *restorations[0].steps),
            warnings=tuple(dict.fromkeys(warning for found in restorations for warning in found.warnings)),
        )

    def begin(
        self,
        summary: ValueSummary,
        windows: Sequence[Window],
        *,
        slices: int,
        settings: Pass,
        known: KnownLines | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Restoration:
        """Begin a scan that comes in pieces; the caller has checked it (:mod:`tatcli.inference.guards`).

        Args:
            summary: of its values.
            windows: the network's range for each frame, by the card's rule.
            slices: in all frames.
            settings: batch and tiles.
            known: lines of k-space that are put back after the network, unless they were altered; None: none.
            progress: is called with (slices done, slices in all).
        """
        passes = Passes(self.network, self.runtime, settings, executor=self.executor)
        return Restoration(passes, windows, summary, slices=slices, known=known, progress=progress)

    def step(self, task: Task) -> str:
        """What was done to a scan, for its history."""
        weights = f"{self.card.name} {self.card.sha256[:12]}".rstrip()
        return f"restored: {task.name}, weights {weights}, {self.runtime.precision} on {self.runtime.device}"


def _moved(network: nn.Module, runtime: Runtime) -> nn.Module:
    """The network on the runtime's device.

    Raises:
        DeviceError: the device's memory has no room for it.
    """
    try:
        return network.to(runtime.device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    msg = f"{runtime.device_name}: out of memory before the network was there; wait for what fills it"
    raise DeviceError(msg + ", or try another --device")


def _measured(volume: Volume, axis: int, options: RestoreOptions) -> KnownLines | None:
    from tatcli.inference.data_consistency import lines_to_put_back  # its Fourier transforms take long to load

    return lines_to_put_back(telling_slices(volume, axis), options)


def _restore(
    frame: NDArray[np.float32], target: NDArray[np.float32], planes: list[tuple[int, Restoration]], index: int
) -> None:
    """Restore a frame along every axis, and take the mean where any of them changes it."""
    if len(planes) == 1:
        ((axis, restoration),) = planes
        restoration.restore(slices_along(frame, axis), slices_along(target, axis), frame=index)
        return
    total, changed = np.zeros(frame.shape, dtype=np.float32), np.zeros(frame.shape, dtype=np.bool_)
    for axis, restoration in planes:
        restoration.restore(slices_along(frame, axis), slices_along(target, axis), frame=index)
        total += target
        changed |= target != frame
    target[:] = frame
    # Where nothing changes, not even the sign of a zero does; NaN and infinite voxels are as they were.
    np.divide(total, np.float32(len(planes)), out=target, where=changed & np.isfinite(frame))


def _counters(
    progress: Callable[[int, int], None] | None, total: int, count: int
) -> list[Callable[[int, int], None] | None]:
    """For each of several restorations, a progress that tells of what all of them have done."""
    done = [0] * count

    def counter(number: int) -> Callable[[int, int], None] | None:
        def tell(slices: int, _: int) -> None:
            done[number] = slices
            if progress is not None:
                progress(sum(done), total)

        return None if progress is None else tell

    return [counter(number) for number in range(count)]


def _finished(volume: Volume, array: NDArray[np.float32], *, steps: Sequence[str], warnings: Sequence[str]) -> Volume:
    restored = volume.with_array(array, step=steps[0])
    provenance = restored.provenance
    history = (*provenance.steps, *steps[1:])
    return replace(restored, provenance=replace(provenance, steps=history, warnings=(*provenance.warnings, *warnings)))
