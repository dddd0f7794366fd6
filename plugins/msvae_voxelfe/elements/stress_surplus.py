"""The estimate of discretisation.py for nonlinear materials: from the stress at the Gauss points of each voxel."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from msvae import Array
from msvae_voxelfe.elements.discretisation import SERIES
from msvae_voxelfe.elements.trilinear import corners

GAUSS = (0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3))


class StressSurplus:
    """What stresses leave unbalanced on the new nodes of voxels that are cut in two, per volume of a voxel.

    gradient (points, v, A): of the voxels as they are, from displacements at the corners to what the law takes.
    """

    def __init__(self, gradient: Tensor, grid: tuple[int, ...]) -> None:
        d = len(grid)
        self.grid, self.components = grid, gradient.shape[2] // 2**d
        nodes = list(product(range(3), repeat=d))
        self.new = [k for k, node in enumerate(nodes) if 1 in node]
        self.places = [nodes[k] for k in self.new]
        forces, stiffness = _matrices(2 * gradient.numpy(), d, nodes)
        self.forces = torch.as_tensor(np.ascontiguousarray(forces[self.new]))  # (S, c, points, v)
        self.stiffness = torch.as_tensor(np.ascontiguousarray(stiffness[self.new]))  # (S, c, v, v)

    def unbalanced(self, stress: Tensor) -> dict[tuple[bool, ...], Tensor]:
        """Return forces (c, *grid) on each kind of new node, for stresses (v, points, voxels)."""
        local = torch.einsum("scqv,vqx->scx", self.forces, stress)
        return self._assembled(local)

    def work(self, one: Tensor, other: Tensor, tangent: Tensor) -> float:
        """Return the work that the forces of two stresses do on each other's displacements, per volume.

        tangent (v, v, points, voxels). Refinements without end are counted in.
        """
        stiffness = self._assembled(torch.einsum("scvw,vwx->scx", self.stiffness, tangent.mean(dim=2)))
        total = 0.0
        ours, theirs = self.unbalanced(one), self.unbalanced(other)
        for kind, k in stiffness.items():
            safe = torch.where(k > 1e-12 * k.max(), k, torch.inf)
            total += float((ours[kind] * theirs[kind] / safe).sum())
        return SERIES * total / float(np.prod(self.grid))

    def _assembled(self, local: Tensor) -> dict[tuple[bool, ...], Tensor]:
        found: dict[tuple[bool, ...], Tensor] = {}
        for values, place in zip(local.unflatten(2, self.grid), self.places, strict=True):
            kind = tuple(p == 1 for p in place)
            shifts = tuple(int(p == 2) for p in place)
            moved = torch.roll(values, shifts, dims=tuple(range(1, values.ndim)))
            found[kind] = found[kind] + moved if kind in found else moved
        return found


def _matrices(fine: Array, d: int, nodes: list[tuple[int, ...]]) -> tuple[Array, Array]:
    """Return what makes forces (nodes, c, points, v) of stresses, and stiffnesses (nodes, c, v, v) of tangents.

    fine (points, v, A): the gradient in voxels of half the size.
    """
    points, v, c = fine.shape[0], fine.shape[1], fine.shape[2] // 2**d
    split = fine.reshape(points, v, 2**d, c)
    number = {node: k for k, node in enumerate(nodes)}
    forces, stiffness = np.zeros((len(nodes), c, points, v)), np.zeros((len(nodes), c, v, v))
    weight = 1 / (points * 2**d)
    for part in corners(d):
        own = [number[tuple(p + o for p, o in zip(part, corner, strict=True))] for corner in corners(d)]
        between = _interpolation(np.array(part), d)  # (fine points, points)
        forces[own] += weight * np.einsum("fvac,fq->acqv", split, between)
        stiffness[own] += weight * np.einsum("fvac,fwac->acvw", split, split)
    return forces, stiffness


def _interpolation(part: Array, d: int) -> Array:
    """Return the weights of a voxel's Gauss points at those of one of its parts (parts' points, points)."""
    places = (part + np.array(list(product(GAUSS, repeat=d)))) / 2
    upper = (places - GAUSS[0]) / (GAUSS[1] - GAUSS[0])
    return np.stack(
        [np.prod(np.where(np.array(o), upper, 1 - upper), axis=1) for o in product((0, 1), repeat=d)], axis=1
    )
