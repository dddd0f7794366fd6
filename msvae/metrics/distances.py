"""Distances between two sets of structures, or of their properties."""

from __future__ import annotations

import numpy as np
from scipy import linalg
from scipy.spatial import cKDTree

from msvae.structures import Array

__all__ = ["coverage", "curve_distance", "density", "frechet", "kolmogorov_smirnov", "novelty", "wasserstein"]


def wasserstein(a: Array, b: Array) -> float:
    """Return the first Wasserstein distance of two samples of numbers, in standard deviations of the second.

    >>> round(wasserstein(np.array([0.0, 1.0]), np.array([1.0, 3.0])), 6)  # moved by 1 and 2; the deviation is 1
    1.5
    """
    from scipy import stats  # half a second, which workers do not have to spend

    spread = float(np.std(b))
    return float(stats.wasserstein_distance(a, b)) / (spread if spread > 0 else 1.0)


def kolmogorov_smirnov(a: Array, b: Array) -> float:
    """Return the p-value of the hypothesis that two samples come from one distribution."""
    from scipy import stats

    return float(stats.ks_2samp(a, b).pvalue)


def curve_distance(a: Array, b: Array) -> float:
    """Return the relative L2 distance of the mean curves of two sets (n, ...)."""
    first, second = a.mean(axis=0), b.mean(axis=0)
    return float(np.linalg.norm(first - second) / max(float(np.linalg.norm(second)), 1e-300))


def frechet(a: Array, b: Array) -> float:
    """Return the Frechet distance of the normal distributions of two sets of vectors (n, m), squared.

    |mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson and Landau 1982, J. Multivar. Anal. 12, 450); vectors in
    standard deviations of the second set.
    """
    scale = b.std(axis=0)
    x, y = ((v - b.mean(axis=0)) / np.where(scale > 0, scale, 1.0) for v in (a, b))
    first, second = (np.atleast_2d(np.cov(v, rowvar=False)) for v in (x, y))
    values = linalg.eigvals(first @ second)
    mixed = np.sqrt(np.clip(values.real, 0, None)).sum()
    return float(((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * mixed)


def coverage(generated: Array, real: Array, neighbours: int = 5) -> float:
    """Return the fraction of real vectors (n, m) with a generated one in their neighbourhood (Naeem et al. 2020,
    arXiv:2002.09797)."""
    radii, to_real, _ = _neighbourhoods(generated, real, neighbours)
    return float((to_real <= radii).mean())


def density(generated: Array, real: Array, neighbours: int = 5) -> float:
    """Return the normalised number of real neighbourhoods around a generated vector (same source); 1 is ideal."""
    radii, _, trees = _neighbourhoods(generated, real, neighbours)
    inside = [len(found) for found in trees[0].query_ball_point(trees[1].data, radii)]
    return float(np.sum(inside) / (neighbours * len(generated)))


def _neighbourhoods(generated: Array, real: Array, neighbours: int) -> tuple[Array, Array, tuple[cKDTree, cKDTree]]:
    """Return each real vector's distance to its k-th real neighbour and to the nearest generated one, and the trees."""
    scale = _scale(real)
    trees = cKDTree(generated / scale), cKDTree(real / scale)
    k = min(neighbours, len(real) - 1)
    radii = trees[1].query(trees[1].data, k=[k + 1])[0][:, 0]
    return radii, trees[0].query(trees[1].data)[0], trees


def novelty(generated: Array, held_out: Array, known: Array) -> tuple[float, float]:
    """Return the median distance of generated vectors to the nearest known one over that of held-out ones, and the
    Kolmogorov-Smirnov probability of the two sets of distances: a model that copies its data has a ratio near 0.

    >>> novelty(np.zeros((5, 2)), np.zeros((5, 2)), np.zeros((5, 2)))[0]  # all are alike: nothing is copied
    1.0
    """
    scale = _scale(known)
    tree = cKDTree(known / scale)
    near, usual = (tree.query(v / scale)[0] for v in (generated, held_out))
    middle = float(np.median(near)), float(np.median(usual))
    ratio = middle[0] / middle[1] if middle[1] > 0 else 1.0 if middle[0] == 0 else np.inf
    return ratio, kolmogorov_smirnov(near, usual)


def _scale(vectors: Array) -> Array:
    """Return the standard deviation (m,) of each feature; infinite where it does not vary and others do."""
    spread = vectors.std(axis=0)
    return np.where(spread > 0, spread, np.inf) if spread.any() else np.ones_like(spread)
