"""Energies that were paid for: every occupation once, and once for all its images under the lattice's operations."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from msvae import Array, Context, Structures
from msvae_partition.campaign import Partition
from msvae_partition.expansion.symmetry import Lattice

__all__ = ["Ledger"]


@dataclass
class Ledger:
    """Energies in J of whole occupations, less the chemical potentials of what is on them, by canonical occupation.

    lattice: of the sites that are occupied in all ways. free (n,): their numbers among all sites, and background (N,):
    what is on the others.
    """

    context: Context
    settings: Partition
    structures: Structures
    lattice: Lattice
    free: Array
    background: Array
    known: dict[bytes, float] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Evaluations that the budget still has."""
        return self.settings.budget - len(self.known)

    def canonical(self, occupations: Array) -> Array:
        """Return what stands for occupations (n, N), of uint8."""
        return np.ascontiguousarray(self.lattice.canonical(occupations), dtype=np.uint8)

    def new(self, occupations: Array) -> Array:
        """Return those of occupations (n, N) that are to be paid for: canonical, each once, in their order."""
        rows = {row.tobytes(): row for row in self.canonical(occupations)}
        own = [row for key, row in rows.items() if key not in self.known]
        return np.array(own, dtype=np.uint8).reshape(-1, self.lattice.sites)

    def pay(self, stage: str, occupations: Array) -> None:
        """Evaluate canonical occupations (n, N) that are new; a failure is an energy of NaN."""
        if not len(occupations):
            return
        for row, energy in zip(occupations, self.solved(stage, occupations), strict=True):
            self.known[row.tobytes()] = float(energy)

    def solved(self, stage: str, occupations: Array) -> Array:
        """Return the solver's energies (n,) of occupations (n, N), less chemical potentials."""
        specification = self.structures.specification
        values = np.tile(self.background, (len(occupations), 1))
        values[:, self.free] = occupations
        structures = Structures(values.reshape(len(values), *specification.shape), specification)
        energies = self.context.solve(stage, structures, title=stage).latest().properties[self.settings.energy]
        whole = energies if self.settings.extensive else energies * len(self.background)
        if self.settings.potentials:
            whole = whole - np.array(self.settings.potentials)[occupations].sum(axis=1)
        return np.asarray(whole)

    def energies(self, occupations: Array) -> Array:
        """Return the energies (n,) of occupations that were paid for."""
        return np.array([self.known[row.tobytes()] for row in self.canonical(occupations)])

    def table(self) -> tuple[Array, Array]:
        """Return all occupations (n, N) that have an energy, and these (n,)."""
        rows = np.frombuffer(b"".join(self.known), dtype=np.uint8).reshape(-1, self.lattice.sites)
        energies = np.array([*self.known.values()])
        usable = np.isfinite(energies)
        return rows[usable], energies[usable]
