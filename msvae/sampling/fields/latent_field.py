"""Latent random fields: the latents of a part vary from point to point with the statistics of its own microstructure.

    z(s) = T^-1(u(s)) + trend(s),    u Gaussian with the covariance fitted to the scores of encoded SVEs

A sample can be conditioned on observed SVEs: Matheron's rule adds to an unconditional sample the kriging of its misfit
at the observations (Chiles and Delfiner, Geostatistics (2012), section 7.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy import linalg
from scipy.spatial import cKDTree

from msvae.errors import DataError, RunError
from msvae.sampling.fields.covariance import FITTED, Coregionalization, Correlation, fit_covariance
from msvae.sampling.fields.gaussian_field import field_at, field_on_grid
from msvae.sampling.fields.marginals import FlowMarginals, Marginals, NormalScores
from msvae.seeds import seed_of
from msvae.structures import Array, Grid
from msvae.vae.files import load_tensors, save_tensors

if TYPE_CHECKING:
    from msvae.vae.model import VAE

__all__ = ["LatentField", "Observations"]

MOST = 12_000  # observed latents that kriging can hold
SAME = 1e-9  # of a part's extent, below which two points are one
PAIRS = 320_000  # of a point and an observation that are kriged at once


@dataclass(frozen=True, eq=False)
class Observations:
    """Known latents (m, c) at points (m, d) in m."""

    points: Array
    latents: Array

    def __post_init__(self) -> None:
        if len(self.points) != len(self.latents) or not np.isfinite(self.latents).all():
            raise DataError(
                f"observations have one latent vector without NaN for each point, found {np.shape(self.latents)} for "
                f"{np.shape(self.points)}"
            )
        if self.latents.size > MOST:
            raise DataError(f"at most {MOST} observed latents can be conditioned on, found {self.latents.size}")


@dataclass(frozen=True, eq=False)
class LatentField:
    """A random field of latents.

    covariance: of the normal scores. marginals: between scores and latents. trend: (1 + d, c) or (1, c) coefficients of
    1 and of the position in m; added to the output of the marginals. given: observed latents that every sample
    reproduces.
    """

    covariance: Coregionalization
    marginals: Marginals
    trend: Array
    given: Observations | None = None

    @classmethod
    def fit(
        cls,
        points: Array,
        latents: Array,
        *,
        trend: Literal["constant", "linear"] = "constant",
        marginals: Literal["normal-score", "flow"] | Marginals = "normal-score",
        smoothness: Sequence[float] = FITTED,
        seed: int = 0,
    ) -> LatentField:
        """Fit a field to latents (n, c) that were encoded from SVEs at points (n, d) in m.

        marginals: of the residuals from the trend, to be fitted; or known ones, which include the latents' mean.
        """
        points, latents = np.asarray(points, dtype=np.float64), np.asarray(latents, dtype=np.float64)
        if len(points) != len(latents) or points.ndim != 2 or latents.ndim != 2:
            raise DataError(
                f"a field is fitted to latents (n, c) at points (n, d), found {latents.shape} at {points.shape}"
            )
        basis = _basis(points, 1 + points.shape[1] if trend == "linear" else 1)
        coefficients = np.linalg.lstsq(basis, latents, rcond=None)[0]
        if isinstance(marginals, Marginals):
            coefficients[0] -= latents.mean(axis=0) - (basis[:, 1:] @ coefficients[1:]).mean(axis=0)  # it has the mean
        rest = latents - basis @ coefficients
        fitted: Marginals
        if isinstance(marginals, Marginals):
            fitted = marginals
        else:
            fitted = FlowMarginals.fit(rest, seed) if marginals == "flow" else NormalScores(rest)
        covariance = fit_covariance(points, fitted.scores(rest), smoothness=smoothness)
        return cls(covariance.standardised(whitened=fitted.whitened), fitted, coefficients)

    @property
    def channels(self) -> int:
        """Number of latents at a point."""
        return self.covariance.channels

    def sample(self, points: Array, count: int, seed: int, *, leading: Array | None = None) -> Array:
        """Return latents (count, p, c) at points (p, d) in m; sample k is the same for any count, and on any rank.

        leading: normal numbers (count, n) for the field's first Karhunen-Loeve modes, the largest first, e.g. from a
        Sobol' sequence; n is a multiple of `width`.
        """
        points = np.asarray(points, dtype=np.float64)
        shape = (-1, len(self.covariance.correlations), self.channels)
        led = [None] * count if leading is None else [row.reshape(shape) for row in leading]
        return np.stack([self._one(points, seed_of(seed, "sample", k), led[k]) for k in range(count)])

    @property
    def width(self) -> int:
        """The number of normal numbers for one mode of every component of the field."""
        return len(self.covariance.correlations) * self.channels

    def independent(self, points: Array, seed: int) -> Array:
        """Return latents (p, c), independent from point to point, at points (p, d) in m: the control for a field."""
        root = np.linalg.cholesky(self.covariance.at_zero + 1e-12 * np.eye(self.channels))
        scores = np.random.default_rng(seed).standard_normal((len(points), self.channels)) @ root.T
        return self._latents(np.asarray(points, dtype=np.float64), scores)

    def save(self, path: Path) -> None:
        """Write the field to a safetensors file; flows are not written, because they belong to the model."""
        parts = {"matrices": self.covariance.matrices, "nugget": self.covariance.nugget, "trend": self.trend}
        if isinstance(self.marginals, NormalScores):
            parts["observed"] = self.marginals.observed
        if self.given is not None:
            parts |= {"given points": self.given.points, "given latents": self.given.latents}
        rho = [[list(c.lengths), c.smoothness] for c in self.covariance.correlations]
        save_tensors(path, {k: torch.as_tensor(np.array(v)) for k, v in parts.items()}, {"correlations": rho})

    @classmethod
    def load(cls, path: Path, vae: VAE) -> LatentField:
        """Return the field that `save` wrote for the latents of a model; RunError if the file is not one."""
        tensors, metadata = load_tensors(path)
        try:
            rho = tuple(Correlation(tuple(lengths), nu) for lengths, nu in metadata["correlations"])
            matrices, nugget, trend = (tensors[name].double().numpy() for name in ("matrices", "nugget", "trend"))
            observed = tensors["observed"].double().numpy() if "observed" in tensors else None
            given = [tensors[f"given {name}"].double().numpy() for name in ("points", "latents")
                     if f"given {name}" in tensors]  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"'{path}' is not a field of latents ({error}): delete it, and --resume") from None
        known = FlowMarginals.of(vae) if observed is None else NormalScores(observed)
        return cls(Coregionalization(rho, matrices, nugget), known, trend, Observations(*given) if given else None)

    def sample_on(self, grid: Grid, count: int, seed: int) -> Array:
        """Return latents (count, *grid, c) at the centres of a grid's voxels; the first centre is at half a spacing."""
        axes = [(np.arange(n) + 0.5) * h for n, h in zip(grid.shape, grid.spacing, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(grid.shape))
        found = [field_on_grid(self.covariance, grid, seed_of(seed, "sample", k)) for k in range(count)]
        latents = [self._latents(points, f.reshape(self.channels, -1).T) for f in found]
        return np.stack(latents).reshape(count, *grid.shape, self.channels)

    def _one(self, points: Array, seed: int, leading: Array | None) -> Array:
        given = self.given
        if given is None:
            return self._latents(points, field_at(self.covariance, points, seed, leading=leading).T)
        points = _on_observed(points, given.points)
        everywhere = np.concatenate([points, given.points])
        places, which = np.unique(everywhere, axis=0, return_inverse=True)  # one point has one value
        scores = field_at(self.covariance, places, seed, leading=leading).T[which.ravel()]
        wanted = self.marginals.scores(given.latents - self._trend_at(given.points))
        correction = self._kriged(points, given.points, wanted - scores[len(points) :])
        return self._latents(points, scores[: len(points)] + correction)

    def _kriged(self, points: Array, observed: Array, misfit: Array) -> Array:
        """Return simple kriging (p, c) of a misfit (m, c) at observed points (m, d)."""
        m, c = misfit.shape
        inner = self.covariance(observed[:, None] - observed[None]).transpose(0, 2, 1, 3).reshape(m * c, m * c)
        try:
            weights = linalg.cho_solve(linalg.cho_factor(inner), misfit.reshape(m * c))
        except linalg.LinAlgError:
            raise DataError("observations cannot be conditioned on: two of them stand at the same point") from None
        found = np.empty((len(points), c))
        step = max(1, PAIRS // max(m, 1))
        for start in range(0, len(points), step):
            rows = slice(start, start + step)
            across = self.covariance(points[rows, None] - observed[None])
            found[rows] = np.einsum("pmij,mj->pi", across, weights.reshape(m, c))
        return found

    def _latents(self, points: Array, scores: Array) -> Array:
        return self.marginals.latents(scores) + self._trend_at(points)

    def _trend_at(self, points: Array) -> Array:
        return np.asarray(_basis(points, len(self.trend)) @ self.trend)


def _on_observed(points: Array, observed: Array) -> Array:
    """Return points (p, d), with those that match an observed point up to round-off moved onto it."""
    distance, nearest = cKDTree(observed).query(points)
    same = distance <= SAME * np.abs(points).max(initial=0.0)
    return np.where(same[:, None], observed[nearest], points)


def _basis(points: Array, terms: int) -> Array:
    """Return the trend's basis (n, terms): 1, followed by the position if there are more terms."""
    return np.concatenate([np.ones((len(points), 1)), points], axis=1)[:, :terms]
