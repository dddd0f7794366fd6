"""The torch networks of one blueprint, and the distributions that their outputs define."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.distributions import Distribution

from msvae.errors import DataError
from msvae.structures import Structures
from msvae.vae.blueprint import Blueprint, condition_values
from msvae.vae.conditions import Conditions, Guess
from msvae.vae.likelihoods.choice import likelihood_for
from msvae.vae.likelihoods.grey import GaussianLikelihood
from msvae.vae.likelihoods.hurdle import hurdled
from msvae.vae.linear_path import ROWS, LinearPath, zero_last_layer
from msvae.vae.modules import FlowPosterior, Head, Posterior, Prior
from msvae.vae.priors.aggregate import Aggregate
from msvae.vae.priors.latent_flow import LatentFlow
from msvae.vae.scaling import Standardiser
from msvae.vae.spatial import SpatialPosterior, SpatialPrior, Texture

SHARPEST = -4.0  # logarithm of the least standard deviation that training starts from
GAINS = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)  # of the linear path: tried in turn

__all__ = ["Networks"]


class Networks(nn.Module):
    """Encoder, decoder, prior and heads of one blueprint.

    Fitted after training: aggregate, a model of the aggregate posterior; latent_flow, a map of the latents to axes.
    """

    def __init__(
        self, blueprint: Blueprint, aggregate: Aggregate | Texture | None = None, latent_flow: LatentFlow | None = None
    ) -> None:
        super().__init__()
        self.blueprint, self.aggregate, self.latent_flow = blueprint, aggregate, latent_flow
        self.default_conditions = np.zeros(0)  # conditions that hold where none are given
        settings, specification = blueprint.settings, blueprint.specification
        k = settings.condition_width
        self.conditions = Conditions(settings.conditions)
        self.likelihood = likelihood_for(specification, settings.likelihood)
        shape = (self.likelihood.inputs, *specification.grid.shape)
        self.sites, above = blueprint.sites, settings.global_latents
        wanted = settings.stem == "pca" and not self.sites and LinearPath.fits(shape, settings.latents)
        path = LinearPath(shape, settings.latents, k) if wanted else None
        encoder = blueprint.architecture.encoder(specification, self.likelihood.inputs, settings.features)
        self.decoder = blueprint.architecture.decoder(
            specification, self.likelihood.outputs, above + settings.latents + k
        )
        self.posterior: Posterior | SpatialPosterior
        self.prior: Prior | SpatialPrior
        if self.sites:
            self.posterior = SpatialPosterior(encoder, settings)
            self.prior = SpatialPrior(settings.latents, above, self.sites)
        else:
            self.posterior = (FlowPosterior if settings.posterior == "flow" else Posterior)(encoder, settings, path)
            self.prior = Prior(settings.latents, settings.prior)
        if path is not None:
            zero_last_layer(self.decoder)
        self.guess: Guess | None = None
        if settings.semi_supervised and k:
            own = blueprint.architecture.encoder(specification, self.likelihood.inputs, settings.features)
            self.guess = Guess(own, settings.features, self.conditions)
        self.heads = nn.ModuleDict(
            {q.name: Head(self.latents, settings.features, q.size) for q in blueprint.quantities}
        )
        self.scales = nn.ModuleDict({q.name: Standardiser(q.size) for q in blueprint.quantities})

    @property
    def path(self) -> LinearPath | None:
        """The linear path beside the networks."""
        return self.posterior.path

    @property
    def latents(self) -> int:
        """Dimensions of the latent space: the length of a latent vector."""
        return self._length(self.sites)

    def _length(self, sites: tuple[int, ...]) -> int:
        settings = self.blueprint.settings
        return settings.global_latents + settings.latents * math.prod(sites)

    def fit_scales(self, structures: Structures) -> None:
        """Fit the scaling of properties, conditions and values to training structures."""
        for q in self.blueprint.quantities:
            values = structures.properties[q.name].reshape(len(structures), -1)
            zero, log = hurdled(values)
            self.scale_of(q.name).fit(values, about_zero=zero | log)
            self.head_of(q.name).form.fit(self.scale_of(q.name)(torch.as_tensor(values.copy())), zero, log)
        self.conditions.fit(condition_values(structures, self.blueprint.settings))
        self.likelihood.fit(structures)
        if self.path is not None:
            self._fit_path(self.path, structures)

    @torch.no_grad()
    def _fit_path(self, path: LinearPath, structures: Structures) -> None:
        """Fit the linear path, and the gain of its output that maximises the likelihood of the structures."""
        values = torch.as_tensor(structures.values[:ROWS].copy())
        conditions = self.network_conditions(condition_values(structures, self.blueprint.settings), len(structures))[
            :ROWS
        ]
        features = self.likelihood.features(values)
        conditions = torch.nan_to_num(conditions)
        path.fit(features, conditions, levelled=self.likelihood.levelled)
        few = slice(0, 256)
        latents = path.encode(features[few], conditions[few])
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        output = path.decode(latents + path.deviation * noise, conditions[few])
        fit = [float(self.likelihood(gain * output).log_prob(values[few].float()).mean()) for gain in GAINS]
        path.gain.fill_(GAINS[int(np.argmax(fit))])
        if isinstance(self.likelihood, GaussianLikelihood):
            self.likelihood.log_scale.fill_(max(float(path.noise.log()), SHARPEST))

    def scale_of(self, name: str) -> Standardiser:
        """Return the scaling of a property that a head predicts."""
        return cast(Standardiser, self.scales[name])

    def head_of(self, name: str) -> Head:
        """Return the head that predicts a property."""
        return cast(Head, self.heads[name])

    def reconstruct(self, latents: Tensor, conditions: Tensor, sites: tuple[int, ...] | None = None) -> Distribution:
        """Return p(x|z, c) for latents (n, d) and conditions (n, width), given as network inputs.

        sites: the grid of the latents, by default that of training.
        """
        return cast(Distribution, self.likelihood(self.output(latents, conditions, sites)))

    def output(self, latents: Tensor, conditions: Tensor, sites: tuple[int, ...] | None = None) -> Tensor:
        """Return the decoder's output (n, outputs, *grid), the input of the likelihood."""
        inputs = torch.cat([latents, conditions], dim=1)
        if self.sites:
            sites, count = self.sites if sites is None else sites, self.blueprint.settings.global_latents
            own = latents[:, count:].unflatten(1, (-1, *sites))
            everywhere = torch.cat([latents[:, :count], conditions], dim=1)
            spread = everywhere.reshape(*everywhere.shape, *(1,) * len(sites)).expand(-1, -1, *sites)
            inputs = torch.cat([own, spread], dim=1)
        output: Tensor = self.decoder(inputs).float()
        return output if self.path is None else output + self.path.decode(latents, conditions)

    def complete(self, features: Tensor, conditions: Tensor) -> Tensor:
        """Return conditions (n, width) as network inputs, with unknown ones (NaN) set to the likeliest values."""
        unknown = torch.isnan(conditions)
        if not unknown.any():
            return conditions
        if self.guess is None:
            raise DataError("a condition is unknown (NaN): give it, or train with model.semi_supervised = true")
        return self.guess.likeliest(features, conditions)

    def network_conditions(self, conditions: ArrayLike | None, n: int) -> Tensor:
        """Return the network inputs (n, width) for conditions (n, k), or for none."""
        k = len(self.blueprint.settings.conditions)
        given = (
            np.tile(self.default_conditions, (n, 1)) if conditions is None else np.asarray(conditions, dtype=np.float64)
        )
        if given.shape != (n, k):
            names = ", ".join(map(str, self.blueprint.settings.conditions)) or "none"
            raise DataError(f"conditions have the shape ({n}, {k}) - {names} - found {given.shape}")
        return cast(Tensor, self.conditions(torch.as_tensor(given)))
