"""Untrusted HDF5 files: a data set is read only if all of its values are stored in the file itself."""

from __future__ import annotations

import os
from typing import Any

import h5py

__all__ = ["UNREADABLE", "own"]

UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError, AttributeError, MemoryError,
              ArithmeticError, AssertionError, EOFError)  # fmt: skip


DENSEST = 1100  # bytes that a stored byte can stand for: deflate packs 1032
SMALL = 1 << 20
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def own(group: Any, name: str) -> Any:
    """Return an object in a group by name; ValueError if it points into another file.

    Also ValueError if its declared size exceeds what its stored bytes can hold, which would exhaust memory.

    HDF5 knows links to other files, values in raw files beside it, and views of other files: each could expose any file
    readable by the user as if it were data.
    """
    node = group
    for part in name.split("/"):
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"'{name}' is a link, not a part of the file")
        node = node[part]
    if isinstance(node, h5py.Dataset) and (node.external or node.is_virtual):
        raise ValueError(f"the values of '{name}' stand in another file")
    if isinstance(node, h5py.Dataset) and node.nbytes > SMALL + DENSEST * node.id.get_storage_size():
        raise ValueError(f"'{name}' claims {node.nbytes} bytes, and {node.id.get_storage_size()} are stored")
    if isinstance(node, h5py.Dataset) and node.nbytes > MEMORY // 2:
        raise ValueError(f"'{name}' claims {node.nbytes} bytes, more than half of the memory of this machine")
    return node
