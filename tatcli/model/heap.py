"""Free heap pages handed back to the system, where the C library can (glibc).

Maps of the lower levels leave holes in the heap that the larger maps of the first level don't fit into; without this a
pass over a 512x512 slice holds some hundred megabytes that nobody uses. It changes no setting of the allocator.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

__all__ = ["release_free_pages"]


def release_free_pages() -> None:
    """Return what is free to the system; nothing where the C library isn't glibc."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None
