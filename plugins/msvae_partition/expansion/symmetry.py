"""Sites of a lattice and the space-group operations that map its periodic box onto itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np

from msvae import Array, Crystal, DataError, Specification

__all__ = ["Lattice"]

FINE = 1_000_000  # parts of the box, to which positions are equal
SQUARE = 1e-6  # relative difference of products of edges that are equal


@dataclass(frozen=True, eq=False)
class Lattice:
    """N sites, in the order of an occupation's values (channels, *grid), each with one of K constituents.

    places (N, d): positions in parts of the box. box (d, d): its vectors, the rows, in m. periodic: along each of them.
    operations (G, N): an operation takes the constituent of site p[i] to site i.
    """

    places: Array
    box: Array
    periodic: tuple[bool, ...]
    species: int
    operations: Array

    @classmethod
    def of(
        cls,
        specification: Specification,
        basis: Sequence[Sequence[float]] = (),
        *,
        crystal: Path | None = None,
        symmetric: bool = True,
    ) -> Lattice:
        """Return the lattice of occupations; DataError where there is not one position a channel.

        basis: positions in a unit cell, in parts of it. crystal: CIF or POSCAR file of a cell of any shape, instead.
        symmetric: find the operations; else the identity alone.
        """
        grid = specification.grid
        if grid.dimensions == 3:
            sites = tuple((float(x), float(y), float(z)) for x, y, z in basis if len(basis[0]) == 3)
            cell = Crystal.of(specification, basis=sites, file=crystal)
            vectors, within = np.array(cell.vectors), np.array(cell.sites)
        else:
            within = np.array(basis or [[0.0] * grid.dimensions])
            vectors = np.diag(grid.spacing)
        if within.shape != (specification.channels, grid.dimensions):
            raise DataError(
                f"structures have {specification.channels} sites in a unit cell of {grid.dimensions} dimensions, "
                f"partition.basis has {len(within)} with {within.shape[1]} coordinates: give the position of each, in "
                "parts of the cell"
            )
        corners = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1)
        places = (corners.reshape(1, -1, grid.dimensions) + within[:, None]).reshape(-1, grid.dimensions)
        places, box = places / np.array(grid.shape), vectors * np.array(grid.shape)[:, None]
        operations = _operations(places, box, grid.periodic) if symmetric else np.arange(len(places))[None]
        return cls(places, box, grid.periodic, len(specification.constituents), operations)

    def around(self, center: int, radius: float, background: Array) -> tuple[Lattice, Array]:
        """Return the lattice of the sites within a radius of one, itself left out, and their numbers (n,).

        background (N,): constituents of the other sites, which operations have to keep.
        """
        free = self.distances()[center] <= radius
        free[center] = False
        numbers, place = np.flatnonzero(free), np.cumsum(free) - 1
        if not len(numbers):
            raise DataError(f"partition.radius: no site is within {radius:g} m of site {center}: give a larger one")
        kept = (free[self.operations] == free).all(axis=1)
        kept &= (np.where(free, 0, background[self.operations] - background) == 0).all(axis=1)
        own = place[self.operations[kept][:, numbers]]
        return Lattice(self.places[numbers], self.box, self.periodic, self.species, np.unique(own, axis=0)), numbers

    @property
    def sites(self) -> int:
        """N, the number of sites."""
        return len(self.places)

    def distances(self) -> Array:
        """Return the distance (N, N) in m of every two sites, of their nearest images."""
        apart = self.places[:, None] - self.places[None]
        apart = np.where(np.array(self.periodic), apart - np.round(apart), apart)
        nearest = np.full(apart.shape[:2], np.inf)
        for image in product(*((-1, 0, 1) if wraps else (0,) for wraps in self.periodic)):  # of a skew box
            nearest = np.minimum(nearest, np.linalg.norm((apart + np.array(image)) @ self.box, axis=2))
        return nearest

    @cached_property
    def _weights(self) -> Array:
        """Whole random weights (N, G), whose sums are exact in double precision."""
        weights = np.random.default_rng(0).integers(1, 2**36, self.sites).astype(np.float64)
        table = np.empty((self.sites, len(self.operations)))
        for g, operation in enumerate(self.operations):
            table[operation, g] = weights  # sum over i of w[i] x[p[i]]
        return table

    def canonical(self, occupations: Array) -> Array:
        """Return of every occupation (n, N) the one that stands for all images of it under the operations."""
        if not len(occupations):
            return occupations
        parts = np.array_split(occupations.astype(np.float64), -(-len(occupations) // 256))
        chosen = np.concatenate([(part @ self._weights).argmax(axis=1) for part in parts])
        return np.take_along_axis(occupations, self.operations[chosen], axis=1)


def _operations(places: Array, box: Array, periodic: Sequence[bool]) -> Array:
    """Return the operations (G, N): rotations that keep the box's metric, with every translation that sites allow."""
    known, found = _Index(places, periodic), []
    for rotation in _rotations(box, periodic):
        turned = places @ rotation
        for goal in places:
            images = known.find(turned - turned[0] + goal)
            if images is not None:
                found.append(images)
    return np.unique(np.stack(found), axis=0)


def _rotations(box: Array, periodic: Sequence[bool]) -> list[Array]:
    """Return matrices (d, d) that act on positions in parts of the box, rows, and keep all distances.

    Their entries are -1, 0 or 1, which is all of them for a box whose edges are as short as they can be.
    """
    d, metric = len(box), box @ box.T
    matrices = np.array([*product((-1, 0, 1), repeat=d * d)]).reshape(-1, d, d)
    same = np.abs(matrices @ metric @ matrices.transpose(0, 2, 1) - metric).max(axis=(1, 2))
    mixed = np.array([[a != b for b in periodic] for a in periodic])
    kept = (same < SQUARE * np.abs(metric).max()) & ~(matrices[:, mixed] != 0).any(axis=1)
    return [*matrices[kept]]


class _Index:
    """Sites by their positions."""

    def __init__(self, places: Array, periodic: Sequence[bool]) -> None:
        self.periodic = np.array(periodic)
        keys = self._keys(places)
        self.order = np.argsort(keys)
        self.keys = keys[self.order]

    def _keys(self, places: Array) -> Array:
        whole = np.round(places * FINE).astype(np.int64)
        whole = np.where(self.periodic, whole % FINE, whole + FINE)
        return np.asarray((whole * (4 * FINE) ** np.arange(whole.shape[1], dtype=np.int64)[None]).sum(axis=1))

    def find(self, places: Array) -> Array | None:
        """Return the numbers (N,) of the sites at positions, or None if one of them is no site."""
        keys = self._keys(places)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return self.order[place] if (self.keys[place] == keys).all() else None
