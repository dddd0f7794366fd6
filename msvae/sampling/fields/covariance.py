"""Covariances of random fields with several channels: a linear model of coregionalisation of Matern correlations.

    C(h) = sum_k B_k rho_k(h) + N [h = 0]

B_k and N are positive semi-definite (channels, channels); N is the nugget, the variance on scales below the distance
between observations. Wackernagel, Multivariate Geostatistics (2003), chapter 26; fitted as in Goulard and Voltz, Math.
Geol. 24 (1992) 269.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize, spatial

from msvae.errors import DataError
from msvae.structures import Array

__all__ = ["FITTED", "SMOOTHNESS", "Coregionalization", "Correlation", "empirical_covariances", "fit_covariance"]

SMOOTHNESS = (0.5, 1.5, 2.5, math.inf)
FITTED = (0.5, 1.5, math.inf)  # the best is taken; SVEs side by side share what crosses their border, and no more
BINS = {1: 60, 2: 30, 3: 15}  # of the lags along an axis, up to half the extent
NEAR = 2.0  # correlation lengths, within which the smoothness is judged
LEADING = 3  # combinations of channels that lengths are fitted to
SHORTEST = 0.3  # of the shortest lag along an axis: no length is below
PAIRS = 4_000_000  # pairs of observations that are looked at


@dataclass(frozen=True)
class Correlation:
    """A Matern correlation: exponential for smoothness 0.5, normal for infinity.

    lengths: of correlation along each axis, m; r = |h / lengths|, and rho = exp(-r), (1 + sqrt(3) r) exp(-sqrt(3) r),
    (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r), or exp(-r^2 / 2).

    >>> round(float(Correlation((2.0,), 0.5)(np.array([[2.0]]))[0]), 4)
    0.3679
    """

    lengths: tuple[float, ...]
    smoothness: float = 1.5

    def __post_init__(self) -> None:
        if self.smoothness not in SMOOTHNESS:
            raise DataError(f"smoothness is one of {', '.join(map(str, SMOOTHNESS))}, found {self.smoothness}")
        if not self.lengths or not all(0 < length < math.inf for length in self.lengths):
            raise DataError(f"correlation lengths are positive, in m, found {self.lengths}")

    def __call__(self, lags: Array) -> Array:
        """Return the correlations (...) at lags (..., d) in m."""
        r = np.sqrt(np.square(np.asarray(lags) / self.lengths).sum(axis=-1))
        if self.smoothness == math.inf:
            return np.asarray(np.exp(-0.5 * r * r))
        s = math.sqrt(2 * self.smoothness) * r
        polynomial = {0.5: 1.0, 1.5: 1 + s, 2.5: 1 + s + s * s / 3}[self.smoothness]
        return np.asarray(polynomial * np.exp(-s))


@dataclass(frozen=True, eq=False)
class Coregionalization:
    """A covariance C(h) between channels. matrices: B (k, c, c) of the correlations. nugget: N (c, c)."""

    correlations: tuple[Correlation, ...]
    matrices: Array
    nugget: Array

    def __post_init__(self) -> None:
        c = len(self.nugget)
        if self.matrices.shape != (len(self.correlations), c, c) or self.nugget.shape != (c, c):
            raise DataError(
                f"{len(self.correlations)} correlations of {c} channels need matrices of shape "
                f"{(len(self.correlations), c, c)}, found {self.matrices.shape}"
            )
        for matrix in (*self.matrices, self.nugget):
            if np.linalg.eigvalsh(matrix).min() < -1e-9 * max(1.0, np.abs(matrix).max()):
                raise DataError("the matrices of a covariance are positive semi-definite, found one that is not")

    @classmethod
    def of(cls, correlation: Correlation, matrix: Array) -> Coregionalization:
        """Return a covariance of one correlation without a nugget."""
        matrix = np.asarray(matrix, dtype=np.float64)
        return cls((correlation,), matrix[None], np.zeros_like(matrix))

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.nugget)

    @property
    def at_zero(self) -> Array:
        """C(0), (c, c)."""
        return np.asarray(self.matrices.sum(axis=0) + self.nugget)

    def __call__(self, lags: Array) -> Array:
        """Return C(h) (..., c, c) at lags (..., d) in m."""
        lags = np.asarray(lags, dtype=np.float64)
        found = sum(
            rho(lags)[..., None, None] * matrix for rho, matrix in zip(self.correlations, self.matrices, strict=True)
        )
        return np.asarray(found + np.all(lags == 0, axis=-1)[..., None, None] * self.nugget)

    def scaled(self, factor: Array) -> Coregionalization:
        """Return F C(h) F^T for a matrix F (c, c)."""
        return Coregionalization(
            self.correlations, np.stack([factor @ b @ factor.T for b in self.matrices]), factor @ self.nugget @ factor.T
        )

    def strengthened(self, factor: float) -> Coregionalization:
        """Return the covariance with the correlation between points raised or lowered if possible, C(0) unchanged.

        Needs a single correlation, as in a fitted covariance.
        """
        (rho,), zero = self.correlations, self.at_zero
        matrix = _part_of(zero, factor * self.matrices[0])
        return Coregionalization((rho,), matrix[None], _part_of(zero, zero - matrix))

    def standardised(self, *, whitened: bool = False) -> Coregionalization:
        """Return the covariance scaled to variance 1 per channel; whitened: also without cross-correlation at lag 0."""
        zero = self.at_zero
        if whitened:
            return self.scaled(np.linalg.inv(np.linalg.cholesky(zero)))
        return self.scaled(np.diag(1 / np.sqrt(np.diag(zero))))


def empirical_covariances(positions: Array, values: Array) -> tuple[Array, Array, Array]:
    """Return lags (b, d) in m, covariances (b, c, c) and numbers of pairs (b,) of values (n, c) with mean zero.

    Pairs are binned by their lag along each axis alone and by its length, so that anisotropy is visible.
    """
    first, second = _pairs(np.asarray(positions, dtype=np.float64))
    lags = positions[second] - positions[first]
    keys, centres = _binned(lags, BINS[positions.shape[1]])
    covariances = np.zeros((len(centres), values.shape[1], values.shape[1]))
    counts = np.bincount(keys, minlength=len(centres)).astype(float)
    mean = np.zeros_like(centres)
    np.add.at(mean, keys, np.abs(lags))
    for b in np.flatnonzero(counts):
        rows = keys == b
        product = values[first[rows]].T @ values[second[rows]] / counts[b]
        covariances[b] = (product + product.T) / 2
    kept = counts > 0
    return mean[kept] / counts[kept, None], covariances[kept], counts[kept]


def _pairs(positions: Array) -> tuple[Array, Array]:
    """Return the indices of pairs of nearby points, up to a maximum number."""
    n = len(positions)
    if n * (n - 1) // 2 <= PAIRS:
        return np.triu_indices(n, 1)
    tree = spatial.cKDTree(positions)
    found = [tree.query(positions, k=min(n, 1 + PAIRS // n))[1]]
    first = np.repeat(np.arange(n), found[0].shape[1] - 1)
    return first, found[0][:, 1:].ravel()


def _binned(lags: Array, bins: int) -> tuple[Array, Array]:
    """Return the bin index of every lag (p, d), and the direction (b, d) of every bin, up to half the extent."""
    extent = np.abs(lags).max(axis=0)
    width = np.where(extent > 0, extent / 2 / bins, 1.0)
    cells = np.minimum(np.round(np.abs(lags) / width).astype(int), bins + 1)
    shape = (bins + 2,) * lags.shape[1]
    names, keys = np.unique(np.ravel_multi_index(tuple(cells.T), shape), return_inverse=True)
    return keys, np.zeros((len(names), lags.shape[1]))


def fit_covariance(
    positions: Array, values: Array, *, smoothness: Sequence[float] = FITTED, nugget: bool = True
) -> Coregionalization:
    """Return the covariance that best fits values (n, c) with mean zero at positions (n, d) in m.

    Lengths and smoothness minimise the squared misfit of all covariances and cross-covariances, weighted by their
    numbers of pairs. The matrices are the least-squares solution, made positive semi-definite.
    """
    positions, values = np.asarray(positions, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(positions) < 8 or not np.isfinite(values).all():
        raise DataError(f"a covariance needs at least 8 observations without NaN, found {len(positions)}")
    lags, covariances, counts = empirical_covariances(positions, values)
    zero = values.T @ values / len(values)
    fits = [_fitted(nu, lags, covariances, counts, zero, nugget) for nu in smoothness]
    return min(fits, key=lambda fit: fit[0])[1]


def _fitted(nu: float, lags: Array, covariances: Array, counts: Array, zero: Array, nugget: bool
) -> tuple[float, Coregionalization]:  # fmt: skip
    """Return the covariance for one smoothness and its misfit at short lags, which identify the smoothness.

    Lengths are fitted to the combinations of channels that correlate most with their neighbours, because many
    uncorrelated channels would otherwise dominate. One length for all axes is fitted first, then one per axis, none
    below the resolution of the lags.
    """
    extent = np.abs(lags).max(axis=0)
    least = SHORTEST * np.array([x[x > 0].min(initial=np.inf) for x in np.abs(lags).T])
    least = np.where(np.isfinite(least), least, 1.0)
    weights = np.sqrt(counts / counts.sum())[:, None, None]
    leading = _leading(lags, covariances, counts, zero)

    def model(logarithms: Array, whole: Array, found: Array) -> Coregionalization:
        lengths = np.maximum(np.broadcast_to(np.exp(logarithms), extent.shape), least)
        rho = Correlation(tuple(lengths.tolist()), nu)
        r = rho(lags)
        slope = np.einsum("b,bij->ij", r * counts, found) / max(float((counts * r * r).sum()), 1e-300)
        matrix = _part_of(whole, slope) if nugget else whole
        return Coregionalization((rho,), matrix[None], _part_of(whole, whole - matrix))

    few = np.einsum("ik,bij,jl->bkl", leading, covariances, leading)
    at_zero = leading.T @ zero @ leading

    def misfit(logarithms: Array) -> float:
        return float(np.square(weights * (model(logarithms, at_zero, few)(lags) - few)).sum())

    starts = [np.log([float(extent.max()) * f]) for f in (0.03, 0.1, 0.3)]
    even = min((_least(misfit, start) for start in starts), key=lambda r: float(r.fun))
    best = _least(misfit, np.broadcast_to(even.x, extent.shape).copy())
    chosen = model(best.x, zero, covariances)
    near = np.linalg.norm(lags / np.array(chosen.correlations[0].lengths), axis=1) < NEAR
    nearby = np.square(weights * (chosen(lags) - covariances))[near].sum() / max(float(counts[near].sum()), 1.0)
    return float(nearby) if near.any() else float("inf"), chosen


def _least(misfit: Callable[[Array], float], start: Array) -> optimize.OptimizeResult:
    return optimize.minimize(misfit, start, method="Nelder-Mead", options={"maxiter": 400})


def _leading(lags: Array, covariances: Array, counts: Array, zero: Array) -> Array:
    """Return combinations (c, k) of channels, of unit variance, with the highest nearest-neighbour correlation."""
    size = np.linalg.norm(lags, axis=1)
    near = size <= 1.5 * size[size > 0].min()
    beside = np.einsum("b,bij->ij", counts[near], covariances[near]) / counts[near].sum()
    inner = zero + 1e-9 * np.trace(zero) * np.eye(len(zero))
    _, vectors = linalg.eigh((beside + beside.T) / 2, inner)
    return np.asarray(vectors[:, ::-1][:, :LEADING])


def _part_of(whole: Array, matrix: Array) -> Array:
    """Return the matrix B nearest to another for which B and whole - B are positive semi-definite.

    Distance is measured with `whole` as the unit of variance: the eigenvalues of L^-1 B L^-T are cut to 0 ... 1, L L^T
    = whole.
    """
    root = np.linalg.cholesky(whole + 1e-12 * np.trace(whole) * np.eye(len(whole)))
    inner = np.linalg.solve(root, np.linalg.solve(root, (matrix + matrix.T) / 2).T)
    values, vectors = np.linalg.eigh((inner + inner.T) / 2)
    return np.asarray(root @ (vectors * np.clip(values, 0.0, 1.0)) @ vectors.T @ root.T)
