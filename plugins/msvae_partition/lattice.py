"""Occupations of the sites of a lattice at random, each site by itself or with a fixed composition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from msvae import Count, Dataset, Distinct, Fraction, Grid, Length, Rule, Specification, Structures, Unit

__all__ = ["RandomOccupation"]


@dataclass(frozen=True)
class RandomOccupation(Dataset):
    """Occupations of a square, cubic or other lattice of one to three dimensions, at random.

    species: names of the constituents. composition: fraction of each; the nearest whole numbers of sites are exact. By
        default every site is drawn by itself, each constituent as likely as the others.
    sites: in a unit cell. constant: of the lattice. shape: unit cells along each axis. count: number of structures.
    """

    name = "random-occupation"
    kinds = ("occupation",)
    dimensions = (1, 2, 3)

    species: Annotated[tuple[str, ...], Field(min_length=2, max_length=16), Distinct] = ("down", "up")
    composition: Annotated[
        tuple[Fraction, ...], Rule("fractions whose sum is 1", lambda f: not f or abs(sum(f) - 1) < 1e-9)
    ] = ()
    sites: Count = 1
    constant: Length = 3e-10
    shape: Annotated[tuple[Annotated[Count, Unit("cells")], ...], Field(min_length=1, max_length=3)] = (4, 4)
    count: Count = 32

    def __post_init__(self) -> None:
        if self.composition and len(self.composition) != len(self.species):
            raise ValueError(f"composition has a fraction for each of the {len(self.species)} species, found "
                             f"{len(self.composition)}")  # fmt: skip

    def load(self, seed: int) -> Structures:
        specification = Specification("occupation", self.sites, Grid.of(self.shape, self.constant), self.species)
        rng, shape = np.random.default_rng(seed), (self.count, *specification.shape)
        if not self.composition:
            return Structures(rng.integers(0, len(self.species), shape), specification)
        size = int(np.prod(specification.shape))
        edges = np.round(np.cumsum(self.composition) * size).astype(int)
        ordered = np.searchsorted(edges, np.arange(size), side="right")
        return Structures(rng.permuted(np.tile(ordered, (self.count, 1)), axis=1).reshape(shape), specification)

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        return cls(count=n).load(seed)
