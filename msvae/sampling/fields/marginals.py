"""Marginals: transforms between latents of any distribution and the normal scores of Gaussian fields.

A field of latents is z(s) = T^-1(u(s)) with u Gaussian: with T applied to each latent alone (a Gaussian copula), or by
a flow to all latents of a point together, which preserves their joint distribution at a point exactly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import special

from msvae.errors import DataError
from msvae.structures import Array
from msvae.vae.priors.aggregate import Aggregate, fit_flow

if TYPE_CHECKING:
    from msvae.vae.model import VAE

__all__ = ["FlowMarginals", "Marginals", "NormalScores"]


class Marginals(ABC):
    """A map between latents (n, c) and normal scores (n, c). whitened: scores of one point are independent."""

    whitened = False

    @abstractmethod
    def scores(self, latents: Array) -> Array:
        """Return the normal scores of latents."""

    @abstractmethod
    def latents(self, scores: Array) -> Array:
        """Return the latents for these normal scores."""


class NormalScores(Marginals):
    """Each latent alone: its empirical distribution, linear between observations, normal beyond to eight deviations.

    Deutsch and Journel, GSLIB (1998), section V.2.
    """

    def __init__(self, observed: Array) -> None:
        observed = np.asarray(observed, dtype=np.float64)
        if observed.ndim != 2 or len(observed) < 8 or not np.isfinite(observed).all():
            raise DataError(f"normal scores need at least 8 latents (n, c) without NaN, found {observed.shape}")
        self.observed = observed
        n = len(observed)
        probabilities = (np.arange(n) + 0.5) / n
        self.normal = special.ndtri(probabilities)
        self.tables = [self._table(np.sort(column)) for column in observed.T]

    def _table(self, ordered: Array) -> tuple[Array, Array]:
        """Return increasing latents and their scores, with tails continued at the overall slope."""
        spread = max(float(ordered.std()), 1e-12)
        knots = ordered + spread * 1e-9 * np.arange(len(ordered))  # equal latents become increasing
        ends = np.array([-8.0, 8.0])
        low, high = knots[0] + spread * (ends[0] - self.normal[0]), knots[-1] + spread * (ends[1] - self.normal[-1])
        return np.concatenate([[low], knots, [high]]), np.concatenate([[ends[0]], self.normal, [ends[1]]])

    def scores(self, latents: Array) -> Array:
        columns = [np.interp(z, *table) for z, table in zip(np.asarray(latents).T, self.tables, strict=True)]
        return np.stack(columns, axis=1)

    def latents(self, scores: Array) -> Array:
        columns = [np.interp(u, *table[::-1]) for u, table in zip(np.asarray(scores).T, self.tables, strict=True)]
        return np.stack(columns, axis=1)


class FlowMarginals(Marginals):
    """All latents of a point together, by a spline flow: their joint distribution is the aggregate posterior's."""

    whitened = True

    def __init__(self, aggregate: Aggregate) -> None:
        if aggregate.kind != "flow" or aggregate.conditions:
            raise DataError(
                "only a flow without conditions maps latents to normal scores, and the fitted prior is none: take "
                'field.marginals = "normal-scores"'
            )
        self.aggregate = aggregate

    @classmethod
    def of(cls, vae: VAE) -> FlowMarginals:
        """Return the flow that is a trained model's prior; DataError if the prior is a mixture."""
        if not isinstance(vae.aggregate, Aggregate):
            raise DataError("a field of latents needs a model whose latents are a vector, trained to the end")
        return cls(vae.aggregate)

    @classmethod
    def fit(cls, observed: Array, seed: int) -> FlowMarginals:
        """Return a flow fitted to latents (n, c)."""
        return cls(fit_flow(np.asarray(observed), np.zeros((len(observed), 0)), seed))

    def scores(self, latents: Array) -> Array:
        return self.aggregate.scores(latents, np.zeros((len(latents), 0)))

    @torch.no_grad()
    def latents(self, scores: Array) -> Array:
        z = self._transform.inv(torch.as_tensor(np.asarray(scores)).float()).double()
        return np.asarray(z * self.aggregate.width + self.aggregate.centre)

    @property
    def _transform(self) -> Any:
        return self.aggregate.flow().transform
