"""The VAE: a composition of modules whose call returns a distribution.

    posterior  q(z|x, c)      decoder  p(x|z, c)      prior  p(z)      heads  p(y|z)

`Blueprint` says which composition; `VAE` is the modules together, with a numpy surface for use on its own:

    vae = msvae.Run.open("runs/demo").model
    latents = vae.encode(structures)
    structures = vae.decode(latents)
    properties = vae.predict(latents)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from msvae.errors import DataError, StudyError
from msvae.interfaces import Architecture
from msvae.settings import Component, ModelSettings
from msvae.structures import Array, Quantity, Specification, Structures
from msvae.vae.likelihoods import likelihood_for
from msvae.vae.scaling import Standardiser

__all__ = ["VAE", "Blueprint", "component_values", "condition_values"]


@dataclass(frozen=True)
class Blueprint:
    """Everything that the shape of a VAE depends on.

    quantities: the properties that the heads predict, with resolved shapes.
    """

    specification: Specification
    settings: ModelSettings
    architecture: Architecture
    quantities: tuple[Quantity, ...] = ()

    @classmethod
    def of(cls, structures: Structures, settings: ModelSettings, architecture: Architecture) -> Blueprint:
        """Return the blueprint for structures; StudyError if a head or condition names no property of theirs."""
        known = {q.name: q for q in structures.quantities}
        for key, name in [
            *(("heads", h) for h in settings.heads),
            *(("conditions", c.property) for c in settings.conditions),
        ]:
            if name not in known:
                raise StudyError(
                    f"model.{key}: the structures have no property '{name}' (they have: "
                    f"{', '.join(sorted(known)) or 'none'}): name a solver that computes it, or leave it out"
                )
        misfit = architecture.misfit(structures.specification)
        if misfit:
            raise StudyError(f"architecture: {misfit}")
        return cls(structures.specification, settings, architecture, tuple(known[h] for h in settings.heads))


class Posterior(nn.Module):
    """q(z|x, c): a diagonal normal distribution whose moments the encoder gives."""

    def __init__(self, encoder: nn.Module, sizes: ModelSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.moments = nn.Linear(sizes.features + len(sizes.conditions), 2 * sizes.latents)

    def forward(self, features: Tensor, conditions: Tensor) -> Distribution:
        """features: (n, inputs, *grid); conditions: (n, k), standardised."""
        hidden = nn.functional.silu(self.encoder(features)).float()
        mean, log_scale = self.moments(torch.cat([hidden, conditions], dim=1)).chunk(2, dim=1)
        return Independent(Normal(mean, log_scale.clamp(-7, 3).exp()), 1)


class Prior(nn.Module):
    """p(z) = N(0, I)."""

    mean: Tensor

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latents), persistent=False)

    def forward(self) -> Distribution:
        return Independent(Normal(self.mean, torch.ones_like(self.mean)), 1)


class Head(nn.Module):
    """p(y|z): a diagonal normal distribution over a standardised property, its spread depending on z."""

    def __init__(self, latents: int, features: int, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latents, features),
            nn.SiLU(),
            nn.Linear(features, features),
            nn.SiLU(),
            nn.Linear(features, 2 * size),
        )

    def forward(self, latents: Tensor) -> Distribution:
        mean, log_scale = self.layers(latents).chunk(2, dim=1)
        return Independent(Normal(mean, log_scale.clamp(-5, 2).exp()), 1)


class VAE(nn.Module):
    """Encoder, decoder, prior and heads of one blueprint."""

    def __init__(self, blueprint: Blueprint) -> None:
        super().__init__()
        self.blueprint = blueprint
        settings, specification = blueprint.settings, blueprint.specification
        k = len(settings.conditions)
        self.likelihood = likelihood_for(specification, settings.likelihood)
        encoder = blueprint.architecture.encoder(specification, self.likelihood.inputs, settings.features)
        self.posterior = Posterior(encoder, settings)
        self.decoder = blueprint.architecture.decoder(specification, self.likelihood.outputs, settings.latents + k)
        self.prior = Prior(settings.latents)
        self.heads = nn.ModuleDict(
            {q.name: Head(settings.latents, settings.features, q.size) for q in blueprint.quantities}
        )
        self.scales = nn.ModuleDict({q.name: Standardiser(q.size) for q in blueprint.quantities})
        self.condition_scale = Standardiser(k)

    @property
    def latents(self) -> int:
        """Dimensions of the latent space."""
        return self.blueprint.settings.latents

    def fit_scales(self, structures: Structures) -> None:
        """Fit the scaling of properties, conditions and values to training structures."""
        for q in self.blueprint.quantities:
            self.scale_of(q.name).fit(structures.properties[q.name].reshape(len(structures), -1))
        self.condition_scale.fit(condition_values(structures, self.blueprint.settings))
        self.likelihood.fit(structures)

    def scale_of(self, name: str) -> Standardiser:
        """Return the scaling of a property that a head predicts."""
        return cast(Standardiser, self.scales[name])

    def reconstruct(self, latents: Tensor, conditions: Tensor) -> Distribution:
        """Return p(x|z, c) for latents (n, d) and standardised conditions (n, k)."""
        return cast(Distribution, self.likelihood(self.decoder(torch.cat([latents, conditions], dim=1)).float()))

    @torch.no_grad()
    def encode(self, structures: Structures, conditions: ArrayLike | None = None) -> Array:
        """Return the posterior means (n, latents) of structures.

        conditions: (n, k) in the properties' own units; by default those of the structures.
        """
        if structures.specification != self.blueprint.specification:
            raise DataError(
                f"the model was trained on structures of specification {self.blueprint.specification}, "
                f"found {structures.specification}"
            )
        if conditions is None:
            conditions = condition_values(structures, self.blueprint.settings)
        scaled = self._scaled(conditions, len(structures))
        means = [
            self.posterior(
                self.likelihood.features(torch.as_tensor(structures.values[i : i + 64].copy())), scaled[i : i + 64]
            ).mean
            for i in range(0, len(structures), 64)
        ]
        return torch.cat([torch.zeros(0, self.latents), *means]).double().numpy()

    @torch.no_grad()
    def decode(self, latents: ArrayLike, conditions: ArrayLike | None = None) -> Structures:
        """Return the most likely structures of latents (n, d) under conditions (n, k) in their own units.

        Each is decoded by itself, so that its values do not depend on the others.
        """
        z = torch.as_tensor(np.asarray(latents, dtype=np.float32))
        if z.ndim != 2 or z.shape[1] != self.latents:
            raise DataError(f"latents have the shape (n, {self.latents}), found {tuple(z.shape)}")
        scaled = self._scaled(conditions, len(z))
        values = [self.likelihood.mode(self.reconstruct(z[i : i + 1], scaled[i : i + 1])) for i in range(len(z))]
        specification = self.blueprint.specification
        stacked = torch.cat(values).numpy() if values else np.zeros((0, *specification.shape))
        return Structures(_valid(stacked, specification), specification)

    @torch.no_grad()
    def predict(self, latents: ArrayLike) -> dict[str, Array]:
        """Return the heads' means (n, *shape), in the properties' units, for latents (n, d)."""
        return {name: mean for name, (mean, _) in self.predict_with_spread(latents).items()}

    @torch.no_grad()
    def predict_with_spread(self, latents: ArrayLike) -> dict[str, tuple[Array, Array]]:
        """Return mean and standard deviation (n, *shape) of each head for latents (n, d)."""
        z = torch.as_tensor(np.asarray(latents, dtype=np.float32))
        result = {}
        for q in self.blueprint.quantities:
            distribution, scale = self.heads[q.name](z), self.scale_of(q.name)
            mean, spread = scale.inverse(distribution.mean), distribution.stddev.double() * scale.scale
            result[q.name] = (mean.numpy().reshape(-1, *q.sizes), spread.numpy().reshape(-1, *q.sizes))
        return result

    def sample(self, n: int, seed: int = 0, conditions: ArrayLike | None = None) -> Structures:
        """Return n structures decoded from samples of the prior."""
        return self.decode(np.random.default_rng(seed).standard_normal((n, self.latents)), conditions)

    def _scaled(self, conditions: ArrayLike | None, n: int) -> Tensor:
        k = len(self.blueprint.settings.conditions)
        given = np.zeros((n, 0)) if conditions is None else np.asarray(conditions, dtype=np.float64)
        if given.shape != (n, k):
            names = ", ".join(map(str, self.blueprint.settings.conditions)) or "none"
            raise DataError(f"conditions have the shape ({n}, {k}) - {names} - found {given.shape}")
        return cast(Tensor, self.condition_scale(torch.as_tensor(given)))


def condition_values(structures: Structures, settings: ModelSettings) -> Array:
    """Return the conditions (n, k) that structures stand under, in their own units."""
    columns = [component_values(structures.properties, c) for c in settings.conditions]
    return np.stack(columns, axis=1) if columns else np.zeros((len(structures), 0))


def component_values(properties: Mapping[str, Any], component: Component) -> Array:
    """Return one number (n,) of a property; StudyError if the property has no such component."""
    array = np.asarray(properties[component.property])
    if len(component.component) != array.ndim - 1 or any(
        i >= s for i, s in zip(component.component, array.shape[1:], strict=False)
    ):
        raise StudyError(
            f"'{component}': the property has shape {array.shape[1:]}, found the component {list(component.component)}"
        )
    index: tuple[Any, ...] = (slice(None), *component.component)
    return np.asarray(array[index])


def _valid(values: Array, specification: Specification) -> Array:
    """Return decoded values with what their kind demands: fractions that are not negative and sum to one."""
    if specification.kind != "composition":
        return values
    positive = np.maximum(values, 1e-9)
    return np.asarray(positive / positive.sum(axis=1, keepdims=True))
