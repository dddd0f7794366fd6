"""A guess of the energy of any occupation: what was paid for, and elsewhere a cluster expansion fitted to that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from msvae import Array
from msvae_partition.expansion.clusters import Clusters, Expansion
from msvae_partition.expansion.ledger import Ledger
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
        keys = occupations.astype(np.uint64) @ self._weights
        different, first, where = np.unique(keys, return_index=True, return_inverse=True)
        names = different.tolist()
        new = np.array([k for k, name in enumerate(names) if name not in self._seen], dtype=np.int64)
        rows = self.ledger.canonical(occupations[first[new]])
        self._seen.update((names[k], self.known.get(row.tobytes(), np.nan)) for k, row in zip(new, rows, strict=True))
        found = np.array([self._seen[name] for name in names])[where]
        return np.where(np.isfinite(found), found, expanded)

    def unknown(self, occupations: Array) -> Array:
        """Return whether each of occupations (n, N), whose energies were guessed, has not been paid for."""
        if len(occupations) * self.ledger.lattice.operations.size > MANY:
            return np.ones(len(occupations), dtype=bool)
        keys, where = np.unique(occupations.astype(np.uint64) @ self._weights, return_inverse=True)
        return np.isnan([self._seen[key] for key in keys.tolist()])[where]

    @cached_property
    def _weights(self) -> Array:
        """Random whole numbers (N,): sums of them, modulo 2^64, tell occupations apart."""
        sites = self.ledger.lattice.sites
        return np.random.default_rng(0).integers(0, 2**64, sites, dtype=np.uint64, endpoint=False)

    @cached_property
    def _seen(self) -> dict[int, float]:
        """Energies that were paid for, NaN if not, of occupations that were asked for."""
        return {}
