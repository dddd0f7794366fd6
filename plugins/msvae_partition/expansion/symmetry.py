"""Sites of a lattice and the space-group operations that map its periodic cell onto itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product

import numpy as np

from msvae import Array, DataError, Specification

__all__ = ["BASES", "Lattice"]

BASES: dict[int, tuple[tuple[float, ...], ...]] = {
    1: ((0.0, 0.0, 0.0),),
    2: ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5)),
    4: ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)),
}  # simple cubic, body-centred, face-centred, as `lammps-energy` takes them
FINE = 1_000_000  # parts of the box, to which positions are equal


@dataclass(frozen=True, eq=False)
class Lattice:
    """N sites, in the order of an occupation's values (channels, *grid), each with one of K constituents.

    places (N, d): positions in parts of the box. lengths (d,): edges of the box in m. periodic: along each axis.
    operations (G, N): site p[i] lies where an operation takes site i. invariant: whether the energy is under them.
    """

    places: Array
    lengths: Array
    periodic: tuple[bool, ...]
    species: int
    operations: Array

    @classmethod
    def of(
        cls, specification: Specification, basis: Sequence[Sequence[float]] = (), *, symmetric: bool = True
    ) -> Lattice:
        """Return the lattice of occupations; DataError where the basis is not one position a channel.

        basis: positions in a unit cell, in parts of it. symmetric: find the operations; else the identity alone.
        """
        grid = specification.grid
        cell = basis or BASES.get(specification.channels, ())
        if len(cell) != specification.channels:
            raise DataError(
                f"structures have {specification.channels} sites in a unit cell, partition.basis names {len(cell)}: "
                "give the position of each, in parts of the cell"
            )
        if any(len(site) < grid.dimensions for site in cell):
            raise DataError(f"partition.basis: a position has {grid.dimensions} coordinates on this grid")
        corners = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1).reshape(
            -1, grid.dimensions
        )
        sites = np.array([site[: grid.dimensions] for site in cell])
        places = (corners[None] + sites[:, None]).reshape(-1, grid.dimensions) / np.array(grid.shape)
        lengths = np.array(grid.lengths)
        operations = np.arange(len(places))[None]
        if symmetric:
            operations = _operations(places, lengths, grid.periodic)
        return cls(places, lengths, grid.periodic, len(specification.constituents), operations)

    @property
    def sites(self) -> int:
        """N, the number of sites."""
        return len(self.places)

    def distances(self) -> Array:
        """Return the distance (N, N) in m of every two sites, of their nearest images."""
        apart = self.places[:, None] - self.places[None]
        wraps = np.array(self.periodic)
        apart = np.where(wraps, apart - np.round(apart), apart)
        return np.asarray(np.linalg.norm(apart * self.lengths, axis=2))

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
        chosen = np.concatenate(
            [(part @ self._weights).argmax(axis=1) for part in _pieces(occupations.astype(np.float64))]
        )
        return np.take_along_axis(occupations, self.operations[chosen], axis=1)


def _pieces(occupations: Array) -> list[Array]:
    return np.array_split(occupations, -(-len(occupations) // 256))


def _operations(places: Array, lengths: Array, periodic: Sequence[bool]) -> Array:
    """Return the operations (G, N): signed permutations of the axes with every translation that sites allow."""
    d, known = len(lengths), _Index(places, periodic)
    found = []
    for axes in permutations(range(d)):
        turned_lengths = lengths[list(axes)]
        if not np.allclose(turned_lengths, lengths) or any(periodic[a] != periodic[b] for a, b in enumerate(axes)):
            continue
        for signs in product((1, -1), repeat=d):
            turned = places[:, list(axes)] * np.array(signs)
            for goal in places:
                images = known.find(turned - turned[0] + goal)
                if images is not None:
                    found.append(images)
    return np.unique(np.stack(found), axis=0)


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
