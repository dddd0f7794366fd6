"""Lattice models whose partition functions are known exactly: Ising, lattice gas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from msvae import Array, Finite, Positive, Properties, Quantity, Solver, Specification, Structures, Unit

__all__ = ["BOLTZMANN", "Ising", "LatticeGas"]

BOLTZMANN = 1.380649e-23  # J/K, exact (SI 2019)


def _two_sites(name: str, specification: Specification) -> str | None:
    """Return why a model of one site a cell with two constituents does not fit, or None."""
    if specification.channels != 1 or len(specification.constituents) != 2:
        return (
            f"'{name}' takes one site in a unit cell with two constituents, found {specification.channels} with "
            f"{len(specification.constituents)}"
        )
    return None


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
class Ising(Solver):
    """The Ising model: energy per site of spins -1 (first constituent) and +1 on a square or cubic lattice.

    coupling: J of the energy -J sum s_i s_j - h sum s_i; by default k_B times a kelvin, so that temperatures in K are
        k_B T / J. On an axis of two sites that is periodic, both bonds of a pair count. field: h.
    """

    name = "ising"
    kinds = ("occupation",)
    dimensions = (1, 2, 3)
    computes = (Quantity("energy", "J"),)
    coupling: Annotated[Finite, Unit("J")] = BOLTZMANN
    field: Annotated[Finite, Unit("J")] = 0.0

    def misfit(self, specification: Specification) -> str | None:
        return super().misfit(specification) or _two_sites(self.name, specification)

    @classmethod
    def example(cls) -> Ising:
        return cls()

    def evaluate(self, structures: Structures) -> Properties:
        spins = 2.0 * structures.values[:, 0] - 1
        sites = max(int(np.prod(spins.shape[1:])), 1)
        total = -self.coupling * bonds(spins, structures.specification.grid.periodic)
        return Properties({"energy": (total - self.field * spins.sum(axis=tuple(range(1, spins.ndim)))) / sites})


@dataclass(frozen=True)
class LatticeGas(Solver):
    """A lattice gas: energy per site of particles (second constituent) on a square or cubic lattice.

    attraction: that two neighbours gain. The Ising model of coupling attraction / 4, with another origin and field
        (Lee and Yang 1952, Phys. Rev. 87, 410).
    """

    name = "lattice-gas"
    kinds = ("occupation",)
    dimensions = (1, 2, 3)
    computes = (Quantity("energy", "J"),)
    attraction: Annotated[Positive, Unit("J")] = 4 * BOLTZMANN

    def misfit(self, specification: Specification) -> str | None:
        return super().misfit(specification) or _two_sites(self.name, specification)

    @classmethod
    def example(cls) -> LatticeGas:
        return cls()

    def evaluate(self, structures: Structures) -> Properties:
        particles = structures.values[:, 0].astype(np.float64)
        sites = max(int(np.prod(particles.shape[1:])), 1)
        return Properties(
            {"energy": -self.attraction * bonds(particles, structures.specification.grid.periodic) / sites}
        )
