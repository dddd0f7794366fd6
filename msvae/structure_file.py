"""Structures on disk: one HDF5 file with values, specification and properties, discrete values packed to few bits.

/values                 (n, channels, *grid), or packed bits of binary ones
/properties/NAME        (n, *shape), attribute "unit"
/groups                 (n,)
/positions/corners      (n, axes), attribute "periods"; /positions/images (n,)
attributes              kind, channels, shape, spacing, periodic, constituents, packed
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from msvae.errors import DataError
from msvae.hdf5_safety import UNREADABLE, own
from msvae.positions import Positions
from msvae.structures import Array, Grid, Quantity, Specification, Structures

__all__ = ["packed_values", "read_structures", "structures_to_bytes", "unpacked_values"]


def structures_to_bytes(structures: Structures) -> bytes:
    """Return the content of an HDF5 file with these structures."""
    buffer = io.BytesIO()
    s = structures.specification
    packed = _packs(s)
    with h5py.File(buffer, "w") as file:
        values = packed_values(structures) if packed else structures.values
        file.create_dataset("values", data=values, compression="gzip" if values.size else None)
        file.attrs.update(
            kind=s.kind,
            channels=s.channels,
            shape=s.grid.shape,
            spacing=s.grid.spacing,
            periodic=s.grid.periodic,
            constituents=list(s.constituents),
            packed=packed,
        )
        for q in structures.quantities:
            file.create_dataset(f"properties/{q.name}", data=structures.properties[q.name]).attrs["unit"] = q.unit
        if structures.groups is not None:
            file["groups"] = structures.groups
        if structures.positions is not None:
            file["positions/corners"] = structures.positions.corners
            file["positions/corners"].attrs["periods"] = structures.positions.periods
            file["positions/images"] = structures.positions.image_of_each
    return buffer.getvalue()


def read_structures(path: Path, index: Array | None = None) -> Structures:
    """Return the structures of a file, or those of an increasing index; DataError if it is not such a file."""
    try:
        with h5py.File(path, "r") as file:
            return _read(file, slice(None) if index is None else np.asarray(index))
    except UNREADABLE as error:
        raise DataError(
            f"'{path}' is not a file of structures ({error}): expected HDF5 with the dataset 'values' and the "
            "attributes kind, shape, spacing, periodic and constituents"
        ) from None


def packed_values(structures: Structures) -> Array:
    """Return the values of structures as bytes (n, size): one bit for each site where there are two constituents."""
    rows = np.ascontiguousarray(structures.values).reshape(len(structures), math.prod(structures.specification.shape))
    return np.packbits(rows, axis=1) if _packs(structures.specification) else rows.view(np.uint8)


def unpacked_values(packed: Array, specification: Specification) -> Array:
    """Return values (n, channels, *grid) from what `packed_values` made of them."""
    size = math.prod(specification.shape)
    width = -(-size // 8) if _packs(specification) else size * specification.dtype.itemsize
    if packed.ndim != 2 or packed.shape[1] != width:
        raise ValueError(f"structures of shape {specification.shape} take {width} bytes each, found {packed.shape[1:]}")
    rows = np.unpackbits(packed, axis=1, count=size) if _packs(specification) else packed.view(specification.dtype)
    return rows.reshape(len(packed), *specification.shape)


def _packs(specification: Specification) -> bool:
    return specification.is_discrete and len(specification.constituents) == 2


def _read(file: Any, rows: Any) -> Structures:
    a = file.attrs
    grid = Grid(
        tuple(int(n) for n in a["shape"]), tuple(float(h) for h in a["spacing"]), tuple(bool(p) for p in a["periodic"])
    )
    kind: Any = str(a["kind"])
    specification = Specification(kind, int(a["channels"]), grid, tuple(str(c) for c in a["constituents"]))
    values = own(file, "values")[rows]
    if bool(a["packed"]):
        values = unpacked_values(values, specification)
    names = list(own(file, "properties")) if "properties" in file else []
    stored = {name: own(file, f"properties/{name}") for name in names}
    quantities = tuple(Quantity(k, str(v.attrs["unit"]), v.shape[1:]) for k, v in stored.items())
    groups = own(file, "groups")[rows] if "groups" in file else None
    properties = {k: v[rows] for k, v in stored.items()}
    return Structures(values, specification, properties, quantities, groups, _positions(file, rows))


def _positions(file: Any, rows: Any) -> Positions | None:
    if "positions" not in file:
        return None
    corners = own(file, "positions/corners")
    periods = tuple(int(p) for p in corners.attrs["periods"])
    return Positions(corners[rows], own(file, "positions/images")[rows], periods)
