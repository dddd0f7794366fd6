"""The objective, written once as a sum of named terms in nats per structure.

    -loss = E_q[log p(x|z, c)] - beta KL(q(z|x, c) || p(z)) + w sum_k log p(y_k|z)

(Kingma and Welling 2014, arXiv:1312.6114; beta: Higgins et al. 2017.) An unknown property (NaN) contributes nothing, so
labelled and unlabelled structures train together. With free bits, a latent whose mean divergence is below the threshold
is not penalised for it (Kingma et al. 2016, arXiv:1606.04934); the term "free bits" is the amount not counted.

A conditional model may have two further terms. "dependence", of latents and known conditions, keeps the conditions out
of the latents. "disagreement" is -log q(c|x') of structures x' decoded with the conditions c of another structure,
so that decoded structures have the conditions they are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from msvae.structures import Structures
from msvae.vae.blueprint import condition_values
from msvae.vae.conditions import Completed
from msvae.vae.fitting.parallel import Share
from msvae.vae.model import VAE
from msvae.vae.modules import Bent
from msvae.vae.spatial import Ladder

WIDTHS = (0.1, 0.3, 1.0, 3.0)  # of kernels, in mean squared distances

__all__ = ["Batch", "batch_of", "importance_weighted_bound", "terms"]


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

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        properties = {k: v.to(device) for k, v in self.properties.items()}
        return Batch(self.values.to(device), self.conditions.to(device), properties)


def batch_of(vae: VAE, structures: Structures) -> Batch:
    """Convert structures to the tensors that the objective needs."""
    conditions = torch.as_tensor(condition_values(structures, vae.blueprint.settings))
    device = next(vae.parameters()).device
    properties = {}
    for q in vae.blueprint.quantities:
        flat = torch.as_tensor(structures.properties[q.name].reshape(len(structures), -1).copy())
        properties[q.name] = vae.scale_of(q.name)(flat.to(device))
    return Batch(torch.as_tensor(structures.values.copy()), vae.conditions(conditions.to(device)), properties)


def terms(vae: VAE, batch: Batch, share: Share) -> dict[str, Tensor]:
    """Return the terms of the objective as costs: means over the batch, in nats per structure."""
    features = vae.likelihood.features(batch.values)
    if vae.guess is None:
        completed, guessing = Completed(None, batch.conditions, torch.ones(())), {}
    else:
        completed, cost = vae.guess.complete(features, batch.conditions, share)
        guessing = {"guess": cost}

    def mean(costs: Tensor) -> Tensor:
        """Return the mean over the structures of costs (m, ...) of the rows."""
        weights = completed.weights.reshape(-1, *(1,) * (costs.ndim - 1))
        return (weights * costs).sum(dim=0) / len(batch)

    posterior = vae.posterior(completed.of(features), completed.conditions)
    latents = sample(posterior, completed.of(share.normal(len(batch), vae.latents, features.device)))
    decoded = vae.reconstruct(latents, completed.conditions)
    result = {"reconstruction": -mean(decoded.log_prob(completed.of(batch.values.float()))), **guessing}
    result |= _divergence(vae, posterior, latents, mean, share)
    if vae.blueprint.settings.independence:
        known = torch.isfinite(batch.conditions).all(dim=1)
        means = sample(posterior, torch.zeros_like(latents))
        result["dependence"] = dependence(means[completed.of(known)], completed.conditions[completed.of(known)])
    if vae.blueprint.settings.agreement:
        others = completed.conditions.roll(1, dims=0)  # of another structure: batches are shuffled
        decoded = vae.reconstruct(latents, others)
        result["disagreement"] = mean(disagreement(vae, decoded.mean, others))
    for name, target in batch.properties.items():
        result[f"head {name}"] = -mean(_known_log_likelihood(vae.heads[name](latents), completed.of(target)))
    return result


def sample(posterior: Distribution, noise: Tensor) -> Tensor:
    """Return one latent (n, d) of each posterior, with gradients, from standard normal noise (n, d)."""
    if isinstance(posterior, Ladder):
        return posterior.carried(noise)
    base = posterior.base if isinstance(posterior, Bent) else posterior
    drawn = base.mean + base.stddev * noise
    return cast(Tensor, posterior.transform.inv(drawn)) if isinstance(posterior, Bent) else drawn


def dependence(a: Tensor, b: Tensor) -> Tensor:
    """Return the dependence of two samples (n, i) and (n, j), 0 (independent) to 1.

    The Hilbert-Schmidt independence criterion (Gretton et al. 2005, Algorithmic Learning Theory, 63), normalised by
    that of each sample with itself. Gaussian kernels of several widths: one alone leaves what is finer.
    """
    if len(a) < 2:
        return torch.zeros((), device=a.device)
    k, m = _centred_kernel(a), _centred_kernel(b)
    return (k * m).sum() / ((k * k).sum() * (m * m).sum()).clamp_min(1e-12).sqrt()


def _centred_kernel(values: Tensor) -> Tensor:
    squares = (values[:, None] - values[None]).square().sum(dim=2)
    squares = squares / squares.mean().detach().clamp_min(1e-12)
    kernel = torch.stack([torch.exp(-squares / width) for width in WIDTHS]).mean(dim=0)
    return kernel - kernel.mean(dim=0) - kernel.mean(dim=1, keepdim=True) + kernel.mean()


def disagreement(vae: VAE, values: Tensor, conditions: Tensor) -> Tensor:
    """Return -log q(c|x) (n,) of structures and conditions; its gradient teaches the decoder, not q(c|x)."""
    assert vae.guess is not None
    fixed = {name: parameter.detach() for name, parameter in vae.guess.named_parameters()}
    guessed = torch.func.functional_call(vae.guess, fixed, (vae.likelihood.features(values),))
    return vae.guess.costs(guessed, conditions)


def _divergence(
    vae: VAE, posterior: Distribution, latents: Tensor, mean: Callable[[Tensor], Tensor], share: Share
) -> dict[str, Tensor]:
    """Return the divergence from the prior: exact between normal distributions, else estimated at latents."""
    prior, free = vae.prior(), vae.blueprint.settings.free_bits
    if isinstance(posterior, Ladder) and isinstance(prior, Ladder):
        divergence = mean(posterior.divergence(prior, latents))
    elif isinstance(posterior, Independent) and isinstance(prior, Independent):
        divergence = mean(kl_divergence(posterior.base_dist, prior.base_dist))
    else:
        return {"divergence": mean(posterior.log_prob(latents) - prior.log_prob(latents))}
    if free == 0:
        return {"divergence": divergence.sum()}
    everywhere = share.mean(divergence)
    spared = everywhere < free
    return {
        "divergence": torch.where(spared, divergence.detach(), divergence).sum(),
        "free bits": (free - everywhere).clamp_min(0).sum(),
    }


def importance_weighted_bound(vae: VAE, structures: Structures, samples: int, *, seed: int) -> Tensor:
    """Return log 1/K sum_k p(x, z_k|c)/q(z_k|x, c) (n,) in nats: a bound on log p(x|c) that K = samples tightens.

    (Burda et al. 2016, arXiv:1509.00519.) With one sample its mean is the evidence lower bound.
    """
    batch = batch_of(vae, structures)
    share = Share(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        features = vae.likelihood.features(batch.values)
        conditions = vae.complete(features, batch.conditions)
        posterior = vae.posterior(features, conditions)
        weights = []
        for _ in range(samples):
            z = sample(posterior, share.normal(len(batch), vae.latents, features.device))
            joint = vae.reconstruct(z, conditions).log_prob(batch.values.float()) + vae.prior().log_prob(z)
            weights.append(joint.double() - posterior.log_prob(z).double())
        return torch.logsumexp(torch.stack(weights), dim=0) - math.log(samples)


def _known_log_likelihood(distribution: Independent[Any], target: Tensor) -> Tensor:
    """Return log p(y) (n,) over the known components of y (n, k)."""
    known = torch.isfinite(target)
    each = distribution.base_dist
    return torch.where(known, each.log_prob(torch.where(known, target, each.mean.detach())), 0.0).sum(dim=1)
