"""The child process that looks at scans. It may crash or hang: another takes its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from tatcli.errors import WeightsError
from tatcli.workflows.batch.estimate import Look, look
from tatcli.workflows.batch.isolated import Isolated, as_errors
from tatcli.workflows.batch.roles import EngineSettings, Vet
from tatcli.workflows.batch.vetting import vet

__all__ = ["Reader", "find_weights"]


class _WeightsQuestion:
    """Asks for name and hash of the weights; that takes PyTorch, so it is asked of a reader that then ends."""

    def __init__(self, weights: str | None) -> None:
        self.weights = weights


class Reader:
    """Looks at one scan at a time."""

    stage = "read"
    slots = 1

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings

    @property
    def info(self) -> Mapping[str, Any]:
        """Nothing to say."""
        return {}

    def answer(self, request: Any, say: Callable[[str, Any], None]) -> Any:  # noqa: ARG002 - all is said in the end
        """Look at a scan (Vet, Look), or find the weights."""
        if isinstance(request, _WeightsQuestion):
            from tatcli.model.weights import DEFAULT_WEIGHTS, read_card
            from tatcli.model.weights import find_weights as find_file

            card = read_card(find_file(request.weights or DEFAULT_WEIGHTS))
            return {"name": card.name, "sha256": card.sha256}
        if isinstance(request, Look):
            return look(request)
        assert isinstance(request, Vet)  # noqa: S101  there is no other
        memory = self._settings.memory
        share = None if memory is None else memory // (2 * self._settings.engines)
        return vet(request.work, request.weights, limit=share)


def find_weights(weights: str | None) -> dict[str, str]:
    """Name and SHA-256 of the weights, by their card; PyTorch is loaded for it, in another process.

    Raises:
        WeightsError: there are none of this name.
    """
    asked = Isolated("reader", EngineSettings())
    with closing(asked), as_errors("weights: the process that looked for them", WeightsError):
        found: dict[str, str] = asked.call(_WeightsQuestion(weights))
    return found
