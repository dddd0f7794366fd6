"""Critical distances: how wide the widest way through a phase is, or how far from having one (critical paths).

What percolates last decides about transport in a medium whose local conductances are spread widely (Ambegaokar,
Halperin and Langer 1971, Phys. Rev. B 4, 2612); the permeability of rock follows from the diameter of the largest
sphere that can pass (Katz and Thompson 1986, Phys. Rev. B 34, 8179).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from msvae.structures import Array

__all__ = ["critical_distances", "winding"]

REACH = 4  # parts of the shorter axis; distances beyond one of them may be found too large


def critical_distances(inside: Array, spacing: tuple[float, ...]) -> Array:
    """Return critical distances (n, d) in m of a phase, inside (n, *grid), that goes on periodically along each axis.

    The largest distance from the phase's surface that the points of a path along the axis keep everywhere: the radius
    of the largest ball that can pass. Below zero there is no path, and it is how far the phase would have to grow.
    Of an empty phase minus, of a full one plus half the longest axis.
    """
    found = [_critical(_signed_distance(np.asarray(image, dtype=bool), spacing)) for image in inside]
    return np.array(found).reshape(len(inside), len(spacing))


def winding(inside: Array) -> Array:
    """Return along which axes (d,) a face-connected phase (*grid) of a periodic structure percolates.

    Every cluster of one period gets the period that it is reached in, over the borders; a cluster that is reached in
    two of them is part of a path that never ends, along the axes in which they differ.
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


def _signed_distance(image: Array, spacing: tuple[float, ...]) -> Array:
    """Return distances (*grid) in m of voxels from the nearest face to the other phase; below zero outside."""
    if image.all() or not image.any():
        half = 0.5 * max(n * h for n, h in zip(image.shape, spacing, strict=True))
        return np.full(image.shape, half if image.any() else -half)
    width = -(-min(image.shape) // REACH)
    wider, whole = np.pad(image, width, mode="wrap"), (slice(width, -width),) * image.ndim
    inner, outer = (ndimage.distance_transform_edt(m, sampling=spacing)[whole] for m in (wider, ~wider))
    return np.asarray(np.where(image, inner - 0.5 * min(spacing), 0.5 * min(spacing) - outer))


def _critical(distance: Array) -> Array:
    """Return the largest level (d,) at which what lies at least as deep still percolates, by bisection."""
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
