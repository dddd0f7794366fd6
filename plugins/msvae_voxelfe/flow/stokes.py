"""Stokes flow through the pores of a voxel structure, on a staggered (marker-and-cell) grid.

    -mu lap u + grad p = g,   div u = 0,   u = 0 on the solid      (Harlow and Welch 1965, Phys. Fluids 8, 2182)

Pressures live in pore voxels, velocities on the faces between them; a wall that a velocity runs along is half a voxel
away. The pressure is found by conjugate gradients on the Schur complement D A^-1 D^T; A is a Laplacian with no-slip
walls everywhere, well conditioned because pores are narrow. From one pore to the next the complement is that of Darcy's
law, with the local permeability that a force without pressure shows, and within a pore it is close to the identity: the
sum of both inverses preconditions it (after Cahouet and Chabard 1988, Int. J. Numer. Methods Fluids 8, 869). What is
asked for, the dissipation, is stationary at the solution: its error is quadratic in that of the pressure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from msvae import Array
from msvae_voxelfe.flow.faces import Faces, faces_along
from msvae_voxelfe.flow.schur import DarcySolver, DiagonalSolver, Schur
from msvae_voxelfe.flow.wall_error import overestimate

INNER = 0.1  # relative residual of a velocity solve, over the tolerance
BLOCK = 6  # voxels along the edge of a block of Darcy's coarse problem


@dataclass(frozen=True, eq=False)
class Flow:
    """The flow that a unit pressure gradient along one axis drives, at unit viscosity and spacing of the first axis.

    mean: velocities (d,) averaged over the whole structure. velocity: (d, *grid), at the voxel centres.
    error: estimate of what iterations left, relative to the velocity along the axis.
    overestimate: by how much the mean along the axis is above that on ever finer voxels, estimated; NaN if it is not.
    """

    mean: Array
    velocity: Array
    error: float
    overestimate: float
    iterations: int


def flow_along(
    axis: int, fluid: Array, spacing: Sequence[float], *, periodic: bool, tolerance: float, limit: int,
    stairs: bool = True,
) -> Flow:  # fmt: skip
    """Return the flow that a unit pressure gradient along an axis drives; StokesError if it does not converge."""
    density = spacing[0] / np.asarray(spacing, dtype=np.float64)
    number = np.where(fluid, np.cumsum(fluid.ravel()).reshape(fluid.shape) - 1, -1)
    reservoir = None if periodic else axis
    faces = [
        faces_along(a, number, density, periodic=periodic, reservoir=reservoir, stairs=stairs)
        for a in range(fluid.ndim)
    ]
    count = int(fluid.sum())
    divergence = [density[f.axis] * _divergence(f, count) for f in faces]
    force = [f.volume if f.axis == axis else np.zeros(len(f.volume)) for f in faces]

    inner = max(INNER * tolerance, 1e-6)
    solvers = [DiagonalSolver(f.laplacian) for f in faces]

    def velocities(right: Sequence[Array]) -> list[Array]:
        return [solve(b, inner) for solve, b in zip(solvers, right, strict=True)]

    def schur(p: Array) -> Array:
        moved = velocities([d.T @ p for d in divergence])
        return np.asarray(sum(d @ u for d, u in zip(divergence, moved, strict=True)))

    local = velocities([f.volume for f in faces])  # that a force without pressure drives
    free = [u if f.axis == axis else np.zeros_like(u) for f, u in zip(faces, local, strict=True)]
    dissipated = sum(float(g @ u) for g, u in zip(force, free, strict=True))
    outflow = np.asarray(sum(d @ u for d, u in zip(divergence, free, strict=True)))
    system = Schur(
        schur, DarcySolver(divergence, [u / f.volume for f, u in zip(faces, local, strict=True)], _blocks(fluid))
    )
    pressure, error, used = system.solve(outflow, dissipated, tolerance=tolerance, limit=limit)
    solved = velocities([g - d.T @ pressure for g, d in zip(force, divergence, strict=True)])
    mean = [float(f.volume @ u) / fluid.size for f, u in zip(faces, solved, strict=True)]
    velocity = np.zeros((fluid.ndim, *fluid.shape))
    for f, u in zip(faces, solved, strict=True):
        velocity[f.axis][fluid] = _at_centres(f, u, count)
    above = overestimate(fluid, faces, solved, density, reservoir=reservoir) if stairs else np.nan
    return Flow(np.array(mean), velocity, error, above, used)


def _blocks(fluid: Array) -> Array:
    """Return the numbers of the blocks that the pore voxels lie in."""
    numbers = np.zeros(fluid.shape, dtype=np.int64)
    for n, places in zip(fluid.shape, np.ogrid[tuple(map(slice, fluid.shape))], strict=True):
        numbers = numbers * (n // BLOCK + 1) + places // BLOCK
    return np.asarray(numbers[fluid])


def _at_centres(faces: Faces, velocities: Array, count: int) -> Array:
    """Return the mean (count,) of the velocities on the two faces of each pressure cell; walls are at rest."""
    total = np.zeros(count)
    for cells in faces.cells.T:
        inside = cells >= 0
        total += np.bincount(cells[inside], velocities[inside], minlength=count)
    return total / 2


def _divergence(faces: Faces, count: int) -> sparse.csr_array:
    """Return the matrix from velocities to the outflow of every pressure cell."""
    rows, columns, values = [], [], []
    for side, sign in ((0, 1.0), (1, -1.0)):
        inside = faces.cells[:, side] >= 0
        rows.append(faces.cells[inside, side])
        columns.append(np.flatnonzero(inside))
        values.append(np.full(int(inside.sum()), sign))
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_array(entries, shape=(count, len(faces.cells)))
