"""The VAE: a composition of modules whose call returns a distribution.

    posterior  q(z|x, c)      decoder  p(x|z, c)      prior  p(z)      heads  p(y|z)

`Blueprint` specifies the composition; `VAE` joins the modules behind a numpy interface for standalone use:

    vae = msvae.Run.open("runs/demo").model
    latents = vae.encode(structures)
    structures = vae.decode(latents)
    properties = vae.predict(latents)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.distributions import Distribution

from msvae.errors import DataError
from msvae.metrics.calibration import widening
from msvae.seeds import seed_of
from msvae.structures import Array, Grid, Specification, Structures
from msvae.structures.splits import split_of
from msvae.vae.blueprint import component_values, condition_values
from msvae.vae.interpolation import arc, line
from msvae.vae.likelihoods.hurdle import chance_of_zero
from msvae.vae.modules import Head
from msvae.vae.networks import Networks
from msvae.vae.priors.aggregate import AggregateFit, fit_aggregate
from msvae.vae.priors.latent_flow import LatentFlow, fit_latent_flow
from msvae.vae.spatial import SpatialPrior, Texture, fit_texture

BATCH = 64  # structures that are encoded at a time
DRAWS = 4  # of every structure's posterior, to model the aggregate with

__all__ = ["VAE"]


class VAE(Networks):
    """A variational autoencoder whose inputs and outputs are structures and numpy arrays."""

    def save(self, path: str | Path) -> None:
        """Write the weights to `path` (.safetensors) and the blueprint beside it, under the same name with .toml."""
        from msvae.vae.files import save_model

        save_model(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> VAE:
        """Return the model that `save` wrote; RunError if the files are not one."""
        from msvae.vae.files import load_model

        return load_model(Path(path))

    def encode(self, structures: Structures, conditions: ArrayLike | None = None) -> Array:
        """Return the posterior means (n, latents) of structures.

        conditions: (n, k) in the properties' own units; by default those of the structures.
        """
        return self.moments(structures, conditions)[0]

    @torch.no_grad()
    def draw(self, structures: Structures, seed: int) -> Array:
        """Return one sample (n, latents) of the posterior of each structure."""
        return self._draws(structures, [seed])[:, 0]

    @torch.no_grad()
    def _draws(self, structures: Structures, seeds: Sequence[int]) -> Array:
        """Return samples (n, len(seeds), latents) of the posteriors of structures, which are encoded once."""
        scaled = self.network_conditions(condition_values(structures, self.blueprint.settings), len(structures))
        posteriors, drawn = list(self._posteriors(structures, scaled)), []
        with torch.random.fork_rng(devices=[]):
            for seed in seeds:
                torch.manual_seed(seed_of(seed, "posterior"))
                drawn.append(torch.cat([torch.zeros(0, self.latents), *(q.rsample() for q in posteriors)]))
        return torch.stack(drawn, dim=1).double().numpy()

    @torch.no_grad()
    def moments(self, structures: Structures, conditions: ArrayLike | None = None) -> tuple[Array, Array]:
        """Return the means and the standard deviations (n, latents) of the posteriors of structures."""
        specification, expected, sites = structures.specification, self.blueprint.specification, self.sites
        if sites and len(specification.grid.shape) == len(sites):
            expected, sites = self._of_shape(specification.grid.shape)
        if specification != expected:
            raise DataError(
                f"the model was trained on structures of specification {self.blueprint.specification}, "
                f"found {specification}"
            )
        if conditions is None:
            conditions = condition_values(structures, self.blueprint.settings)
        scaled = self.network_conditions(conditions, len(structures))
        empty = torch.zeros(0, self._length(sites))
        means, deviations = [empty], [empty]
        for posterior in self._posteriors(structures, scaled):
            means.append(posterior.mean)
            deviations.append(posterior.stddev)
        return torch.cat(means).double().numpy(), torch.cat(deviations).double().numpy()

    def _posteriors(self, structures: Structures, conditions: Tensor) -> Iterator[Distribution]:
        """Yield q(z|x, c) of structures, 64 at a time; unknown conditions are inferred by q(c|x)."""
        for k, features in enumerate(self._features(structures)):
            yield self.posterior(features, self.complete(features, conditions[k * BATCH : (k + 1) * BATCH]))

    def _features(self, structures: Structures) -> Iterator[Tensor]:
        """Yield the encoder's input for structures, a batch at a time."""
        for i in range(0, len(structures), BATCH):
            yield self.likelihood.features(torch.as_tensor(structures.values[i : i + BATCH].copy()))

    @torch.no_grad()
    def guess_conditions(self, structures: Structures) -> dict[str, Array]:
        """Return q(c|x) of every condition: mean and deviation (n, 2) of a number, probabilities of classes."""
        if self.guess is None:
            raise DataError("this model does not predict conditions: train it with model.semi_supervised = true")
        found = [self.guess(features) for features in self._features(structures)]
        asked, scale = self.blueprint.settings.conditions, self.conditions.scale
        mean = scale.inverse(torch.cat([q.mean for q in found])).numpy()
        spread = (torch.cat([q.deviation for q in found]).double() * scale.scale).numpy()
        numbers = {j: np.stack([mean[:, i], spread[:, i]], axis=1) for i, j in enumerate(self.conditions.given_numbers)}
        classes = {j: torch.cat([q.classes[j] for q in found]).double().exp().numpy() for j in self.conditions.classes}
        both = numbers | classes
        return {str(condition): both[j] for j, condition in enumerate(asked)}

    def known_conditions(self, structures: Structures) -> Array:
        """Return the conditions (n, k) of structures in their own units; unknown ones are inferred by q(c|x)."""
        values = condition_values(structures, self.blueprint.settings)
        if self.guess is None or np.isfinite(values).all():
            return values
        chances = self.guess_conditions(structures).values()
        conditions = self.blueprint.settings.conditions
        found = [q.argmax(axis=1) if c.classes else q[:, 0] for c, q in zip(conditions, chances, strict=True)]
        return np.where(np.isfinite(values), values, np.stack(found, axis=1))

    @torch.no_grad()
    def decode(
        self, latents: ArrayLike, conditions: ArrayLike | None = None, shape: tuple[int, ...] | None = None
    ) -> Structures:
        """Return the most likely structures of latents (n, d) under conditions (n, k) in their own units.

        Each structure is decoded separately, so that its values do not depend on the others.
        shape: of the structures, in voxels; a shape other than that of training needs an architecture with a grid of
        latents.
        """
        specification, sites = self._of_shape(shape)
        z = torch.as_tensor(np.asarray(latents, dtype=np.float32))
        if z.ndim != 2 or z.shape[1] != self._length(sites):
            raise DataError(f"latents have the shape (n, {self._length(sites)}), found {tuple(z.shape)}")
        scaled = self.network_conditions(conditions, len(z))
        values = [self.likelihood.mode(self.reconstruct(z[i : i + 1], scaled[i : i + 1], sites)) for i in range(len(z))]
        stacked = torch.cat(values).numpy() if values else np.zeros((0, *specification.shape))
        return Structures(_valid(stacked, specification), specification)

    def _of_shape(self, shape: tuple[int, ...] | None) -> tuple[Specification, tuple[int, ...]]:
        """Return the specification of structures of a shape, and the grid of their latents."""
        specification = self.blueprint.specification
        if shape is None or tuple(shape) == specification.grid.shape:
            return specification, self.sites
        if not self.sites or len(shape) != len(self.sites):
            raise DataError(
                f"this model makes structures of {specification.grid.shape} voxels, found {tuple(shape)}: another "
                "shape needs an architecture with a grid of latents, for example 'fully-convolutional'"
            )
        grid = Grid.of(tuple(shape), specification.grid.spacing, periodic=specification.grid.periodic)
        changed = dataclasses.replace(specification, grid=grid)
        misfit = self.blueprint.architecture.misfit(changed)
        if misfit:
            raise DataError(misfit)
        return changed, self.blueprint.architecture.latent_grid(changed)

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
            head, scale = self.heads[q.name], self.scale_of(q.name)
            distribution = head(z)
            mean, spread = scale.inverse(distribution.mean), distribution.stddev.double() * scale.scale * head.widening
            result[q.name] = (mean.numpy().reshape(-1, *q.sizes), spread.numpy().reshape(-1, *q.sizes))
        return result

    @torch.no_grad()
    def chances_of_zero(self, latents: ArrayLike) -> dict[str, Array]:
        """Return each head's probability (n, *shape) that a property is exactly zero, for latents (n, d)."""
        z = torch.as_tensor(np.asarray(latents, dtype=np.float32))
        found = {q.name: (chance_of_zero(self.heads[q.name](z)), q.sizes) for q in self.blueprint.quantities}
        return {name: chance.double().numpy().reshape(-1, *sizes) for name, (chance, sizes) in found.items()}

    def calibrate(self, structures: Structures) -> None:
        """Calibrate on held-out structures: the heads' 90 % intervals cover 90 %; q(c|x) is calibrated."""
        if self.guess is not None and len(structures):
            conditions = self.network_conditions(condition_values(structures, self.blueprint.settings), len(structures))
            self.guess.calibrate(torch.cat(list(self._features(structures))), conditions)
        for head in self.heads.values():
            cast(Head, head).widening.fill_(1.0)
        for name, (mean, spread) in self.predict_with_spread(self.encode(structures)).items():
            residuals = (structures.properties[name] - mean).reshape(len(structures), -1)
            factors = widening(residuals, spread.reshape(len(structures), -1))
            cast(Head, self.heads[name]).widening.copy_(torch.as_tensor(factors))

    def sample(
        self, n: int, seed: int = 0, conditions: ArrayLike | None = None, shape: tuple[int, ...] | None = None
    ) -> Structures:
        """Return n structures decoded from `sample_latents`."""
        return self.decode(self.sample_latents(n, seed, conditions, shape), conditions, shape)

    def sample_latents(
        self, n: int, seed: int = 0, conditions: ArrayLike | None = None, shape: tuple[int, ...] | None = None
    ) -> Array:
        """Return n latents (n, d) from the fitted aggregate posterior, given conditions (n, k); untrained: N(0, I)."""
        scaled = self.network_conditions(conditions, n).double().numpy()
        _, sites = self._of_shape(shape)
        if self.aggregate is None:
            return np.random.default_rng(seed).standard_normal((n, self._length(sites)))
        if isinstance(self.aggregate, Texture):
            return self._sample_sites(self.aggregate, scaled, seed, sites)
        return self.aggregate.sample(scaled, seed)

    @torch.no_grad()
    def _sample_sites(self, texture: Texture, conditions: Array, seed: int, sites: tuple[int, ...]) -> Array:
        assert isinstance(self.prior, SpatialPrior)
        above = np.zeros((len(conditions), 0))
        if texture.above is not None:
            above = texture.above.sample(conditions, seed)
        below = self.prior.below(torch.as_tensor(above).float(), sites)
        field = texture.sample(conditions, seed, sites).reshape(len(conditions), -1)
        own = below.mean.double().numpy() + below.stddev.double().numpy() * field
        return np.concatenate([above, own], axis=1)

    def fit_aggregate(self, structures: Structures, *, seed: int) -> AggregateFit:
        """Fit a model of the aggregate posterior of training structures; later samples are drawn from it."""
        conditions = self.network_conditions(condition_values(structures, self.blueprint.settings), len(structures))
        known = np.flatnonzero(torch.isfinite(conditions).all(dim=1))
        given, usable = conditions[known].double().numpy(), structures[known]
        if isinstance(self.prior, SpatialPrior):
            found = fit_texture(
                self.draw(usable, seed),
                given,
                self.prior,
                periodic=self.blueprint.specification.grid.periodic,
                seed=seed,
            )
        else:
            seeds = [seed, *(seed_of(seed, "draw", k) for k in range(1, DRAWS))]
            found = fit_aggregate(self._draws(usable, seeds), given, seed=seed, sides=_sides(usable, seed))
        self.aggregate = found.aggregate
        return found

    def fit_latent_flow(self, structures: Structures, *, seed: int) -> LatentFlow:
        """Fit and return an invertible map of the latents that gives each property in model.axes its own axis."""
        axes = self.blueprint.settings.axes
        values = np.stack([component_values(structures.properties, c) for c in axes], axis=1)
        known = np.flatnonzero(np.isfinite(values).all(axis=1))
        names = tuple(map(str, axes))
        self.latent_flow = fit_latent_flow(self.draw(structures[known], seed), values[known], names, seed=seed)
        return self.latent_flow

    def interpolate(self, first: ArrayLike, last: ArrayLike, n: int, *, spherical: bool = False) -> Array:
        """Return n latents (n, d) from one to another, ends included, along a line or an arc around the origin.

        An arc keeps the distance from the origin; a line leaves the shell on which latents of structures lie.
        """
        a, b = (np.asarray(z, dtype=np.float64).ravel() for z in (first, last))
        if a.shape != (self.latents,) or b.shape != (self.latents,):
            raise DataError(f"interpolation is between latents of {self.latents} numbers, found {a.size} and {b.size}")
        return arc(a, b, n) if spherical else line(a, b, n)


def _sides(structures: Structures, seed: int) -> tuple[Array, Array] | None:
    """Return the indices of structures to fit a latent model to, and of others that share no voxel with them.

    None if structures are unrelated and a random split will do.
    """
    if structures.groups is None and structures.positions is None:
        return None
    try:
        sides = split_of(structures, 0.2, seed_of(seed, "aggregate split"), gap=0.0)
    except DataError:
        return None
    return sides.train, sides.held_out


def _valid(values: Array, specification: Specification) -> Array:
    """Return decoded values made valid for their kind: fractions are non-negative and sum to one."""
    if specification.kind != "composition":
        return values
    positive = np.maximum(values, 1e-9)
    return np.asarray(positive / positive.sum(axis=1, keepdims=True))
