"""Signals are noted, and obeyed when it suits."""

from __future__ import annotations

import signal
import threading

import pytest

from tatcli.training.stopping import StopRequest

SIGNALS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
if hasattr(signal, "SIGHUP"):
    SIGNALS.append((signal.SIGHUP, SystemExit))


@pytest.mark.parametrize(("number", "ends"), SIGNALS)
def test_a_signal_is_noted_and_obeyed_later(number: signal.Signals, ends: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert signal.getsignal(number) == stop._note
        assert not stop.made
        signal.raise_signal(number)
        assert stop.made
        with pytest.raises(ends) as caught:
            stop.obey()
    assert signal.getsignal(number) is before
    if ends is SystemExit:
        assert caught.value.code == 128 + number


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no hangup")
def test_nohup_holds_in_training_too() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.made
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no hangup")
def test_a_closed_terminal_hangs_up_twice() -> None:
    """First the shell does, then the system as the shell ends."""
    with StopRequest() as stop:
        for number in (signal.SIGHUP, signal.SIGHUP):
            signal.raise_signal(number)
        assert signal.getsignal(signal.SIGHUP) == stop._note
        with pytest.raises(SystemExit) as caught:
            stop.obey()
    assert caught.value.code == 128 + signal.SIGHUP


def test_the_second_signal_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the system's own handler: the first one was only noted."""
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        raised = []
        monkeypatch.setattr(signal, "raise_signal", lambda number: raised.append((number, signal.getsignal(number))))
        stop._note(signal.SIGTERM, None)
    assert raised == [(signal.SIGTERM, signal.SIG_DFL)]
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_nothing_changes() -> None:
    seen = []

    def work() -> None:
        with StopRequest() as stop:
            seen.append((stop.made, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGINT))]
