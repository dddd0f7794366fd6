"""The modules of a VAE: each call returns a distribution."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from msvae.study.settings import ModelSettings
from msvae.vae.likelihoods.hurdle import Form
from msvae.vae.linear_path import LinearPath, zero_last_layer
from msvae.vae.priors.flows import coupling_flow, spline_flow

__all__ = ["Bent", "FlowPosterior", "Head", "Posterior", "Prior"]

EMPTY = torch.Size()


class Posterior(nn.Module):
    """q(z|x, c): a diagonal normal distribution whose moments the encoder gives, as a residual of the linear path."""

    def __init__(self, encoder: nn.Module, sizes: ModelSettings, path: LinearPath | None) -> None:
        super().__init__()
        self.encoder, self.path = encoder, path
        self.moments = nn.Linear(sizes.features + sizes.condition_width, 2 * sizes.latents)
        if path is not None:
            zero_last_layer(self.moments)

    def forward(self, features: Tensor, conditions: Tensor) -> Distribution:
        """features: (n, inputs, *grid); conditions: (n, k), standardised."""
        hidden = nn.functional.silu(self.encoder(features)).float()
        mean, log_scale = self.moments(torch.cat([hidden, conditions], dim=1)).chunk(2, dim=1)
        if self.path is not None:
            mean = mean + self.path.encode(features, conditions)
            log_scale = log_scale + self.path.deviation.log()
        return self._distribution(mean, log_scale.clamp(-7, 3).exp(), torch.cat([hidden, conditions], dim=1))

    def _distribution(self, mean: Tensor, deviation: Tensor, hidden: Tensor) -> Distribution:
        return Independent(Normal(mean, deviation), 1)


class Prior(nn.Module):
    """p(z): N(0, I), or a neural spline flow that is trained with the rest (zuko)."""

    mean: Tensor

    def __init__(self, latents: int, kind: str) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latents), persistent=False)
        self.flow = spline_flow(latents, 0) if kind == "flow" else None

    def forward(self) -> Distribution:
        if self.flow is not None:
            return cast(Distribution, self.flow())
        return Independent(Normal(self.mean, torch.ones_like(self.mean)), 1)


class FlowPosterior(Posterior):
    """q(z|x, c): the encoder's normal distribution, transformed by couplings that also see the encoder's features."""

    def __init__(self, encoder: nn.Module, sizes: ModelSettings, path: LinearPath | None) -> None:
        super().__init__(encoder, sizes, path)
        self.coupling: Any = coupling_flow(sizes.latents, sizes.features + sizes.condition_width)

    def _distribution(self, mean: Tensor, deviation: Tensor, hidden: Tensor) -> Distribution:
        return Bent(super()._distribution(mean, deviation, hidden), self.coupling.transform(hidden))


class Bent(Distribution):
    """A normal distribution under an invertible map; its mean is the image of the base's mean."""

    def __init__(self, base: Distribution, transform: Any) -> None:
        self.base, self.transform = base, transform
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The image of the base's mean."""
        return cast(Tensor, self.transform.inv(self.base.mean))

    @property
    def stddev(self) -> Tensor:
        """The base's standard deviation."""
        return self.base.stddev

    def rsample(self, sample_shape: Any = EMPTY) -> Tensor:
        """Return samples that carry gradients."""
        return cast(Tensor, self.transform.inv(self.base.rsample(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log q(value)."""
        before, slope = self.transform.call_and_ladj(value)
        found: Tensor = self.base.log_prob(before)
        return found + cast(Tensor, slope)


class Head(nn.Module):
    """p(y|z) over the entries of a scaled property, independent and with a spread that depends on z, as `form` says.

    widening: (size,), the factor that calibrates the spread on held-out structures.
    """

    widening: Tensor

    def __init__(self, latents: int, features: int, size: int) -> None:
        super().__init__()
        self.register_buffer("widening", torch.ones(size, dtype=torch.float64))
        self.form = Form(size)
        self.layers = nn.Sequential(
            nn.Linear(latents, features),
            nn.SiLU(),
            nn.Linear(features, features),
            nn.SiLU(),
            nn.Linear(features, 3 * size),
        )

    def forward(self, latents: Tensor) -> Distribution:
        return cast(Distribution, self.form(self.layers(latents)))
