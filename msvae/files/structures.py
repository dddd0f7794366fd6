"""Structures on disk: one HDF5 file with values, specification and properties, discrete values packed to few bits.

/values                 (n, channels, *grid), or packed bits of binary ones
/properties/NAME        (n, *shape), attribute "unit"
/groups                 (n,)
/positions/corners      (n, axes), attribute "periods"; /positions/images (n,)
attributes              kind, channels, shape, spacing, periodic, constituents, packed; sha256 of all of this, which
                        files of older versions do not have, and files that others write do not need
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from msvae.errors import DataError
from msvae.files.border import opened
from msvae.files.hdf5 import UNREADABLE, own
from msvae.structures import Array, Grid, Quantity, Specification, Structures
from msvae.structures.positions import Positions

__all__ = ["packed_values", "read_structures", "structures_to_bytes", "unpacked_values"]


def structures_to_bytes(structures: Structures) -> bytes:
    """Return the content of an HDF5 file with these structures."""
    buffer = io.BytesIO()
    s = structures.specification
    arrays = {"values": packed_values(structures) if _packs(s) else structures.values}
    arrays |= {f"properties/{q.name}": structures.properties[q.name] for q in structures.quantities}
    if structures.groups is not None:
        arrays["groups"] = np.asarray(structures.groups)
    if structures.positions is not None:
        arrays |= {"positions/corners": structures.positions.corners}
        arrays |= {"positions/images": structures.positions.image_of_each}
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            zipped = "gzip" if name == "values" and array.size else None
            file.create_dataset(name, data=array, compression=zipped)
        for q in structures.quantities:
            file[f"properties/{q.name}"].attrs["unit"] = q.unit
        if structures.positions is not None:
            file["positions/corners"].attrs["periods"] = structures.positions.periods
        file.attrs.update(
            kind=s.kind,
            channels=s.channels,
            shape=s.grid.shape,
            spacing=s.grid.spacing,
            periodic=s.grid.periodic,
            constituents=list(s.constituents),
            packed=_packs(s),
            sha256=_digest(s, structures.quantities, structures.positions, arrays),
        )
    return buffer.getvalue()


def read_structures(path: Path, index: Array | None = None) -> Structures:
    """Return the structures of a file, or those at increasing indices; DataError if it is not such a file."""
    try:
        with opened(path) as content, h5py.File(content, "r") as file:
            return _read(file, index)
    except UNREADABLE as error:
        raise DataError(
            f"'{path}' is not a file of structures ({error}): expected HDF5 with the dataset 'values' and the "
            "attributes kind, shape, spacing, periodic and constituents"
        ) from None


def packed_values(structures: Structures) -> Array:
    """Return the values of structures as bytes (n, size): one bit per site if there are two constituents."""
    rows = np.ascontiguousarray(structures.values).reshape(len(structures), math.prod(structures.specification.shape))
    return np.packbits(rows, axis=1) if _packs(structures.specification) else rows.view(np.uint8)


def unpacked_values(packed: Array, specification: Specification) -> Array:
    """Return the values (n, channels, *grid) that `packed_values` packed."""
    size = math.prod(specification.shape)
    width = -(-size // 8) if _packs(specification) else size * specification.dtype.itemsize
    if packed.ndim != 2 or packed.shape[1] != width:
        raise ValueError(f"structures of shape {specification.shape} take {width} bytes each, found {packed.shape[1:]}")
    rows = np.unpackbits(packed, axis=1, count=size) if _packs(specification) else packed.view(specification.dtype)
    return rows.reshape(len(packed), *specification.shape)


def _packs(specification: Specification) -> bool:
    return specification.is_discrete and len(specification.constituents) == 2


def _read(file: Any, index: Array | None) -> Structures:
    a, rows = file.attrs, slice(None) if index is None else np.asarray(index)
    grid = Grid(
        tuple(int(n) for n in a["shape"]), tuple(float(h) for h in a["spacing"]), tuple(bool(p) for p in a["periodic"])
    )
    kind: Any = str(a["kind"])
    specification = Specification(kind, int(a["channels"]), grid, tuple(str(c) for c in a["constituents"]))
    quantities = []
    for name in own(file, "properties") if "properties" in file else ():
        stored = own(file, f"properties/{name}")
        quantities.append(Quantity(name, str(stored.attrs["unit"]), stored.shape[1:]))
    names = ["values", *(f"properties/{q.name}" for q in quantities)]
    names += ["groups"] if "groups" in file else []
    names += ["positions/corners", "positions/images"] if "positions" in file else []
    arrays = {name: own(file, name)[rows] for name in names}
    positions = _positions(file, arrays)
    values = unpacked_values(arrays["values"], specification) if bool(a["packed"]) else arrays["values"]
    if index is None and "sha256" in a and a["sha256"] != _digest(specification, quantities, positions, arrays):
        raise ValueError("its content does not have the SHA-256 that it was written with")
    properties = {q.name: arrays[f"properties/{q.name}"] for q in quantities}
    return Structures(values, specification, properties, tuple(quantities), arrays.get("groups"), positions)


def _positions(file: Any, arrays: Mapping[str, Array]) -> Positions | None:
    if "positions/corners" not in arrays:
        return None
    periods = tuple(int(p) for p in own(file, "positions/corners").attrs["periods"])
    return Positions(arrays["positions/corners"], arrays["positions/images"], periods)


def _digest(
    specification: Specification,
    quantities: Sequence[Quantity],
    positions: Positions | None,
    arrays: Mapping[str, Array],
) -> str:
    """Return the SHA-256 of a file's content."""
    grid = specification.grid
    facts = [specification.kind, specification.channels, list(grid.shape), [float(h) for h in grid.spacing],
            [bool(p) for p in grid.periodic], list(specification.constituents), {q.name: q.unit for q in quantities},
            None if positions is None else list(positions.periods)]  # fmt: skip
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()
