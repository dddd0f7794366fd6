"""A look at an HDF5 file: one of a run, or arrays of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from msvae.errors import DataError, did_you_mean
from msvae.files.hdf5 import UNREADABLE, own
from msvae.files.structures import read_structures
from msvae.start.pixels import FEW
from msvae.start.seen import Asked, Key, Seen
from msvae.structures import Array, Structures

__all__ = ["SUFFIXES", "look_at_arrays"]

SUFFIXES = (".h5", ".hdf5")
LEAST = 10  # structures that a model can be fitted to


def look_at_arrays(path: Path, asked: Asked) -> Seen:
    """Return what an HDF5 file holds; DataError, in one sentence, if it holds no structures."""
    table = {"name": Key("hdf5"), "path": Key(str(path.resolve()))}
    try:
        structures = read_structures(path)
        known = tuple(structures.properties)
        return Seen((_of_run(structures), f"known properties: {', '.join(known) or 'none'}"), table, known)
    except DataError as error:
        found = _arrays(path)
        if not found:
            raise error from None
    name = _chosen(path, found, asked.array)
    with h5py.File(path, "r") as file:
        values = np.asarray(own(file, name))
    return _of_array(path, name, values, asked)


def _of_run(structures: Structures) -> str:
    s = structures.specification
    place = " x ".join(map(str, s.grid.shape)) or "a point"
    return f"{len(structures)} structures of kind '{s.kind}' as msvae writes them, {place}; {', '.join(s.constituents)}"


def _arrays(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays (n, *grid) in a file, by name; none if it is no HDF5 file."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim in (3, 4) and np.issubdtype(node.dtype, np.number):
            found[name] = node.shape

    try:
        with h5py.File(path, "r") as file:
            file.visititems(note)
    except UNREADABLE:
        return {}
    return found


def _chosen(path: Path, found: dict[str, tuple[int, ...]], asked: str | None) -> str:
    names = ", ".join(f"{name} {list(shape)}" for name, shape in found.items())
    if asked is None and len(found) > 1:
        raise DataError(f"'{path}' has several arrays of structures ({names}): choose one with --array NAME")
    if asked is not None and asked not in found:
        raise DataError(f"'{path}' has no array '{asked}' of structures{did_you_mean(asked, found)} (it has: {names})")
    return asked or next(iter(found))


def _of_array(path: Path, name: str, values: Array, asked: Asked) -> Seen:
    if not np.isfinite(values).all():
        raise DataError(f"'{path}': the array '{name}' holds NaN or infinite values: repair it")
    if len(values) < LEAST:
        raise DataError(
            f"'{path}': '{name}' has {len(values)} structures, expected {LEAST} at least along its first axis"
        )
    if (values == values[:1]).all():
        raise DataError(f"'{path}': the structures in '{name}' are all alike, so there is nothing to learn")
    labels = np.unique(values)
    phases = len(labels) <= FEW and np.issubdtype(values.dtype, np.integer)
    if phases and labels.tolist() != list(range(len(labels))):
        raise DataError(
            f"'{path}': '{name}' has the labels {labels.tolist()}, expected 0, 1, ...: number its phases so"
        )
    grid = " x ".join(map(str, values.shape[1:]))
    said = [f"array '{name}': {len(values)} structures of {grid} voxels, {values.dtype}"]
    if phases:
        shares = ", ".join(f"phase {k} {100 * np.mean(values == k):.1f} %" for k in labels)
        said.append(f"labels of {len(labels)} phases: {shares} of the volume")
    else:
        said.append(f"grey values from {values.min():.4g} to {values.max():.4g}: a field; cut it to phases yourself "
                    "where a solver needs them")  # fmt: skip
    spacing = Key(asked.spacing, "m, as asked") if asked.spacing else Key(1e-6, "m - a PLACEHOLDER: give yours")
    table = {"name": Key("hdf5"), "path": Key(str(path.resolve())), "values": Key(name, "the array (n, *grid)"),
             "kind": Key("phases" if phases else "field"), "spacing": spacing,
             "periodic": Key(False, "whether a structure continues on its other side")}  # fmt: skip
    return Seen(tuple(said), table)
