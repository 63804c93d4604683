"""Memory that a process of ours uses again, instead of giving it back to the system after every layer of a network.

glibc maps every block above 32 MiB by itself and unmaps it when it is freed. The maps of a layer of a network are larger than that, so each of
them is made of fresh pages, which the kernel has to find and to clear: up to a third of the time of a forward pass on a processor.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

# Numbers from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8

KEPT_BYTES = 2**30
"""Of free memory at the end of the heap, what is above this goes back at once."""


def keep_memory() -> bool:
    """Set up the whole process; to be called before it starts threads, and only in processes that are ours.

    Returns
    -------
    bool
        Whether there was something to set: glibc is what is used on nearly every Linux, and nowhere else.
    """
    libc = _libc()
    # One arena: those of threads cannot grow beyond 64 MiB, and what does not fit is mapped after all.
    return libc is not None and all([libc.mallopt(_ARENA_MAX, 1), libc.mallopt(_MMAP_MAX, 0), libc.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)])


def give_back() -> None:
    """Give the system what is free, when nothing is to be computed for a while."""
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


def _libc() -> Any:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
