"""``tat node``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tatcli.cli import console
from tatcli.cli.options import DeviceOption
from tatcli.errors import UsageError

__all__ = ["node"]


def node(
    spool: Annotated[
        Path, typer.Option(metavar="FOLDER", show_default=False, help="Keeps what was received until it is delivered.")
    ],
    to: Annotated[
        list[str],
        typer.Option(metavar="AET@HOST:PORT", show_default=False, help="Where results go; repeatable."),
    ],
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY[:PATTERN]=TASK",
            show_default="CT, PT and MR by modality",
            help="Which series are restored, by modality and description (* and ?); repeatable, the first fit counts.",
        ),
    ] = None,
    aet: Annotated[str, typer.Option(metavar="AET", help="The node's AE title.")] = "TAT",
    bind: Annotated[str, typer.Option(metavar="ADDRESS", help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port; 0: any free one.")] = 11112,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="AET", show_default="any, from this machine", help="AE titles that may call; repeatable."),
    ] = None,
    associations: Annotated[int, typer.Option(metavar="N", min=1, help="Associations at a time.")] = 10,
    settle: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="A series is complete when nothing came for so long.")
    ] = 30.0,
    keep: Annotated[float, typer.Option(metavar="HOURS", min=0, help="How long delivered series stay.")] = 24.0,
    tls_cert: Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: the node's certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: its key.")] = None,
    tls_ca: Annotated[Path | None, typer.Option(metavar="PEM", help="TLS: who signs the peers' certificates.")] = None,
    weights: Annotated[str | None, typer.Option(metavar="NAME|PATH", show_default="tat-small", help="Weights.")] = None,
    device: DeviceOption = "auto",
    uid_root: Annotated[
        str | None, typer.Option(metavar="UID", show_default="2.25, UUIDs", help="Where new UIDs are made.")
    ] = None,
) -> None:
    """A DICOM node: receives series, restores them, sends them on. Not for diagnosis.

    Everything received is on disk before it is confirmed. Stop it with Ctrl-C; a later run goes on.
    """
    from tatcli.networking.addresses import Destination, Listener, Tls
    from tatcli.volumes.dicom_options import DicomOptions
    from tatcli.workflows.node import NodeConfig, Rule, run_node

    if tls_cert is not None and tls_key is not None and tls_ca is not None:
        tls = Tls(certificate=tls_cert, key=tls_key, authority=tls_ca)
    elif tls_cert is tls_key is tls_ca is None:
        tls = None
    else:
        msg = "--tls-cert, --tls-key, --tls-ca: expected all three or none, got some"
        raise UsageError(msg)
    config = NodeConfig(
        spool=spool,
        listener=Listener(
            title=aet, host=bind, port=port, allowed=tuple(allow or ()), associations=associations, tls=tls
        ),
        destinations=tuple(map(Destination.parse, to)),
        rules=tuple(map(Rule.parse, rule or ())),
        weights=weights,
        device=device,
        dicom=DicomOptions(reproducible=True, uid_root=uid_root),
        settle=settle,
        keep=keep,
    )
    run_node(config, say=console.note)
