"""How much memory a restoration takes, foretold, and how to make it fit into what it may take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tatcli.inference.domain import MOST_SLICES
from tatcli.inference.passes import Pass
from tatcli.model.config import TatConfig
from tatcli.model.tat import MULTIPLE
from tatcli.volumes.slices import in_plane

__all__ = ["Network", "Plan", "Workload", "least_memory", "network_bytes", "plan_memory", "predicted_peak"]

_MAPS: Final = 24
"""float32 maps of the network's width at full resolution that are alive at once. Measured on CPUs (tat-small and
tat-base, 256x256 to 1024x1024, batches of 1 and 4): 19 to 23 beside the rest."""
_FUSED_MAPS: Final = 12
"""The same with the fused kernels, measured as above: 9 to 11."""
_PACKED_BYTES: Final = 6
"""For each weight of the blocks: what the fused kernels keep of it in their own order."""
_NETWORK_REST: Final = 64 * 2**20
_PER_THREAD: Final = 32 * 2**20
"""Strips, kernels and the libraries' own buffers."""
_BATCH_BYTES: Final = 40
"""For each pixel in a pass: the slices whole, clipped, normalised, corrected, and their masks."""
_PLANE_BYTES: Final = 64
"""For each pixel of a plane that is decoded, encoded or measured in float64."""
_SEEN_BYTES: Final = 16
"""For each pixel of the slices that the scan is compared with the training by: the slices, and their statistics."""
_BLOCK_BYTES: Final = 8 * 2**20
"""A block has about so many bytes as values: enough to keep the disk busy, too few to count."""
_BLOCKS: Final = 3
"""Blocks at once: one being read, one computed, one written."""


@dataclass(frozen=True)
class Network:
    """What of the network and the machine matters here.

    Attributes:
        config: the network's sizes.
        on_cpu: whether its maps lie in the memory that is planned.
        threads: of the CPU.
        fused: whether the fused kernels compute.
    """

    config: TatConfig
    on_cpu: bool = True
    threads: int = 1
    fused: bool = False


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A scan, and what of it is in memory during a restoration.

    Attributes:
        shape: (frames, slices, rows, columns).
        axis: of the frames' arrays (0, 1 or 2), along which slices are taken.
        itemsize: bytes of a stored number.
        gathered: bytes of each voxel that have to be gathered before they can be written; 0: none.
        held: whether all stored numbers are in memory throughout.
        gathered_in_memory: whether what is gathered is in memory, or on disk.
    """

    shape: tuple[int, int, int, int]
    axis: int
    itemsize: int
    gathered: int = 0
    held: bool = False
    gathered_in_memory: bool = False

    @property
    def one_pass(self) -> bool:
        """Whether a pass over the scan gives all blocks, however short they are."""
        return self.held or self.axis == 0

    @property
    def throughout(self) -> int:
        """Bytes that are in memory from the first slice to the last."""
        each = (self.itemsize if self.held else 0) + (self.gathered if self.gathered_in_memory else 0)
        return math.prod(self.shape) * each

    @property
    def slices(self) -> int:
        """Of one frame, along the axis."""
        return self.shape[1 + self.axis]

    @property
    def slice_shape(self) -> tuple[int, int]:
        """Of the slices that the network sees."""
        return in_plane(self.shape[1:], self.axis)

    @property
    def slice_pixels(self) -> int:
        """Of one slice."""
        return self.slice_shape[0] * self.slice_shape[1]


@dataclass(frozen=True)
class Plan:
    """How a restoration keeps within its memory.

    Attributes:
        workload: what is in memory.
        settings: batch and tiles.
        block: slices that are read, and written, at once.
        predicted: peak of resident memory, bytes.
    """

    workload: Workload
    settings: Pass
    block: int
    predicted: int


def network_bytes(network: Network, settings: Pass, rows: int, columns: int) -> int:
    """What a pass of these settings over slices of this size takes beside the weights.

    On a GPU the maps are in its own memory, and running out of that is handled while it happens.
    """
    rest = _NETWORK_REST + _PER_THREAD * network.threads
    if not network.on_cpu:
        return rest
    height, width = (length + -length % MULTIPLE for length in _pass_shape(settings, rows, columns))
    maps, packed = (_FUSED_MAPS, _PACKED_BYTES * _block_weights(network.config)) if network.fused else (_MAPS, 0)
    return rest + packed + settings.batch * height * width * network.config.width * 4 * maps


def _block_weights(config: TatConfig) -> int:
    """Weights of the blocks' 1x1 convolutions that are packed: q, k, v, and both of the feed-forward part."""
    stages = [(config.dim(level), count) for level, count in enumerate(config.encoder_blocks)]
    stages += [(config.decoder_dim(level), count) for level, count in enumerate(config.decoder_blocks)]
    stages += [(config.dim(3), config.latent_blocks), (config.decoder_dim(0), config.refinement_blocks)]
    return sum(count * 3 * dim * (dim + config.hidden(dim)) for dim, count in stages)


def predicted_peak(workload: Workload, network: Network, settings: Pass, *, block: int, base: int) -> int:
    """Peak of resident memory, bytes.

    Args:
        workload: the scan.
        network: what restores it.
        settings: batch and tiles.
        block: slices that are read, and written, at once.
        base: resident memory with everything loaded, but for what ``workload`` holds.
    """
    rows, columns = workload.slice_shape
    in_pass = settings.batch * workload.slice_pixels * _BATCH_BYTES
    plane = max(workload.shape[2] * workload.shape[3], workload.slice_pixels) * _PLANE_BYTES
    plane += min(MOST_SLICES, workload.slices) * workload.slice_pixels * _SEEN_BYTES
    fixed = base + workload.throughout + network_bytes(network, settings, rows, columns)
    return fixed + block * _slice_bytes(workload) + in_pass + plane


def plan_memory(
    choices: Sequence[Workload], network: Network, settings: Pass, *, base: int, limit: int | None
) -> Plan | None:
    """The first way that fits.

    Whole slices in the batch that was asked for go before smaller batches, and those before tiles; for each, what is in
    memory comes first.

    Args:
        choices: of what is in memory, the best first.
        network: what restores.
        settings: batch and tiles that were asked for.
        base: see :func:`predicted_peak`.
        limit: most that the process may take; None: there is none.

    Returns:
        None: nothing fits.
    """
    for attempt in _attempts(settings, *choices[0].slice_shape):
        for workload in choices:
            least = predicted_peak(workload, network, attempt, block=0, base=base)
            block = _block(workload, attempt, None if limit is None else limit - least)
            if block:
                return Plan(workload, attempt, block, least + block * _slice_bytes(workload))
    return None


def least_memory(choices: Sequence[Workload], network: Network, settings: Pass, *, base: int) -> int:
    """What the most modest way takes, bytes."""
    smallest = list(_attempts(settings, *choices[0].slice_shape))[-1]
    return min(predicted_peak(workload, network, smallest, block=smallest.batch, base=base) for workload in choices)


def _attempts(settings: Pass, rows: int, columns: int) -> Iterator[Pass]:
    attempt: Pass | None = settings
    while attempt is not None:
        yield attempt
        attempt = attempt.smaller(rows, columns)


def _pass_shape(settings: Pass, rows: int, columns: int) -> tuple[int, int]:
    return (rows, columns) if settings.tile is None else (min(rows, settings.tile), min(columns, settings.tile))


def _slice_bytes(workload: Workload) -> int:
    """Of one slice in every block under way: its stored numbers, its values, and in two of them what became of it."""
    return workload.slice_pixels * (_BLOCKS * (workload.itemsize + 4) + 2 * 4)


def _block(workload: Workload, settings: Pass, room: int | None) -> int:
    """Slices in a block, a multiple of the batch; 0: not even one batch fits into this room."""
    batch = min(settings.batch, workload.slices)
    fitting = workload.slices if room is None else max(0, room) // _slice_bytes(workload)
    wanted = workload.slices if not workload.one_pass else max(batch, _BLOCK_BYTES // (4 * workload.slice_pixels))
    length = min(fitting, wanted, workload.slices)
    return length if length == workload.slices else length // batch * batch
