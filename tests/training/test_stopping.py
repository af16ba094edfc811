"""Signals are noted, and obeyed when it suits."""

from __future__ import annotations

import signal
import threading

import pytest

from tatcli.training.stopping import StopRequest


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_is_noted_and_obeyed_later(number: signal.Signals, ends: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.made
        signal.raise_signal(number)
        assert stop.made
        with pytest.raises(ends) as caught:
            stop.obey()
    assert signal.getsignal(number) is before
    if ends is SystemExit:
        assert caught.value.code == 143


def test_in_another_thread_nothing_changes() -> None:
    seen = []

    def work() -> None:
        with StopRequest() as stop:
            seen.append((stop.made, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGINT))]
