"""Peers that misbehave don't keep others from being served."""

from __future__ import annotations

import gc
import shutil
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from tatcli.errors import TatError, UsageError
from tatcli.networking import peers
from tatcli.networking.addresses import Destination, Listener, Tls
from tatcli.networking.peers import RefusedError, receiving, send
from tatcli.networking.spool import Spool

pynetdicom: Any = pytest.importorskip("pynetdicom", reason="needs pynetdicom: pip install 'tatcli[node]'")
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
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


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return Tls(certificate=certificate, key=key, authority=certificate)


def test_with_tls_a_peer_that_says_nothing_keeps_nobody_waiting(node, tls):
    stranger = ssl.create_default_context(cafile=str(tls.authority))
    with node(tls=tls) as port, socket.create_connection(("127.0.0.1", port)):
        assert is_taken(port, [EXPLICIT], tls.context(server=False))
        assert not is_taken(port, [EXPLICIT], stranger)  # without a certificate
        assert not is_taken(port, [EXPLICIT])  # without TLS


def test_what_is_deflated_or_cannot_be_decoded_is_asked_for_in_another_form(node):
    with node() as port:
        assert is_taken(port, [EXPLICIT, DEFLATED])
        for number in ("1.99", "4.95", "4.205", "4.110", "4.94", "4.102"):  # JPIP deflated, JPEG XL, JPIP, MPEG-4
            assert not is_taken(port, [f"1.2.840.10008.1.2.{number}"])
        for number in ("2", "5", "4.50", "4.70", "4.80", "4.90", "4.201"):
            assert is_taken(port, [f"1.2.840.10008.1.2.{number}"])


def test_what_is_no_scan_is_taken_as_it_is(node):
    video = "1.2.840.10008.5.1.4.1.1.77.1.1.1"
    with node() as port:
        entity = pynetdicom.AE()
        entity.add_requested_context(video, "1.2.840.10008.1.2.4.102")
        association = entity.associate("127.0.0.1", port, ae_title="TAT")
        assert association.is_established
        association.release()


def test_a_destination_that_does_not_know_the_node_says_so(derived):
    with sink(lambda _: 0, [EXPLICIT]) as destination:
        strict = replace(destination, title="OTHER")
        with pytest.raises(TatError, match="of TAT, got Rejected Permanent: Called AE title not recognised"):
            list(send(derived, strict, title="TAT"))


def test_a_node_that_stops_takes_nothing_more_and_tells_its_peers(node, tmp_path):
    entity = pynetdicom.AE()
    entity.add_requested_context(CT, EXPLICIT)
    with node() as port:
        association = entity.associate("127.0.0.1", port, ae_title="TAT")
        assert association.send_c_store(made_object("1.2.3.1")).Status == 0
        half = socket.create_connection(("127.0.0.1", port), timeout=10)
        half.sendall(b"\x01\x00\x00")
        time.sleep(0.3)
    assert within(5.0, lambda: association.is_aborted)
    with half:
        assert half.recv(1) == b""
    assert len(list((tmp_path / "spool").glob("*/received/*.dcm"))) == 1


@pytest.mark.parametrize(
    ("host", "words"), [("host.invalid", "--bind host.invalid: expected an address"), ("127.0.0.1", "--port .*free")]
)
def test_an_address_or_a_port_that_is_not_to_be_had(tmp_path, monkeypatch, host, words):
    def unknown(name: Any, *rest: Any, **options: Any) -> Any:
        if name == "host.invalid":
            raise socket.gaierror(-2, "Name or service not known")
        return lookup(name, *rest, **options)

    lookup = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with socket.create_server(("127.0.0.1", 0)) as other:
        listener = Listener(host=host, port=other.getsockname()[1], allowed=("PACS",))
        node = receiving(listener, Spool(tmp_path))
        with pytest.raises(UsageError, match=words):
            node.__enter__()


@contextmanager
def sink(handler: Any, syntaxes: list[str]) -> Iterator[Destination]:
    """A peer that takes CT in these transfer syntaxes and answers as the handler says."""
    entity = pynetdicom.AE(ae_title="SINK")
    entity.require_called_aet = True
    entity.add_supported_context(CT, syntaxes)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, handler)])
    try:
        yield Destination("SINK", "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()


@pytest.fixture
def derived(tmp_path: Path) -> list[Path]:
    paths = []
    for index in range(2):
        dataset = made_object(f"1.2.3.{index}")
        paths.append(tmp_path / f"{index}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def made_object(instance: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = CT, instance, "1.2.3"
    dataset.PatientName, dataset.PatientBirthDate = "Doe^John", "19700101"
    dataset.Rows, dataset.Columns, dataset.BitsAllocated = 1, 2, 16
    dataset.PixelData = b"\x01\x02\x03\x04"
    return dataset


@pytest.mark.parametrize(
    ("known", "used"), [([IMPLICIT], IMPLICIT), ([EXPLICIT], EXPLICIT), ([IMPLICIT, EXPLICIT], EXPLICIT)]
)
def test_a_peer_gets_objects_as_they_are_or_in_the_default_transfer_syntax(derived, known, used):
    got = []

    def take(event: Any) -> int:
        got.append((event.context.transfer_syntax, bytes(event.dataset.PixelData), str(event.dataset.PatientName)))
        return 0

    with sink(take, known) as destination:
        assert list(send(derived, destination, title="TAT")) == derived
    assert got == [(used, b"\x01\x02\x03\x04", "Doe^John")] * 2


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007, 0xB1FF])
def test_what_is_stored_with_a_warning_is_stored(derived, status):
    with sink(lambda _: status, [EXPLICIT]) as destination:
        assert list(send(derived, destination, title="TAT")) == derived


@pytest.mark.parametrize("status", [0x0122, 0x0124, 0xA900, 0xC000])
def test_what_a_peer_refuses_is_not_sent_and_the_rest_is(derived, status):
    with sink(
        lambda event: status if str(event.request.AffectedSOPInstanceUID) == "1.2.3.0" else 0, [EXPLICIT]
    ) as destination:
        sent = send(derived, destination, title="TAT")
        assert next(sent) == derived[1]
        with pytest.raises(RefusedError, match=f"1 refused, the first 0.dcm: status {status:#06x}"):
            next(sent)


def test_a_host_without_an_address_is_named(derived, monkeypatch):
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(TatError, match=r"^PACS@pacs\.example:104: expected an association, got Name or service"):
        list(send(derived, Destination.parse("PACS@pacs.example:104"), title="TAT"))


@pytest.mark.parametrize(
    ("series", "status", "kept"),
    [("1.2.3", 0x0000, 1), ("Doe John 1.2", 0x0000, 1), ("", 0xC000, 0), (None, 0xC000, 0)],
)
def test_an_object_needs_a_series_and_no_complaint_quotes_it(node, tmp_path, series, status, kept):
    dataset = made_object("1.2.3.4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.SeriesInstanceUID = series
    entity = pynetdicom.AE()
    entity.add_requested_context(CT, EXPLICIT)
    with node() as port:
        association = entity.associate("127.0.0.1", port, ae_title="TAT")
        assert association.send_c_store(dataset).Status == status  # here a warning is an error
        association.release()
    assert len(list((tmp_path / "spool").glob("*/received/*.dcm"))) == kept


def within_seconds(seconds: float, what: Any) -> BaseException | None:
    """How a call ends in a thread of its own, which may hang."""
    ends: list[BaseException | None] = []

    def run() -> None:
        try:
            what()
        except BaseException as error:  # noqa: BLE001
            ends.append(error)
        else:
            ends.append(None)

    threading.Thread(target=run, daemon=True).start()
    assert within(seconds, lambda: ends), "it hangs"
    return ends[0]


def test_a_destination_that_reads_no_further_is_given_up(derived, monkeypatch):
    monkeypatch.setattr(peers, "_PATIENCE", 1.0)
    dataset = pydicom.dcmread(derived[0])
    dataset.PixelData = bytes(2**25)  # more than the system takes for a peer that doesn't read
    dataset.save_as(derived[0])
    blocked, go_on = threading.Event(), threading.Event()

    def stop_reading(event: Any) -> None:
        if event.data[0] == 0x04:  # P-DATA-TF, of the object
            blocked.set()
            go_on.wait(60)

    entity = pynetdicom.AE(ae_title="SINK")
    entity.add_supported_context(CT, EXPLICIT)
    handlers = [(pynetdicom.evt.EVT_DATA_RECV, stop_reading)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        destination = Destination("SINK", "127.0.0.1", server.server_address[1])
        error = within_seconds(30.0, lambda: list(send(derived, destination, title="TAT")))
        assert blocked.is_set()
        assert "expected 0.dcm to be stored, got no answer" in str(error)
    finally:
        go_on.set()
        server.shutdown()


def test_with_tls_a_destination_that_says_nothing_is_given_up(derived, tls, monkeypatch):
    monkeypatch.setattr(peers, "_PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        destination = Destination("SINK", "127.0.0.1", silent.getsockname()[1])
        error = within_seconds(30.0, lambda: list(send(derived, destination, title="TAT", tls=tls)))
        assert "expected an association, got none" in str(error)
