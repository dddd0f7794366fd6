"""Fits charts to images: principal components, overlapping neighbourhoods, and a network for each of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from msvae import Array, DataError, seed_of
from msvae_inversion.manifold.charts import ImageCharts, Map, Shape

__all__ = ["fit_charts", "unseen"]

OVERLAP = 1.35  # images belong to each chart whose centre is at most so many times as far as the nearest one
BATCH, RATE = 64, 2e-3
NOISE = 0.02  # of latents in training, which keeps decoders smooth
KL = 1e-5  # weight of the latents' size, beside squared errors in units of the images' own scatter
HELD_BACK = 10  # one image in so many measures what charts leave out
EDGE = 1.05  # of the norm of the latents of a chart's images, at which it ends


def fit_charts(images: Array, shape: Shape, *, epochs: int, seed: int) -> ImageCharts:
    """Return charts of images (m, p); DataError if there are too few of them."""
    least = max(20 * shape.charts, shape.components + 1)
    if len(images) < least:
        raise DataError(
            f"charts: {len(images)} images are left to fit {shape.charts} charts of {shape.components} components to, "
            f"{least} are needed: add images, or lower charts.count or charts.components"
        )
    x = torch.as_tensor(np.array(images, dtype=np.float32))
    kept = torch.ones(len(x), dtype=torch.bool)
    kept[unseen(len(x))] = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "image charts"))
        charts = ImageCharts(shape)
        _embed(charts, x[kept])
        c = charts.components(x[kept])
        for k, own in enumerate(neighbourhoods(c, shape.charts, seed)):
            _start(charts, k, c[own])
            _train(charts, k, c[own], epochs)
            _settle(charts, k, c[own])
        charts.requires_grad_(False).eval()
        _weigh(charts, c)
        _measure(charts, x[~kept])
    charts.double()
    charts.basis.copy_(_orthonormal(charts.basis.T).T)
    charts.turn.copy_(_orthonormal(charts.turn))
    return charts


def unseen(count: int) -> Array:
    """Return the indices of those of `count` images that no chart is fitted to, which measure what charts leave out."""
    return np.arange(HELD_BACK - 1, count, HELD_BACK)


def _orthonormal(columns: Tensor) -> Tensor:
    """Return columns that are orthonormal but for rounding in single precision, to the last digit."""
    q, r = torch.linalg.qr(columns)
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]  # type: ignore[no-any-return]


def _embed(charts: ImageCharts, x: Tensor) -> None:
    """Set mean and principal components from images (m, p)."""
    charts.mean.copy_(x.mean(dim=0))
    n = charts.shape.components
    rest = x - charts.mean
    if min(rest.shape) <= 4 * n:
        axes = torch.linalg.svd(rest, full_matrices=False)[2][:n]
    else:
        axes = torch.svd_lowrank(rest, q=min(n + 20, *rest.shape), niter=4)[2].T[:n]
    charts.basis.copy_(axes)


def neighbourhoods(components: Tensor, count: int, seed: int) -> list[Tensor]:
    """Return for each of `count` charts the indices of its images: a cell of k-means, and what is near its border."""
    from sklearn.cluster import KMeans

    if count == 1:
        return [torch.arange(len(components))]
    points = components.double().numpy()
    found = KMeans(count, n_init=10, random_state=seed_of(seed, "cells") % (1 << 31)).fit(points)
    far = torch.as_tensor(found.transform(points))
    near = far <= OVERLAP * far.min(dim=1, keepdim=True).values
    return [torch.nonzero(near[:, k])[:, 0] for k in range(count)]


@torch.no_grad()
def _start(charts: ImageCharts, k: int, c: Tensor) -> None:
    """Initialise chart k as the principal components (m, n) of its images."""
    charts.centre[k] = c.mean(dim=0)
    rest = c - charts.centre[k]
    values, vectors = torch.linalg.eigh(rest.T @ rest / len(rest))
    charts.turn[k] = vectors.flip(1)
    charts.size[k] = values[-charts.shape.dimensions :].mean().clamp_min(1e-20).sqrt()


def _train(charts: ImageCharts, k: int, c: Tensor, epochs: int) -> None:
    """Minimise the squared error of noisy latents of chart k, by Adam with a cosine schedule."""
    if not epochs:
        return
    network = charts.maps[k]
    assert isinstance(network, Map)
    along, across = charts.split(k, c)
    steps = epochs * math.ceil(len(c) / BATCH)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    scatter = float((along**2).sum() + (across**2).sum()) / len(c)
    order = torch.randperm(len(c))
    for step in range(steps):
        if (step * BATCH) % len(c) < BATCH:
            order = torch.randperm(len(c))
        chosen = order[(step * BATCH + torch.arange(BATCH)) % len(c)]
        z = network.encode(along[chosen], across[chosen])
        made = network.decode(z + NOISE * torch.randn_like(z))
        error = ((made[0] - along[chosen]) ** 2).sum() + ((made[1] - across[chosen]) ** 2).sum()
        loss = (error / scatter + KL * (z**2).sum()) / len(chosen)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def _settle(charts: ImageCharts, k: int, c: Tensor) -> None:
    """Make the latents of chart k's images standard normal, and set where it ends and how far images are from it."""
    raw = charts.encoded(k, c)
    charts.shift[k] = raw.mean(dim=0)
    rest = raw - charts.shift[k]
    covariance = rest.T @ rest / len(rest) + 1e-8 * torch.eye(rest.shape[1])
    charts.spread[k] = torch.linalg.cholesky(covariance).T
    z = charts.encoded(k, c)
    charts.reach[k] = EDGE * z.norm(dim=1).quantile(0.995)
    across = charts.shape.components - charts.shape.dimensions
    far = ((c - charts.decoded(k, charts.inside(k, z))) ** 2).sum(dim=1)
    charts.error[k] = (far.mean() / across).sqrt().clamp_min(1e-4 * charts.size[k])


@torch.no_grad()
def _weigh(charts: ImageCharts, c: Tensor) -> None:
    """Set the weights of the mixture from the responsibilities of all images."""
    charts.weights.zero_()
    if charts.shape.charts == 1:
        return
    for _ in range(5):
        chance = torch.softmax(charts.log_joint(c), dim=1).mean(dim=0)
        charts.weights.copy_(chance.clamp_min(1e-12).log())


@torch.no_grad()
def _measure(charts: ImageCharts, x: Tensor) -> None:
    """Set how far unseen images (m, p) are from the charts, pixel by pixel."""
    best = torch.zeros(len(x), dtype=torch.long)
    if charts.shape.charts > 1:
        best = charts.log_joint(charts.components(x)).argmax(dim=1)
    squares = torch.zeros_like(charts.mean)
    for k in range(charts.shape.charts):
        own = x[best == k]
        again = charts.decode(k, charts.inside(k, charts.encode(k, own)))
        squares += ((own - again) ** 2).sum(dim=0)
    charts.rest.copy_((squares / max(len(x), 1)).sqrt())
