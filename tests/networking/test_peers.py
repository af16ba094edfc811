"""Peers that misbehave don't keep others from being served."""

from __future__ import annotations

import gc
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tatcli.networking import peers
from tatcli.networking.peers import Listener, Tls, receiving
from tatcli.networking.spool import Spool

pynetdicom: Any = pytest.importorskip("pynetdicom", reason="needs pynetdicom: pip install 'tatcli[node]'")
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""pynetdicom leaves the sockets of peers that have gone to the garbage collector."""


@pytest.fixture
def node(tmp_path: Path) -> Any:
    @contextmanager
    def running(**options: Any) -> Iterator[int]:
        with receiving(Listener(port=0, **options), Spool(tmp_path / "spool")) as port:
            yield port
        within(
            5.0,
            lambda: not any(isinstance(thread, pynetdicom.association.Association) for thread in threading.enumerate()),
        )
        gc.collect()  # here, where its warnings are expected

    return running


def is_taken(port: int, syntaxes: list[str], tls: ssl.SSLContext | None = None) -> bool:
    """Whether the node agrees to take CT in one of these transfer syntaxes."""
    entity = pynetdicom.AE(ae_title="TEST")
    entity.connection_timeout = entity.acse_timeout = 5
    entity.add_requested_context(CT, syntaxes)
    secured = None if tls is None else (tls, "127.0.0.1")
    association = entity.associate("127.0.0.1", port, ae_title="TAT", tls_args=secured)
    taken = bool(association.is_established)
    if taken:
        association.release()
    return taken


def within(seconds: float, what: Any) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("said", [b"\x01\x00\x00", b"\x01\x00\x00\x00\x01\x00" + b"\0" * 10])
def test_a_peer_that_goes_silent_within_a_message_gives_its_place_back(node, monkeypatch, said):
    monkeypatch.setattr(peers, "_PATIENCE", 1.0)
    with node(associations=1) as port, socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(said)
        time.sleep(0.3)
        assert within(15.0, lambda: is_taken(port, [EXPLICIT]))


def test_with_tls_a_peer_that_says_nothing_keeps_nobody_waiting(node, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    tls = Tls(certificate=certificate, key=key, authority=certificate)
    stranger = ssl.create_default_context(cafile=str(certificate))
    with node(tls=tls) as port, socket.create_connection(("127.0.0.1", port)):
        assert is_taken(port, [EXPLICIT], tls.context(server=False))
        assert not is_taken(port, [EXPLICIT], stranger)  # without a certificate
        assert not is_taken(port, [EXPLICIT])  # without TLS


def test_deflated_objects_are_asked_for_in_another_form(node):
    with node() as port:
        assert is_taken(port, [EXPLICIT, DEFLATED])
        assert not is_taken(port, [DEFLATED])
