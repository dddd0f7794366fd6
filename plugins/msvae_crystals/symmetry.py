"""The operations that map a crystal onto itself, and what they do to its sites.

A site is (s, i, j, k): the s-th of the unit cell, in the cell i, j, k.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from msvae import Array, Crystal

__all__ = ["Operation", "operations", "primitive"]

SAME = 1e-4  # distance, in fractions of the cell, below which two sites are one
REACH = 3  # cells: an operation maps an edge of a cell onto a vector that is no longer than this


@dataclass(frozen=True)
class Operation:
    """An isometry: fractions x become x @ rotation + translation.

    rotation: (3, 3) integers. translation: (3,). to: (channels,), the site that each becomes. cells: (channels, 3), in
    which cell it then is.
    """

    rotation: Array
    translation: Array
    to: Array
    cells: Array

    def apply(self, sites: Array, cells: Array) -> tuple[Array, Array]:
        """Return what becomes of sites (n,) in cells (n, 3)."""
        return self.to[sites], cells @ self.rotation + self.cells[sites]


@lru_cache(maxsize=8)
def operations(crystal: Crystal) -> tuple[Operation, ...]:
    """Return all operations of a crystal's space group, up to translations by the edges of its cell.

    Every site may hold every species, so that sites are alike which the operations map onto each other.
    """
    sites = np.array(crystal.sites)
    found = []
    for rotation in _rotations(np.array(crystal.vectors)):
        turned = sites @ rotation
        for target in sites:
            translation = target - turned[0]
            moved = turned + translation
            apart = moved[:, None] - sites[None]
            near = np.abs(apart - np.round(apart)).max(axis=2) < SAME
            if (near.sum(axis=1) == 1).all():
                to = near.argmax(axis=1)
                cells = np.round(moved - sites[to]).astype(int)
                found.append(Operation(rotation, translation, to, cells))
    return tuple(found)


def primitive(crystal: Crystal) -> Array:
    """Return the vectors (3, 3), the rows, in fractions of a crystal's cell, of its smallest lattice.

    That of the translations which map sites onto sites.
    """
    identity = np.eye(3, dtype=int)
    pure = [op.translation - np.floor(op.translation + SAME) for op in operations(crystal)
            if (op.rotation == identity).all()]  # fmt: skip
    vectors = [*identity, *(t for t in pure if np.abs(t).max() > SAME)]
    candidates = {tuple(np.round(v + shift, 6)) for v in vectors for shift in product((-1, 0), repeat=3)}
    lengths = {c: float(np.linalg.norm(np.array(c) @ np.array(crystal.vectors))) for c in candidates if any(c)}
    shortest = sorted(lengths, key=lambda c: (round(lengths[c] / max(crystal.lengths), 6), c))
    volume = 1 / len(pure)
    for a, b, c in product(shortest, repeat=3):
        determinant = np.linalg.det(np.array([a, b, c]))
        if abs(determinant - volume) < SAME * volume * 10:
            return np.array([a, b, c])
    raise ValueError("the translations of the crystal span no lattice")


def _rotations(vectors: Array) -> list[Array]:
    """Return the integer matrices (3, 3) with x @ R @ vectors isometric to x @ vectors."""
    metric = vectors @ vectors.T
    scale = np.trace(metric)
    near = np.array(list(product(range(-REACH, REACH + 1), repeat=3)))
    lengths = np.einsum("ni,ij,nj->n", near, metric, near)
    images = [near[np.abs(lengths - metric[k, k]) < SAME * scale] for k in range(3)]
    found = []
    for a, b in product(images[0], images[1]):
        if abs(a @ metric @ b - metric[0, 1]) > SAME * scale:
            continue
        found += [np.array([a, b, c]) for c in images[2]
                  if abs(a @ metric @ c - metric[0, 2]) < SAME * scale
                  and abs(b @ metric @ c - metric[1, 2]) < SAME * scale]  # fmt: skip
    return found
