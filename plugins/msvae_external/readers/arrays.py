"""Arrays in HDF5 files, and fields on meshes averaged over the volume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msvae import Array
from msvae_external.failures import Failure
from msvae_external.readers.rows import taken
from msvae_external.settings import Reading

__all__ = ["dataset", "field_average"]

# corners of the tetrahedra and triangles that cells are made of, in the order of VTK's nodes
PARTS = {
    "triangle": ((0, 1, 2),),
    "quad": ((0, 1, 2), (0, 2, 3)),
    "tetra": ((0, 1, 2, 3),),
    "hexahedron": ((0, 1, 3, 4), (1, 2, 3, 6), (1, 3, 4, 6), (1, 4, 5, 6), (3, 4, 6, 7)),
    "wedge": ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)),
    "pyramid": ((0, 1, 2, 4), (0, 2, 3, 4)),
}


def dataset(path: Path, reading: Reading, names: Mapping[str, Any]) -> Array:
    """Return an array of an HDF5 file."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found = file[reading.dataset]
            if not isinstance(found, h5py.Dataset):
                raise Failure(f"'{reading.dataset}' is a group, not an array")
            values = np.asarray(found[()], dtype=float)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise Failure(f"HDF5 has no numbers at '{reading.dataset}' ({str(error)[:100]})") from None
    return values if reading.rows is None or not values.ndim else taken(values, reading.rows)


def field_average(path: Path, reading: Reading, names: Mapping[str, Any]) -> Array:
    """Return the mean over the volume of a field on cells or nodes; a node counts with its cells."""
    try:
        import meshio
    except ImportError:
        raise Failure("reading meshes needs the package meshio: pip install 'msvae[fields]'") from None
    try:
        mesh = meshio.read(path)
    except (Exception, SystemExit) as error:  # a border: meshio raises anything for what it cannot read
        raise Failure(f"it is not a mesh ({str(error)[:100]})") from None
    total, volume = np.zeros(()), 0.0
    for k, block in enumerate(mesh.cells):
        sizes = _sizes(mesh.points, block.type, block.data)
        if reading.field in mesh.cell_data:
            values = np.asarray(mesh.cell_data[reading.field][k], dtype=float)
        elif reading.field in mesh.point_data:
            values = np.asarray(mesh.point_data[reading.field], dtype=float)[block.data].mean(axis=1)
        else:
            raise Failure(
                f"there is no field '{reading.field}' (there are: {', '.join({**mesh.cell_data, **mesh.point_data})})"
            )
        total, volume = total + np.tensordot(sizes, values, 1), volume + sizes.sum()
    if not volume > 0:
        raise Failure("it has no cells of a volume")
    return np.asarray(total / volume)


def _sizes(points: Array, kind: str, cells: Array) -> Array:
    """Return volumes (areas in 2D) of cells with plane faces; Failure for a kind without."""
    if kind not in PARTS:
        raise Failure(f"it has cells of kind '{kind}', expected {', '.join(PARTS)}")
    found = np.zeros(len(cells))
    for part in PARTS[kind]:
        corners = points[cells[:, list(part)]]
        edges = corners[:, 1:] - corners[:, :1]
        gram = np.einsum("nik,njk->nij", edges, edges)
        found += np.sqrt(np.maximum(np.linalg.det(gram), 0)) / (2.0 if len(part) == 3 else 6.0)
    return found
