"""Samples of the posterior on a chart, by Langevin steps, and intervals of each pixel from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from msvae import Array
from msvae_inversion.manifold.charts import ImageCharts
from msvae_inversion.manifold.descent import Objective, derivatives

__all__ = ["Posterior", "intervals", "posterior"]

BURN_IN, TARGET, ADAPTED = 50, 0.57, 0.2  # steps, the acceptance of an optimal step, and how fast it is approached
FIRST = 0.5  # length of the first step


@dataclass(frozen=True)
class Posterior:
    """Latents (s, d) of samples in chart `chart`, and the share of the steps that were accepted."""

    chart: int
    latents: Tensor
    accepted: float


def posterior(
    charts: ImageCharts,
    model: Objective,
    data: tuple[Tensor, float],
    place: tuple[int, Tensor],
    *,
    samples: int,
    thinning: int,
    seed: int,
) -> Posterior:
    """Return samples of p(z | data) in the chart of a place, under the standard normal prior of its latents.

    model: of an image (p,) to data (m,). data: (m,), and the deviation of their noise. Steps are those of the
    Metropolis-adjusted Langevin algorithm (Roberts and Tweedie 1996, Bernoulli 2, 341) with the metric of the data and
    of the prior at the place, H = J^T J / noise^2 + I, whose proposals are z - t/2 H^-1 grad + sqrt(t) H^-1/2 xi.
    """
    k, z = place
    edge = 1.01 * max(float(charts.reach[k]), float(z.norm()))
    rng = torch.Generator().manual_seed(seed)
    root = _root(_precision(charts, model, data[1], k, z))  # H^-1 = root root^T

    def energy(w: Tensor) -> tuple[float, Tensor]:
        latents = (z + root @ w).requires_grad_()
        rest = model(charts.decode(k, latents[None])[0]) - data[0]
        value = 0.5 * (rest**2).sum() / data[1] ** 2 + 0.5 * (latents**2).sum()
        (slope,) = torch.autograd.grad(value, latents)
        outside = float(latents.detach().norm()) > edge
        return (float("inf") if outside else float(value.detach())), root.T @ slope

    w, length, kept, taken = torch.zeros_like(z), FIRST, [], 0
    value, slope = energy(w)
    for step in range(BURN_IN + samples * thinning):
        noise = torch.randn(len(z), generator=rng, dtype=z.dtype)
        moved = w - 0.5 * length * slope + length**0.5 * noise
        there, slope_there = energy(moved)
        back = (w - moved + 0.5 * length * slope_there) / length**0.5
        log_ratio = value - there + 0.5 * float((noise**2).sum() - (back**2).sum())
        chance = float(np.exp(min(0.0, log_ratio))) if np.isfinite(there) else 0.0
        if float(torch.rand(1, generator=rng, dtype=z.dtype)) < chance:
            w, value, slope = moved, there, slope_there
            taken += step >= BURN_IN
        if step < BURN_IN:
            length = float(np.clip(length * np.exp(ADAPTED * (chance - TARGET)), 1e-4, 2.0))
        elif (step - BURN_IN) % thinning == thinning - 1:
            kept.append(z + root @ w)
    return Posterior(k, torch.stack(kept).detach(), taken / (samples * thinning))


def intervals(
    charts: ImageCharts, found: Posterior, probability: float, seed: int
) -> tuple[Array, Array, Array, Array]:
    """Return mean, deviation, and the limits (p,) of the interval of each pixel that holds this probability.

    What the charts leave out of unseen images is added to the samples as normal noise of each pixel.
    """
    images = charts.decode(found.chart, found.latents).numpy()
    rng = np.random.default_rng(seed)
    whole = images + charts.rest.numpy() * rng.standard_normal(images.shape)
    low, high = np.quantile(whole, [(1 - probability) / 2, (1 + probability) / 2], axis=0)
    return images.mean(axis=0), whole.std(axis=0), low, high


@torch.no_grad()
def _precision(charts: ImageCharts, model: Objective, noise: float, k: int, z: Tensor) -> Tensor:
    """Return H = J^T J / noise^2 + I (d, d), with the derivatives J (m, d) of data by latents."""
    jacobian = derivatives(charts, model, k, z)
    return jacobian.T @ jacobian / noise**2 + torch.eye(len(z), dtype=z.dtype)


def _root(precision: Tensor) -> Tensor:
    """Return a matrix R with R R^T = H^-1."""
    values, vectors = torch.linalg.eigh(precision)
    return vectors / values.sqrt()  # type: ignore[no-any-return]
