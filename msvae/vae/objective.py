"""The objective, written once as a sum of named terms in nats per structure.

    -loss = E_q[log p(x|z, c)] - beta KL(q(z|x, c) || p(z)) + w sum_k log p(y_k|z)

(Kingma and Welling 2014, arXiv:1312.6114; beta: Higgins et al. 2017.) A property that is unknown (NaN) adds nothing, so
labelled and unlabelled structures train together. With free bits, a latent whose mean divergence is below them is not
pushed to lower it (Kingma et al. 2016, arXiv:1606.04934): the term "free bits" is what is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from msvae.structures import Structures
from msvae.vae.model import VAE, condition_values
from msvae.vae.modules import Bent

__all__ = ["Batch", "batch_of", "importance_weighted_bound", "terms", "total"]


@dataclass(frozen=True)
class Batch:
    """Structures as tensors: values (n, channels, *grid), standardised conditions (n, k) and properties (n, size)."""

    values: Tensor
    conditions: Tensor
    properties: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor) -> Batch:
        return Batch(self.values[index], self.conditions[index], {k: v[index] for k, v in self.properties.items()})


def batch_of(vae: VAE, structures: Structures) -> Batch:
    """Return structures as the tensors that the objective needs."""
    conditions = torch.as_tensor(condition_values(structures, vae.blueprint.settings))
    properties = {}
    for q in vae.blueprint.quantities:
        flat = torch.as_tensor(structures.properties[q.name].reshape(len(structures), -1).copy())
        properties[q.name] = vae.scale_of(q.name)(flat)
    return Batch(torch.as_tensor(structures.values.copy()), vae.condition_scale(conditions), properties)


def terms(vae: VAE, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the terms of the objective, each the mean over the batch in nats per structure, as costs."""
    features = vae.likelihood.features(batch.values)
    conditions, guessing = _conditions(vae, features, batch.conditions, generator)
    posterior = vae.posterior(features, conditions)
    latents = sample(posterior, generator)
    decoded = vae.reconstruct(latents, conditions)
    result = {"reconstruction": -decoded.log_prob(batch.values.float()).mean(), **guessing}
    result |= _divergence(vae, posterior, latents)
    for name, target in batch.properties.items():
        result[f"head {name}"] = -_known_log_likelihood(vae.heads[name](latents), target).mean()
    return result


def _conditions(
    vae: VAE, features: Tensor, conditions: Tensor, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return conditions of which none is unknown, and what guessing them costs (Kingma et al. 2014, arXiv:1406.5298).

    An unknown one is sampled from q(c|x) and costs its divergence from N(0, 1); a known one teaches the guess.
    """
    if vae.guess is None:
        return conditions, {}
    guess = vae.guess(features).base_dist
    known = torch.isfinite(conditions)
    drawn = guess.mean + guess.stddev * torch.randn(guess.mean.shape, generator=generator)
    normal = Normal(torch.zeros_like(guess.mean), torch.ones_like(guess.stddev))
    given = torch.where(known, conditions, guess.mean.detach())
    cost = torch.where(known, -guess.log_prob(given), kl_divergence(guess, normal))
    return torch.where(known, conditions, drawn), {"guess": cost.sum(dim=1).mean()}


def sample(posterior: Distribution, generator: torch.Generator) -> Tensor:
    """Return one latent (n, d) of each posterior, with gradients."""
    base = posterior.base if isinstance(posterior, Bent) else posterior
    drawn = base.mean + base.stddev * torch.randn(base.mean.shape, generator=generator)
    return cast(Tensor, posterior.transform.inv(drawn)) if isinstance(posterior, Bent) else drawn


def _divergence(vae: VAE, posterior: Distribution, latents: Tensor) -> dict[str, Tensor]:
    """Return the divergence from the prior: exact between normal distributions, else by the latents (n, d)."""
    prior, free = vae.prior(), vae.blueprint.settings.free_bits
    if not (isinstance(posterior, Independent) and isinstance(prior, Independent)):
        return {"divergence": (posterior.log_prob(latents) - prior.log_prob(latents)).mean()}
    divergence = kl_divergence(posterior.base_dist, prior.base_dist).mean(dim=0)
    if free == 0:
        return {"divergence": divergence.sum()}
    spared = divergence < free
    return {
        "divergence": torch.where(spared, divergence.detach(), divergence).sum(),
        "free bits": (free - divergence.detach()).clamp_min(0).sum(),
    }


def importance_weighted_bound(vae: VAE, structures: Structures, samples: int, *, seed: int) -> Tensor:
    """Return log 1/K sum_k p(x, z_k|c)/q(z_k|x, c) (n,) in nats: a bound on log p(x|c) that K = samples tightens.

    (Burda et al. 2016, arXiv:1509.00519.) With one sample its mean is the evidence lower bound.
    """
    batch = batch_of(vae, structures)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        features = vae.likelihood.features(batch.values)
        conditions = vae.complete(features, batch.conditions)
        posterior = vae.posterior(features, conditions)
        weights = []
        for _ in range(samples):
            z = sample(posterior, generator)
            joint = vae.reconstruct(z, conditions).log_prob(batch.values.float()) + vae.prior().log_prob(z)
            weights.append(joint.double() - posterior.log_prob(z).double())
        return torch.logsumexp(torch.stack(weights), dim=0) - math.log(samples)


def total(parts: Mapping[str, Tensor], *, beta: float, head_weight: float) -> Tensor:
    """Return the loss of the terms: what training minimises."""
    heads = [value for name, value in parts.items() if name.startswith("head ")]
    loss = parts["reconstruction"] + beta * parts["divergence"] + parts.get("guess", torch.zeros(()))
    return loss + head_weight * torch.stack(heads).sum() if heads else loss


def _known_log_likelihood(distribution: Independent[Normal], target: Tensor) -> Tensor:
    """Return log p(y) (n,) over the known components of y (n, k)."""
    known = torch.isfinite(target)
    normal = distribution.base_dist
    assert isinstance(normal, Normal)
    return torch.where(known, normal.log_prob(torch.where(known, target, normal.mean.detach())), 0.0).sum(dim=1)
