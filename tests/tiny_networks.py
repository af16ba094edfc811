"""The smallest network that has every part, for tests that need a network and not its quality."""

from __future__ import annotations

from tatcli.model.config import TatConfig

TINY = TatConfig(
    width=8,
    encoder_blocks=(1, 1, 1),
    latent_blocks=1,
    decoder_blocks=(1, 1, 1),
    refinement_blocks=1,
    expansion=2.0,
    tren_width=4,
    train_patch=32,
)
