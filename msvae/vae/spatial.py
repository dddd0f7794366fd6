"""Grids of latents: fully convolutional models, for structures larger than those of training, and hierarchical ones.

Every site of a coarse grid has latents of its own; above them there may be latents of the whole structure:

    p(z) = p(z_above) p(z_sites | z_above)      q(z|x, c) = q(z_above|x, c) q(z_sites|z_above, x, c)

A latent vector (n, d) holds those above first, then those of the sites (channel by channel).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from msvae.seeds import seed_of
from msvae.structures import Array
from msvae.study.settings import ModelSettings
from msvae.vae.priors.aggregate import NORMAL, Aggregate, AggregateFit, fit_aggregate

__all__ = ["Ladder", "SpatialPosterior", "SpatialPrior", "Texture", "fit_texture"]

EMPTY = torch.Size()
HIDDEN = 64
DENSE = 3000  # latents up to which a covariance is written out to judge a texture's likelihood


class Ladder(Distribution):
    """A distribution of latents above (n, g), and of those of the sites given them; both diagonal and normal."""

    def __init__(self, above: Normal, below: Callable[[Tensor], Normal]) -> None:
        self.above, self.below, self.count = above, below, above.mean.shape[-1]
        super().__init__(validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The mean of the latents above, and the mean of the sites' latents given it."""
        return torch.cat([self.above.mean, self.below(self.above.mean).mean], dim=-1)

    @property
    def stddev(self) -> Tensor:
        """Standard deviations; those of the sites' latents are given the mean of those above."""
        return torch.cat([self.above.stddev, self.below(self.above.mean).stddev], dim=-1)

    def carried(self, noise: Tensor) -> Tensor:
        """Map standard normal noise (n, d) to latents (n, d), with gradients."""
        above = self.above.mean + self.above.stddev * noise[:, : self.count]
        below = self.below(above)
        return torch.cat([above, below.mean + below.stddev * noise[:, self.count :]], dim=1)

    def rsample(self, sample_shape: Any = EMPTY) -> Tensor:
        """Return one latent (n, d) of each, with gradients."""
        if sample_shape != EMPTY:
            raise ValueError(f"a hierarchy gives one sample at a time, found {tuple(sample_shape)}")
        return self.carried(torch.randn_like(self.mean))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(z) (n,)."""
        above, sites = value[:, : self.count], value[:, self.count :]
        found: Tensor = self.above.log_prob(above).sum(dim=-1) + self.below(above).log_prob(sites).sum(dim=-1)
        return found

    def divergence(self, prior: Ladder, latents: Tensor) -> Tensor:
        """Return the divergence (n, d) from a prior; that of the sites' latents is conditional on those above."""
        above = latents[:, : self.count]
        first = kl_divergence(self.above, prior.above).expand(len(latents), -1)
        return torch.cat([first, kl_divergence(self.below(above), prior.below(above))], dim=1)


class SpatialPosterior(nn.Module):
    """q(z|x, c) from an encoder whose features (n, f, *sites) stand on a grid."""

    path = None

    def __init__(self, encoder: nn.Module, sizes: ModelSettings) -> None:
        super().__init__()
        self.encoder, self.count = encoder, sizes.global_latents
        width = sizes.features + sizes.condition_width
        self.above = nn.Linear(width, 2 * self.count) if self.count else None
        self.moments = nn.Linear(width + self.count, 2 * sizes.latents)

    def forward(self, features: Tensor, conditions: Tensor) -> Distribution:
        hidden = nn.functional.silu(self.encoder(features)).float().movedim(1, -1)

        def below(above: Tensor) -> Normal:
            given = torch.cat([above, conditions], dim=1)
            spread = given.reshape(len(given), *(1,) * (hidden.ndim - 2), -1).expand(*hidden.shape[:-1], given.shape[1])
            return _normal(self.moments(torch.cat([hidden, spread], dim=-1)).movedim(-1, 1))

        if self.above is None:
            return Independent(below(conditions[:, :0]), 1)
        pooled = hidden.flatten(1, -2).mean(dim=1)
        return Ladder(_normal(self.above(torch.cat([pooled, conditions], dim=1))), below)


def _normal(moments: Tensor) -> Normal:
    """Return the normal distribution (n, d) of means and logarithms of deviations (n, 2 L, ...)."""
    mean, log_scale = moments.chunk(2, dim=1)
    return Normal(mean.flatten(1), log_scale.flatten(1).clamp(-7, 3).exp())


class SpatialPrior(nn.Module):
    """p(z): N(0, I), or, with latents above, N(0, I) of them and a normal distribution of every site's given them."""

    mean: Tensor

    def __init__(self, latents: int, above: int, sites: tuple[int, ...]) -> None:
        super().__init__()
        self.latents, self.count, self.sites = latents, above, sites
        self.register_buffer("mean", torch.zeros(above or latents * math.prod(sites)), persistent=False)
        self.layers = (
            nn.Sequential(nn.Linear(above, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 2 * latents)) if above else None
        )
        if self.layers is not None:
            nn.init.zeros_(cast(nn.Linear, self.layers[-1]).weight)
            nn.init.zeros_(cast(nn.Linear, self.layers[-1]).bias)

    def forward(self) -> Distribution:
        standard = Normal(self.mean, torch.ones_like(self.mean))
        return Ladder(standard, self.below) if self.count else Independent(standard, 1)

    def below(self, above: Tensor, sites: tuple[int, ...] | None = None) -> Normal:
        """Return p(z_sites|z_above) on a grid of sites, by default that of training."""
        count = math.prod(self.sites if sites is None else sites)
        if self.layers is None:
            zero = torch.zeros(len(above), self.latents * count, device=above.device)
            return Normal(zero, torch.ones_like(zero))
        return _normal(self.layers(above)[:, :, None].expand(-1, -1, count))


class Texture(nn.Module):
    """The distribution of a grid of latents beyond what the prior describes: a stationary normal field.

    The field is that of e = (z - prior's mean) / prior's deviation, with the covariances of all lags within half of the
    training grid; on a larger grid, longer lags have no covariance. above: the model of the latents above, if there are
    any.
    """

    centre: Tensor
    slope: Tensor
    covariance: Tensor

    kind = "texture"

    def __init__(
        self, latents: int, given: int, sites: tuple[int, ...], periodic: tuple[bool, ...], above: Aggregate | None
    ) -> None:
        super().__init__()
        self.latents, self.sites, self.periodic, self.above = latents, sites, periodic, above
        lags = tuple(2 * (n // 2) + 1 for n in sites)
        self.register_buffer("centre", torch.zeros(latents, dtype=torch.float64))
        self.register_buffer("slope", torch.zeros(latents, given, dtype=torch.float64))
        identity = torch.zeros(latents, latents, *lags, dtype=torch.float64)
        identity[_all(*(n // 2 for n in lags))] = torch.eye(latents, dtype=torch.float64)
        self.register_buffer("covariance", identity)

    @property
    def description(self) -> dict[str, Any]:
        """The arguments from which the module is rebuilt, apart from its weights."""
        return {"kind": self.kind, **({} if self.above is None else {"above": self.above.description})}

    def fit(self, fields: Array, conditions: Array) -> None:
        """Fit mean, dependence on conditions (n, k) and covariances to fields (n, L, *sites)."""
        n, axes = len(fields), tuple(range(2, fields.ndim))
        known = np.concatenate([np.ones((n, 1)), conditions], axis=1)
        effect = np.linalg.lstsq(known, fields.mean(axis=axes), rcond=None)[0]
        self.centre.copy_(torch.as_tensor(effect[0]))
        self.slope.copy_(torch.as_tensor(effect[1:].T))
        rest = fields - (known @ effect).reshape(*fields.shape[:2], *(1,) * len(axes))
        padded = [s if p else 2 * s for s, p in zip(self.sites, self.periodic, strict=True)]
        spectrum = np.fft.fftn(rest, s=padded, axes=axes)
        sums = np.fft.ifftn(np.einsum("na...,nb...->ab...", spectrum, spectrum.conj()), axes=axes).real / n
        lags = np.meshgrid(*(np.arange(-(s // 2), s // 2 + 1) for s in self.sites), indexing="ij")
        counts = math.prod(
            s if p else s - np.abs(lag) for s, p, lag in zip(self.sites, self.periodic, lags, strict=True)
        )
        found = sums[_all(*lags)] / counts
        self.covariance.copy_(torch.as_tensor(found))

    def log_prob(self, fields: Array, conditions: Array) -> Array:
        """Return the log-density (n,) in nats of fields (n, L, *sites) on the training grid."""
        covariance = self._dense()
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, 1e-4 * values.max())
        rest = (fields - self._mean(conditions, fields.ndim - 2)).reshape(len(fields), -1) @ vectors
        return np.asarray(-0.5 * ((rest**2 / values).sum(axis=1) + np.log(2 * np.pi * values).sum()))

    def sample(self, conditions: Array, seed: int, sites: tuple[int, ...]) -> Array:
        """Return a field (n, L, *sites) for each row of standardised conditions (n, k)."""
        rng = np.random.default_rng(seed_of(seed, "texture"))
        axes = tuple(range(2, 2 + len(sites)))
        whole = tuple(n if p else 2 * n for n, p in zip(sites, self.periodic, strict=True))
        embedded = np.zeros((self.latents, self.latents, *whole))
        reach = [(max(-(s // 2), -(w // 2)), min(s // 2, (w - 1) // 2)) for s, w in zip(self.sites, whole, strict=True)]
        lags = np.meshgrid(*(np.arange(low, high + 1) for low, high in reach), indexing="ij")
        middle = tuple(lag + s // 2 for lag, s in zip(lags, self.sites, strict=True))
        embedded[_all(*lags)] = self.covariance.numpy()[_all(*middle)]
        spectrum = np.moveaxis(np.fft.fftn(embedded, axes=axes), (0, 1), (-2, -1))
        values, vectors = np.linalg.eigh(0.5 * (spectrum + spectrum.conj().swapaxes(-1, -2)))
        root = (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ vectors.conj().swapaxes(-1, -2)
        noise = np.fft.fftn(rng.standard_normal((len(conditions), self.latents, *whole)), axes=axes)
        coloured = np.einsum("...ab,n...b->n...a", root, np.moveaxis(noise, 1, -1))
        field = np.fft.ifftn(np.moveaxis(coloured, -1, 1), axes=axes).real
        return np.asarray(field[_all(*map(slice, sites))] + self._mean(conditions, len(sites)))

    def _mean(self, conditions: Array, dimensions: int) -> Array:
        mean = self.centre.numpy() + conditions @ self.slope.numpy().T
        return np.asarray(mean.reshape(*mean.shape, *(1,) * dimensions))

    def _dense(self) -> Array:
        """Return the dense covariance (d, d) of a field on the training grid."""
        places = np.stack(np.meshgrid(*map(np.arange, self.sites), indexing="ij")).reshape(len(self.sites), -1)
        index = []
        for axis, (s, p) in enumerate(zip(self.sites, self.periodic, strict=True)):
            lag = places[axis][:, None] - places[axis][None, :]
            lag = (lag + s // 2) % s - s // 2 if p else lag
            index.append(lag)
        near = np.logical_and.reduce([np.abs(lag) <= s // 2 for lag, s in zip(index, self.sites, strict=True)])
        inside = tuple(np.where(near, lag, 0) + s // 2 for lag, s in zip(index, self.sites, strict=True))
        blocks = self.covariance.numpy()[_all(*inside)] * near
        size = self.latents * places.shape[1]
        return np.asarray(blocks.transpose(0, 2, 1, 3).reshape(size, size))


def _all(*places: Any) -> Any:
    """Return the index of all pairs of latents, or structures and latents, at places of the grid."""
    return (slice(None), slice(None), *places)


def fit_texture(
    latents: Array, conditions: Array, prior: SpatialPrior, *, periodic: tuple[bool, ...], seed: int
) -> AggregateFit:
    """Model latents (n, d) of a grid, drawn from the posteriors of structures, given standardised conditions."""
    count, n = prior.count, len(latents)
    above = fit_aggregate(latents[:, None, :count], conditions, seed=seed) if count else None
    with torch.no_grad():
        below = prior.below(torch.as_tensor(latents[:, :count]).float())
    rest = (latents[:, count:] - below.mean.double().numpy()) / below.stddev.double().numpy()
    fields = rest.reshape(n, prior.latents, *prior.sites)
    model = above.aggregate if above is not None else None
    order = np.random.default_rng(seed_of(seed, "texture split")).permutation(n)
    outside, inside = np.split(order, [max(1, n // 5)])
    texture = Texture(prior.latents, conditions.shape[1], prior.sites, periodic, cast("Aggregate | None", model))
    plain = float((-0.5 * (rest[outside] ** 2 + math.log(2 * math.pi))).sum(axis=1).mean())
    name, scores = "texture", {NORMAL: plain}
    texture.fit(fields[inside], conditions[inside])
    if rest.shape[1] <= DENSE:
        scores["texture"] = float(texture.log_prob(fields[outside], conditions[outside]).mean())
        if scores["texture"] < plain:  # too few structures to tell
            name, texture = NORMAL, Texture(prior.latents, conditions.shape[1], prior.sites, periodic, texture.above)
    hole = max(scores.get("texture", plain) - plain, 0.0) + (above.hole if above is not None else 0.0)
    return AggregateFit(texture, name, _with(scores, above), hole)


def _with(scores: Mapping[str, float], above: AggregateFit | None) -> dict[str, float]:
    extra = {} if above is None else {f"above: {name}": value for name, value in above.scores.items()}
    return {**scores, **extra}
