"""The TAT network, its presets, its loss balancing, and its weights."""

from tatcli.model.config import PRESETS, TatConfig, find_preset
from tatcli.model.loss_balancing import LossBalancer
from tatcli.model.official import from_official, to_official
from tatcli.model.tat import Tat
from tatcli.model.weights import WeightsCard, list_weights, load_weights, save_weights

__all__ = [
    "PRESETS",
    "LossBalancer",
    "Tat",
    "TatConfig",
    "WeightsCard",
    "find_preset",
    "from_official",
    "list_weights",
    "load_weights",
    "save_weights",
    "to_official",
]
