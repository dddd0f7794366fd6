"""The settings that data sets of occupations share: the crystal, its species, and the grid of unit cells."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from msvae import Crystal, Dataset, Distinct, Grid, Length, Specification

__all__ = ["SITES", "Occupations", "check_rest"]

SITES = {"sc": 1, "bcc": 2, "fcc": 4}


@dataclass(frozen=True)
class Occupations(Dataset, ABC):
    """Occupations of the sites of a crystal.

    species: their names; "vacancy" is a site without an atom. lattice: "sc", "bcc" or "fcc", in its cubic cell.
        constant: of the lattice.
    crystal: CIF or POSCAR file of the unit cell, instead of lattice and constant, whose atoms are the sites.
    """

    kinds = ("occupation",)
    dimensions = (3,)
    species: Annotated[tuple[str, ...], Field(min_length=2), Distinct] = ("Fe", "Ni")
    lattice: Literal["sc", "bcc", "fcc"] = "fcc"
    constant: Length = 3.56e-10
    crystal: Path | None = None

    def parent(self) -> Crystal:
        """Return the crystal."""
        if self.crystal is not None:
            return Crystal.read(self.crystal)
        return Crystal.cubic(SITES[self.lattice], self.constant)

    def specification(self, crystal: Crystal, shape: tuple[int, ...]) -> Specification:
        """Return what all structures of a grid of so many unit cells have in common."""
        return Specification("occupation", len(crystal.sites), Grid.of(shape, crystal.lengths), self.species)


def check_rest(species: Sequence[str], fractions: Sequence[object], what: str) -> None:
    """Raise ValueError if the last of the species is not the only one without a fraction."""
    if len(fractions) != len(species) - 1:
        raise ValueError(
            f"fractions has a {what} for every species but the last, {len(species) - 1}, found {len(fractions)}"
        )
