"""Output of fields on the voxels of a structure: files for ParaView, and pictures of a slice.

A grid becomes a mesh of quadrilaterals or hexahedra, written by meshio (.vtu, .vtk, .xdmf): large files, but widely
supported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from msvae.errors import DataError
from msvae.structures import Array, Grid

__all__ = ["save_fields", "save_slice"]

CELLS = {2: "quad", 3: "hexahedron"}
CORNERS = {2: ((0, 0), (1, 0), (1, 1), (0, 1)),
           3: ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1))}  # fmt: skip


def save_fields(path: Path, grid: Grid, fields: Mapping[str, Array]) -> None:
    """Write fields (*grid) or (*grid, components) in the format of the file's extension; DataError if unknown."""
    try:
        import meshio
    except ImportError:
        raise DataError(f"'{path}' needs the package meshio: pip install 'msvae[fields]'") from None
    d = grid.dimensions
    places = np.meshgrid(*(h * np.arange(n + 1) for n, h in zip(grid.shape, grid.spacing, strict=True)), indexing="ij")
    points = np.zeros((places[0].size, 3))
    points[:, :d] = np.stack([p.ravel() for p in places], axis=1)
    numbers = np.arange(places[0].size).reshape(places[0].shape)
    corners = [numbers[tuple(slice(o, o + n) for o, n in zip(c, grid.shape, strict=True))].ravel() for c in CORNERS[d]]
    data = {name: [np.asarray(a).reshape(len(corners[0]), -1).squeeze(axis=1) if a.ndim == d else
                   np.asarray(a).reshape(len(corners[0]), -1)] for name, a in fields.items()}  # fmt: skip
    try:
        meshio.write(path, meshio.Mesh(points, [(CELLS[d], np.stack(corners, axis=1))], cell_data=data))
    except (OSError, KeyError, meshio.WriteError) as error:
        raise DataError(f"'{path}' cannot be written ({error}): give a path ending in .vtu, .vtk or .xdmf") from None


def save_slice(path: Path, grid: Grid, name: str, field: Array) -> None:
    """Draw the middle slice of a field (*grid), lengths in micrometres, to a picture."""
    from matplotlib.figure import Figure

    values = field[grid.shape[0] // 2] if grid.dimensions == 3 else field
    height, width = (1e6 * length for length in grid.lengths[-2:])
    figure = Figure(figsize=(4.6, 3.8), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(values, extent=(0, width, height, 0), cmap="viridis", interpolation="nearest")
    axis.set(xlabel=f"axis {grid.dimensions - 1} (µm)", ylabel=f"axis {grid.dimensions - 2} (µm)", title=name)
    figure.colorbar(image)
    figure.savefig(path, dpi=150)
