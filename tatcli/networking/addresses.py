"""Who a node is, who may call it, where it sends: AE titles, hosts, ports, certificates."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tatcli.errors import UsageError

__all__ = ["Destination", "Listener", "Tls"]

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class _LateHandshake(ssl.SSLContext):
    """Shakes hands where the association is served: the thread that accepts connections would wait for the peer."""

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*arguments, **(options | {"do_handshake_on_connect": False}))


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Certificates for both roles; the peers' are checked against ``authority``."""

    certificate: Path
    key: Path
    authority: Path

    def context(self, *, server: bool) -> ssl.SSLContext:
        """What Python's ssl makes of them, TLS 1.2 or later, certificates required from either side.

        Raises:
            UsageError: a file is missing or isn't PEM.
        """
        try:
            context = _LateHandshake(ssl.PROTOCOL_TLS_SERVER) if server else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(self.certificate, self.key)
            context.load_verify_locations(self.authority)
        except (OSError, ssl.SSLError) as error:
            msg = f"--tls-cert, --tls-key, --tls-ca: expected PEM files, got ones that don't load ({error})"
            raise UsageError(msg) from error
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def _is_title(text: str) -> bool:
    """Whether this is an AE title (PS3.5 table 6.2-1)."""
    return 0 < len(text) <= 16 and not text.isspace() and text.isascii() and text.isprintable() and "\\" not in text


def _is_host(text: str) -> bool:
    """Whether this may be a host's name or address."""
    try:
        return bool(text.encode("idna")) and not any(letter.isspace() for letter in text)
    except UnicodeError:  # a part of it is empty or too long
        return False


@dataclass(frozen=True)
class Destination:
    """Where derived series go: AETITLE@HOST:PORT, an IPv6 address in brackets."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Read AETITLE@HOST:PORT.

        Raises:
            UsageError: it isn't one.
        """
        title, at, place = text.partition("@")
        host, colon, port = place.rpartition(":")
        title = title.strip()
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not (at and colon and _is_host(host) and _is_title(title) and port.isdecimal() and 0 < int(port) < 2**16):
            msg = f"--to {text!r}: expected AETITLE@HOST:PORT"
            raise UsageError(msg)
        return cls(title, host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.title}@{host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Listener:
    """How a node is reached.

    Attributes:
        title: its AE title, which callers must use.
        host, port: where it listens.
        allowed: AE titles that may call; empty: any, on the loopback interface only.
        associations: at a time.
        tls: encryption, or None.

    Raises:
        UsageError: other machines may call, but none is named; a title is none.
    """

    title: str = "TAT"
    host: str = "127.0.0.1"
    port: int = 11112
    allowed: tuple[str, ...] = ()
    associations: int = 10
    tls: Tls | None = None

    def __post_init__(self) -> None:
        for option, title in (("--aet", self.title), *(("--allow", caller) for caller in self.allowed)):
            if not _is_title(title):
                msg = f"{option} {title!r}: expected an AE title, 1 to 16 ASCII characters without a backslash"
                raise UsageError(msg)
        if self.host not in _LOOPBACK and not self.allowed:
            msg = f"--bind {self.host}: expected --allow with the AE titles that may call from other machines, got none"
            raise UsageError(msg)
