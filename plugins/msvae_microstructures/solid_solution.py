"""Solid solutions: species placed at random on the sites of a crystal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from msvae import Count, Crystal, Dataset, Distinct, Fraction, Grid, Length, Rule, Specification, Structures, Unit

SITES = {"sc": 1, "bcc": 2, "fcc": 4}
Ranges = Rule(
    "a list of ranges [low, high] whose sum stays below 1",
    lambda ranges: all(low <= high for low, high in ranges) and sum(high for _, high in ranges) <= 1,
)


@dataclass(frozen=True)
class SolidSolution(Dataset):
    """Occupations of the sites of a cubic crystal by species at random, with given fractions of them.

    species: their names. fractions: ranges [low, high] of the first species' fraction and so on, the last takes the
    rest; each structure draws its own. lattice: "sc", "bcc" or "fcc". constant: of the lattice.
    crystal: CIF or POSCAR file of a unit cell of any shape, instead of lattice and constant, whose atoms are the sites.
        shape: unit cells along each axis. count: number of structures.
    """

    name = "solid-solution"
    kinds = ("occupation",)
    dimensions = (3,)

    species: Annotated[tuple[str, ...], Field(min_length=2), Distinct] = ("Fe", "Ni")
    fractions: Annotated[tuple[tuple[Fraction, Fraction], ...], Ranges] = ((0.3, 0.7),)
    lattice: Literal["sc", "bcc", "fcc"] = "fcc"
    constant: Length = 3.56e-10
    crystal: Path | None = None
    shape: Annotated[tuple[Annotated[Count, Unit("cells")], ...], Field(min_length=3, max_length=3)] = (4, 4, 4)
    count: Count = 100

    def __post_init__(self) -> None:
        if len(self.fractions) != len(self.species) - 1:
            raise ValueError(
                f"fractions has a range for every species but the last, {len(self.species) - 1}, found "
                f"{len(self.fractions)}"
            )

    def load(self, seed: int) -> Structures:
        crystal = (
            Crystal.cubic(SITES[self.lattice], self.constant) if self.crystal is None else Crystal.read(self.crystal)
        )
        grid = Grid.of(self.shape, crystal.lengths)
        specification = Specification("occupation", len(crystal.sites), grid, self.species)
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
