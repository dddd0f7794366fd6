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
from msvae_voxelfe.schur import DarcySolver, DiagonalSolver, Schur
from msvae_voxelfe.wall_error import overestimate

INNER = 0.1  # relative residual of a velocity solve, over the tolerance
BLOCK = 6  # voxels along the edge of a block of Darcy's coarse problem


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces normal to one axis that fluid passes through.

    cells: (faces, 2), the pressure before and behind; -1 for a reservoir outside the structure.
    volume: (faces,), of the part of each face's control volume that lies inside the structure.
    laplacian: (faces, faces), minus the Laplacian, walls included, at the spacing of the first axis.
    """

    axis: int
    cells: Array
    volume: Array
    laplacian: sparse.csr_array


def faces_along(
    axis: int, number: Array, density: Array, *, periodic: bool, reservoir: int | None, stairs: bool
) -> Faces:
    """Return the faces normal to an axis.

    number: of the pressure in each pore (*grid), -1 in the solid. density: of voxels along each axis (d,), over that
    along the first. periodic: the structure goes on along all axes.
    reservoir: the axis along which fluid enters and leaves; the sides of the others are walls.
    stairs: the solid is the cubes of its voxels; else they stand for a smooth surface.
    """
    mode = "wrap" if periodic else "constant"
    ends = axis == reservoir
    if periodic:
        number_before, number_behind = np.roll(number, 1, axis), number
    else:  # one more layer of faces, at the far side
        number_before, number_behind = (
            np.pad(number, [side if a == axis else (0, 0) for a in range(number.ndim)], constant_values=-1)
            for side in ((1, 0), (0, 1))
        )
    before, behind = number_before >= 0, number_behind >= 0
    passed = before & behind
    if ends:
        for side, pores in ((0, behind), (-1, before)):
            layer = _layer(number.ndim, axis, side)
            passed[layer] = pores[layer]
    order = np.cumsum(passed.ravel()).reshape(passed.shape) - 1
    order = np.where(passed, order, -1)
    touched = passed if stairs else before | behind
    cells = np.stack([number_before[passed], number_behind[passed]], axis=1)
    volume = _volumes(axis, passed, ends=ends)[passed]
    laplacian = _laplacian(axis, order, touched, volume, density=density, mode=mode, ends=ends)
    return Faces(axis, cells, volume, laplacian)


def _laplacian(
    axis: int, order: Array, touched: Array, volume: Array, *, density: Array, mode: str, ends: bool
) -> sparse.csr_array:
    """Return minus the Laplacian of the velocities on the faces that are numbered in `order`, -1 for the others.

    A neighbour that is no unknown is at rest: at a distance of 1 where it is touched by fluid or lies along the
    velocity, at the wall half way elsewhere. Beyond a reservoir's face the velocity does not change, and
    half of the face's control volume lies outside.
    """
    passed, count = order >= 0, len(volume)
    diagonal = np.zeros(count)
    rows, columns, values = [], [], []
    own = order[passed]
    for other in range(passed.ndim):
        for step in (1, -1):
            neighbour = _shifted(order, other, step, mode, fill=-1)[passed]
            beside = _shifted(touched, other, step, mode, fill=False)[passed]
            wall = neighbour < 0
            if other == axis:
                outside = np.zeros(passed.shape, dtype=bool)
                if ends:
                    outside[_layer(passed.ndim, axis, 0 if step == 1 else -1)] = True
                weight = np.full(count, density[other] ** 2)
                diagonal[own] += np.where(outside[passed], 0.0, weight)
            else:
                weight = density[other] ** 2 * volume
                diagonal[own] += weight * np.where(wall & ~beside, 2.0, 1.0)
            rows.append(own[~wall])
            columns.append(neighbour[~wall])
            values.append(-weight[~wall])
    row, column = np.concatenate([*rows, own]), np.concatenate([*columns, own])
    return sparse.csr_array((np.concatenate([*values, diagonal[own]]), (row, column)), shape=(count, count))


def _volumes(axis: int, passed: Array, *, ends: bool) -> Array:
    """Return the volume of the control volume around each face that lies inside the structure."""
    volume = np.ones(passed.shape)
    for side in (0, -1) if ends else ():
        volume[_layer(passed.ndim, axis, side)] = 0.5
    return volume


def _layer(dimensions: int, axis: int, place: int) -> tuple[slice | int, ...]:
    """Return the index of the layer at one place along an axis."""
    return tuple(place if a == axis else slice(None) for a in range(dimensions))


def _shifted(array: Array, axis: int, step: int, mode: str, fill: float = 0) -> Array:
    """Return the array moved by one place along an axis: what stands before (step 1) or behind (-1) each entry."""
    moved = np.roll(array, step, axis)
    if mode != "wrap":
        moved[_layer(array.ndim, axis, 0 if step == 1 else -1)] = fill
    return moved


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
