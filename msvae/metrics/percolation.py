"""Critical distances (critical-path analysis): the width of the widest path through a phase, or the gap to having one.

Transport in a medium with a broad distribution of local conductances is governed by the last link to percolate
(Ambegaokar, Halperin and Langer 1971, Phys. Rev. B 4, 2612); the permeability of rock follows from the diameter of the
largest sphere that can pass (Katz and Thompson 1986, Phys. Rev. B 34, 8179).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from msvae.structures import Array

__all__ = ["critical_distances", "winding"]

MANY = 32  # structures whose distances are found together


def critical_distances(inside: Array, spacing: tuple[float, ...]) -> Array:
    """Return critical distances (n, d) in m of a phase, inside (n, *grid), continued periodically along each axis.

    It is the largest distance from the phase's surface that a path along the axis can keep everywhere: the radius of
    the largest ball that can pass. A negative value means that there is no path, and is the distance by which the phase
    would have to grow. It is minus half the longest axis for an empty phase, plus half for a full one.
    """
    parts = [
        _signed_distances(part, spacing)
        for part in np.array_split(np.asarray(inside, dtype=bool), -(-len(inside) // MANY) or 1)
    ]
    found = [_critical(distance) for part in parts for distance in part]
    return np.array(found).reshape(len(inside), len(spacing))


def winding(inside: Array) -> Array:
    """Return along which axes (d,) a face-connected phase (*grid) of a periodic structure percolates.

    Every cluster of one period is labelled with the period in which it is reached across the borders. A cluster reached
    in two periods belongs to an infinite path along the axes in which these periods differ.
    """
    labels, count = ndimage.label(inside)
    across: dict[int, list[tuple[int, int, int]]] = {}
    for axis in range(inside.ndim):
        first, last = np.take(labels, 0, axis).ravel(), np.take(labels, -1, axis).ravel()
        touching = (first > 0) & (last > 0)
        pairs = np.unique(last[touching].astype(np.int64) * (count + 1) + first[touching])
        for below, above in zip((pairs // (count + 1)).tolist(), (pairs % (count + 1)).tolist(), strict=True):
            across.setdefault(below, []).append((above, axis, 1))
            across.setdefault(above, []).append((below, axis, -1))
    winds, periods = np.zeros(inside.ndim, dtype=bool), dict[int, tuple[int, ...]]()
    for start in across:
        if start in periods:
            continue
        periods[start], group = (0,) * inside.ndim, [start]
        for cluster in group:
            here = periods[cluster]
            for other, axis, move in across[cluster]:
                there = (*here[:axis], here[axis] + move, *here[axis + 1 :])
                if other not in periods:
                    periods[other] = there
                    group.append(other)
                winds |= np.not_equal(periods[other], there)
    return winds


def _signed_distances(inside: Array, spacing: tuple[float, ...]) -> Array:
    """Return distances (n, *grid) in m of voxels from the nearest face to the other phase; below zero outside."""
    smallest = min(spacing)
    steps = tuple(h / smallest for h in spacing)  # of cubes one, so that equal distances are equal numbers
    inner, outer = (smallest * np.sqrt(_squared_distances(mask, steps)) for mask in (inside, ~inside))
    found = np.where(inside, inner - 0.5 * smallest, 0.5 * smallest - outer)
    half = 0.5 * max(n * h for n, h in zip(inside.shape[1:], spacing, strict=True))
    return np.asarray(np.clip(found, -half, half))


def _squared_distances(inside: Array, steps: tuple[float, ...]) -> Array:
    """Return the squared distances (n, *grid) of voxels' centres from the nearest voxel outside, periodically.

    Axis by axis, the minimum along a line of the voxels' values plus their squared distances (Felzenszwalb and
    Huttenlocher 2012, Theory of Computing 8, 415); infinite where no voxel is outside.
    """
    squared = np.where(inside, np.inf, 0.0)
    for axis, step in enumerate(steps, start=1):
        least = squared.copy()
        for lag in range(1, squared.shape[axis] // 2 + 1):
            for moved in (np.roll(squared, lag, axis), np.roll(squared, -lag, axis)):
                np.minimum(least, moved + (lag * step) ** 2, out=least)
        squared = least
    return squared


def _critical(distance: Array) -> Array:
    """Return by bisection the largest level (d,) at which the voxels at least that deep still percolate."""
    levels = np.unique(distance)
    known: dict[int, Array] = {}
    critical = np.empty(distance.ndim)
    for axis in range(distance.ndim):
        low = max((k for k, winds in known.items() if winds[axis]), default=0)
        high = min((k for k, winds in known.items() if not winds[axis]), default=len(levels)) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if middle not in known:
                known[middle] = winding(distance >= levels[middle])
            low, high = (middle, high) if known[middle][axis] else (low, middle - 1)
        critical[axis] = levels[low]
    return critical
