"""Pareto fronts of two losses: the non-dominated points, and the area that a front dominates."""

from __future__ import annotations

import numpy as np

from msvae.structures import Array

__all__ = ["front", "hypervolume"]


def front(losses: Array) -> Array:
    """Return the non-dominated rows of losses (n, 2), sorted by the first loss; rows with NaN are excluded.

    >>> front(np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.6, 0.6]])).tolist()
    [0, 2, 1]
    """
    known = np.flatnonzero(np.isfinite(losses).all(axis=1))
    order = known[np.lexsort((losses[known, 1], losses[known, 0]))]
    least = np.minimum.accumulate(np.concatenate([[np.inf], losses[order, 1]]))[:-1]
    return np.asarray(order[losses[order, 1] < least], dtype=int)


def hypervolume(losses: Array, reference: Array) -> float:
    """Return the area between losses (n, 2) and a reference point (2,) that is worse in both.

    >>> hypervolume(np.array([[0.0, 0.5], [0.5, 0.0]]), np.array([1.0, 1.0]))
    0.75
    """
    inside = losses[(losses < reference).all(axis=1)]
    chosen = inside[front(inside)]
    widths = np.diff(np.append(chosen[:, 0], reference[0]))
    return float(widths @ (reference[1] - chosen[:, 1]))
