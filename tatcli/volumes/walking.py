"""The folders below a folder: hidden names left out, linked folders looked into, each once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["walk_folders"]


def walk_folders(root: Path, *, on_error: Callable[[OSError], None] | None = None) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, as ``os.walk`` tells them, in a fixed order; linked folders come last.

    A link to a folder that was looked into, or that holds the root, isn't followed, so that everything comes once.

    Args:
        root: where to begin.
        on_error: called where a folder can't be listed; None: it is passed over.

    Yields:
        A folder, and the sorted names of the files in it.
    """
    begin = Path(os.path.realpath(root))
    seen: set[str] = set()
    starts = deque([root])
    while starts:
        start = starts.popleft()
        if start != root and begin.is_relative_to(os.path.realpath(start)):
            continue
        for place, folders, files in os.walk(start, onerror=on_error):
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folder = Path(place)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            starts += [folder / name for name in folders if (folder / name).is_symlink()]
            yield folder, sorted(name for name in files if not name.startswith("."))
