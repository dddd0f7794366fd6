"""Meshes of parts: built-in ones, and anything that meshio reads. Lengths in m."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msvae.errors import DataError
from msvae.structures import Array

__all__ = ["bar", "centres", "element_means", "element_of", "notched_beam", "plate_with_hole", "read_mesh", "save_mesh"]

ELEMENTS = {"MeshTri": ("TriP1", "TriP2"), "MeshQuad": ("Quad1", "Quad2"),
            "MeshTet": ("TetP1", "TetP2"), "MeshHex": ("Hex1", "Hex2")}  # fmt: skip


def bar(lengths: Sequence[float], cells: Sequence[int]) -> Any:
    """Return a mesh of quadrilaterals or hexahedra of a rectangle or box with a corner at the origin."""
    from skfem import MeshHex, MeshQuad

    if len(lengths) not in (2, 3) or len(cells) != len(lengths) or min(cells) < 1 or min(lengths) <= 0:
        raise DataError(f"a bar has 2 or 3 positive lengths and as many numbers of cells, found {lengths} and {cells}")
    axes = [np.linspace(0, length, n + 1) for length, n in zip(lengths, cells, strict=True)]
    return (MeshQuad if len(lengths) == 2 else MeshHex).init_tensor(*axes)


def plate_with_hole(width: float, radius: float, cells: int, *, thickness: float | None = None, layers: int = 1) -> Any:
    """Return a square plate centred at the origin with a round hole; if it has a thickness, the hole is along z.

    cells: their number around an eighth of the hole; four times as many from the hole to the edge, finer near the hole.
    """
    from skfem import MeshQuad

    if not 0 < 2 * radius < width or cells < 1:
        raise DataError(f"a hole of radius {radius:g} m does not fit a plate of {width:g} m, or {cells} cells are none")
    around, outwards = 8 * cells, 4 * cells
    angles = 2 * np.pi * np.arange(around) / around
    edge = width / 2 / np.maximum(np.abs(np.cos(angles)), np.abs(np.sin(angles)))
    share = np.linspace(0, 1, outwards + 1)[:, None] ** 2
    radii = radius + share * (edge - radius)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)]).reshape(2, -1)
    ring, line = np.meshgrid(np.arange(outwards), np.arange(around), indexing="ij")
    beyond = (line + 1) % around
    corners = [ring * around + line, (ring + 1) * around + line, (ring + 1) * around + beyond, ring * around + beyond]
    plate = MeshQuad(points, np.stack([c.ravel() for c in corners]))
    return plate if thickness is None else _extruded(plate, np.linspace(0, thickness, layers + 1))


def _extruded(mesh: Any, heights: Array) -> Any:
    """Extrude quadrilaterals along z to hexahedra."""
    from skfem import MeshHex
    from skfem.refdom import RefHex, RefQuad

    n = mesh.p.shape[1]
    points = np.concatenate([np.vstack([mesh.p, np.full(n, z)]) for z in heights], axis=1)
    corner = {tuple(RefQuad.p[:, k]): k for k in range(4)}
    vertices = [(corner[tuple(v[:2])], int(v[2])) for v in RefHex.p.T]
    layers = [np.stack([mesh.t[k] + (z + up) * n for k, up in vertices]) for z in range(len(heights) - 1)]
    return MeshHex(points, np.concatenate(layers, axis=1))


def notched_beam(lengths: Sequence[float], cells: Sequence[int], notch: tuple[float, float]) -> Any:
    """Return a bar with a notch of this width and depth, m, at the middle of its lower side (along its last axis)."""
    whole = bar(lengths, cells)
    width, depth = notch
    middle = centres(whole)
    cut = (np.abs(middle[:, 0] - lengths[0] / 2) < width / 2) & (middle[:, -1] < depth)
    if not cut.any() or cut.all() or depth >= lengths[-1]:
        raise DataError(f"a notch of {width:g} x {depth:g} m cuts {cut.sum()} of {len(cut)} cells: give others")
    return whole.remove_elements(np.flatnonzero(cut))


def read_mesh(path: Path) -> Any:
    """Return the mesh of triangles, quadrilaterals, tetrahedra or hexahedra in a file that meshio reads."""
    import meshio
    from skfem.io.meshio import from_meshio

    if not path.is_file():
        raise DataError(f"mesh '{path}' does not exist")
    try:
        return from_meshio(meshio.read(path))
    except (Exception, SystemExit) as error:  # meshio's readers raise anything, and some call sys.exit
        raise DataError(f"'{path}' cannot be read as a mesh ({type(error).__name__}: {error})") from None


def centres(mesh: Any) -> Array:
    """Return the centre (e, d) of every element in m."""
    return np.asarray(mesh.p[:, mesh.t].mean(axis=1).T)


def element_means(field: Array, volumes: Array) -> Array:
    """Return the means (..., e) of a field (..., e, q) over elements whose quadrature points have volumes (e, q)."""
    return np.asarray((field * volumes).sum(axis=-1) / volumes.sum(axis=-1))


def element_of(mesh: Any, *, quadratic: bool = False) -> Any:
    """Return the scalar Lagrange element of first or second order that fits a mesh's cells."""
    import skfem

    kind = type(mesh).__name__
    pair = next((names for prefix, names in ELEMENTS.items() if kind.startswith(prefix)), None)
    if pair is None:
        raise DataError(f"a part is made of triangles, quadrilaterals, tetrahedra or hexahedra, found {kind}")
    return getattr(skfem, f"Element{pair[quadratic]}")()


def save_mesh(path: Path, mesh: Any, points: Mapping[str, Array], elements: Mapping[str, Array]) -> None:
    """Write a mesh, with fields on its nodes and elements, to a file of any format that meshio writes."""
    from skfem.io.meshio import to_meshio

    try:
        to_meshio(mesh, point_data=dict(points), cell_data={k: [v] for k, v in elements.items()}).write(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error.strerror}") from None
