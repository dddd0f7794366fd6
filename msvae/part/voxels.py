"""A fully resolved part, with a finite element per solid voxel, for loads that periodic cells cannot represent."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from msvae.errors import DataError
from msvae.part import meshes
from msvae.part.problem import Problem, Response
from msvae.plugins.interfaces import Solver
from msvae.structures import Array, Grid, Structures

__all__ = ["phase_stiffnesses", "resolve"]

LARGEST = 250_000  # degrees of freedom that the direct solver takes


def phase_stiffnesses(solver: Solver, structures: Structures) -> list[Array | None]:
    """Return the solver's stiffness (v, v) of every phase; None for an empty phase."""
    grid = structures.specification.grid
    small = Grid.of((2,) * grid.dimensions, grid.spacing)
    found: list[Array | None] = []
    for phase in range(len(structures.specification.constituents)):
        names = structures.specification.constituents
        uniform = Structures.from_labels(np.full((1, *small.shape), phase), grid.spacing, phases=names)
        properties = solver.evaluate(uniform)
        matrix = np.asarray(properties["stiffness"][0])
        found.append(matrix if np.isfinite(matrix).all() and matrix.any() else None)
    return found


def resolve(structure: Structures, solver: Solver, problem: Problem) -> Response:
    """Return the response of an elastic part of voxels, with the supports of a part with the same edges.

    Only voxels connected to the held faces are solved for; loose islands and empty voxels are left out.
    """
    stiffness = phase_stiffnesses(solver, structure)
    grid, labels = structure.specification.grid, structure.values[0, 0]
    solid = np.isin(labels, [k for k, c in enumerate(stiffness) if c is not None])
    held = _connected(solid, problem.settings.axis)
    if not held.any():
        raise DataError("the part's two loaded faces are not connected: it carries no load")
    nodes = np.prod([n + 1 for n in grid.shape]) * grid.dimensions
    if nodes > LARGEST:
        raise DataError(f"a part of {nodes} degrees of freedom cannot be resolved, at most {LARGEST} can")
    whole = meshes.bar(grid.lengths, grid.shape)
    place = tuple(np.floor(meshes.centres(whole) / grid.spacing).astype(int).T)
    kept = np.flatnonzero(held[place])
    size = grid.dimensions * (grid.dimensions + 1) // 2
    table = np.stack([np.zeros((size, size)) if c is None else c for c in stiffness])
    mesh = whole.remove_elements(np.setdiff1d(np.arange(whole.nelements), kept))
    return Problem(problem.settings, given=mesh).respond({"stiffness": table[labels[place][kept]]})


def _connected(solid: Array, axis: int) -> Array:
    """Return the solid voxels (*grid) that are face-connected to both ends along an axis."""
    names, _ = ndimage.label(solid)
    first, last = (np.unique(np.take(names, index, axis=axis)) for index in (0, -1))
    both = np.setdiff1d(np.intersect1d(first, last), [0])
    return np.asarray(np.isin(names, both))
