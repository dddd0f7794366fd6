"""Lattice models whose partition functions are known exactly: Ising, lattice gas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from msvae import Array, Finite, Positive, Properties, Quantity, Solver, Specification, Structures, Unit

__all__ = ["BOLTZMANN", "Ising", "LatticeGas"]

BOLTZMANN = 1.380649e-23  # J/K, exact (SI 2019)


def bonds(values: Array, periodic: Sequence[bool]) -> Array:
    """Return the sum (n,) over nearest neighbours of products of values (n, *grid); an axis of one site has none."""
    total = np.zeros(len(values))
    for axis, wraps in enumerate(periodic, start=1):
        if values.shape[axis] > 1:
            products = values * np.roll(values, -1, axis)
            if not wraps:
                products = np.delete(products, -1, axis)
            total += products.sum(axis=tuple(range(1, values.ndim)))
    return total


@dataclass(frozen=True)
class LatticeModel(Solver, ABC):
    """Energy per site of a square or cubic lattice of one site a cell, with two constituents."""

    kinds = ("occupation",)
    dimensions = (1, 2, 3)
    computes = (Quantity("energy", "J"),)

    def misfit(self, specification: Specification) -> str | None:
        reason = super().misfit(specification)
        if reason is None and (specification.channels, len(specification.constituents)) != (1, 2):
            reason = (
                f"'{self.name}' takes one site in a unit cell with two constituents, found {specification.channels} "
                f"with {len(specification.constituents)}"
            )
        return reason

    def evaluate(self, structures: Structures) -> Properties:
        grid = structures.specification.grid
        total = self.total(structures.values[:, 0].astype(np.float64), grid.periodic)
        return Properties({"energy": total / int(np.prod(grid.shape))})

    @abstractmethod
    def total(self, second: Array, periodic: Sequence[bool]) -> Array:
        """Return the energies (n,) in J of lattices on which the second constituent is, 1, or not, 0 (n, *grid)."""


@dataclass(frozen=True)
class Ising(LatticeModel):
    """The Ising model: energy per site of spins -1 (first constituent) and +1 on a square or cubic lattice.

    coupling: J of the energy -J sum s_i s_j - h sum s_i; by default k_B times a kelvin, so that temperatures in K are
        k_B T / J. On an axis of two sites that is periodic, both bonds of a pair count. field: h.
    """

    name = "ising"
    coupling: Annotated[Finite, Unit("J")] = BOLTZMANN
    field: Annotated[Finite, Unit("J")] = 0.0

    @classmethod
    def example(cls) -> Ising:
        return cls()

    def total(self, second: Array, periodic: Sequence[bool]) -> Array:
        spins = 2.0 * second - 1
        alone = spins.sum(axis=tuple(range(1, spins.ndim)))
        return np.asarray(-self.coupling * bonds(spins, periodic) - self.field * alone)


@dataclass(frozen=True)
class LatticeGas(LatticeModel):
    """A lattice gas: energy per site of particles (second constituent) on a square or cubic lattice.

    attraction: that two neighbours gain. The Ising model of coupling attraction / 4, with another origin and field
        (Lee and Yang 1952, Phys. Rev. 87, 410).
    """

    name = "lattice-gas"
    attraction: Annotated[Positive, Unit("J")] = 4 * BOLTZMANN

    @classmethod
    def example(cls) -> LatticeGas:
        return cls()

    def total(self, second: Array, periodic: Sequence[bool]) -> Array:
        return -self.attraction * bonds(second, periodic)
