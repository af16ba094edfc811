"""The network under evaluation: a function that restores chosen slices with the whole scan's intensity range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tatcli.inference.options import RestoreOptions
from tatcli.intensity import FixedRange

if TYPE_CHECKING:
    from tatcli.inference.restorer import Restorer
    from tatcli.intensity import IntensityRule, Window
    from tatcli.tasks import Task
    from tatcli.volumes.geometry import Geometry
    from tatcli.volumes.volume import Volume

__all__ = ["EvaluatedNetwork", "load_comparison", "load_network", "network_of"]


@dataclass(frozen=True)
class EvaluatedNetwork:
    """What is evaluated beside the classical baselines.

    Attributes:
        name: of its row in the table.
        restore: (LQ volume, task, network range) -> restored volume of the same grid. The range is that of the whole LQ
            scan, of which the volume may be a part.
        rule: task -> its intensity rule; raises WeightsError where the weights are not trained for the task.
        identity: name, SHA-256, device and precision, for the report.
        takes_whole: whether the volume has to be the whole scan of this task and grid, as planes cross its slices.
    """

    name: str
    restore: Callable[[Volume, Task, Window], Volume]
    rule: Callable[[Task], IntensityRule] = lambda task: task.intensity
    identity: Mapping[str, str] = field(default_factory=dict)
    takes_whole: Callable[[Task, Geometry], bool] = lambda *_: False


def load_network(
    weights: str | None,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    options: RestoreOptions | None = None,
) -> EvaluatedNetwork:
    """The released or given weights, as ``tat restore`` would use them with these options.

    Raises:
        WeightsError: the weights are missing, damaged or unsafe.
        DeviceError: the device is unknown or absent.
    """
    from tatcli.inference.restorer import Restorer
    from tatcli.model.weights import DEFAULT_WEIGHTS

    restorer = Restorer(weights or DEFAULT_WEIGHTS, device=device, precision=precision, threads=threads)
    return network_of(restorer, options=options)


def load_comparison(
    name: str,
    weights: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    options: RestoreOptions | None = None,
) -> EvaluatedNetwork:
    """A trained comparison network, run exactly as TAT is; ``tat`` as name takes other weights of TAT itself.

    Raises:
        UsageError: an unknown network.
        WeightsError: the weights are missing, damaged, or of another network.
        DeviceError: the device is unknown or absent.
    """
    if name == "tat":
        return load_network(weights, device=device, precision=precision, threads=threads, options=options)
    from pathlib import Path

    from tatcli.baselines.networks import load_comparison_weights
    from tatcli.inference.restorer import Restorer

    network, card = load_comparison_weights(name, Path(weights))
    restorer = Restorer.from_network(network, card, device=device, precision=precision, threads=threads)
    return network_of(restorer, options=options)


def network_of(restorer: Restorer, *, options: RestoreOptions | None = None) -> EvaluatedNetwork:
    """A loaded restorer as something to evaluate.

    Args:
        restorer: the network.
        options: how it restores. Values are not checked, as a part of a scan may hold some that would look odd as a
            whole one; what doesn't fit a task is left out.
    """
    asked = replace(options or RestoreOptions(), check_values=False)

    def fitting(task: Task) -> RestoreOptions:
        if task.name == "mri-sr":
            return replace(asked, planes=None)
        return replace(asked, data_consistency=None, kspace_factor=None)

    def restore(volume: Volume, task: Task, window: Window) -> Volume:
        return _with_range(restorer, task, window)(volume, task, options=fitting(task))

    def takes_whole(task: Task, geometry: Geometry) -> bool:
        return len(fitting(task).axes(task, geometry)) > 1

    card = restorer.card
    identity = {
        "name": card.name,
        "sha256": card.sha256,
        "device": restorer.runtime.device_name,
        "precision": restorer.runtime.precision,
        **({"ensemble": "8 views"} if asked.ensemble else {}),
    }
    return EvaluatedNetwork(card.name, restore, card.intensity_rule, identity, takes_whole)


def _with_range(restorer: Restorer, task: Task, window: Window) -> Restorer:
    """The same restorer with its card's rule for the task replaced by this range."""
    pinned = copy(restorer)
    known = restorer.card.tasks[task.name]
    pinned.card = replace(
        restorer.card, tasks={**restorer.card.tasks, task.name: replace(known, intensity=FixedRange(window))}
    )
    return pinned
