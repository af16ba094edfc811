"""Training: references, batches, the loop and its checkpoints."""

from tatcli.training.config import TrainConfig
from tatcli.training.pairs import ScanPair, find_scans

__all__ = ["ScanPair", "TrainConfig", "find_scans"]
