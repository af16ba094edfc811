"""How close a restored scan is to its reference: image quality, evaluation protocols, summaries."""

from __future__ import annotations

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
