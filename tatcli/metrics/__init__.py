"""How close a restored scan is to its reference: image quality, evaluation protocols, summaries."""

from __future__ import annotations

from tatcli.metrics.image_quality import mae, psnr, rmse, ssim
from tatcli.metrics.protocols import PROTOCOLS, Protocol, evaluation_window, find_protocol
from tatcli.metrics.scores import QUANTITIES, Score, SliceScore, VolumeScores, mean_score, score_volume

__all__ = [
    "PROTOCOLS",
    "QUANTITIES",
    "Protocol",
    "Score",
    "SliceScore",
    "VolumeScores",
    "evaluation_window",
    "find_protocol",
    "mae",
    "mean_score",
    "psnr",
    "rmse",
    "score_volume",
    "ssim",
]
