"""Solid solutions: species placed at random on the sites of a crystal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from msvae import Count, Fraction, Rule, Specification, Structures, Unit
from msvae_crystals.parent import Occupations, check_rest

Ranges = Rule(
    "a list of ranges [low, high] whose sum stays below 1",
    lambda ranges: all(low <= high for low, high in ranges) and sum(high for _, high in ranges) <= 1,
)


@dataclass(frozen=True)
class SolidSolution(Occupations):
    """Occupations of the sites of a crystal by species at random, with given fractions of them.

    fractions: ranges [low, high] of the first species' fraction and so on, the last takes the rest; each structure
        draws its own. shape: unit cells along each axis. count: number of structures.
    """

    name = "solid-solution"
    fractions: Annotated[tuple[tuple[Fraction, Fraction], ...], Ranges] = ((0.3, 0.7),)
    shape: Annotated[tuple[Annotated[Count, Unit("cells")], ...], Field(min_length=3, max_length=3)] = (4, 4, 4)
    count: Count = 100

    def __post_init__(self) -> None:
        check_rest(self.species, self.fractions, "range")

    def load(self, seed: int) -> Structures:
        specification = self.specification(self.parent(), self.shape)
        children = np.random.SeedSequence(seed).spawn(self.count)
        return Structures(np.stack([self._occupation(specification, child) for child in children]), specification)

    def _occupation(self, specification: Specification, seed: np.random.SeedSequence) -> np.ndarray:
        """Return the species (channels, *grid) of one structure: exact numbers of each, in random order."""
        rng = np.random.default_rng(seed)
        sites = int(np.prod(specification.shape))
        numbers = [round(rng.uniform(low, high) * sites) for low, high in self.fractions]
        counts = [*numbers, sites - sum(numbers)]
        return rng.permutation(np.repeat(np.arange(len(counts)), counts)).reshape(specification.shape)

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        return cls(count=n).load(seed)
