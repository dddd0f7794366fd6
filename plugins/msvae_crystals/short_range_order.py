"""Pairs of sites by shells of distance, and the short-range order of occupations in them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from msvae import Array, Crystal

__all__ = ["shells_of", "warren_cowley"]

SAME = 1e-4  # relative difference of the distances of one shell


def shells_of(crystal: Crystal, shape: Sequence[int], count: int) -> list[tuple[Array, Array]]:
    """Return the pairs of sites in the nearest shells of a periodic grid of unit cells: (pairs,), (pairs,) of each.

    Every pair is there in both directions. Sites are numbered as (channels, *shape) flattened.
    """
    sites, vectors = np.array(crystal.sites), np.array(crystal.vectors)
    reach, distances = 1, np.empty(0)
    while True:
        offsets = np.array(list(product(range(-reach, reach + 1), repeat=3)))
        between = sites[None, :, None] - sites[:, None, None] + offsets
        distances = np.linalg.norm(between @ vectors, axis=-1)  # (sites, sites, offsets)
        heights = 1 / np.linalg.norm(np.linalg.inv(vectors), axis=0)
        sure = (reach - 1) * heights.min()  # up to here no pair is missed
        radii = _distinct(distances[(distances > 0) & (distances < max(sure, 1e-12))])
        if len(radii) > count:
            break
        reach += 1
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    size = len(cells)
    found = []
    for radius in radii[:count]:
        first, second = [], []
        for s, t, k in np.argwhere(np.abs(distances - radius) < SAME * radius):
            there = np.ravel_multi_index(tuple(((cells + offsets[k]) % np.array(shape)).T), tuple(shape))
            first.append(s * size + np.arange(size))
            second.append(t * size + there)
        found.append((np.concatenate(first), np.concatenate(second)))
    return found


def _distinct(distances: Array) -> list[float]:
    radii: list[float] = []
    for distance in np.sort(distances):
        if not radii or distance > radii[-1] * (1 + SAME):
            radii.append(float(distance))
    return radii


def warren_cowley(values: Array, shells: Sequence[tuple[Array, Array]], species: int) -> Array:
    """Return 1 - p_ij / (c_i c_j), (n, shells, species, species), of occupations (n, channels, *grid).

    p_ij: fraction of a shell's pairs that are i and j. 0 is disorder; 0 too for a species that is not there. Cowley,
    Phys. Rev. 77 (1950) 669, for i other than j.
    """
    flat = values.reshape(len(values), -1)
    result = np.zeros((len(flat), len(shells), species, species))
    for n, occupation in enumerate(flat):
        fractions = np.bincount(occupation, minlength=species) / len(occupation)
        expected = np.outer(fractions, fractions)
        for s, (first, second) in enumerate(shells):
            codes = occupation[first].astype(np.int64) * species + occupation[second]
            pairs = np.bincount(codes, minlength=species**2).reshape(species, species) / len(first)
            result[n, s] = np.where(expected > 0, 1 - pairs / np.where(expected > 0, expected, 1), 0.0)
    return result
