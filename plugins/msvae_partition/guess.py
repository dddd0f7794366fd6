"""A guess of the energy of any occupation: what was paid for, and elsewhere a cluster expansion fitted to that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from msvae import Array
from msvae_partition.expansion.clusters import Clusters, Expansion
from msvae_partition.ledger import Ledger
from msvae_partition.sampling.chains import Moves

__all__ = ["Guess"]

MANY = 2_000_000_000  # products that finding what stands for occupations may take


@dataclass(frozen=True, eq=False)
class Guess:
    """Does not change when more is paid for, so that later draws correct it without bias."""

    expansion: Expansion
    ledger: Ledger
    known: Mapping[bytes, float]
    moves: Moves

    @classmethod
    def of(cls, clusters: Clusters, ledger: Ledger) -> Guess:
        """Return the guess from all that was paid for until now."""
        expansion = Expansion.fitted(clusters, *ledger.table())
        return cls(expansion, ledger, dict(ledger.known), Moves(expansion, conserved=ledger.settings.conserved))

    def energies(self, occupations: Array, expanded: Array) -> Array:
        """Return guessed energies (n,) of occupations (n, N), given those of the expansion.

        On large lattices, where no occupation occurs twice, these.
        """
        if len(occupations) * self.ledger.lattice.operations.size > MANY:
            return expanded
        different, where = np.unique(occupations, axis=0, return_inverse=True)
        rows = self.ledger.canonical(different)
        found = np.array([self.known.get(row.tobytes(), np.nan) for row in rows])[where.ravel()]
        return np.where(np.isfinite(found), found, expanded)
