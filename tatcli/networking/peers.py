"""The two roles of a node, by pynetdicom: storage provider (C-STORE, C-ECHO) and storage user (PS3.4 Annex B)."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, Final

from tatcli.errors import OutputError, TatError, UsageError, reason_of
from tatcli.networking.addresses import Destination, Listener, Tls
from tatcli.networking.spool import Spool
from tatcli.volumes.dicom_files import LENIENCE

__all__ = ["RefusedError", "receiving", "send"]

_SUCCESS, _DUPLICATE, _NO_RESOURCES, _NOT_UNDERSTOOD = 0x0000, 0x0111, 0xA700, 0xC000
_WARNINGS: Final = frozenset((0x0001, 0x0107, 0x0116, *range(0xB000, 0xC000)))
"""Stored, with something coerced or discarded (PS3.4 table B.2-1, PS3.7 annex C)."""
_SYNTAXES: Final = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
"""What derived objects are sent in: as they are, or by the default, which is always offered (PS3.5 section 10.1)."""
_FULL: Final = range(0xA700, 0xA800)
"""Out of resources: a state of the peer's that says nothing of the object."""
_SCANS: Final = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{number}"
    for number in ("2", "2.1", "2.2", "4", "4.1", "4.3", "4.4", "128", "128.1", "130")
)
"""CT, MR and PET images, classic and enhanced."""
_DECODED: Final = frozenset(
    f"1.2.840.10008.1.2{number}"
    for number in ("", ".1", ".2", ".5", *(f".4.{code}" for code in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)))
)
"""Transfer syntaxes of scans that tat decodes."""
_DEFLATED: Final = frozenset(f"1.2.840.10008.1.2{number}" for number in (".1.99", ".4.95", ".4.205"))
"""What is deflated is inflated in memory as a whole, megabytes to gigabytes."""
_FAREWELL: Final = 2.0
"""Seconds for all peers to be told that the node stops."""
_PATIENCE: Final = 30.0
"""Seconds that a peer may be silent within a message, or before the first one; to read on, too."""


class RefusedError(TatError):
    """A peer that is there doesn't take some objects; others it may."""


@contextmanager
def receiving(listener: Listener, spool: Spool) -> Iterator[int]:
    """Take objects while the block runs, and confirm each once it is on disk; gives the port.

    Raises:
        UsageError: pynetdicom isn't installed, the certificates don't load, the port is taken.
    """
    network = _pynetdicom()
    entity = network.AE(ae_title=listener.title)
    entity.acse_timeout = _PATIENCE
    entity.maximum_associations = listener.associations
    entity.require_called_aet = True
    entity.require_calling_aet = list(listener.allowed)
    for context in network.AllStoragePresentationContexts:
        # What isn't taken, peers send in another form; what is no scan is only kept, as it is.
        is_scan = context.abstract_syntax in _SCANS
        taken = _DECODED if is_scan else frozenset(network.ALL_TRANSFER_SYNTAXES) - _DEFLATED
        entity.add_supported_context(context.abstract_syntax, sorted(taken))
    entity.add_supported_context("1.2.840.10008.1.1")

    def store(event: Any) -> int:
        try:
            with LENIENCE:  # complaints would quote the header
                series = str(event.dataset.SeriesInstanceUID or "")
            data = event.encoded_dataset()
        except Exception:  # noqa: BLE001 - whatever a peer sends must not end the node
            return _NOT_UNDERSTOOD
        if not series:  # else scans of any patients would be one
            return _NOT_UNDERSTOOD
        try:
            spool.store(series, str(event.request.AffectedSOPInstanceUID), data)
        except (OSError, OutputError):
            return _NO_RESOURCES
        return _SUCCESS

    context = None if listener.tls is None else listener.tls.context(server=True)
    try:
        server = entity.start_server(
            (listener.host, listener.port),
            block=False,
            ssl_context=context,
            evt_handlers=[(network.evt.EVT_CONN_OPEN, _opened), (network.evt.EVT_C_STORE, store)],
        )
    except OSError as error:
        of_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        what = f"--port {listener.port}: expected a free port on {listener.host}"
        what = what if of_port else f"--bind {listener.host}: expected an address of this machine"
        msg = f"{what}, got {error.strerror or error}"
        raise UsageError(msg) from error
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        _break_off(entity.active_associations)


def send(files: Iterable[Path], destination: Destination, *, title: str, tls: Tls | None = None) -> Iterator[Path]:
    """Send objects in one association; gives each as the peer confirms it.

    Raises:
        UsageError: pynetdicom isn't installed, the certificates don't load.
        RefusedError: the peer doesn't take some of them; all others were given.
        TatError: the peer can't be reached or gives up; what was confirmed before was given.
    """
    waiting = list(files)
    association = _associated(waiting, destination, title=title, tls=tls)
    refused = []
    try:
        for file in waiting:
            try:
                with LENIENCE:
                    status = association.send_c_store(file).get("Status")
            except ValueError as error:  # no transfer of this class was agreed upon
                refused.append(f"{file.name}: {error}")
                continue
            except RuntimeError as error:
                msg = f"{destination}: expected to send {file.name}, got {error}"
                raise TatError(msg) from error
            if status in (_SUCCESS, _DUPLICATE) or status in _WARNINGS:
                yield file
            elif status is None or status in _FULL:
                got = "no answer" if status is None else f"status {status:#06x}"
                msg = f"{destination}: expected {file.name} to be stored, got {got}"
                raise TatError(msg)
            else:
                refused.append(f"{file.name}: status {status:#06x}")
    finally:
        association.release()
    if refused:
        msg = f"{destination}: expected all to be stored, got {len(refused)} refused, the first {refused[0]}"
        raise RefusedError(msg)


def _associated(files: Iterable[Path], destination: Destination, *, title: str, tls: Tls | None) -> Any:
    """An association for these objects."""
    import pydicom

    network = _pynetdicom()
    entity = network.AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
    entity.connection_timeout = _PATIENCE  # with TLS the handshake, too
    classes = {str(pydicom.dcmread(file, stop_before_pixels=True).SOPClassUID) for file in files}
    for sop_class in sorted(classes):
        for syntax in _SYNTAXES:  # in contexts of their own: of one with both, the peer would choose
            entity.add_requested_context(sop_class, syntax)
    secured = None if tls is None else (tls.context(server=False), destination.host)
    try:
        association = entity.associate(
            destination.host,
            destination.port,
            ae_title=destination.title,
            tls_args=secured,
            evt_handlers=[(network.evt.EVT_CONN_OPEN, _opened)],
        )
    except OSError as error:  # no address is known for its name
        msg = f"{destination}: expected an association, got {reason_of(error)}; check the host's name"
        raise TatError(msg) from error
    if not association.is_established and association.rejected_contexts:
        msg = f"{destination}: expected it to take objects of {', '.join(sorted(classes))}, got a refusal"
        raise RefusedError(msg)
    if association.is_rejected:
        answer = association.acceptor.primitive
        msg = f"{destination}: expected an association of {title}, got {answer.result_str}: {answer.reason_str}"
        raise TatError(msg)
    if not association.is_established:
        msg = f"{destination}: expected an association, got none; is the peer up, and does it know {title}?"
        raise TatError(msg)
    return association


def _break_off(associations: list[Any]) -> None:
    """End associations of a node that stops: they would go on storing, and keep the process for as long as they last.

    A-ABORT tells a peer to send again later what wasn't confirmed; who said nothing yet, or half, just loses the line.
    """
    aborting = [Thread(target=each.abort, daemon=True) for each in associations if each.is_established]
    for thread in aborting:
        thread.start()
    end = time.monotonic() + _FAREWELL
    for thread in aborting:
        thread.join(max(0.0, end - time.monotonic()))
    for association in associations:
        with suppress(AttributeError, OSError):  # it is closed already
            association.dul.socket.socket.shutdown(socket.SHUT_RDWR)


def _opened(event: Any) -> None:
    """Give up a peer that goes silent within a message.

    Else it keeps its association, one of all places, for ever; and where it doesn't read on, all that waits to be sent.
    """
    event.assoc.dul.socket.socket.settimeout(_PATIENCE)


def _pynetdicom() -> Any:
    try:
        return import_module("pynetdicom")
    except ImportError:
        msg = "tat node: expected the package pynetdicom, got none; pip install 'tatcli[node]'"
        raise UsageError(msg) from None
