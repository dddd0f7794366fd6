"""All occupations of a supercell, one of those that symmetry maps onto each other, with how many these are.

So that sums over all configurations, such as a partition function, pay for each distinct energy once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from msvae import Array, Count, DataError, Quantity, Structures, Unit
from msvae_crystals.derivatives import MOST_LABELLINGS, Superlattice, moves
from msvae_crystals.parent import Occupations

__all__ = ["SupercellOccupations", "distinct"]


@dataclass(frozen=True)
class SupercellOccupations(Occupations):
    """Every occupation of a periodic supercell, but one of those that its space group makes equal.

    shape: unit cells along each axis. count: take so many of them at random; by default all.
    The known property "multiplicity" is the number of occupations that each stands for.
    """

    name = "supercell-occupations"
    shape: Annotated[tuple[Annotated[Count, Unit("cells")], ...], Field(min_length=3, max_length=3)] = (1, 1, 2)
    count: Count | None = None

    def load(self, seed: int) -> Structures:
        crystal = self.parent()
        specification = self.specification(crystal, self.shape)
        species, size = len(self.species), int(np.prod(specification.shape))
        if species**size > MOST_LABELLINGS:
            raise DataError(
                f"dataset.shape: {size} sites can hold {species} species in {species**size} ways, more than "
                f"{MOST_LABELLINGS}: give a smaller one, or take random occupations"
            )
        a, b, c = self.shape
        lattice = Superlattice(((a, 0, 0), (0, b, 0), (0, 0, c)))
        values, numbers = distinct((permutation for permutation, _ in moves(lattice, crystal)), size, species)
        if self.count is not None and self.count < len(values):
            chosen = np.sort(np.random.default_rng(seed).choice(len(values), self.count, replace=False))
            values, numbers = values[chosen], numbers[chosen]
        known = {"multiplicity": numbers.astype(np.float64)}
        return Structures(
            values.reshape(-1, *specification.shape), specification, known, (Quantity("multiplicity", "1"),)
        )

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        return cls(species=("Fe", "Ni", "Cr"), count=n).load(seed)


def distinct(permutations: Iterator[Array], size: int, species: int) -> tuple[Array, Array]:
    """Return the occupations (n, size) that a group of permutations (size,) keeps apart, and their numbers (n,)."""
    codes = np.arange(species**size)
    weights = species ** np.arange(size)[::-1]
    labels = (codes[:, None] // weights % species).astype(np.int32)
    least = codes.copy()
    for permutation in permutations:
        np.minimum(least, labels @ weights[np.argsort(permutation)].astype(np.int32), out=least)
    kept, numbers = np.unique(least, return_counts=True)
    return labels[kept].astype(np.uint8), numbers
