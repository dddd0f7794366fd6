"""What is averaged over configurations: energy, composition, neighbours, antisites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from msvae import Array, StudyError
from msvae_partition.expansion.symmetry import Lattice

__all__ = ["Observables"]


@dataclass(frozen=True, eq=False)
class Observables:
    """Numbers of occupations of a lattice.

    ordered (N,): the constituents of an ordered crystal, from which antisites are counted; None without.
    """

    lattice: Lattice
    ordered: Array | None = None

    @classmethod
    def of(cls, lattice: Lattice, names: Sequence[str], order: Sequence[str]) -> Observables:
        """Return them; order: the constituent on each site of the unit cell, of those with these names."""
        if not order:
            return cls(lattice)
        unknown = [name for name in order if name not in names]
        if unknown or lattice.sites % len(order):
            raise StudyError(
                f"partition.order: expected one of {', '.join(names)} for each site of the unit cell, found "
                f"{', '.join(order)}"
            )
        return cls(lattice, np.repeat([names.index(name) for name in order], lattice.sites // len(order)))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of `values`."""
        k = range(self.lattice.species)
        pairs = [f"pair {a} {b}" for a in k for b in k if a < b]
        return (*(f"fraction {a}" for a in k), *pairs, *(["antisites"] if self.ordered is not None else []))

    @cached_property
    def _neighbours(self) -> Array:
        """Pairs (p, 2) of nearest neighbours."""
        distances = self.lattice.distances()
        apart = distances[np.triu_indices(len(distances), 1)]
        return np.argwhere(np.triu(distances <= apart.min(initial=np.inf) * (1 + 1e-6), 1))

    @cached_property
    def _variants(self) -> Array:
        """The ordered crystal (v, N) in all its images."""
        assert self.ordered is not None
        return np.unique(self.ordered[self.lattice.operations], axis=0)

    def values(self, occupations: Array) -> Array:
        """Return (n, columns): fractions of constituents, of unlike nearest neighbours of each sort, and of antisites.

        Antisites are sites whose constituent is not that of the nearest image of the ordered crystal.
        """
        x, k = occupations, self.lattice.species
        columns = [(x == a).mean(axis=1) for a in range(k)]
        first, second = x[:, self._neighbours[:, 0]], x[:, self._neighbours[:, 1]]
        for a in range(k):
            for b in range(a + 1, k):
                unlike = ((first == a) & (second == b)) | ((first == b) & (second == a))
                columns.append(unlike.mean(axis=1) if unlike.shape[1] else np.zeros(len(x)))
        if self.ordered is not None:
            columns.append(np.min([(x != variant).mean(axis=1) for variant in self._variants], axis=0))
        return np.stack(columns, axis=1)

    def short_range_order(self, means: Array) -> dict[str, float]:
        """Return the Warren-Cowley parameter of each pair of constituents at nearest neighbours, from mean values.

        1 - P(ab) / (2 c_a c_b): 0 at random, negative if unlike neighbours attract (Cowley 1950, Phys. Rev. 77, 669).
        """
        of = dict(zip(self.names, means.tolist(), strict=True))
        k = range(self.lattice.species)
        both = {(a, b): 2 * of[f"fraction {a}"] * of[f"fraction {b}"] for a in k for b in k if a < b}
        return {f"{a} {b}": 1 - of[f"pair {a} {b}"] / c if c > 0 else float("nan") for (a, b), c in both.items()}
