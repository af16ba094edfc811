"""Whether there is a GPU that this PyTorch computes on, and why not where there isn't."""

from __future__ import annotations

import re
import warnings

import torch

from tatcli.errors import DeviceError, reason_of

__all__ = ["check_it_computes", "count_gpus", "has_kernels"]


def count_gpus() -> tuple[int, str]:
    """CUDA devices; and where there are none, why, as far as PyTorch says it."""
    with warnings.catch_warnings(record=True) as told:  # of a driver that is too old, say
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        return count, ""
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return 0, f"PyTorch {torch.__version__} is built without CUDA"
    return 0, _first_line(str(told[0].message)) if told else ""


def has_kernels() -> bool:
    """Whether this PyTorch holds machine code for the first CUDA device, which must be there.

    Its builds leave out old cards, and new ones came later: such a card is found, and nothing computes on it. Code of
    ``sm_XY`` runs on cards of the same X and no lower Y; the ``compute_XY`` that is compiled on the spot, on all later.
    """
    if torch.version.hip:
        return True
    with warnings.catch_warnings():  # of this very thing
        warnings.simplefilter("ignore")
        card = torch.cuda.get_device_capability(0)
    built = re.findall(r"(sm|compute)_(\d+)(\d)", " ".join(torch.cuda.get_arch_list()))
    codes = [(kind, (int(major), int(minor))) for kind, major, minor in built]
    return not codes or any(code <= card and (kind == "compute" or code[0] == card[0]) for kind, code in codes)


def check_it_computes(device: torch.device) -> None:
    """Have a CUDA device add a few numbers (what else there is, isn't asked).

    Raises:
        DeviceError: it doesn't: this PyTorch has no code for it, another process has it for itself or fills its memory.
    """
    if device.type != "cuda":
        return
    try:
        torch.ones(8, device=device).sum().item()
    except (AssertionError, RuntimeError) as error:  # (the first of a PyTorch that was built without it)
        msg = f"--device {device}: expected a device that PyTorch {torch.__version__} computes on, got "
        raise DeviceError(msg + _first_line(reason_of(error)) + "; use another one, or --device cpu") from error


def _first_line(text: str) -> str:
    """What matters of PyTorch's words: below it come hints for programmers."""
    return text.strip().partition("\n")[0].rstrip(".")
