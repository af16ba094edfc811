"""``python -m tatcli`` is ``tat``: where the command is on no path, and for launchers that take modules."""

from __future__ import annotations

from tatcli.cli.app import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
