"""The network under evaluation: a function that restores chosen slices with the whole scan's intensity range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tatcli.intensity import FixedRange

if TYPE_CHECKING:
    from tatcli.inference.restorer import Restorer
    from tatcli.intensity import IntensityRule, Window
    from tatcli.tasks import Task
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
    """

    name: str
    restore: Callable[[Volume, Task, Window], Volume]
    rule: Callable[[Task], IntensityRule] = lambda task: task.intensity
    identity: Mapping[str, str] = field(default_factory=dict)


def load_network(
    weights: str | None,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    ensemble: bool = False,
) -> EvaluatedNetwork:
    """The released or given weights, as ``tat restore`` (with ``--ensemble``) would use them.

    Raises:
        WeightsError: the weights are missing, damaged or unsafe.
        DeviceError: the device is unknown or absent.
    """
    from tatcli.inference.restorer import Restorer
    from tatcli.model.weights import DEFAULT_WEIGHTS

    restorer = Restorer(weights or DEFAULT_WEIGHTS, device=device, precision=precision, threads=threads)
    return network_of(restorer, ensemble=ensemble)


def load_comparison(
    name: str,
    weights: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    ensemble: bool = False,
) -> EvaluatedNetwork:
    """A trained comparison network, run exactly as TAT is; ``tat`` as name takes other weights of TAT itself.

    Raises:
        UsageError: an unknown network.
        WeightsError: the weights are missing, damaged, or of another network.
        DeviceError: the device is unknown or absent.
    """
    if name == "tat":
        return load_network(weights, device=device, precision=precision, threads=threads, ensemble=ensemble)
    from pathlib import Path

    from tatcli.baselines.networks import load_comparison_weights
    from tatcli.inference.restorer import Restorer

    network, card = load_comparison_weights(name, Path(weights))
    restorer = Restorer.from_network(network, card, device=device, precision=precision, threads=threads)
    return network_of(restorer, ensemble=ensemble)


def network_of(restorer: Restorer, *, ensemble: bool = False) -> EvaluatedNetwork:
    """A loaded restorer as something to evaluate."""

    def restore(volume: Volume, task: Task, window: Window) -> Volume:
        from tatcli.inference.options import RestoreOptions

        # a part of a scan may hold values that would look odd as a whole one; the scan itself was checked
        options = RestoreOptions(check_values=False, ensemble=ensemble)
        return _with_range(restorer, task, window)(volume, task, options=options)

    card = restorer.card
    identity = {
        "name": card.name,
        "sha256": card.sha256,
        "device": restorer.runtime.device_name,
        "precision": restorer.runtime.precision,
        **({"ensemble": "8 views"} if ensemble else {}),
    }
    return EvaluatedNetwork(card.name, restore, card.intensity_rule, identity)


def _with_range(restorer: Restorer, task: Task, window: Window) -> Restorer:
    """The same restorer with its card's rule for the task replaced by this range."""
    pinned = copy(restorer)
    known = restorer.card.tasks[task.name]
    pinned.card = replace(
        restorer.card, tasks={**restorer.card.tasks, task.name: replace(known, intensity=FixedRange(window))}
    )
    return pinned
