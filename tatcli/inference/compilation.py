"""The network through PyTorch's compiler on a GPU: LayerNorm, casts, sums and gates fused into a few kernels.

It takes a minute or more for each shape the first time; what was compiled is kept on disk and found again by later
runs. Whether it pays depends on the card and on how much there is to restore, so it is never done unasked.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch._dynamo import config
from torch._dynamo.exc import TorchDynamoException

from tatcli.errors import DeviceError
from tatcli.model.native_library import cache_folder
from tatcli.model.windows import cell_matrices

__all__ = ["CompiledNetwork"]

MODE: Final = "max-autotune-no-cudagraphs"
"""Products are raced against Triton's; recording is :mod:`tatcli.inference.cuda_graphs`' part."""
LIMIT: Final = 2**31 - 1
"""Shapes that are compiled; by PyTorch's default the ninth is an error."""


class CompiledNetwork(nn.Module):
    """A network in eval mode, compiled as one graph for each shape that it meets.

    Args:
        network: maps (batch, 1, rows, columns) onto the same shape.
        compiler: torch.compile with its settings, or what stands in for it.
    """

    def __init__(self, network: nn.Module, compiler: Callable[[nn.Module], Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.network = network
        torch.compiler.assume_constant_result(cell_matrices)  # type: ignore[no-untyped-call]  # ready, as they are kept
        self.compiled = compiler(network)

    @classmethod
    def for_device(cls, network: nn.Module, device: torch.device) -> CompiledNetwork:
        """Compiled by Inductor, which keeps its results in tat's cache folder.

        Raises:
            DeviceError: not a CUDA device.
        """
        if device.type != "cuda":
            msg = f"--compile: expected a CUDA device, got {device.type}; leave it out, the CPU has kernels of its own"
            raise DeviceError(msg)
        # Of Triton's kernels, and of fp32 that is no TF32 on purpose; once, as filters are the whole process's and
        # passes come from several threads.
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
        warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
        return cls(network, lambda module: torch.compile(module, fullgraph=True, dynamic=False, mode=MODE))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, rows, columns) in and out.

        Raises:
            DeviceError: it can't be compiled here.
        """
        try:
            with config.patch(dict.fromkeys(_limits(), LIMIT)):  # a thread's own
                return self.compiled(x)
        except TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            msg = f"--compile: PyTorch can't compile the network here ({reason}); leave it out"
            raise DeviceError(msg) from error


def _limits() -> tuple[str, str]:
    """The settings that say how many shapes are compiled, for one function and in all."""
    # (PyTorch 2.6 knows them by their old names alone)
    what = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    return what, f"accumulated_{what}"
