"""Gaussian random fields of mean 0 on grids and at the points of a mesh, with exact variance everywhere.

On a grid: circulant embedding (Dietrich and Newsam, SIAM J. Sci. Comput. 18 (1997) 1088), which is exact where the
embedding is positive; the clipped share is reported. At points: a field on a surrounding regular grid, fine relative to
the correlation lengths, is interpolated linearly and divided by the known standard deviation that remains. The variance
is therefore the same at a part's corners as at its centre, unlike for a stochastic differential equation solved on the
part alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from scipy import fft, linalg, sparse

from msvae.errors import DataError
from msvae.sampling.fields.covariance import Coregionalization, Correlation
from msvae.seeds import seed_of
from msvae.structures import Array, Grid

__all__ = ["Embedding", "KarhunenLoeve", "field_at", "field_on_grid"]

LARGEST = 2**26  # points of an embedding
NEGATIVE = 1e-3  # share of clipped energy, and so error of a covariance, below which an embedding is not enlarged
FEW = 2000  # points whose correlation matrix is factorised
RESOLUTION = 8  # cells of the background grid in a correlation length


@dataclass(frozen=True)
class Embedding:
    """A correlation on a grid of this shape and spacing (m), embedded in a periodic one."""

    correlation: Correlation
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.correlation.lengths) != len(self.shape):
            raise DataError(
                f"a field on a grid of {len(self.shape)} axes needs as many correlation lengths, found "
                f"{len(self.correlation.lengths)}"
            )

    @cached_property
    def _spectrum(self) -> tuple[Array, float]:
        """The spectrum of the embedding, made non-negative, and the share of its energy that was clipped."""
        best: tuple[Array, float] | None = None
        for factor in (1.0, 1.5, 2.0, 3.0, 4.0):
            shape = tuple(fft.next_fast_len(max(2, math.ceil(2 * factor * (n - 1))), real=True) for n in self.shape)
            if math.prod(shape) > LARGEST:
                break
            spectrum = self._spectrum_of(shape)
            clipped = float(-np.minimum(spectrum, 0).sum() / np.abs(spectrum).sum())
            if best is None or clipped < best[1]:
                best = np.maximum(spectrum, 0), clipped
            if clipped < NEGATIVE:
                break
        if best is None:
            raise DataError(
                f"a field on {'x'.join(map(str, self.shape))} points needs an embedding of more than {LARGEST} points: "
                "take a coarser grid, or a longer correlation length"
            )
        return best

    def _spectrum_of(self, shape: tuple[int, ...]) -> Array:
        axes = [np.minimum(np.arange(m), m - np.arange(m)) * h for m, h in zip(shape, self.spacing, strict=True)]
        lags = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        return np.asarray(fft.fftn(self.correlation(lags)).real)

    @property
    def clipped(self) -> float:
        """The clipped share of the energy; 0 where samples have exactly the given correlation."""
        return self._spectrum[1]

    def sample(self, count: int, seed: int) -> Array:
        """Return independent fields (count, *shape) of variance 1; the k-th field does not depend on count."""
        spectrum = self._spectrum[0]
        amplitude = np.sqrt(spectrum / spectrum.sum())
        kept = tuple(slice(0, n) for n in self.shape)
        fields = np.empty((count, *self.shape))
        for pair in range(-(-count // 2)):
            rng = np.random.default_rng(seed_of(seed, "pair", pair))
            noise = rng.standard_normal((2, *amplitude.shape))
            found = fft.fftn(amplitude * (noise[0] + 1j * noise[1]), overwrite_x=True)[kept]
            fields[2 * pair] = found.real
            if 2 * pair + 1 < count:
                fields[2 * pair + 1] = found.imag
        return fields


def field_on_grid(covariance: Coregionalization, grid: Grid, seed: int) -> Array:
    """Return one field (c, *grid) of a covariance, at the centres of a grid's voxels."""
    embeddings = [Embedding(rho, grid.shape, grid.spacing) for rho in covariance.correlations]
    units = [e.sample(covariance.channels, seed_of(seed, "correlation", k)) for k, e in enumerate(embeddings)]
    return _mixed(covariance, units, seed)


def field_at(covariance: Coregionalization, points: Array, seed: int, *, leading: Array | None = None) -> Array:
    """Return one field (c, p) of a covariance at points (p, d) in m; for few points by a matrix factorisation.

    leading: normal numbers (m, k, c), the coefficients of the first m Karhunen-Loeve modes of each of the k
    correlations. The rest of the field is drawn at random, so that its covariance is exact for any m.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or not len(points) or not np.isfinite(points).all():
        raise DataError(f"a field needs points of the shape (p, d) without NaN, found {points.shape}")
    units = []
    for k, rho in enumerate(covariance.correlations):
        unit = _unit_at(rho, points, covariance.channels, seed_of(seed, "correlation", k))
        if leading is not None and len(leading):
            unit = _modes(rho, points.tobytes(), points.shape[1], len(leading)).with_leading(unit, leading[:, k])
        units.append(unit.T)
    return _mixed(covariance, units, seed)


def _unit_at(correlation: Correlation, points: Array, channels: int, seed: int) -> Array:
    """Return independent fields (p, channels) of variance 1 at points (p, d)."""
    if len(points) <= FEW:
        white = np.random.default_rng(seed).standard_normal((len(points), channels))
        return np.asarray(_factor(correlation, points.tobytes(), points.shape[1]) @ white)
    background = _Background.around(points, correlation)
    return np.asarray(background.weights @ background.embedding.sample(channels, seed).reshape(channels, -1).T)


@lru_cache(maxsize=4)
def _modes(correlation: Correlation, places: bytes, axes: int, count: int) -> KarhunenLoeve:
    return KarhunenLoeve.of(correlation, np.frombuffer(places).reshape(-1, axes), count)


@lru_cache(maxsize=4)
def _factor(correlation: Correlation, places: bytes, axes: int) -> Array:
    """Return the lower factor (p, p) of the correlations of points, given as the bytes of (p, axes) floats."""
    points = np.frombuffer(places).reshape(-1, axes)
    matrix = correlation(points[:, None] - points[None])
    return np.asarray(linalg.cholesky(matrix + 1e-10 * np.eye(len(points)), lower=True))


def _mixed(covariance: Coregionalization, units: Sequence[Array], seed: int) -> Array:
    """Return sum_k A_k u_k + A_N w of independent unit fields u_k (c, ...), with A A^T = B."""
    total = sum(np.tensordot(_root(b), u, axes=1) for b, u in zip(covariance.matrices, units, strict=True))
    if covariance.nugget.any():
        white = np.random.default_rng(seed_of(seed, "nugget")).standard_normal(units[0].shape)
        total = total + np.tensordot(_root(covariance.nugget), white, axes=1)
    return np.asarray(total)


def _root(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


@dataclass(frozen=True, eq=False)
class _Background:
    """A grid around points, and the weights (p, grid) that interpolate from it to points with variance 1."""

    embedding: Embedding
    weights: Any

    @classmethod
    def around(cls, points: Array, correlation: Correlation) -> _Background:
        low, high = points.min(axis=0), points.max(axis=0)
        spacing = np.array(correlation.lengths) / RESOLUTION
        shape = tuple(int(n) for n in np.floor((high - low) / spacing) + 2)
        embedding = Embedding(correlation, shape, tuple(spacing.tolist()))
        place = (points - low) / spacing
        cell = np.minimum(np.floor(place).astype(np.int64), np.array(shape) - 2)
        rest = place - cell
        corners = list(itertools.product((0, 1), repeat=points.shape[1]))
        weight = np.stack([np.where(corner, rest, 1 - rest).prod(axis=1) for corner in corners])
        columns = np.stack([np.ravel_multi_index(tuple((cell + corner).T), shape) for corner in corners])
        offsets = np.array(corners) * spacing
        variance = np.einsum("ap,ab,bp->p", weight, correlation(offsets[:, None] - offsets[None]), weight)
        rows = np.broadcast_to(np.arange(len(points)), columns.shape)
        size = (len(points), math.prod(shape))
        matrix = sparse.csr_array(((weight / np.sqrt(variance)).ravel(), (rows.ravel(), columns.ravel())), shape=size)
        return cls(embedding, matrix)


@dataclass(frozen=True, eq=False)
class KarhunenLoeve:
    """The modes (p, m) of a correlation at points that carry the most variance, scaled by their standard deviations.

    u = modes @ xi with xi ~ N(0, I) (m,) is the best approximation of the field by m numbers; share: the share of the
    variance that it captures. Nystrom's method with `landmarks` of the points (Williams and Seeger 2001): chosen: their
    indices, and xi = u[chosen] @ readers of any field u, readers (l, m).
    """

    modes: Array
    share: float
    chosen: Array
    readers: Array

    @classmethod
    def of(cls, correlation: Correlation, points: Array, count: int, *, landmarks: int = 1500, seed: int = 0
           ) -> KarhunenLoeve:  # fmt: skip
        """Return the first modes of a correlation at points (p, d) in m."""
        points = np.asarray(points, dtype=np.float64)
        m = min(landmarks, len(points))
        if not 1 <= count <= m:
            raise DataError(f"between 1 and {m} modes are possible here, found {count}")
        chosen = np.sort(np.random.default_rng(seed_of(seed, "landmarks")).permutation(len(points))[:m])
        inner = correlation(points[chosen, None] - points[None, chosen])
        values, vectors = linalg.eigh(inner, subset_by_index=(m - count, m - 1))
        parts = np.array_split(points, -(-len(points) // 4096))
        across = np.concatenate([correlation(part[:, None] - points[None, chosen]) for part in parts])
        readers = vectors[:, ::-1] / np.sqrt(np.maximum(values[::-1], 1e-12))
        modes = across @ readers
        return cls(modes, float(np.square(modes).sum() / len(points)), chosen, readers)

    def with_leading(self, fields: Array, leading: Array) -> Array:
        """Return fields (p, c) with the drawn coefficients of the modes replaced by `leading` (m, c).

        The remainder of a field is independent of these coefficients, so that normal ones leave the covariance
        unchanged.
        """
        own = self.readers.T @ fields[self.chosen]
        return np.asarray(fields + self.modes @ (leading - own))
