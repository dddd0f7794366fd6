"""Detection of leaks: overlap between the held-out set and the training set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from msvae.structures import Array, Structures
from msvae.structures.splits import blank

__all__ = ["leak"]


def leak(structures: Structures, train: Array, held_out: Array) -> str:
    """Return one sentence on the overlap of held-out with training structures (indices); "" if there is none.

    Overlap means common groups, equal contents, or windows on the same page of an image less than a window apart.
    Without positions it also means common blocks of half a window, unless these have hardly any pattern. Uniform
    structures are ignored.
    """
    if structures.groups is not None and set(structures.groups[train]) & set(structures.groups[held_out]):
        return "a group has structures on both sides of the split"
    ids, some = np.array(structures.ids), ~blank(structures)
    train, held_out = train[some[train]], held_out[some[held_out]]
    if set(ids[train]) & set(ids[held_out]):
        return "the same structure is on both sides of the split"
    if structures.positions is not None:
        shape = structures.specification.grid.shape
        places = np.column_stack([structures.positions.image_of_each, structures.positions.corners])
        pages, corners = np.hsplit(places, [places.shape[1] - len(shape)])
        for k in held_out:
            same = (pages[train] == pages[k]).all(axis=1)
            if (np.abs(corners[train] - corners[k]) < 2 * np.array(shape)).all(axis=1)[same].any():
                return f"structure {k} is held back, and a window less than its size away is trained on"
        return ""
    known = set().union(*(_blocks(structures.values[k]) for k in train))
    shared = [k for k in held_out if not known.isdisjoint(_blocks(structures.values[k]))]
    if not shared:
        return ""
    return f"structure {shared[0]} is held back, and a part of it is trained on: give Structures groups, or positions"


def _blocks(values: Array) -> Iterator[bytes]:
    """Yield the blocks of half the size of a structure (channels, *grid) that have a recognisable pattern."""
    if values.ndim == 1:
        return
    size = tuple(-(-n // 2) for n in values.shape[1:])
    faces = 3 * max(size) ** (len(size) - 1)
    for corner in np.ndindex(*(n - b + 1 for n, b in zip(values.shape[1:], size, strict=True))):
        block = values[(slice(None), *(slice(c, c + b) for c, b in zip(corner, size, strict=True)))]
        if sum(int((np.diff(block, axis=k) != 0).sum()) for k in range(1, block.ndim)) >= faces:
            yield block.tobytes()
