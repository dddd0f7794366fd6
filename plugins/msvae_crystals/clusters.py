"""Orbits of decorated clusters, and the correlations of occupations with them.

Sanchez, Ducastelle and Gratias, Physica A 128 (1984) 334: every function of an occupation is a sum over clusters of
products of orthogonal functions of the species on their sites.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from msvae import Array, Crystal
from msvae_crystals.symmetry import Operation, operations

__all__ = ["Orbit", "correlations", "orbits"]

ROUNDING = 1e-14  # m, by which a distance may exceed a cut-off
Member = tuple[tuple[int, ...], ...]  # (site, i, j, k, function) of each point


@dataclass(frozen=True, eq=False)  # one object each, so that looking up what is known of them is fast
class Orbit:
    """Decorated clusters that the space group maps onto each other, up to translations by a cell.

    members: of each point the site, its cell and the number of its function. diameter: largest distance in m.
    """

    members: tuple[Member, ...]
    diameter: float

    @property
    def points(self) -> int:
        """Number of sites in a cluster."""
        return len(self.members[0])


@lru_cache(maxsize=8)
def orbits(crystal: Crystal, cutoffs: tuple[float, ...], species: int) -> tuple[Orbit, ...]:
    """Return all orbits of points, and of clusters of 2, 3, ... sites no further apart than the cut-offs (in m).

    Functions of a site are numbered 1 to species - 1.
    """
    group = operations(crystal)
    found = []
    for size in range(1, len(cutoffs) + 2):
        seen: set[Member] = set()
        reach = cutoffs[size - 2] if size > 1 else 0.0
        for cluster in _clusters(crystal, size, reach):
            for functions in product(range(1, species), repeat=size):
                member = _canonical([(*site, f) for site, f in zip(cluster, functions, strict=True)])
                if member in seen:
                    continue
                orbit = sorted({_mapped(member, operation) for operation in group})
                seen.update(orbit)
                found.append(Orbit(tuple(orbit), _diameter(crystal, cluster)))
    return tuple(sorted(found, key=lambda o: (o.points, round(o.diameter * 1e14), o.members)))


def _clusters(crystal: Crystal, size: int, reach: float) -> Iterator[Sequence[tuple[int, ...]]]:
    """Yield clusters, at least one of each orbit: a site of the first cell, and others within reach of all."""
    sites, vectors = np.array(crystal.sites), np.array(crystal.vectors)
    if size == 1:
        yield from ([(s, 0, 0, 0)] for s in range(len(sites)))
        return
    heights = 1 / np.linalg.norm(np.linalg.inv(vectors), axis=0)
    spans = [range(-n, n + 1) for n in (np.ceil(reach / heights).astype(int) + 1)]
    everywhere = np.array([(s, *cell) for s in range(len(sites)) for cell in product(*spans)])
    places = (sites[everywhere[:, 0]] + everywhere[:, 1:]) @ vectors
    for s in range(len(sites)):
        apart = np.linalg.norm(places - sites[s] @ vectors, axis=1)
        inside = (apart < reach + ROUNDING) & (apart > ROUNDING)
        near, where = everywhere[inside], places[inside]
        between = np.linalg.norm(where[:, None] - where[None], axis=2) < reach + ROUNDING
        for chosen in _cliques(between, size - 1):
            yield [(s, 0, 0, 0), *(tuple(near[k].tolist()) for k in chosen)]


def _cliques(near: Array, size: int, chosen: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Yield ascending choices of so many indices that are all near to each other (n, n)."""
    if len(chosen) == size:
        yield chosen
        return
    first = chosen[-1] + 1 if chosen else 0
    for k in range(first, len(near)):
        if near[list(chosen), k].all():
            yield from _cliques(near, size, (*chosen, k))


def _canonical(points: Sequence[tuple[int, ...]]) -> Member:
    """Return a decorated cluster moved by whole cells so that equal ones are equal."""
    moved = []
    for _, i, j, k, _ in points:
        moved.append(tuple(sorted((s, a - i, b - j, c - k, f) for s, a, b, c, f in points)))
    return min(moved)


def _mapped(member: Member, operation: Operation) -> Member:
    array = np.array(member)
    to, cells = operation.apply(array[:, 0], array[:, 1:4])
    return _canonical([(int(s), *map(int, c), int(f)) for s, c, f in zip(to, cells, array[:, 4], strict=True)])


def _diameter(crystal: Crystal, cluster: Sequence[tuple[int, ...]]) -> float:
    array = np.array(cluster)
    places = (np.array(crystal.sites)[array[:, 0]] + array[:, 1:]) @ np.array(crystal.vectors)
    return float(np.linalg.norm(places[:, None] - places[None], axis=2).max())


def point_functions(species: int) -> Array:
    """Return the functions (species, species) of a site, orthonormal for equal fractions; the first is 1."""
    numbers = np.linspace(-1.0, 1.0, species) if species > 1 else np.zeros(1)
    q, r = np.linalg.qr(np.vander(numbers, species, increasing=True))
    return np.asarray((q * np.sign(np.diagonal(r)) * math.sqrt(species)).T)


def correlations(values: Array, found: tuple[Orbit, ...], species: int) -> Array:
    """Return the mean (n, orbits) of each orbit's products of functions over its clusters in occupations.

    values: (n, channels, *grid), periodic.
    """
    n, shape = len(values), values.shape[1:]
    functions = point_functions(species)[:, values.reshape(n, -1)].transpose(1, 0, 2).reshape(n, -1)
    result = np.empty((n, len(found)))
    for k, index in enumerate(_indices(found, shape)):
        result[:, k] = np.take(functions, index, axis=1).prod(axis=1).mean(axis=1)
    return result


@lru_cache(maxsize=4)
def _indices(found: tuple[Orbit, ...], shape: tuple[int, ...]) -> list[Array]:
    """Return the places (points, clusters) of each orbit in the functions (species, channels, *grid) of all sites."""
    cells = np.stack(np.meshgrid(*(np.arange(m) for m in shape[1:]), indexing="ij"), axis=-1).reshape(-1, 3)
    size = math.prod(shape)
    indices = []
    for orbit in found:
        members = np.array(orbit.members)  # (members, points, 5)
        place = (members[:, :, None, 1:4] + cells) % np.array(shape[1:])
        flat = np.ravel_multi_index(tuple(np.moveaxis(place, -1, 0)), shape[1:])
        index = members[:, :, None, 4] * size + members[:, :, None, 0] * math.prod(shape[1:]) + flat
        indices.append(np.moveaxis(index, 1, 0).reshape(orbit.points, -1))
    return indices
