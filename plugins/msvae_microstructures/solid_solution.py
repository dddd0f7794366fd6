"""Solid solutions: species placed at random on the sites of a crystal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvae import Dataset, Grid, Specification, Structures

SITES = {"sc": 1, "bcc": 2, "fcc": 4}


@dataclass(frozen=True)
class SolidSolution(Dataset):
    """Occupations of the sites of a cubic crystal by species at random, with given fractions of them.

    species: their names. fractions: ranges [low, high] of the first species' fraction and so on, the last takes the
    rest; each structure draws its own. lattice: "sc", "bcc" or "fcc". constant: of the lattice, m. shape: unit cells.
    """

    name = "solid-solution"
    kinds = ("occupation",)
    dimensions = (3,)

    species: tuple[str, ...] = ("Fe", "Ni")
    fractions: tuple[tuple[float, float], ...] = ((0.3, 0.7),)
    lattice: str = "fcc"
    constant: float = 3.56e-10
    shape: tuple[int, ...] = (4, 4, 4)
    count: int = 100

    def __post_init__(self) -> None:
        if self.lattice not in SITES:
            raise ValueError(f"lattice is one of {', '.join(SITES)}, found '{self.lattice}'")
        if len(self.species) < 2 or len(set(self.species)) < len(self.species):
            raise ValueError(f"species are two different names or more, found {list(self.species)}")
        if len(self.fractions) != len(self.species) - 1:
            raise ValueError(
                f"fractions has a range for every species but the last, {len(self.species) - 1}, found "
                f"{len(self.fractions)}"
            )
        if not all(0 <= low <= high <= 1 for low, high in self.fractions) or sum(h for _, h in self.fractions) > 1:
            raise ValueError(f"fractions are ranges in 0 to 1 whose sum stays below 1, found {list(self.fractions)}")
        if len(self.shape) != 3 or min(self.shape) < 1 or self.count < 1:
            raise ValueError(f"shape has 3 numbers from 1 up and count is at least 1, found {self.shape}, {self.count}")

    def load(self, seed: int) -> Structures:
        specification = Specification(
            "occupation", SITES[self.lattice], Grid.of(self.shape, self.constant), self.species
        )
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
