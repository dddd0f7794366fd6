"""Monte Carlo moves of many occupations at once, under a cluster expansion: single sites, or exchanges of two.

Compiled (moves.c), or in numpy where there is no compiler: some ten times slower, with other random numbers.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.ctypeslib import ndpointer

from msvae import Array, native_library
from msvae_partition.expansion.clusters import Expansion, site_functions

__all__ = ["MOST", "Moves", "Population"]

MOST = 16  # constituents, as in moves.c


@dataclass(frozen=True, eq=False)
class Population:
    """Occupations (n, N), of uint8, with their energies (n,) in the expansion's unit.

    fields (n, N, K): logarithms of the weights that the start gives every constituent on a site; None if it is uniform.
    starts (n,): their sum over sites. origins (n,): numbers of the draws from the start that they come from.
    """

    occupations: Array
    energies: Array
    starts: Array
    origins: Array
    fields: Array | None = None

    @classmethod
    def of(cls, expansion: Expansion, occupations: Array, fields: Array | None = None) -> Population:
        """Return draws from a start with fields."""
        x = np.ascontiguousarray(occupations, dtype=np.uint8)
        starts = np.zeros(len(x))
        if fields is not None:
            fields = np.ascontiguousarray(fields, dtype=np.float32)
            starts = np.take_along_axis(fields, x[..., None].astype(np.int64), 2).sum(axis=(1, 2), dtype=np.float64)
        return cls(x, expansion(x), starts, np.arange(len(x)), fields)

    def taken(self, rows: Array) -> Population:
        """Return the chosen rows, any of them more than once."""
        fields = None if self.fields is None else self.fields[rows]
        return Population(self.occupations[rows], self.energies[rows], self.starts[rows], self.origins[rows], fields)


class Moves:
    """Updates that leave exp(start power * start - beta * energy) invariant.

    conserved: keep the number of each constituent, by exchanges.
    """

    def __init__(self, expansion: Expansion, *, conserved: bool) -> None:
        self.expansion, self.conserved = expansion, conserved
        lattice = expansion.clusters.lattice
        self.sites, self.species, self.functions = lattice.sites, lattice.species, lattice.species - 1
        self.values = np.ascontiguousarray(site_functions(lattice.species), dtype=np.float32)
        self.single = self._coefficients(1)[1].ravel() if self.functions else np.zeros(0, dtype=np.float32)
        self.pairs, self.triplets = self._coefficients(2), self._coefficients(3)

    def _coefficients(self, k: int) -> tuple[Array, Array]:
        """Return, for each decorated site, the others (M, t, k - 1) of its clusters of k, and coefficients (M, t)."""
        clusters, size = self.expansion.clusters, self.sites * self.functions
        members, orbits = clusters.members[k - 1], clusters.orbits[k - 1]
        weights = self.expansion.coefficients[orbits]
        members, weights = members[weights != 0], weights[weights != 0]
        own = members.T.ravel()
        others = np.concatenate([np.delete(members, c, axis=1) for c in range(k)])
        order = np.argsort(own, kind="stable")
        own, others, weights = own[order], others[order], np.tile(weights, k)[order]
        rank = np.arange(len(own)) - np.searchsorted(own, own)
        width = max(int(rank.max(initial=-1)) + 1, int(k == 1))
        table = np.zeros((size, width, k - 1), dtype=np.int64)
        strength = np.zeros((size, width), dtype=np.float32)
        table[own, rank], strength[own, rank] = others, weights
        return table, strength

    def sweep(self, population: Population, start: float, beta: float, rng: np.random.Generator) -> Population:
        """Return the population after one move tried for every site."""
        order = rng.permutation(self.sites)
        made = Population(population.occupations.copy(), population.energies.copy(), population.starts.copy(),
                          population.origins, population.fields)  # fmt: skip
        compiled = kernel()
        if compiled is None:
            _InNumpy(self, made).sweep(order, (start, beta), rng)
            return made
        seeds = rng.integers(0, 2**63, len(made.energies), dtype=np.uint64)
        shape = np.array([self.sites, self.species, self.pairs[1].shape[1], self.triplets[1].shape[1]])
        fields = None if made.fields is None else made.fields.ctypes.data
        failed = compiled(
            len(made.energies), shape, self.values, self.single, *self.pairs, *self.triplets, order, seeds, fields,
            made.occupations, made.energies, made.starts, np.array([start, beta]), int(self.conserved),
        )  # fmt: skip
        if failed:
            raise MemoryError
        return made


class _InNumpy:
    """The same moves of a population, site by site for all of it; values (M, n) are the site functions."""

    def __init__(self, moves: Moves, population: Population) -> None:
        self.moves, self.population = moves, population
        values = moves.values[population.occupations]
        self.values = np.ascontiguousarray(values.transpose(1, 2, 0).reshape(-1, len(population.energies)))

    def sweep(self, order: Array, powers: tuple[float, float], rng: np.random.Generator) -> None:
        for site in order.tolist():
            if self.moves.conserved:
                self._exchange(site, int(rng.integers(self.moves.sites)), powers, rng)
            else:
                local = self._local(site)
                logits = -powers[1] * local
                if self.population.fields is not None:
                    logits += powers[0] * self.population.fields[:, site]
                self._put(site, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1), local)

    def _local(self, site: int) -> Array:
        """Return the energy (n, K) that every constituent would have on a site."""
        moves = self.moves
        own = slice(site * moves.functions, (site + 1) * moves.functions)
        slope = np.repeat(moves.single[own, None], self.values.shape[1], axis=1)
        for table, strength in (moves.pairs, moves.triplets):
            slope += np.einsum("ft,ftn->fn", strength[own], self.values[table[own]].prod(axis=2))
        return np.asarray((moves.values @ slope).T)

    def _put(self, site: int, new: Array, local: Array) -> None:
        p, rows = self.population, np.arange(len(new))
        old = p.occupations[:, site].astype(np.int64)
        p.energies[:] += local[rows, new] - local[rows, old]
        if p.fields is not None:
            p.starts[:] += p.fields[rows, site, new] - p.fields[rows, site, old]
        p.occupations[:, site] = new
        self.values[site * self.moves.functions : (site + 1) * self.moves.functions] = self.moves.values[new].T

    def _exchange(self, site: int, other: int, powers: tuple[float, float], rng: np.random.Generator) -> None:
        p = self.population
        first, second = (p.occupations[:, k].astype(np.int64) for k in (site, other))
        energies, starts = p.energies.copy(), p.starts.copy()
        self._put(site, second, self._local(site))
        self._put(other, first, self._local(other))
        change = powers[0] * (p.starts - starts) - powers[1] * (p.energies - energies)
        refused = np.log(rng.random(len(first))) >= change
        nothing = np.zeros((len(first), self.moves.species))
        self._put(site, np.where(refused, first, second), nothing)
        self._put(other, np.where(refused, second, first), nothing)
        p.energies[refused], p.starts[refused] = energies[refused], starts[refused]


@lru_cache
def kernel() -> "ctypes._FuncPointer | None":  # noqa: UP037
    """Return the compiled sweep; None without a compiler."""
    library = native_library(Path(__file__).with_name("moves.c"))
    if library is None:
        return None
    function = library.partition_sweep
    of = {name: ndpointer(dtype=name, flags="C_CONTIGUOUS") for name in ("f4", "f8", "i8", "u8", "u1")}
    function.argtypes = [
        ctypes.c_int64, of["i8"], of["f4"], of["f4"], of["i8"], of["f4"], of["i8"], of["f4"], of["i8"], of["u8"],
        ctypes.c_void_p, of["u1"], of["f8"], of["f8"], of["f8"], ctypes.c_int,
    ]  # fmt: skip
    function.restype = ctypes.c_int
    return function
