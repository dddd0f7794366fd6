"""The faces of pore voxels that fluid passes through, and the Laplacian of the velocities on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from msvae import Array


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
