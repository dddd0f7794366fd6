"""Constraints on decoded structures: connected phases, no loose parts, feature size, symmetry."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage

from msvae.metrics.descriptors import cluster_sizes
from msvae.sampling.search.aims import Constraint
from msvae.structures import Array, Structures

__all__ = ["meets"]


def meets(constraint: Constraint, structures: Structures) -> Array:
    """Return which (n,) structures of phases meet a constraint; `Constraint` defines each kind."""
    if constraint.kind == "symmetric":
        return np.array([_mirrored(labels, constraint) for labels in structures.labels], dtype=bool)
    grid, images = structures.specification.grid, structures.labels == constraint.phase
    if constraint.kind == "connected":
        axes = range(grid.dimensions) if constraint.axis is None else (constraint.axis,)
        return np.array([all(_joins(image, axis) for axis in axes) for image in images], dtype=bool)
    if constraint.kind == "one-piece":
        return np.array([_largest(image, grid.periodic) >= constraint.share for image in images], dtype=bool)
    assert constraint.size is not None
    ball = _ball(constraint.size, grid.spacing)
    return np.array([_kept(image, ball, grid.periodic) >= constraint.share for image in images], dtype=bool)


def _mirrored(labels: Array, constraint: Constraint) -> bool:
    assert constraint.axis is not None
    return bool((labels == np.flip(labels, constraint.axis)).mean() >= constraint.share)


def _joins(image: Array, axis: int) -> bool:
    """Return whether a face-connected cluster of voxels reaches both faces across an axis."""
    names, _ = ndimage.label(image)
    first, last = (np.unique(np.take(names, k, axis)) for k in (0, -1))
    return bool(np.intersect1d(first[first > 0], last[last > 0]).size)


def _largest(image: Array, periodic: tuple[bool, ...]) -> float:
    sizes = cluster_sizes(image, periodic)
    return float(sizes.max() / sizes.sum()) if len(sizes) else 0.0


def _ball(size: float, spacing: tuple[float, ...]) -> Array:
    """Return the voxels whose centres lie in a ball of a diameter (m) around a voxel's centre."""
    reach = [int(size / 2 / h) for h in spacing]
    places = np.array(list(product(*(range(-r, r + 1) for r in reach))))
    inside = (np.square(places * spacing).sum(axis=1) <= (size / 2) ** 2 * (1 + 1e-9)).reshape(
        [2 * r + 1 for r in reach]
    )
    return np.asarray(inside)


def _kept(image: Array, ball: Array, periodic: tuple[bool, ...]) -> float:
    """Return the share of a phase that a morphological opening by a ball preserves (Serra 1982, chapter II)."""
    if not image.any():
        return 0.0
    reach = [n // 2 for n in ball.shape]
    wider = image
    for axis, (r, wraps) in enumerate(zip(reach, periodic, strict=True)):
        width = [(2 * r, 2 * r) if a == axis else (0, 0) for a in range(image.ndim)]
        wider = np.pad(wider, width, mode="wrap" if wraps else "edge")
    opened = ndimage.binary_opening(wider, ball)
    inside = opened[tuple(slice(2 * r, 2 * r + n) for r, n in zip(reach, image.shape, strict=True))]
    return float((inside & image).sum() / image.sum())
