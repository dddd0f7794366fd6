"""A cluster expansion of the energy: sums of products of site functions over orbits of clusters, fitted by ridge.

Sanchez, Ducastelle, Gratias 1984, Physica A 128, 334. Clusters are single sites, pairs and triplets; those that an
operation of the lattice maps onto each other share a coefficient.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.linalg import eigh

from msvae import Array
from msvae_partition.expansion.symmetry import Lattice

__all__ = ["Clusters", "Expansion", "site_functions"]

NEAR = 1 + 1e-6  # of a radius, which distances may exceed by rounding
LOOSE = np.logspace(-10, 2, 25)  # of the mean eigenvalue: strengths of the ridge
LARGE = 10_000_000  # products that are held at once
PRUNED = 1e-9  # of the largest term: smaller ones are rounding


def site_functions(species: int) -> Array:
    """Return the functions (K, K - 1) of the constituent on a site, with mean 0 and mean square 1.

    >>> site_functions(2).ravel().tolist()
    [-1.0, 1.0]
    """
    powers = np.vander(np.arange(species, dtype=float), species, increasing=True)
    q, r = np.linalg.qr(powers)
    return np.asarray((q * np.sign(np.diag(r)))[:, 1:] * np.sqrt(species)).round(12)


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of a lattice, by orbits. A decorated site is a site with one of its functions, number i (K - 1) + a.

    members: of each number of sites k, decorated sites (clusters, k). orbits: of each of these, the number of its orbit
    (clusters,), from 0 over all numbers of sites. multiplicity (orbits,): clusters of an orbit. radii (orbits,):
    longest distance in a cluster, in units of the nearest neighbours'.
    """

    lattice: Lattice
    members: tuple[Array, ...]
    orbits: tuple[Array, ...]
    multiplicity: Array
    radii: Array

    @classmethod
    def of(cls, lattice: Lattice, pairs: int, triplets: int) -> Clusters:
        """Return sites, pairs up to a shell of neighbours and triplets up to another."""
        distances, functions = lattice.distances(), lattice.species - 1
        shells = _shells(distances)
        near, close = (distances <= _radius(shells, number) for number in (pairs, triplets))
        sites = [np.arange(lattice.sites)[:, None], _pairs(near), _triplets(close)]
        members, orbits, counts, radii, first = [], [], [], [], 0
        for k, plain in enumerate(sites, start=1):
            decorated = _decorated(plain, functions)
            own = _orbits(decorated, lattice, functions) + first
            number = int(own.max(initial=first - 1)) + 1
            for orbit in range(first, number):
                cluster = decorated[np.argmax(own == orbit)] // functions
                counts.append(int((own == orbit).sum()))
                apart = max((distances[a, b] for a, b in combinations(cluster, 2)), default=0.0)
                radii.append(apart / shells[0] if len(shells) else 0.0)
            members.append(decorated.reshape(-1, k))
            orbits.append(own)
            first = number
        return cls(lattice, tuple(members), tuple(orbits), np.array(counts), np.array(radii))

    def values(self, occupations: Array) -> Array:
        """Return the site functions (n, decorated sites) of occupations (n, N)."""
        functions = site_functions(self.lattice.species)
        return functions[occupations].reshape(len(occupations), functions.shape[1] * occupations.shape[1])

    def sums(self, occupations: Array) -> Array:
        """Return the sum (n, orbits) over every orbit of the products of site functions, for occupations (n, N)."""
        values, total = self.values(occupations), np.zeros((len(occupations), len(self.multiplicity)))
        for members, orbits in zip(self.members, self.orbits, strict=True):
            if len(members):
                products = values[:, members].prod(axis=2)
                first = np.flatnonzero(np.diff(orbits, prepend=-1))
                total[:, orbits[first]] = np.add.reduceat(products, first, axis=1)
        return total

    @property
    def prior(self) -> Array:
        """Expected size (orbits,) of an orbit's terms: less for more sites and for longer distances."""
        size = np.concatenate([np.full(len(np.unique(o)), k) for k, o in enumerate(self.orbits, start=1)])
        return np.asarray(0.5 ** np.maximum(size - 2, 0) / np.maximum(self.radii, 1) ** 2)


def _shells(distances: Array) -> Array:
    """Return the distances of the shells of neighbours, in ascending order."""
    found = np.sort(distances[np.triu_indices(len(distances), 1)])
    return found[np.concatenate([[True], np.diff(found) > 1e-6 * found[1:]])] if len(found) else found


def _radius(shells: Array, number: int) -> float:
    """Return the radius of a number of shells, negative for none."""
    return float(shells[min(number, len(shells)) - 1]) * NEAR if number and len(shells) else -1.0


def _pairs(near: Array) -> Array:
    return np.argwhere(np.triu(near, 1))


def _triplets(close: Array) -> Array:
    above = np.triu(close, 1)
    found = [(i, *pair) for i in range(len(close)) for pair in _pairs(above[i][:, None] & above[i] & close)]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _decorated(clusters: Array, functions: int) -> Array:
    """Return clusters (m, k) of sites with every choice of functions, each sorted."""
    k = clusters.shape[1]
    choices = np.stack(np.meshgrid(*[np.arange(functions)] * k, indexing="ij"), -1).reshape(-1, k)
    return np.asarray((clusters[:, None] * functions + choices).reshape(-1, k))


def _orbits(members: Array, lattice: Lattice, functions: int) -> Array:
    """Return the number (clusters,) of the orbit of every cluster; sort clusters by it, in place."""
    if not len(members):
        return np.zeros(0, dtype=np.int64)
    size = lattice.sites * functions
    powers = size ** np.arange(members.shape[1], dtype=np.int64)[::-1]
    codes = members @ powers
    order = np.argsort(codes)
    found = np.full(len(members), -1)
    orbit = 0
    for k in range(len(members)):
        if found[k] >= 0:
            continue
        sites, function = np.divmod(members[k], functions)
        images = np.sort(lattice.operations[:, sites] * functions + function, axis=1)
        places = order[np.searchsorted(codes[order], np.unique(images @ powers))]
        found[places] = orbit
        orbit += 1
    by_orbit = np.argsort(found, kind="stable")
    members[:] = members[by_orbit]
    return found[by_orbit]


@dataclass(frozen=True, eq=False)
class Expansion:
    """The energy E(x) = constant + sum over orbits of coefficient times sum of products, in units of the caller's.

    coefficients (orbits,). error: of the energy per site, by leave-one-out cross-validation, root mean square.
    """

    clusters: Clusters
    constant: float
    coefficients: Array
    error: float

    @classmethod
    def fitted(cls, clusters: Clusters, occupations: Array, energies: Array) -> Expansion:
        """Return the ridge regression of energies (n,) of occupations (n, N), its strength by leave-one-out."""
        scale = clusters.prior / np.sqrt(clusters.multiplicity)  # a random alloy's term has then the prior's size
        features = clusters.sums(occupations) * scale
        center, middle = features.mean(axis=0), float(energies.mean())
        x, y = features - center, energies - middle
        values, vectors = eigh(x @ x.T)
        values = np.maximum(values, 0)
        turned = vectors.T @ y
        best: tuple[float, Array] | None = None
        for strength in LOOSE * (values.mean() if values.any() else 1.0):
            shrunk = 1 / (values + strength)
            left = strength * (vectors @ (shrunk * turned))  # residuals
            leverage = 1 - strength * (vectors**2 @ shrunk) + 1 / len(y)
            error = float(np.sqrt(np.mean((left / np.maximum(1 - leverage, 1e-9)) ** 2)))
            if best is None or error < best[0]:
                best = error, x.T @ (vectors @ (shrunk * turned))
        assert best is not None
        coefficients = best[1] * scale
        size = np.abs(coefficients) * np.sqrt(clusters.multiplicity)
        coefficients[size <= PRUNED * size.max(initial=0.0)] = 0.0
        constant = middle - float(center / scale @ coefficients)
        return cls(clusters, constant, coefficients, best[0] / clusters.lattice.sites)

    def __call__(self, occupations: Array) -> Array:
        """Return the energies (n,) of occupations (n, N)."""
        values = self.clusters.values(occupations)
        total = np.full(len(occupations), self.constant)
        for members, orbits in zip(self.clusters.members, self.clusters.orbits, strict=True):
            weights = self.coefficients[orbits]
            used = np.flatnonzero(weights)
            for part in np.array_split(used, -(-len(used) * len(values) // LARGE) or 1):
                total += values[:, members[part]].prod(axis=2) @ weights[part]
        return total
