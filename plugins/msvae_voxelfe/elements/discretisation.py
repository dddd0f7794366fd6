"""Discretisation error of an effective property: a hierarchical a-posteriori estimate.

Cut every voxel in two along each axis. The finer grid has new nodes on the edges, faces and centres of the old voxels;
what the solution leaves unbalanced there, over the stiffness of these nodes, is the energy by which the finer solution
lies lower (Bank and Smith 1993, SIAM J. Numer. Anal. 30, 921), and effective properties are energies. Still finer grids
add about half as much again (SERIES): corners of phases make the energy converge like the power 1.2 of the spacing.

A node sees the voxels around it only, so that a part of the grid is enough where it is large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from msvae import Array
from msvae_voxelfe.elements.trilinear import LinearElement, affine_displacements, corners

SERIES = 1.5  # of the first refinement's gain: sum over all refinements, each of which gains about .4 of the one before
ENOUGH, THICK = 2048, 4  # voxels that are looked at, at least; planes of a slab


@dataclass(frozen=True, eq=False)
class Surplus:
    """The new nodes of a voxel that is cut in two along each axis.

    places (S,): each new node as 0, 1, 2 along the axes. forces (m, S c, A): on them, from the unknowns at the corners,
    for each unit law. stiffness (m, S, c): of the new nodes, a diagonal. loads (S c, L): forces on them of a uniform
    unit stress in the voxel.
    """

    places: tuple[tuple[int, ...], ...]
    forces: Array
    stiffness: Array
    loads: Array

    @classmethod
    def of(cls, element: LinearElement) -> Surplus:
        """Return it for a kind of voxel."""
        return _surplus(element)


@lru_cache(maxsize=16)
def _surplus(element: LinearElement) -> Surplus:
    d, c = len(element.spacing), element.components
    nodes = list(product(range(3), repeat=d))
    number = {node: k for k, node in enumerate(nodes)}
    offsets = np.abs(np.array(nodes)[:, None] / 2 - np.array(corners(d)))  # (nodes, corners, d)
    weights = np.prod(1 - offsets, axis=2)
    fine = element.stiffness * 0.5 ** (d - 2)  # of half the size: gradients double, the volume is 2^-d
    forces = np.zeros((len(fine), len(nodes), c, 2**d, c))
    stiffness = np.zeros((len(fine), len(nodes), c))
    blocks = fine.reshape(len(fine), 2**d, c, 2**d, c)
    unit = (element.volume * 0.5 ** (d - 1) * element.gradient).reshape(-1, 2**d, c)  # of half the size
    loads = np.zeros((len(nodes), c, len(unit)))
    for part in corners(d):
        own = [number[tuple(p + o for p, o in zip(part, corner, strict=True))] for corner in corners(d)]
        forces[:, own] += np.einsum("jaibk,bn->jaink", blocks, weights[own])
        stiffness[:, own] += np.einsum("jaiai->jai", blocks)
        loads[own] += np.moveaxis(unit, 0, -1)
    new = [k for k, node in enumerate(nodes) if 1 in node]
    chosen = forces[:, new].reshape(len(fine), len(new) * c, 2**d * c)
    stresses = loads[new].reshape(len(new) * c, -1)
    return Surplus(tuple(nodes[k] for k in new), *(a.astype(np.float32) for a in (chosen, stiffness[:, new], stresses)))


def estimate(
    material: Array, element: LinearElement, fluctuations: Callable[[Array], Array], *, held: int | None = None
) -> Array:
    """Return the estimated excess (L, L), positive semidefinite, of one structure's effective tensor over the limit.

    material: (m, *grid). fluctuations: returns those of the load cases (L, components, planes, ...) at some planes of
    nodes. held: an axis whose first and last nodes are, if any.
    """
    grid = material.shape[1:]
    cases, seen = element.load.shape[2] if held is None else 1, 0
    total = np.zeros((cases, cases))
    for first, end in slabs(grid):
        planes = np.arange(first - 1, end + 1) % grid[0]
        local = _at_corners(fluctuations(planes), element, held)
        total += _of_slab(material, element, local, planes, () if held is None else (held,))
        seen += end - first
    return np.asarray(SERIES * total * grid[0] / seen / (element.volume * np.prod(grid)))


def estimate_of_image(padded: Array, element: LinearElement, fluctuations: Array, stress: Array | None) -> Array:
    """Return the same (L, L) for an image on whose sides all displacements or all tractions are given.

    padded: (m, *nodes), with a last plane of empty voxels along every axis. fluctuations: (L, components, *nodes).
    stress: (L, L), mean stress of each load case where tractions are given, which new nodes on the sides bear too;
    None where displacements are, which hold them.
    """
    grid = padded.shape[1:]
    planes = np.arange(-1, grid[0] + 1) % grid[0]
    local = _at_corners(fluctuations[:, :, planes], element, None)
    total = _of_slab(padded, element, local, planes, range(len(grid)) if stress is None else (), stress)
    return np.asarray(SERIES * total / (element.volume * np.prod(grid)))


def slabs(grid: Sequence[int]) -> list[tuple[int, int]]:
    """Return the planes [first, end) of the slabs used for the estimate: the whole grid if it is small.

    >>> slabs((16, 16, 16)), slabs((64, 64, 64))
    ([(0, 4), (8, 12)], [(0, 4), (32, 36)])
    """
    plane = int(np.prod(grid[1:]))
    wanted = max(ENOUGH, plane * grid[0] // 8)
    count = -(-wanted // (THICK * plane))
    if 2 * count * THICK > grid[0]:
        return [(0, grid[0])]
    return [(first, first + THICK) for first in (grid[0] * np.arange(count) // count).tolist()]


def _of_slab(
    material: Array,
    element: LinearElement,
    local: Array,
    planes: Array,
    held: Sequence[int],
    stress: Array | None = None,
) -> Array:
    """Return the products (L, L) of the unbalanced forces at a slab's new nodes, over the stiffness of these nodes.

    local: (L, A, planes - 1, ...), unknowns at the corners of voxels; a plane of nodes belongs to the voxels above it,
    so that the last one only closes the slab. held: axes whose first and last nodes are.
    """
    surplus, m = Surplus.of(element), len(material)
    chosen = np.ascontiguousarray(material[:, planes[:-1]], dtype=np.float32)
    flat = local.astype(np.float32).reshape(*local.shape[:2], -1)
    forces = np.zeros((len(local), surplus.forces.shape[1], flat.shape[2]), dtype=np.float32)
    stiffness = np.einsum("jsc,jx->scx", surplus.stiffness, chosen.reshape(m, -1))
    for j in range(m):
        forces += chosen[j].reshape(-1) * (surplus.forces[j] @ flat)
    if stress is not None:
        inside = np.ones(chosen.shape[1:], dtype=np.float32)
        inside[planes[:-1] == material.shape[1] - 1] = 0
        for axis in range(1, inside.ndim):
            np.moveaxis(inside, axis, 0)[-1] = 0
        forces -= (surplus.loads @ stress.astype(np.float32)).T[:, :, None] * inside.reshape(-1)
    size, c = len(surplus.places), element.components
    shaped = forces.reshape(len(local), size, c, *local.shape[2:])
    return _energy(surplus, shaped, stiffness.reshape(1, size, c, *local.shape[2:]), planes, material.shape[1:], held)


def _energy(
    surplus: Surplus, forces: Array, stiffness: Array, planes: Array, grid: Sequence[int], held: Sequence[int]
) -> Array:
    """Return the products (L, L) of forces (L, S, c, planes - 1, ...) over stiffnesses, both summed at their nodes."""
    total = np.zeros((len(forces), len(forces)))
    for kind in sorted({tuple(p == 1 for p in place) for place in surplus.places}):
        same = [n for n, place in enumerate(surplus.places) if tuple(p == 1 for p in place) == kind]
        r, k = (np.add.reduce([_owned(v[:, n], surplus.places[n]) for n in same]) for v in (forces, stiffness))
        for axis in held:
            if not kind[axis]:
                r = _without_held(r, axis, planes if axis == 0 else None, grid[axis])
        weighted = np.divide(r, k, out=np.zeros_like(r), where=np.broadcast_to(k > 0, r.shape))
        total += np.tensordot(r, weighted, axes=(range(1, r.ndim), range(1, r.ndim)))
    return total


def _at_corners(u: Array, element: LinearElement, held: int | None) -> Array:
    """Return all unknowns (L, A, planes - 1, ...), loads included, at the corners of voxels between planes of nodes."""
    parts = []
    for corner in corners(len(element.spacing)):
        moved = u[:, :, 1:] if corner[0] else u[:, :, :-1]
        for axis, step in enumerate(corner[1:], start=3):
            moved = np.roll(moved, -step, axis) if step else moved
        parts.append(moved)
    affine = affine_displacements(element) if held is None else affine_displacements(element)[held, None]
    return np.concatenate(parts, axis=1) + affine.reshape(*affine.shape, *(1,) * (u.ndim - 2))


def _owned(values: Array, place: tuple[int, ...]) -> Array:
    """Return the sum at each new node of its voxels' shares (..., planes, ...).

    It is stored at the inner voxel that has the node in its lower half.
    """
    moved = values[:, :, :-1] if place[0] == 2 else values[:, :, 1:]
    for axis, where in enumerate(place[1:], start=3):
        moved = np.roll(moved, 1, axis) if where == 2 else moved
    return moved


def _without_held(r: Array, axis: int, planes: Array | None, nodes: int) -> Array:
    """Return forces (L, c, planes, ...) with zeros on the first and the last nodes of the held axis."""
    places = np.arange(nodes) if planes is None else planes[1:-1]
    free = (places != 0) & (places != nodes - 1)
    return np.asarray(r * free.reshape([-1 if a == 2 + axis else 1 for a in range(r.ndim)]))
