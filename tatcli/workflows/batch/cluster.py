"""The same work on a dask.distributed cluster: every worker has a lane, and workers come and go."""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from tatcli.errors import UsageError
from tatcli.workflows.batch.config import local_workers
from tatcli.workflows.batch.lane import Lane, LaneSettings
from tatcli.workflows.batch.pool import Message
from tatcli.workflows.batch.tidings import TOPIC, Tidings, teller
from tatcli.workflows.batch.work import Failure, Outcome, Work

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

__all__ = ["ClusterPool", "check_dask", "restore_on_worker"]

_CONNECT: Final = 30.0
_RECONNECT: Final = 120.0
"""Seconds for which a scheduler that went away is waited for."""
_ENOUGH: Final = 1_000_000
_QUIET: Final = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "500ms"}
"""Dask samples its workers' stacks a hundred times a second; ours only wait, and the cores have better to do."""
_LANES: Final[dict[LaneSettings, Lane]] = {}
_USERS: Final[Counter[LaneSettings]] = Counter()
_GUARD: Final = threading.Lock()


def check_dask() -> None:
    """Say how to get dask where there is none.

    Raises:
        UsageError: it isn't installed.
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        msg = "--cluster: expected dask.distributed, which is not installed; pip install 'tatcli[cluster]'"
        raise UsageError(msg) from None


def restore_on_worker(work: Work, settings: LaneSettings) -> Outcome:
    """Runs on a worker: its lane, which it keeps for the next scan, restores the scan."""
    try:
        with _lane(settings) as lane:
            return lane.run(work, teller())
    except Exception as error:  # noqa: BLE001 - a bug, or the disk: one scan's, not the batch's
        return Outcome(work=work, status="failed", failure=Failure.of(error, "plan"))


@contextmanager
def _lane(settings: LaneSettings) -> Iterator[Lane]:
    """This worker's lane of these settings; those of other batches end when no scan of theirs is under way."""
    with _GUARD:
        for other in [one for one in _LANES if one != settings and not _USERS[one]]:
            _LANES.pop(other).close()
        if settings not in _LANES:
            _LANES[settings] = Lane(settings)
        lane = _LANES[settings]
        _USERS[settings] += 1
    try:
        yield lane
    finally:
        with _GUARD:
            _USERS[settings] -= 1


class ClusterPool:
    """Workers of a dask scheduler.

    Args:
        address: of the scheduler, or ``local:N``.
        settings: of the workers' lanes.
        weights: name and SHA-256 that the workers' weights should have.
        say: hears of the dashboard, and of a lost connection.

    Raises:
        UsageError: no scheduler answers (when it is entered, or later).
    """

    def __init__(
        self, address: str, settings: LaneSettings, weights: Mapping[str, str], *, say: Callable[[str], None]
    ) -> None:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # of lost workers: they are our business
        self._address, self._settings, self._say = address, settings, say
        self.weights = weights
        self._messages: queue.SimpleQueue[Future | Tidings] = queue.SimpleQueue()
        self._flying: dict[str, tuple[Work, Future]] = {}
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._batch, self._count = uuid.uuid4().hex[:8], 0

    def __enter__(self) -> Self:
        workers = local_workers(self._address)
        if workers is not None:
            import dask
            from distributed import LocalCluster

            dask.config.set(_QUIET)
            self._cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=self._settings.engine.slots,
                processes=True,
                memory_limit=0,
                resources={"GPU": 1},  # what scans for a GPU wait for; whether there is one, the lanes find out
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
        self._client = self._connected(_CONNECT)
        self._say(f"cluster of {len(self._client.nthreads())} workers; dashboard {self._client.dashboard_link}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(Exception):  # whatever state it is in
            if self._client is not None:
                self._client.cancel([future for _, future in self._flying.values()], force=True)
                self._client.close(timeout=5)
        if self._cluster is not None:
            with suppress(Exception):
                self._cluster.close(timeout=10)

    @property
    def room(self) -> int:
        """The scheduler takes as many as there are."""
        return _ENOUGH

    def submit(self, work: Work) -> None:
        """Give it a scan."""
        assert self._client is not None  # noqa: S101  entered
        self._count += 1
        name = work.place.encode(errors="backslashreplace").decode()  # a key is UTF-8, a file's name need not be
        key = f"restore-{self._batch}-{self._count}-{name}"  # batches that share a scheduler share its keys
        resources = {"GPU": 1 / self._settings.engine.slots} if self._settings.engine.device == "cuda" else None
        future = self._client.submit(restore_on_worker, work, self._settings, key=key, pure=False, resources=resources)
        self._flying[key] = (work, future)
        future.add_done_callback(self._messages.put)

    def next(self, timeout: float) -> Message | None:
        """What happened next."""
        try:
            news = self._messages.get(timeout=timeout)
        except queue.Empty:
            if self._is_lost():
                self._start_again()
            return None
        if news.key not in self._flying:
            return None  # of another batch, of a connection that was lost, or late
        work, future = self._flying[news.key]
        if isinstance(news, Tidings):
            return Message(news.kind, work, news.content)
        if future.status in ("cancelled", "lost") or self._is_lost():
            self._start_again()
            return None
        del self._flying[news.key]
        return Message("outcome", work, self._outcome(work, future))

    def _outcome(self, work: Work, future: Future) -> Outcome:
        if future.status == "finished":
            with suppress(Exception):
                outcome = future.result(timeout=30)
                assert isinstance(outcome, Outcome)  # noqa: S101
                return outcome
        reason = "the worker was lost"
        with suppress(Exception):
            reason = " ".join(f"{type(future.exception(timeout=5)).__name__}: {future.exception(timeout=5)}".split())
        failure = Failure(stage="restore", reason=f"on the cluster: {reason}"[:500], exit_code=1, passing=True)
        return Outcome(work=work, status="failed", failure=failure)

    def _hear(self, event: tuple[float, Any]) -> None:
        if (tidings := Tidings.of(event[1])) is not None:
            self._messages.put(tidings)

    def _is_lost(self) -> bool:
        return self._client is not None and self._client.status not in ("running", "newly-created")

    def _start_again(self) -> None:
        """The connection is gone, and with it all futures: give what was under way to the scheduler anew."""
        works = [work for work, _ in self._flying.values()]
        self._flying.clear()
        self._say(f"lost the scheduler, {len(works)} scans under way; waiting for it up to {_RECONNECT:.0f} s")
        if self._client is not None:
            with suppress(Exception):
                self._client.close(timeout=1)
        self._client = self._connected(_RECONNECT)
        self._say("connected again")
        for work in works:
            self.submit(work)

    def _connected(self, patience: float) -> Client:
        from distributed import Client

        start = time.monotonic()
        while True:
            try:
                client = Client(self._cluster or self._address, timeout=5, set_as_default=False)
            except (OSError, TimeoutError) as error:
                if time.monotonic() - start > patience:
                    msg = f"--cluster {self._address}: expected a dask scheduler, got no answer ({error}); what is"
                    msg += " finished stays so when you try again"
                    raise UsageError(msg) from error
                time.sleep(1.0)
            else:
                client.subscribe_topic(TOPIC, self._hear)
                return client
