"""Samples of the posterior on a chart, by Langevin steps, and intervals of each pixel from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from msvae import Array
from msvae_inversion.manifold.charts import ImageCharts
from msvae_inversion.manifold.descent import Objective, Pushed, derivatives

__all__ = ["Likelihood", "Posterior", "intervals", "posterior"]

BURN_IN, TARGET, ADAPTED = 200, 0.57, 0.1  # steps, the acceptance of an optimal step, and how fast it is approached
FIRST = 0.5  # length of the first step
ASCENTS, FALL = 20, 1e-2  # Gauss-Newton steps to the mode, at most, and the fall in nats that one has to bring
PARTS = (1.0, 0.5, 0.25, 0.1)  # of such a step, which are tried in turn

Place = tuple[int, Tensor]  # a chart, and latents in it
Energy = Callable[[Tensor], tuple[float, Tensor]]  # of latents (d,): -log density, and its gradient (d,)


@dataclass(frozen=True)
class Likelihood:
    """Normal noise of data. model: of an image (p,) to data (m,). pushed: its derivatives. data: (m,).

    weight: W (m, m) with W^T W the inverse covariance of the noise, or the inverse of its deviation.
    """

    model: Objective
    pushed: Pushed
    data: Tensor
    weight: Tensor

    def weighted(self, values: Tensor) -> Tensor:
        """Return W times values (m, ...)."""
        return self.weight @ values if self.weight.ndim else self.weight * values


@dataclass(frozen=True)
class Posterior:
    """Samples of the posterior: charts and latents (s, d) in them, and the share of the steps that were accepted."""

    parts: tuple[Place, ...]
    accepted: float


@dataclass(frozen=True)
class Mode:
    """A mode of the posterior in a chart: latents (d,), a root R of H^-1 = R R^T there, and -log density.

    evidence: log of the chart's share of the posterior but for a constant, of the normal distribution N(mode, H^-1).
    """

    place: Place
    root: Tensor
    energy: Energy
    evidence: float


def posterior(
    charts: ImageCharts,
    likelihood: Likelihood,
    places: Sequence[Place],
    *,
    samples: int,
    thinning: int,
    seed: int,
    power: float = 1.0,
) -> Posterior:
    """Return samples of p(k, z | data) in the charts of places, under their weights and the normal prior of latents.

    Places are of different charts. Each leads to a mode; each chart is given samples in proportion to a power of its
    evidence, by Laplace's approximation at the mode.
    """
    modes = [_mode(charts, likelihood, place) for place in places]
    evidence = torch.tensor([mode.evidence for mode in modes], dtype=torch.float64)
    chances = torch.softmax(power * evidence, dim=0)
    parts, taken = [], 0.0
    for number, (mode, count) in enumerate(zip(modes, _shares(chances, samples), strict=True)):
        if count:
            latents, accepted = _chain(mode, count, thinning, seed + number)
            parts.append((mode.place[0], latents))
            taken += accepted * count / samples
    return Posterior(tuple(parts), taken)


def _shares(chances: Tensor, count: int) -> list[int]:
    """Return how many of `count` belong to each of some probabilities (k,); the largest remainders are rounded up."""
    asked = chances * count
    shares = asked.floor()
    short = count - int(shares.sum())
    shares[(asked - shares).argsort(descending=True, stable=True)[:short]] += 1
    return [int(share) for share in shares]


def _chain(mode: Mode, samples: int, thinning: int, seed: int) -> tuple[Tensor, float]:
    """Return latents (samples, d) of a chart's posterior, and the share of steps that were accepted.

    Steps are of the preconditioned Crank-Nicolson Langevin algorithm (Cotter, Roberts, Stuart and White 2013, Stat.
    Sci. 28, 424, equation 4.10) for w = H^1/2 (z - z*), H = J^T W^T W J + I at the mode z*: were the posterior normal,
    w would be N(0, I) and every step accepted, in any number of dimensions.
    """
    centre, root = mode.place[1], mode.root
    rng = torch.Generator().manual_seed(seed)

    def beyond_normal(w: Tensor) -> tuple[float, Tensor]:
        """Return what -log p of w is above |w|^2 / 2, and its gradient."""
        value, slope = mode.energy(centre + root @ w)
        return value - 0.5 * float(w @ w), root.T @ slope - w

    w, length, kept, taken = torch.zeros_like(centre), FIRST, [], 0
    here = beyond_normal(w)
    for step in range(BURN_IN + samples * thinning):
        noise = torch.randn(len(w), generator=rng, dtype=w.dtype)
        moved = ((2 - length) * w - 2 * length * here[1] + (8 * length) ** 0.5 * noise) / (2 + length)
        there = beyond_normal(moved)
        log_ratio = _forth(w, moved, here, length) - _forth(moved, w, there, length)
        chance = float(np.exp(min(0.0, log_ratio))) if np.isfinite(there[0]) else 0.0
        if float(torch.rand(1, generator=rng, dtype=w.dtype)) < chance:
            w, here = moved, there
            taken += step >= BURN_IN
        if step < BURN_IN:
            length = float(np.clip(length * np.exp(ADAPTED * (chance - TARGET)), 1e-4, 2.0))
        elif (step - BURN_IN) % thinning == thinning - 1:
            kept.append(centre + root @ w)
    return torch.stack(kept).detach(), taken / (samples * thinning)


def _forth(w: Tensor, moved: Tensor, here: tuple[float, Tensor], length: float) -> float:
    """Return rho(w, moved) of the cited paper, whose difference from rho(moved, w) decides on a step."""
    value, slope = here
    return float(value + 0.5 * (moved - w) @ slope + length / 4 * (w + moved) @ slope + length / 4 * slope @ slope)


def _energy(charts: ImageCharts, likelihood: Likelihood, place: Place) -> Energy:
    """Return -log p(z | data) and its gradient; the former is infinite beyond the edge of the chart of a place."""
    k, start = place
    edge = 1.01 * max(float(charts.reach[k]), float(start.norm()))

    def energy(z: Tensor) -> tuple[float, Tensor]:
        latents = z.detach().clone().requires_grad_()
        rest = likelihood.weighted(likelihood.model(charts.decode(k, latents[None])[0]) - likelihood.data)
        value = 0.5 * (rest**2).sum() + 0.5 * (latents**2).sum()
        (slope,) = torch.autograd.grad(value, latents)
        return (float("inf") if float(z.norm()) > edge else float(value.detach())), slope

    return energy


def _mode(charts: ImageCharts, likelihood: Likelihood, place: Place) -> Mode:
    """Return a mode of the posterior, by Gauss-Newton steps from a place."""
    k, z = place
    energy = _energy(charts, likelihood, place)
    value, slope = energy(z)
    for _ in range(ASCENTS):
        step = torch.linalg.solve(_precision(charts, likelihood, k, z), slope)
        before = value
        for part in PARTS:
            moved, there = z - part * step, energy(z - part * step)
            if there[0] < value - FALL:
                z, (value, slope) = moved, there
                break
        if value == before:
            break
    precision = _precision(charts, likelihood, k, z)
    evidence = float(charts.weights[k]) - value - 0.5 * float(torch.linalg.slogdet(precision)[1])
    return Mode((k, z), _root(precision), energy, evidence)


def intervals(
    charts: ImageCharts, found: Posterior, probability: float, seed: int, cut: Callable[[Tensor], Tensor]
) -> tuple[Array, Array, Array, Array]:
    """Return mean, deviation, and the limits (p,) of the interval of each pixel that holds this probability.

    What the charts leave out of unseen images is added to the samples as normal noise of each pixel. cut: what of an
    image (s, p) the model sees.
    """
    images = cut(torch.cat([charts.decode(k, latents) for k, latents in found.parts])).numpy()
    rng = np.random.default_rng(seed)
    whole = images + charts.rest.numpy() * rng.standard_normal(images.shape)
    low, high = np.quantile(whole, [(1 - probability) / 2, (1 + probability) / 2], axis=0)
    return images.mean(axis=0), whole.std(axis=0), low, high


@torch.no_grad()
def _precision(charts: ImageCharts, likelihood: Likelihood, k: int, z: Tensor) -> Tensor:
    """Return H = J^T W^T W J + I (d, d), with the derivatives J (m, d) of data by latents."""
    jacobian = likelihood.weighted(derivatives(charts, likelihood.pushed, k, z))
    return jacobian.T @ jacobian + torch.eye(len(z), dtype=z.dtype)


def _root(precision: Tensor) -> Tensor:
    """Return a matrix R with R R^T = H^-1."""
    values, vectors = torch.linalg.eigh(precision)
    return vectors / values.sqrt()  # type: ignore[no-any-return]
