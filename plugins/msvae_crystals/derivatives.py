"""Derivative structures: all occupations of a crystal whose repeating unit has so many sites, none twice.

Hart and Forcade, Phys. Rev. B 77 (2008) 224115: every superlattice by its Hermite normal form, one of those that the
crystal's symmetry makes equal; on each, every occupation but for those that symmetry makes equal or that a smaller unit
repeats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from typing import Annotated

import numpy as np

from msvae import Array, Count, Crystal, DataError, Rule, Structures
from msvae_crystals.parent import Occupations
from msvae_crystals.symmetry import Operation, operations, primitive

__all__ = ["MOST_LABELLINGS", "DerivativeStructures", "Superlattice", "moves", "occupations", "superlattices"]

MOST_LABELLINGS = 1 << 18  # of one superlattice
MOST_SITES = 8000  # of the grid that all structures are laid on
Ordered = Rule("[least, most] numbers of cells", lambda pair: pair[0] <= pair[1])


@dataclass(frozen=True)
class DerivativeStructures(Occupations):
    """All derivative structures of a crystal with so many primitive cells in their repeating unit.

    cells: least and most of them. exchange: take structures as one that exchanging species turns into each other.
    count: take so many of them at random; by default all.
    All are laid on one grid, the smallest that repeats each of them; with cells = [n, n] it is much smaller than with
    [1, n].
    """

    name = "derivative-structures"
    cells: Annotated[tuple[Count, Count], Ordered] = (1, 4)
    exchange: bool = False
    count: Count | None = None

    def load(self, seed: int) -> Structures:
        parent = self.parent()
        small, way = _primitive_crystal(parent)
        sites = self.cells[1] * len(small.sites)
        if len(self.species) ** sites > MOST_LABELLINGS:
            raise DataError(
                f"dataset.cells: {sites} sites can hold {len(self.species)} species in "
                f"{len(self.species) ** sites} ways, more than {MOST_LABELLINGS}: give fewer cells"
            )
        lattices = [s for n in range(self.cells[0], self.cells[1] + 1) for s in superlattices(small, n)]
        shape = _common_shape(lattices, np.round(np.linalg.inv(way)).astype(int))
        size = len(parent.sites) * math.prod(shape)
        if size > MOST_SITES:
            raise DataError(
                f"dataset.cells = {list(self.cells)} needs {' x '.join(map(str, shape))} cells, {size} sites, "
                f"more than {MOST_SITES} to repeat every structure: give fewer, or a crystal with a primitive cell"
            )
        places = _places(parent, small, way, shape)
        found = []
        for lattice in lattices:
            labels = occupations(lattice, small, len(self.species), exchange=self.exchange)
            found.append(labels[:, lattice.index(places[0], places[1:])])
        values = np.concatenate(found)
        if self.count is not None and self.count < len(values):
            chosen = np.random.default_rng(seed).choice(len(values), self.count, replace=False)
            values = values[np.sort(chosen)]
        return Structures(values.reshape(-1, len(parent.sites), *shape), self.specification(parent, shape))

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        return cls(species=("Fe", "Ni", "Cr"), cells=(4, 4), count=n).load(seed)


@dataclass(frozen=True)
class Superlattice:
    """A lattice of whole cells of a crystal. matrix: its vectors, the rows, in Hermite normal form."""

    matrix: tuple[tuple[int, int, int], ...]

    @property
    def cells(self) -> int:
        """Number of the crystal's cells in one of the superlattice's."""
        return self.matrix[0][0] * self.matrix[1][1] * self.matrix[2][2]

    def index(self, sites: Array, cells: Array) -> Array:
        """Return the numbers of sites (n,) in cells (3, n), equal where the superlattice repeats."""
        x, y, z = (np.array(axis) for axis in cells)
        (a, _, _), (b, c, _), (d, e, f) = self.matrix
        turns = z // f
        x, y, z = x - turns * d, y - turns * e, z - turns * f
        turns = y // c
        x, y = x - turns * b, y - turns * c
        return np.asarray(((sites * a + x % a) * c + y) * f + z)

    def turned(self, operation: Operation) -> Superlattice:
        """Return what an operation makes of it."""
        return Superlattice(_hermite(np.array(self.matrix) @ operation.rotation))


@lru_cache(maxsize=64)
def superlattices(crystal: Crystal, cells: int) -> tuple[Superlattice, ...]:
    """Return the superlattices with so many cells, one of those that are equal by the crystal's symmetry."""
    group = operations(crystal)
    found: dict[tuple[tuple[int, int, int], ...], Superlattice] = {}
    for a, c, f in product(range(1, cells + 1), repeat=3):
        if a * c * f != cells:
            continue
        for b, d, e in product(range(a), range(a), range(c)):
            one = Superlattice(((a, 0, 0), (b, c, 0), (d, e, f)))
            first = min(one.turned(operation).matrix for operation in group)
            found.setdefault(first, one)
    return tuple(found[first] for first in sorted(found))


def occupations(lattice: Superlattice, crystal: Crystal, species: int, *, exchange: bool) -> Array:
    """Return the distinct occupations (n, sites) of a superlattice's cell that no smaller cell repeats."""
    size = lattice.cells * len(crystal.sites)
    codes = np.arange(species**size)
    weights = species ** np.arange(size)[::-1]
    labels = codes[:, None] // weights % species
    keep = np.ones(len(codes), dtype=bool)
    swaps = [np.array(p) for p in permutations(range(species))] if exchange else [np.arange(species)]
    for permutation, translation in moves(lattice, crystal):
        for swap in swaps:
            images = swap[labels[:, permutation]] @ weights
            keep &= images >= codes
            if translation and (swap == np.arange(species)).all():
                keep &= images != codes
    return labels[keep].astype(np.uint8)


def moves(lattice: Superlattice, crystal: Crystal) -> Iterator[tuple[Array, bool]]:
    """Yield the permutations of a superlattice's sites by symmetry, and whether it is a translation but not none."""
    (a, _, _), (_, c, _), (_, _, f) = lattice.matrix
    cells = np.array(list(product(range(a), range(c), range(f))))
    sites = np.repeat(np.arange(len(crystal.sites)), len(cells))
    everywhere = np.tile(cells, (len(crystal.sites), 1))
    order = lattice.index(sites, everywhere.T)
    for operation in operations(crystal):
        if lattice.turned(operation) != lattice:
            continue
        to, moved = operation.apply(sites, everywhere)
        for shift in cells:
            image = np.empty(len(order), dtype=np.int64)
            image[order] = lattice.index(to, (moved + shift).T)
            same = (operation.rotation == np.eye(3, dtype=int)).all()
            yield image, bool(same and shift.any())


def _hermite(matrix: Array) -> tuple[tuple[int, int, int], ...]:
    """Return the Hermite normal form, lower triangular, of the lattice that the rows of an integer matrix span."""
    rows = [[int(x) for x in row] for row in matrix]
    for column in (2, 1, 0):
        while sum(rows[r][column] != 0 for r in range(column + 1)) > 1:
            least = min((r for r in range(column + 1) if rows[r][column]), key=lambda r: abs(rows[r][column]))
            for r in range(column + 1):
                if r != least:
                    turns = rows[r][column] // rows[least][column]
                    rows[r] = [x - turns * y for x, y in zip(rows[r], rows[least], strict=True)]
        pivot = next(r for r in range(column + 1) if rows[r][column])
        rows[pivot], rows[column] = rows[column], rows[pivot]
        if rows[column][column] < 0:
            rows[column] = [-x for x in rows[column]]
    for column in (1, 0):
        for r in range(column + 1, 3):
            turns = rows[r][column] // rows[column][column]
            rows[r] = [x - turns * y for x, y in zip(rows[r], rows[column], strict=True)]
    return tuple((x, y, z) for x, y, z in rows)


def _primitive_crystal(crystal: Crystal) -> tuple[Crystal, Array]:
    """Return the crystal in its primitive cell, and that cell's vectors (3, 3) in fractions of the given one's."""
    way = primitive(crystal)
    fractions = np.array(crystal.sites) @ np.linalg.inv(way)
    kept: list[Array] = []
    for site in fractions:
        if not any(np.abs((site - other) - np.round(site - other)).max() < 1e-4 for other in kept):
            kept.append(site)
    a, b, c = (tuple(vector) for vector in (way @ np.array(crystal.vectors)).tolist())
    return Crystal((a, b, c), tuple(tuple(site.tolist()) for site in kept)), way


def _common_shape(lattices: list[Superlattice], edges: Array) -> tuple[int, ...]:
    """Return the smallest grid that repeats all superlattices. edges: (3, 3) of a cell, in primitive cells."""
    shape = []
    for edge in edges:
        orders = []
        for lattice in lattices:
            many = np.outer(edge, np.arange(1, lattice.cells + 1))
            orders.append(1 + int(np.argmax(lattice.index(np.zeros(lattice.cells, dtype=int), many) == 0)))
        shape.append(math.lcm(*orders))
    return tuple(shape)


def _places(parent: Crystal, small: Crystal, way: Array, shape: tuple[int, ...]) -> Array:
    """Return site and cell (4, sites) of the primitive crystal for all sites of a grid of the parent's cells."""
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    fractions = (np.array(parent.sites)[:, None] + cells).reshape(-1, 3) @ np.linalg.inv(way)
    apart = fractions[:, None] - np.array(small.sites)[None]
    site = np.abs(apart - np.round(apart)).max(axis=2).argmin(axis=1)
    cell = np.round(fractions - np.array(small.sites)[site]).astype(int)
    return np.concatenate([site[None], cell.T])
