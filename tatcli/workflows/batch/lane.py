"""A reader and an engine that restore scans together, and outlive whatever the scans do to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tatcli.errors import TatError
from tatcli.workflows.batch.isolated import Gone, Isolated, Refused
from tatcli.workflows.batch.locks import Lock, owner_of
from tatcli.workflows.batch.roles import Assignment, EngineSettings, Vet
from tatcli.workflows.batch.staging import clear, lock_path
from tatcli.workflows.batch.vetting import Vetted, is_finished
from tatcli.workflows.batch.work import Failure, Outcome, Work

__all__ = ["Lane", "LaneSettings"]

Hear = Callable[[str, Any], None]
_INNOCENT: Final = 4
"""How often a scan is begun because others, or nobody, ended the process that restored it."""


@dataclass(frozen=True, kw_only=True)
class LaneSettings:
    """How a lane works.

    Attributes:
        engine: how the network is loaded.
        weights: SHA-256 that the weights should have; '': whatever they have on this machine.
        timeout: seconds without a sign of life after which a scan is given up; 0: never.
    """

    engine: EngineSettings
    weights: str
    timeout: float


class Lane:
    """Restores scans with one network; several threads may each bring one, which then overlap."""

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = settings
        self.weights = settings.weights
        self._reader = Isolated("reader", settings.engine)
        self._engine = Isolated("engine", settings.engine)
        self._reading = threading.Lock()
        self._company = _Company()

    def run(self, work: Work, hear: Hear = lambda *_: None) -> Outcome:
        """Restore a scan, unless it is finished.

        Args:
            work: the scan; what failed before is tried with nothing else under way.
            hear: gets (kind, content) of what happens: ``state``, ``progress``.
        """
        reason = ""
        for innocent in range(_INNOCENT):
            alone = work.attempt > 0 or innocent > 0
            try:
                with self._company.joined(alone=alone):
                    return self._run(work, hear, alone=alone)
            except _Innocent as error:
                reason = str(error)
        return _failed(work, "restore", f"the process that restored it {reason}", 1)

    def warm_up(self) -> Any:
        """Load the network, whose weights are the right ones from now on; what it says of itself.

        Raises:
            Refused, Gone: it can't be loaded.
        """
        info = self._engine.start().info
        self.weights = self.weights or info["weights"]
        return info

    def ask_engine(self, request: Any) -> Any:
        """Ask the network's process something else than to restore."""
        return self._engine.call(request, timeout=self._timeout)

    def ask_reader(self, request: Any) -> Any:
        """Ask the reader something else than to vet."""
        with self._reading:
            return self._reader.call(request, timeout=self._timeout)

    def close(self) -> None:
        """End both processes, whatever they do."""
        self._reader.close()
        self._engine.close()

    @property
    def _timeout(self) -> float | None:
        return self._settings.timeout or None

    def _run(self, work: Work, hear: Hear, *, alone: bool) -> Outcome:  # noqa: PLR0911 - one for each way to end
        hear("state", "looking")
        try:
            vetted = self.ask_reader(Vet(work=work, weights=self.weights))
        except Refused as refused:
            return Outcome(work=work, status="failed", failure=refused.failure)
        except Gone as gone:
            return _failed(work, "read", f"the process that read it {gone}", 3)
        assert isinstance(vetted, Vetted)  # noqa: S101
        if vetted.finished:
            return Outcome(work=work, status="finished")
        if vetted.parts:
            return Outcome(work=work, status="several", parts=vetted.parts)
        try:
            lock = Lock.take(lock_path(work))
        except TatError as error:
            return Outcome(work=work, status="failed", failure=Failure.of(error, "write"))
        if lock is None:
            return Outcome(work=work, status="busy", facts={"owner": str(owner_of(lock_path(work)) or "another run")})
        try:
            if is_finished(work, self.weights):  # another run was quicker
                return Outcome(work=work, status="finished")
            return self._restored(work, vetted, lock, hear, alone=alone)
        finally:
            if lock.is_mine():
                clear(lock.path)  # what a process that died was writing
            lock.release()

    def _restored(self, work: Work, vetted: Vetted, lock: Lock, hear: Hear, *, alone: bool) -> Outcome:
        request = Assignment(
            work=work,
            weights=self.weights,
            source=vetted.source,
            lock=lock.path,
            token=lock.token,
            alone=alone,
        )
        try:
            self._check_weights()
            facts = self._engine.call(request, timeout=self._timeout, hear=hear)
        except Refused as refused:
            failure = refused.failure
            if failure.exit_code == 1:  # the network's process may be in any state now
                self._engine.restart()
            if failure.exit_code == 5 and failure.stage != "load" and not alone:
                raise _Innocent(failure.reason) from None  # of memory that scans share, it may have too little
            return Outcome(work=work, status="failed", failure=failure)
        except Gone as gone:
            if not gone.guilty:
                raise _Innocent(str(gone)) from None
            return _failed(work, "restore", f"the process that restored it {gone}", 1)
        return Outcome(work=work, status="done", facts=dict(facts) | {"slices": vetted.slices})

    def _check_weights(self) -> None:
        got = self._engine.start().info["weights"]
        if got != self.weights:
            msg = f"weights: expected sha256 {self.weights[:12]}..., got {got[:12]}... on this machine"
            raise Refused(Failure(stage="load", reason=msg, exit_code=4))


class _Innocent(Exception):
    """A scan came to nothing because of others that were under way with it."""


class _Company:
    """Lets scans be under way together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together, self._alone, self._lonely = 0, False, 0

    @contextmanager
    def joined(self, *, alone: bool) -> Iterator[None]:
        with self._changed:
            self._lonely += alone
            if alone:
                self._changed.wait_for(lambda: not self._together and not self._alone)
                self._lonely -= 1
                self._alone = True
            else:
                self._changed.wait_for(lambda: not self._alone and not self._lonely)
                self._together += 1
        try:
            yield
        finally:
            with self._changed:
                if alone:
                    self._alone = False
                else:
                    self._together -= 1
                self._changed.notify_all()


def _failed(work: Work, stage: str, reason: str, code: int) -> Outcome:
    failure = Failure(stage=stage, reason=reason, exit_code=code, passing=True)
    return Outcome(work=work, status="failed", failure=failure)
