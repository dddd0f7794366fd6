"""Statistical descriptors of a phase in voxel structures (Torquato 2002, Random Heterogeneous Materials, chapter 2).

Descriptors are periodic along the periodic axes of a structure. Lags are in voxels, along the axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from scipy import ndimage, sparse

from msvae.errors import DataError
from msvae.structures import Array, Structures

__all__ = ["cluster_sizes", "describe", "feature_vectors", "two_point_correlation"]

BATCH = 1 << 24  # voxels that are described at a time


def describe(structures: Structures, phase: int = 1) -> Mapping[str, Array]:
    """Return descriptors of one phase by name, each (n, ...).

    fraction (n,); two_point (n, d, lags) and lineal_path (n, d, lags), along each axis, lags 0 to half the axis;
    chord_length (n, d), mean length in m; surface (n,), area of unlike voxel faces per volume, 1/m; euler (n,), of the
    phase's closed voxels, whole; clusters (n,), number of face-connected clusters; largest_cluster (n,), its share of
    the phase. In a structure without the phase, undefined means are NaN. DataError for compositions and fields.
    """
    specification = structures.specification
    if not specification.is_discrete or specification.grid.dimensions == 0:
        raise DataError(f"descriptors are of phases on a grid, found structures of kind '{specification.kind}'")
    size = max(1, BATCH // int(np.prod(specification.grid.shape)))
    parts = [{**_described(part, phase), **_clusters(part, phase)} for part in
             (structures[i : i + size] for i in range(0, len(structures), size))]  # fmt: skip
    empty = {**_described(structures[:0], phase), **_clusters(structures[:0], phase)}
    return {name: np.concatenate([empty[name], *(part[name] for part in parts)]) for name in empty}


def _described(structures: Structures, phase: int) -> dict[str, Array]:
    grid = structures.specification.grid
    inside = structures.labels == phase
    axes = tuple(range(1, inside.ndim))
    spacing = np.array(grid.spacing)
    unlike = np.stack([_unlike_faces(inside, axis, grid.periodic[axis - 1]) for axis in axes], axis=1)
    volume = inside[0].size if len(inside) else 1
    starts = np.stack([_starts(inside, axis, grid.periodic[axis - 1]) for axis in axes], axis=1)
    count = inside.sum(axis=axes)
    with np.errstate(divide="ignore", invalid="ignore"):
        chords = np.where(starts > 0, count[:, None] * spacing / starts, np.where(count > 0, np.inf, np.nan)[:, None])
    return {
        "fraction": inside.mean(axis=axes) if len(inside) else np.zeros(0),
        "two_point": two_point_correlation(inside, grid.periodic),
        "lineal_path": _lineal_path(inside, grid.periodic),
        "chord_length": np.minimum(chords, spacing * grid.shape),
        "surface": (unlike / spacing).sum(axis=1) / volume,
        "euler": _euler(inside, grid.periodic),
    }


def _clusters(structures: Structures, phase: int) -> dict[str, Array]:
    clusters = [cluster_sizes(image, structures.specification.grid.periodic) for image in structures.labels == phase]
    return {
        "clusters": np.array([float(len(sizes)) for sizes in clusters]),
        "largest_cluster": np.array([sizes.max() / sizes.sum() if len(sizes) else np.nan for sizes in clusters]),
    }


def two_point_correlation(inside: Array, periodic: tuple[bool, ...]) -> Array:
    """Return the probability (n, d, lags) that two points separated by a lag along an axis are both in the phase."""
    d, grid = len(periodic), inside.shape[1:]
    lags = min(grid) // 2 + 1
    result = np.empty((len(inside), d, lags))
    for axis in range(d):
        length = grid[axis] if periodic[axis] else 2 * grid[axis]
        spectrum = np.fft.rfft(inside.astype(np.float32), n=length, axis=axis + 1)
        power = (spectrum.real**2 + spectrum.imag**2).mean(axis=tuple(a + 1 for a in range(d) if a != axis))
        pairs = np.full(lags, grid[axis]) if periodic[axis] else grid[axis] - np.arange(lags)
        result[:, axis] = np.fft.irfft(power, n=length, axis=1)[:, :lags] / pairs
    return result


def _lineal_path(inside: Array, periodic: tuple[bool, ...]) -> Array:
    """Return the probability (n, d, lags) that a whole segment of a lag along an axis is in the phase."""
    grid = inside.shape[1:]
    lags, axes = min(grid) // 2 + 1, tuple(range(1, inside.ndim))
    result = np.empty((len(inside), len(grid), lags))
    for axis in axes:
        run = inside.copy()
        for lag in range(lags):
            if lag:
                if periodic[axis - 1]:
                    run &= np.roll(inside, -lag, axis)
                else:
                    run = run[_part(run.ndim, axis, slice(None, -1))] & inside[_part(run.ndim, axis, slice(lag, None))]
            result[:, axis - 1, lag] = run.mean(axis=axes) if len(run) else 0
    return result


def _part(dimensions: int, axis: int, where: slice) -> tuple[slice, ...]:
    return tuple(where if a == axis else slice(None) for a in range(dimensions))


def _unlike_faces(inside: Array, axis: int, periodic: bool) -> Array:
    """Return the number (n,) of faces normal to an axis between inside and outside."""
    axes = tuple(range(1, inside.ndim))
    unlike = inside != np.roll(inside, 1, axis)
    if not periodic:
        unlike = unlike[_part(inside.ndim, axis, slice(1, None))]
    return np.asarray(unlike.sum(axis=axes))


def _starts(inside: Array, axis: int, periodic: bool) -> Array:
    """Return the number (n,) of chords along an axis."""
    before = np.roll(inside, 1, axis)
    if not periodic:
        before[_part(inside.ndim, axis, slice(0, 1))] = False
    return np.asarray((inside & ~before).sum(axis=tuple(range(1, inside.ndim))))


def _euler(inside: Array, periodic: tuple[bool, ...]) -> Array:
    """Return vertices - edges + faces - voxels (n,) of the union of closed voxels (Gray 1971, IEEE C-20, 551)."""
    width = [(0, 0), *((0, 0) if p else (1, 1) for p in periodic)]
    padded = np.pad(inside, width)
    total = np.zeros(len(inside))
    for spanned in product((False, True), repeat=len(periodic)):
        cells = padded
        for axis, spans in enumerate(spanned, start=1):
            if not spans:
                cells = cells | np.roll(cells, 1, axis)
        total += (-1) ** sum(spanned) * cells.sum(axis=tuple(range(1, inside.ndim)))
    return total


def cluster_sizes(image: Array, periodic: tuple[bool, ...]) -> Array:
    """Return the sizes of the face-connected clusters of voxels."""
    labels, count = ndimage.label(image)
    if count == 0:
        return np.zeros(0)
    pairs = [
        np.stack([np.take(labels, 0, a).ravel(), np.take(labels, -1, a).ravel()]) for a, p in enumerate(periodic) if p
    ]
    touching = (
        np.concatenate([p[:, (p > 0).all(axis=0)] for p in pairs], axis=1) if pairs else np.zeros((2, 0), dtype=int)
    )
    graph = sparse.coo_array((np.ones(touching.shape[1]), tuple(touching)), shape=(count + 1, count + 1))
    _, whole = sparse.csgraph.connected_components(graph, directed=False)
    sizes = np.bincount(whole[1:], np.bincount(labels.ravel(), minlength=count + 1)[1:])
    return np.asarray(sizes[sizes > 0])


def feature_vectors(structures: Structures) -> Array:
    """Return feature vectors (n, m) of structures for distances between sets.

    For phases: descriptors of each phase but the first, correlations at every other lag; for several sites in a unit
    cell, fractions and correlations of each species but the first on each site. For other kinds: values.
    """
    return np.concatenate(feature_groups(structures), axis=1)


def feature_groups(structures: Structures) -> list[Array]:
    """Return the columns (n, k) of `feature_vectors` by what they tell: a number each, correlations axis by axis."""
    if not structures.specification.is_discrete or structures.specification.grid.dimensions == 0:
        return [structures.values.reshape(len(structures), -1).astype(np.float64)]
    size = max(1, BATCH // int(np.prod(structures.specification.grid.shape)))
    parts = [_groups(structures[i : i + size]) for i in range(0, max(len(structures), 1), size)]
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _groups(structures: Structures) -> list[Array]:
    groups: list[Array] = []
    if structures.specification.channels > 1:
        for phase in range(1, len(structures.specification.constituents)):
            for inside in np.moveaxis(structures.values == phase, 1, 0):
                pairs = two_point_correlation(inside, structures.specification.grid.periodic)[..., 1::2]
                groups += [inside.mean(axis=tuple(range(1, inside.ndim)))[:, None], *pairs.swapaxes(0, 1)]
        return groups
    for phase in range(1, len(structures.specification.constituents)):
        found = _described(structures, phase)
        for name in ("fraction", "surface", "euler", "chord_length"):
            columns = np.nan_to_num(found[name]).reshape(len(structures), int(np.prod(found[name].shape[1:])))
            groups += list(columns.T[:, :, None])
        for name in ("two_point", "lineal_path"):
            groups += list(np.nan_to_num(found[name][..., 1::2]).swapaxes(0, 1))
    return groups
