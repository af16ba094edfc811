"""Evaluate: score restored scans against their references, or a network and tuned baselines on a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tatcli.workflows.evaluation.config import EvaluateConfig
from tatcli.workflows.evaluation.dataset import evaluate_dataset
from tatcli.workflows.evaluation.files import evaluate_files
from tatcli.workflows.evaluation.report import EvaluateReport

if TYPE_CHECKING:
    from tatcli.workflows.evaluation.network import EvaluatedNetwork

__all__ = ["EvaluateConfig", "EvaluateReport", "evaluate"]


def evaluate(
    config: EvaluateConfig,
    *,
    network: EvaluatedNetwork | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> EvaluateReport:
    """Score restored scans, or a network and classical baselines on a dataset.

    Args:
        config: what is to be done.
        network: what restores, instead of the config's weights, device, precision and threads.
        progress: is called with (what is being done, steps done, steps in all).

    Raises:
        UsageError: options that don't fit, no scans, scans without partners.
        VolumeReadError, GeometryError: restored scans can't be read or don't fit their references (of a dataset,
            such scans are listed in the report as failures).
        WeightsError, DeviceError: the weights or the device can't be used.
        PartialFailure: no scan of a task could be evaluated.
    """
    if config.data is None:
        return evaluate_files(config, progress=progress)
    return evaluate_dataset(config, network=network, progress=progress)
