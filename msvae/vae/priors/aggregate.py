"""The aggregate posterior q(z|c) = mean over training structures of q(z|x, c): the distribution of latents.

In a latent space large enough to be useful it differs from N(0, I), and samples of N(0, I) do not decode to valid
structures (the prior hole). After training it is modelled by a mixture of normal distributions or by a neural spline
flow (zuko; Durkan et al. 2019, arXiv:1906.04032), whichever gives held-out latents the higher likelihood. All sampling
uses this model.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor, nn

from msvae.seeds import seed_of
from msvae.structures import Array
from msvae.vae.priors.flows import spline_flow

__all__ = ["Aggregate", "AggregateFit", "fit_aggregate", "fit_flow"]

NORMAL = "N(0, I)"
MIXTURES = (1, 2, 5, 10, 20)
STEPS, BATCH, RATE = 3000, 256, 3e-3
TIE = 0.005  # nats per latent by which a mixture has to beat a flow: between its heaps it decodes to biased fractions
PATIENCE, DROPS = 2, 2  # looks without a gain until the rate drops, and how often it does


class Aggregate(nn.Module):
    """q(z|c) as a mixture or as a flow; c is standardised."""

    centre: Tensor
    width: Tensor
    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __init__(self, latents: int, conditions: int, *, kind: str, components: int = 1) -> None:
        """kind: "mixture", of this many normal distributions of (z, c) together, or "flow"."""
        super().__init__()
        self.latents, self.conditions, self.kind, self.components = latents, conditions, kind, components
        if kind == "flow":
            self.flow = spline_flow(latents, conditions)
            self.register_buffer("centre", torch.zeros(latents))
            self.register_buffer("width", torch.ones(latents))
        else:
            size = latents + conditions
            self.register_buffer("weights", torch.full((components,), 1 / components, dtype=torch.float64))
            self.register_buffer("means", torch.zeros(components, size, dtype=torch.float64))
            self.register_buffer("covariances", torch.eye(size, dtype=torch.float64).repeat(components, 1, 1))

    @property
    def description(self) -> dict[str, Any]:
        """The arguments from which the module is rebuilt, apart from its weights."""
        return {"kind": self.kind, "components": self.components}

    @torch.no_grad()
    def log_prob(self, latents: Array, conditions: Array) -> Array:
        """Return log q(z|c) (n,) in nats for latents (n, d) and standardised conditions (n, k)."""
        z, c = torch.as_tensor(latents), torch.as_tensor(conditions)
        if self.kind == "flow":
            scaled = ((z - self.centre) / self.width).float()
            found = self.flow(c.float()).log_prob(scaled) if self.conditions else self.flow().log_prob(scaled)
            return np.asarray(found.double() - self.width.double().log().sum())
        weights, means, factors = self._given(c)
        return np.asarray(_mixture(weights, means, factors).log_prob(z.double()))

    @torch.no_grad()
    def scores(self, latents: Array, conditions: Array) -> Array:
        """Return normal scores (n, d) of latents given conditions, of a flow: whatever the conditions, N(0, I).

        They carry what latents tell of structures beside the conditions: the flow's map takes these out.
        """
        assert self.kind == "flow"
        flow = self.flow(torch.as_tensor(conditions).float()) if self.conditions else self.flow()
        z = (torch.as_tensor(latents) - self.centre) / self.width
        return np.asarray(flow.transform(z.float()).double())

    @torch.no_grad()
    def sample(self, conditions: Array, seed: int) -> Array:
        """Return one latent (n, d) for each row of standardised conditions (n, k).

        The rows are a scrambled Sobol' sequence (Owen 1998, J. Complexity 14, 466): each row has the right
        distribution, and together they cover it more evenly than independent draws.
        """
        c, d = torch.as_tensor(conditions), self.latents
        uniform = _sobol(len(c), d + 1, seed_of(seed, "aggregate"))
        normal = torch.as_tensor(special.ndtri(uniform[:, 1:]))
        if self.kind == "flow":
            flow = self.flow(c.float()) if self.conditions else self.flow()
            return np.asarray(flow.transform.inv(normal.float()).double() * self.width + self.centre)
        weights, means, factors = self._given(c)
        place = torch.as_tensor(uniform[:, :1]).clamp_max(1 - 1e-12)
        chosen = torch.searchsorted(weights.cumsum(dim=1).contiguous(), place)[:, 0].clamp_max(self.components - 1)
        rows = torch.arange(len(c))
        return np.asarray(means[rows, chosen] + torch.einsum("nij,nj->ni", factors[rows, chosen], normal))

    def _given(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return weights (n, m), means (n, m, d) and Cholesky factors (n, m, d, d) of the mixture given conditions."""
        d, n = self.latents, len(c)
        means, inner = self.means[:, :d], self.covariances[:, :d, :d]
        if self.conditions == 0:
            return (
                self.weights.expand(n, -1),
                means.expand(n, -1, -1),
                torch.linalg.cholesky(inner).expand(n, *inner.shape),
            )
        outer, mixed = self.covariances[:, d:, d:], self.covariances[:, :d, d:]
        rest = c.double()[:, None] - self.means[None, :, d:]
        slope = torch.linalg.solve(outer, mixed.mT).mT
        normal = torch.distributions.MultivariateNormal(self.means[:, d:], outer)
        weights = torch.softmax(self.weights.log() + normal.log_prob(c.double()[:, None]), dim=1)
        factors = torch.linalg.cholesky(inner - slope @ mixed.mT)
        return weights, means + torch.einsum("mdk,nmk->nmd", slope, rest), factors.expand(n, *factors.shape)


@dataclass(frozen=True)
class AggregateFit:
    """The chosen model and its name, the held-out log-likelihood per latent vector (nats) of every candidate, and the
    prior hole.

    hole: how many nats N(0, I) gives held-out latents less than the chosen model.
    """

    aggregate: Any  # Aggregate, or Texture for a grid of latents
    name: str
    scores: Mapping[str, float]
    hole: float


def fit_aggregate(
    latents: Array,
    conditions: Array,
    *,
    seed: int,
    held_out: float = 0.2,
    sides: tuple[Array, Array] | None = None,
) -> AggregateFit:
    """Model latents (n, r, d), r draws from each structure's posterior, given standardised conditions (n, k).

    Draws of one structure are never on both sides of the comparison. sides: indices of the structures to fit to and of
    those to compare on; by default a random split.
    """
    rng = np.random.default_rng(seed_of(seed, "aggregate split"))
    order = rng.permutation(len(latents))
    cut = max(1, round(held_out * len(latents)))
    inside, outside = sides or (order[cut:], order[:cut])
    (known, told), (unknown, untold) = (_drawn(latents[k], conditions[k]) for k in (inside, outside))
    standard = Aggregate(latents.shape[-1], conditions.shape[1], kind="mixture")
    candidates = {NORMAL: standard, **{f"mixture of {a.components}": a for a in _mixtures(known, told, seed)}}
    if len(inside) >= 20 * latents.shape[-1]:
        candidates["flow"] = fit_flow(known, told, seed)
    scores = {name: float(a.log_prob(unknown, untold).mean()) for name, a in candidates.items()}
    best = max(scores, key=lambda name: scores[name] + (TIE * latents.shape[-1] if name == "flow" else 0.0))
    return AggregateFit(candidates[best], best, scores, scores[best] - scores[NORMAL])


def _drawn(latents: Array, conditions: Array) -> tuple[Array, Array]:
    """Return latents (n r, d) and conditions (n r, k), with the draws of each structure in succession."""
    n, draws, size = latents.shape
    return latents.reshape(n * draws, size), np.repeat(conditions, draws, axis=0)


def _mixtures(latents: Array, conditions: Array, seed: int) -> list[Aggregate]:
    """Return the mixtures of normal distributions that this many latents can determine."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    joint = np.concatenate([latents, conditions], axis=1)
    found = []
    for components in (m for m in MIXTURES if m == 1 or len(joint) >= 10 * m * joint.shape[1]):
        mixture = GaussianMixture(components, reg_covar=1e-4, random_state=seed_of(seed, "mixture") % 2**31)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(joint)
        aggregate = Aggregate(latents.shape[1], conditions.shape[1], kind="mixture", components=components)
        aggregate.weights.copy_(torch.as_tensor(mixture.weights_))
        aggregate.means.copy_(torch.as_tensor(mixture.means_))
        aggregate.covariances.copy_(torch.as_tensor(mixture.covariances_))
        found.append(aggregate)
    return found


def fit_flow(latents: Array, conditions: Array, seed: int) -> Aggregate:
    """Return a neural spline flow, with early stopping on a held-out tenth of the latents."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "flow") % 2**63)
        aggregate = Aggregate(latents.shape[1], conditions.shape[1], kind="flow")
        aggregate.centre.copy_(torch.as_tensor(latents.mean(axis=0)))
        aggregate.width.copy_(torch.as_tensor(latents.std(axis=0)).clamp_min(1e-6))
        z = ((torch.as_tensor(latents) - aggregate.centre) / aggregate.width).float()
        _maximise(aggregate.flow, z, torch.as_tensor(conditions).float())
    return aggregate.eval()


def _maximise(flow: nn.Module, z: Tensor, c: Tensor) -> None:
    """Fit a flow to z (n, d) given c (n, k) by maximum likelihood."""

    def loss(rows: Tensor) -> Tensor:
        distribution = flow(c[rows]) if c.shape[1] else flow()
        return -distribution.log_prob(z[rows]).mean()  # type: ignore[no-any-return]

    cut = max(1, len(z) // 10)
    outside, inside = torch.arange(cut), torch.arange(cut, len(z))
    optimiser = torch.optim.Adam(flow.parameters(), lr=RATE)
    best, kept, waited, drops = math.inf, flow.state_dict(), 0, 0
    for step in range(STEPS):
        chosen = inside[torch.randint(len(inside), (min(BATCH, len(inside)),))]
        optimiser.zero_grad()
        loss(chosen).backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimiser.step()
        if step % 50 == 49:
            with torch.no_grad():
                now = float(loss(outside))
            waited = 0 if now < best else waited + 1
            if now < best:
                best, kept = now, {k: v.clone() for k, v in flow.state_dict().items()}
            if waited >= PATIENCE:
                if drops == DROPS:
                    break
                drops, waited = drops + 1, 0
                flow.load_state_dict(kept)
                optimiser.param_groups[0]["lr"] = RATE / 3**drops
    flow.load_state_dict(kept)


def _sobol(n: int, dimensions: int, seed: int) -> Array:
    """Return the first n points (n, dimensions) of a scrambled Sobol' sequence, inside (0, 1)."""
    from scipy.stats import qmc  # half a second, which a worker that only decodes does not have to spend

    sampler = qmc.Sobol(dimensions, rng=np.random.default_rng(seed))
    points = sampler.random_base2(max(n - 1, 0).bit_length())[:n]
    return np.asarray(np.clip(points, 1e-12, 1 - 1e-12))


def _mixture(weights: Tensor, means: Tensor, factors: Tensor) -> torch.distributions.MixtureSameFamily:
    normal = torch.distributions.MultivariateNormal(means, scale_tril=factors)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(weights), normal)
