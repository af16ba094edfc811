"""The network's sizes, and the presets that the command line offers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from tatcli.errors import UsageError, WeightsError
from tatcli.model.windows import Window

__all__ = ["PRESETS", "TatConfig", "find_preset"]

LEVELS: Final = 4
"""Resolutions of the U-net: 1, 1/2, 1/4 and 1/8 (the latent stage)."""
_RANGES: Final = {
    "width": (0, 4096),
    **dict.fromkeys(("encoder_blocks", "latent_blocks", "decoder_blocks", "refinement_blocks"), (0, 256)),
    "heads": (1, 4096),
    "expansion": (0, 64),
    **dict.fromkeys(("tren_width", "train_patch"), (1, 4096)),
    "windows": (0, 2**20),
}
"""Least and most of every size, far from those of any network."""


@dataclass(frozen=True)
class TatConfig:
    """Every size of a TAT network; the defaults are the paper's.

    Attributes:
        width: channels C of the first stage; stage s has C * 2**s.
        encoder_blocks: transformer blocks of encoder 1, 2, 3.
        latent_blocks: adaptive blocks of the latent stage.
        decoder_blocks: adaptive blocks of decoder 1, 2, 3.
        refinement_blocks: adaptive blocks after decoder 1, which use its kernels.
        heads: attention heads at 1, 1/2, 1/4 and 1/8 resolution.
        expansion: hidden width of a feed-forward block over its width (rounded down).
        tren_width: channels of TREN's first convolutions; its representation has four times as many.
        train_patch: side of the paper's training crops, from which its local windows follow (1.5 times it at full
            resolution, as few as cover the map); a run's ``--patch`` doesn't change it.
        windows: sides of local windows at 1, 1/2, 1/4 and 1/8 resolution that start every half of one instead
            (``examples/STUDIES.md``: where they show how the noise changes from place to place). Empty: the paper's.

    Raises:
        UsageError: sizes that make no network.
    """

    width: int = 48
    encoder_blocks: tuple[int, int, int] = (4, 6, 6)
    latent_blocks: int = 8
    decoder_blocks: tuple[int, int, int] = (4, 6, 6)
    refinement_blocks: int = 4
    heads: tuple[int, int, int, int] = (1, 2, 4, 8)
    expansion: float = 2.66
    tren_width: int = 64
    train_patch: int = 128
    windows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._check_numbers()
        stages = (len(self.encoder_blocks), len(self.decoder_blocks), len(self.heads))
        if stages != (LEVELS - 1, LEVELS - 1, LEVELS):
            msg = f"network config: expected encoder_blocks, decoder_blocks, heads of 3, 3, 4 levels, got {stages}"
            raise UsageError(msg)
        for level, heads in enumerate(self.heads):
            if self.dim(level) % heads:
                dim = self.dim(level)
                msg = f"network config: width {dim} of level {level + 1} must be a multiple of its {heads} heads"
                raise UsageError(msg)
        if self.windows and (len(self.windows) != LEVELS or min(self.windows) < 2):
            msg = f"network config: expected windows of {LEVELS} levels, each of at least 2 pixels, got {self.windows}"
            raise UsageError(msg)
        if self.width < 2 or self.width % 2:
            msg = f"network config: expected an even width of at least 2, got {self.width}"
            raise UsageError(msg)
        if not self.hidden(self.width):
            msg = f"network config: expected at least one hidden channel, got an expansion of {self.expansion:g}"
            raise UsageError(msg)

    def _check_numbers(self) -> None:
        """Cards are files, which may say anything: 8.0, "8", or sizes that no memory holds."""
        for name, (least, most) in _RANGES.items():
            value, default = getattr(self, name), getattr(type(self), name)
            many = isinstance(default, tuple)
            numbers = value if isinstance(value, tuple) else (value,)
            kinds = int | float if isinstance(default, float) else int
            fit = all(isinstance(number, kinds) and least <= number <= most for number in numbers)
            if isinstance(value, tuple) != many or not fit:
                kind = "a number" if isinstance(default, float) else "whole numbers" if many else "a whole number"
                msg = f"network config: expected {kind} from {least} to {most} as {name}, got {value!r}"
                raise UsageError(msg)

    def dim(self, level: int) -> int:
        """Channels at resolution 1 / 2**level in the encoder; decoder 1 (level 0) works at twice this."""
        return self.width * (1 << level)

    def decoder_dim(self, level: int) -> int:
        """Channels of the adaptive blocks at this level: decoder 1 keeps 2C (no reduction after its concatenation)."""
        return self.dim(max(level, 1))

    def hidden(self, dim: int) -> int:
        """Hidden width of a feed-forward block of this width."""
        return int(self.expansion * dim)

    def paper_window(self, level: int) -> int:
        """Side of the paper's local attention windows at this level: 1.5 training crops (192, 96, 48, 24)."""
        return max(1, int(1.5 * self.train_patch / 2**level))

    def window(self, level: int) -> Window:
        """The local attention windows at this level."""
        if self.windows:
            return Window(self.windows[level], halves=True)
        return Window(self.paper_window(level))

    def is_size_of(self, other: TatConfig) -> bool:
        """Whether weights of one fit into the other: all but the windows, which have none."""
        return replace(self, windows=other.windows) == other

    def to_dict(self) -> dict[str, Any]:
        """JSON form, for a weights card."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            WeightsError: an unknown field, as of a newer version of tat, or sizes that make no network.
        """
        try:
            values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
            return cls(**values)
        except TypeError as error:
            msg = f"network config: {error}; the weights may need a newer tat"
            raise WeightsError(msg) from error
        except UsageError as error:
            raise WeightsError(str(error)) from error


PRESETS: Final[dict[str, TatConfig]] = {
    "tat-base": TatConfig(),
    "tat-small": TatConfig(
        width=32,
        encoder_blocks=(1, 2, 4),
        latent_blocks=4,
        decoder_blocks=(1, 2, 5),
        refinement_blocks=1,
        expansion=2.0,
        tren_width=16,
        windows=(120, 72, 36, 18),
    ),
    "tat-tiny": TatConfig(
        width=16,
        encoder_blocks=(1, 1, 1),
        latent_blocks=1,
        decoder_blocks=(1, 1, 1),
        refinement_blocks=1,
        expansion=2.0,
        tren_width=8,
    ),
}
"""``tat-base`` is the paper's network; ``tat-tiny`` is for trying things out.

``tat-small`` is sized by what is cheap on a CPU: blocks at full resolution work at 2C and dominate the time, so
decoder 1 and refinement have one each; with expansion 2 every hidden width is a multiple of 32. Widths 24 and 32 took
the same time for a training step on 64x64 crops in bf16 (24 was 1.6 times faster on 128x128). The stages
at 1/4 and 1/8 are deeper: a k-space factor of 4 leaves the information on that grid, and the six blocks added there
cost 18 % of the time of a 512x512 slice. They were added to a trained network, which gained 0.05 dB (CT), 0.09 (PET)
and 0.03 (MRI) in the 3050 steps that followed; what of it is due to them isn't known. Six other sizes trained for the
same six CPU minutes (``examples/STUDIES.md``): TREN four times as wide, width 48, and width 16 twice as deep were no
better in any task; one block in each stage was better by 0.36 dB (CT) and 0.13 (PET), with 73 % of the time of a slice,
as it took 1.4 times as many steps. So few steps favour the quickest network, and MRI had learned nothing yet.
"""


def preset_of(config: TatConfig) -> str | None:
    """The name of the preset with these sizes; None: it is none of them."""
    return next((name for name, known in PRESETS.items() if config.is_size_of(known)), None)


def find_preset(name: str) -> TatConfig:
    """The config of this preset.

    Raises:
        UsageError: no such preset; the message lists the known ones.
    """
    if name not in PRESETS:
        msg = f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}"
        raise UsageError(msg)
    return PRESETS[name]
