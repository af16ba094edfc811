"""Make a restoration fit into its memory, and say what that changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tatcli.errors import DeviceError
from tatcli.inference.system_memory import peak_resident, resident
from tatcli.workflows.restoring.outcome import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tatcli.inference.memory import Plan, Workload
    from tatcli.inference.options import RestoreOptions
    from tatcli.inference.passes import Pass
    from tatcli.inference.restorer import Restorer

__all__ = ["fitted", "loaded_memory", "with_settings"]

_LOADED: Final = 512 * 2**20
"""Resident memory with everything loaded, where the system doesn't tell."""


def loaded_memory(*, held: int) -> int:
    """Resident memory now, without the bytes of the scan that are held."""
    now = resident()
    return _LOADED if now is None else max(0, now - held)


def fitted(
    choices: Sequence[Workload],
    restorer: Restorer,
    options: RestoreOptions,
    *,
    base: int,
    limit: int | None,
    name: str,
) -> tuple[Plan, list[str]]:
    """The plan, and what it changed of what the options ask for, in words.

    Args:
        choices: of what is in memory, the best first.
        restorer: with what.
        options: how.
        base: resident memory but for what ``choices`` hold.
        limit: bytes that the process should stay below; None: not known.
        name: of the scan, for messages.

    Raises:
        DeviceError: nothing fits; the message says what it takes.
    """
    from tatcli.inference.memory import Network, least_memory, plan_memory
    from tatcli.inference.passes import first_pass
    from tatcli.model.fused import kernels_for

    runtime = restorer.runtime
    config, on_cpu = restorer.card.config, runtime.device.type == "cpu"
    fused = on_cpu and kernels_for(config.width, bf16=runtime.precision == "bf16")
    network = Network(config, on_cpu=on_cpu, threads=runtime.threads, fused=fused)
    asked = first_pass(options, *choices[0].slice_shape, device=runtime.device)
    plan = plan_memory(choices, network, asked, base=base, limit=limit)
    if plan is None:
        least = least_memory(choices, network, asked, base=base)
        msg = (
            f"{name}: expected to stay within {in_words(limit or 0)} of memory, got a scan that "
            f"takes {in_words(least)} even in tiles; give it more with --max-memory"
        )
        raise DeviceError(msg)
    # Loading may have taken more than the work will.
    plan = replace(plan, predicted=max(plan.predicted, peak_resident() or 0))
    if plan.settings == asked:
        return plan, []
    what = f"batches of {plan.settings.batch}" if plan.settings.tile is None else f"tiles of {plan.settings.tile}"
    return plan, [f"to stay within {in_words(limit or 0)} of memory, went on with {what}; see --max-memory"]


def with_settings(options: RestoreOptions, settings: Pass) -> RestoreOptions:
    """The options that ask for these settings."""
    if settings.tile is None:
        return replace(options, batch=settings.batch)
    return replace(options, mode="patch", tile=settings.tile, overlap=settings.overlap, batch=settings.batch)
