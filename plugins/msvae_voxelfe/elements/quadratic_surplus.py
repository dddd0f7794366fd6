"""The estimate of discretisation.py for biquadratic elements: from the stress at the Gauss points of each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from msvae import Array
from msvae_voxelfe.elements.quadratic import POINTS, Block

SERIES = (
    1.8  # of what a pixel cut in two gains: 1.6 for the refinements to come, the rest is what a diagonal leaves out
)


@dataclass(frozen=True, eq=False)
class QuadraticSurplus:
    """What stresses leave unbalanced on the new nodes of pixels that are cut in two along each axis.

    forces (16 nodes, 2, 9 points): from stresses at Gauss points. stiffness (16, 2, 2): of each node, from tangents.
    nodes (elements, 16): their numbers. size: how many nodes there are. free (size, 2): unknowns that are not held.
    """

    forces: Array
    stiffness: Array
    nodes: Array
    size: int
    free: Array

    @classmethod
    def of(cls, block: Block, held: Sequence[tuple[str, int]]) -> QuadraticSurplus:
        """Return it for a mesh, some of whose edges are held along a component (0 along x, 1 along y)."""
        new = [(b, a) for b, a in product(range(5), repeat=2) if b % 2 or a % 2]
        place = {node: k for k, node in enumerate(new)}
        gradient = 2 * block.gradient.reshape(9, 9, 2)  # of pixels of half the size (nodes, points, 2)
        forces, stiffness = np.zeros((16, 2, 9)), np.zeros((16, 2, 2))
        for part in product((0, 1), repeat=2):
            between = _interpolation(part)
            for k, (b, a) in enumerate(product(range(3), repeat=2)):
                node = place.get((2 * part[0] + b, 2 * part[1] + a))
                if node is not None:
                    weighted = gradient[k] * (block.weight / 4)[:, None]
                    forces[node] += weighted.T @ between
                    stiffness[node] += weighted.T @ gradient[k]
        (ny, nx), width = block.shape, 4 * block.shape[1] + 1
        corner = (4 * np.arange(ny)[:, None] * width + 4 * np.arange(nx)[None]).ravel()
        free = np.ones((4 * ny + 1, width, 2), dtype=bool)
        for edge, component in held:
            side = {"bottom": free[0], "top": free[-1], "left": free[:, 0], "right": free[:, -1]}[edge]
            side[:, component] = False
        nodes = corner[:, None] + np.array([b * width + a for b, a in new])
        return cls(forces, stiffness, nodes, (4 * ny + 1) * width, free.reshape(-1, 2))

    def unbalanced(self, stress: Array) -> Array:
        """Return forces (size, 2) for stresses (elements, 9, 2, 2)."""
        return self._assembled(np.einsum("njp,epij->eni", self.forces, stress, optimize=True)) * self.free

    def compliance(self, tangent: Array) -> Array:
        """Return the inverse (size, 2) of the new nodes' stiffness, for tangents (elements, 9, 2, 2, 2, 2)."""
        mean = np.einsum("epijil->eijl", tangent) / tangent.shape[1]
        stiffness = self._assembled(np.einsum("njl,eijl->eni", self.stiffness, mean, optimize=True))
        return np.divide(SERIES, stiffness, out=np.zeros_like(stiffness), where=stiffness > 0)

    def _assembled(self, local: Array) -> Array:
        parts = [np.bincount(self.nodes.ravel(), local[..., c].ravel(), minlength=self.size) for c in range(2)]
        return np.stack(parts, axis=1)


def _interpolation(part: tuple[int, ...]) -> Array:
    """Return the weights of a pixel's Gauss points at those of one of its parts (9 of the part, 9)."""
    along = []
    for side in part:  # along y and x
        x = (POINTS + 2 * side - 1) / 2
        along.append(np.stack([
            np.prod([(x - other) / (own - other) for other in POINTS if other != own], axis=0) for own in POINTS
        ], axis=1))  # fmt: skip
    return np.asarray(np.einsum("qb,pa->qpba", *along).reshape(9, 9))
