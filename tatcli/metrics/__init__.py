"""How close a restored scan is to its reference: image quality, evaluation protocols, summaries; loaded when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tatcli.metrics.image_quality import mae, psnr, rmse, ssim
    from tatcli.metrics.physical import (
        PHYSICAL_QUANTITIES,
        PhysicalScores,
        ReferenceFacts,
        reference_facts,
        score_physically,
    )
    from tatcli.metrics.protocols import PROTOCOLS, Protocol, evaluation_window, find_protocol
    from tatcli.metrics.scores import QUANTITIES, Score, SliceScore, VolumeScores, mean_score, score_volume
    from tatcli.metrics.statistics import Interval, bootstrap_interval, paired_wilcoxon

__all__ = [
    "PHYSICAL_QUANTITIES",
    "PROTOCOLS",
    "QUANTITIES",
    "Interval",
    "PhysicalScores",
    "Protocol",
    "ReferenceFacts",
    "Score",
    "SliceScore",
    "VolumeScores",
    "bootstrap_interval",
    "evaluation_window",
    "find_protocol",
    "mae",
    "mean_score",
    "paired_wilcoxon",
    "psnr",
    "reference_facts",
    "rmse",
    "score_physically",
    "score_volume",
    "ssim",
]

_HOMES = {
    "mae": "image_quality",
    "psnr": "image_quality",
    "rmse": "image_quality",
    "ssim": "image_quality",
    "PHYSICAL_QUANTITIES": "physical",
    "PhysicalScores": "physical",
    "ReferenceFacts": "physical",
    "reference_facts": "physical",
    "score_physically": "physical",
    "PROTOCOLS": "protocols",
    "Protocol": "protocols",
    "evaluation_window": "protocols",
    "find_protocol": "protocols",
    "QUANTITIES": "scores",
    "Score": "scores",
    "SliceScore": "scores",
    "VolumeScores": "scores",
    "mean_score": "scores",
    "score_volume": "scores",
    "Interval": "statistics",
    "bootstrap_interval": "statistics",
    "paired_wilcoxon": "statistics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
