"""Percolation: voxels that connect opposite sides, and contacts at edges and corners only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse

from msvae import Array

EMPTY = 1e-4  # of the largest modulus: voxels with less bear nothing
HINGED = 1e-2  # of the largest modulus: a property above that is no void's


def percolating(cells: Array, axes: Sequence[int], *, periodic: bool) -> dict[int, Array]:
    """Return for each axis the voxels (*grid) of the clusters that reach through the structure along it.

    periodic: opposite sides touch, and a cluster has to come back to where it left.
    """
    everywhere = list(range(cells.ndim)) if periodic else []
    whole = _clusters(cells, everywhere)
    found = {}
    for axis in axes:
        labels = _clusters(cells, [a for a in everywhere if a != axis])
        first, last = np.take(labels, 0, axis), np.take(labels, -1, axis)
        through = _winding(first, last) if periodic else _reaching(first, last)
        found[axis] = np.isin(whole, np.unique(whole[np.isin(labels, through) & cells])) & cells
    return found


def _reaching(first: Array, last: Array) -> Array:
    """Return the clusters with voxels on both of two sides."""
    return np.asarray(np.intersect1d(first[first > 0], last[last > 0]))


def _winding(first: Array, last: Array) -> Array:
    """Return the clusters of one period that belong to a path which ends some periods away from where it began.

    first, last: labels on the two opposite sides. Every step across the border is a move by one period; clusters that
    can be reached by moves that add up differently are such a path's.
    """
    touching = (first > 0) & (last > 0)
    moves = np.unique(np.stack([last[touching], first[touching]]), axis=1).T.tolist()
    neighbours: dict[int, list[tuple[int, int]]] = {}
    for below, above in moves:
        neighbours.setdefault(below, []).append((above, 1))
        neighbours.setdefault(above, []).append((below, -1))
    period: dict[int, int] = {}
    through: list[int] = []
    for start in neighbours:
        if start in period:
            continue
        period[start], group, winds = 0, [start], False
        for cluster in group:
            for other, move in neighbours[cluster]:
                if other not in period:
                    period[other] = period[cluster] + move
                    group.append(other)
                winds = winds or period[other] != period[cluster] + move
        through += group if winds else []
    return np.array(through, dtype=int)


def _clusters(cells: Array, wrapped: Sequence[int] | range) -> Array:
    """Return labels of the clusters of face-connected voxels; opposite sides touch along the wrapped axes."""
    labels, count = ndimage.label(cells)
    pairs = [np.stack([np.take(labels, 0, a).ravel(), np.take(labels, -1, a).ravel()]) for a in wrapped]
    joined = (
        np.concatenate([p[:, (p > 0).all(axis=0)] for p in pairs], axis=1) if pairs else np.zeros((2, 0), dtype=int)
    )
    graph = sparse.coo_array((np.ones(joined.shape[1]), tuple(joined)), shape=(count + 1, count + 1))
    _, components = sparse.csgraph.connected_components(graph, directed=False)
    return np.where(labels > 0, components[labels] + 1, 0)


def _leads_straight(labels: Array, axis: int, *, periodic: bool) -> bool:
    """Return whether a cluster of one period plainly leads through along an axis; most do, which saves looking closer.

    In a periodic structure: it has the same place on both sides.
    """
    first, last = np.take(labels, 0, axis), np.take(labels, -1, axis)
    if periodic:
        return bool(((first == last) & (first > 0)).any())
    return _reaching(first, last).size > 0


def with_sides(stiff: Array) -> Array:
    """Return voxels with their faces, edges and corners on a grid of twice the size: those that share a node touch."""
    for axis in range(stiff.ndim):
        beside = stiff | np.roll(stiff, 1, axis)
        stiff = np.stack([beside, stiff], axis=axis + 1).reshape(
            *stiff.shape[:axis], 2 * stiff.shape[axis], *stiff.shape[axis + 1 :]
        )
    return stiff


def hinges(material: Array, tensor: Array, *, periodic: bool) -> str:
    """Return a sentence if load-bearing voxels touch only at edges or corners along an axis; otherwise "".

    material: (m, *grid). tensor: the effective one, whose leading diagonal belongs to the axes, or that diagonal.
    """
    modulus = np.abs(material).sum(axis=0)
    cells = modulus > EMPTY * modulus.max()
    if cells.all():
        return ""
    own = tensor if tensor.ndim == 1 else np.diag(tensor)
    labels, _ = ndimage.label(cells)
    bearing = np.flatnonzero(own[: cells.ndim] > HINGED * modulus.max()).tolist()
    open_axes = [axis for axis in bearing if not _leads_straight(labels, axis, periodic=periodic)]
    through = percolating(cells, open_axes, periodic=periodic) if open_axes else {}
    axes = [axis for axis in open_axes if not through[axis].any()]
    if not axes:
        return ""
    return (
        f"along axis {' and '.join(map(str, axes))} its voxels hang together only by edges or corners: "
        "what it bears there is the voxels' and vanishes on finer ones"
    )
