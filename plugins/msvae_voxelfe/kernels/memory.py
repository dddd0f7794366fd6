"""Memory in large pages where the system has them: address translation of small ones costs a tenth of the time."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Any

import numpy as np

from msvae import Array

__all__ = ["side_by_side"]

LARGE, LINE = 1 << 21, 64  # bytes of a large page, and of a line of the cache
ENOUGH = 1 << 25  # bytes of an array, from which on numpy and the system get large pages by themselves


def side_by_side(*wanted: tuple[tuple[int, ...], Any]) -> list[Array]:
    """Return arrays of these shapes and types, not initialised, in one piece of memory if they are small.

    Each begins at a line of the cache then. Such a piece is slow to come by: keep it.
    """
    sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in wanted]
    if min(sizes) >= ENOUGH:
        return [np.empty(shape, dtype) for shape, dtype in wanted]
    # not a whole number of pages apart: the same places of all arrays would share the same lines of the cache
    places = np.cumsum([0, *(-(-size // LINE) * LINE + 5 * LINE for size in sizes)])
    piece = mmap.mmap(-1, int(places[-1]) + LARGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            piece.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(piece, dtype=np.uint8)
    memory = memory[-memory.ctypes.data % LARGE :]
    return [
        memory[place : place + size].view(dtype).reshape(shape)
        for place, size, (shape, dtype) in zip(places[:-1], sizes, wanted, strict=True)
    ]
