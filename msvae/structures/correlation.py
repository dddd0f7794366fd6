"""Correlation length across pages of a stack, from two-point correlations at one place on different pages."""

from __future__ import annotations

import numpy as np

from msvae.structures import Array, Structures
from msvae.structures.positions import Positions

__all__ = ["correlated_pages"]

SERIES, PAGES, SITES = 32, 512, 4096  # places, pages of each and voxels of a page that an estimate is from
ENDED, FEWEST = 0.1, 8  # of the correlation that is left; pages from which on its level at large distances is known


def correlated_pages(structures: Structures, positions: Positions) -> tuple[int, ...]:
    """Return the correlation length in pages, for each axis of `positions` before those of the grid.

    0 where the next page is another image. The correlation ends where less than a tenth of it remains above its level
    between distant pages (a background that all pages share).
    """
    axes = positions.corners.shape[1] - structures.specification.grid.dimensions
    return tuple(_pages(structures, positions, axis) for axis in range(axes))


def _pages(structures: Structures, positions: Positions, axis: int) -> int:
    pages = positions.corners[:, axis]
    others = np.column_stack([positions.image_of_each, np.delete(positions.corners, axis, axis=1)])
    _, series = np.unique(others, axis=0, return_inverse=True)
    longest = np.argsort(-np.bincount(series.reshape(-1)), kind="stable")[:SERIES]
    sums, counts = np.zeros(0), np.zeros(0)
    for number in longest:
        rows = np.flatnonzero(series.reshape(-1) == number)
        rows = rows[np.argsort(pages[rows], kind="stable")][:PAGES]
        found = _covariances(structures.values[rows], pages[rows])
        sums, counts = (_longer(a, b) for a, b in zip((sums, counts), found, strict=True))
    return _ended(sums, counts)


def _longer(a: Array, b: Array) -> Array:
    """Return the sum of two vectors, the shorter one padded with zeros."""
    size = max(len(a), len(b))
    return np.asarray(np.pad(a, (0, size - len(a))) + np.pad(b, (0, size - len(b))))


def _covariances(values: Array, pages: Array) -> tuple[Array, Array]:
    """Return the sum of products of pages at each distance, and the number of pairs, for pages (n, channels, *grid)."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    flat = flat[:, :: -(-flat.shape[1] // SITES)]
    flat = np.nan_to_num(flat - np.nanmean(flat))
    first, second = np.triu_indices(len(flat))
    distances = pages[second] - pages[first]
    return np.bincount(distances, (flat @ flat.T)[first, second]), np.bincount(distances).astype(np.float64)


def _ended(sums: Array, counts: Array) -> int:
    """Return the distance in pages at which the correlation has ended; 0 where the next page is another image."""
    known = np.flatnonzero(counts)
    if len(known) < 2 or known[0] != 0 or sums[0] <= 0:
        return 0
    correlation = (sums[known] / counts[known]) / (sums[0] / counts[0])
    far = correlation[known >= known[-1] / 2]
    level = max(float(np.median(far)), 0.0) if counts[0] >= FEWEST else 0.0
    left = correlation[1:] <= level + ENDED * (1 - level)
    if not left.any():
        return int(known[-1]) + 1
    ended = int(known[1 + int(left.argmax())])
    return 0 if ended <= int(known[1]) else ended
