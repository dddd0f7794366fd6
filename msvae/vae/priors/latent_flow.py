"""An invertible map from latents to axes, the first of which carry one property each and the others none.

    s = T(z),  s_p ~ N(y_p, deviation^2) for property p,  the rest ~ N(0, 1)

trained after the VAE by maximum likelihood (Zhang, Carvalho and Freitas 2023, arXiv:2305.01713; Esser et al. 2020,
arXiv:2004.13166). The map allows one property to be changed with the others held fixed, and log |dT/dz| gives the
density of latents.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msvae.errors import DataError
from msvae.seeds import seed_of
from msvae.structures import Array
from msvae.vae.blueprint import LEAST_FOR_AXES
from msvae.vae.scaling import Standardiser

__all__ = ["LatentFlow", "fit_latent_flow"]

TRANSFORMS, HIDDEN, BINS = 4, (64, 64), 8
EPOCHS, BATCH, RATE, PATIENCE = 200, 256, 2e-3, 20


class LatentFlow(nn.Module):
    """A linear map, then coupling splines (Durkan et al. 2019, arXiv:1906.04032); double precision, both ways exact.

    properties: names of the first axes. deviation: standard deviation of a property's axis around the standardised
    property. The linear map whitens the latents and rotates the directions along which properties increase onto the
    first axes.
    """

    centre: Tensor
    matrix: Tensor

    def __init__(self, latents: int, properties: tuple[str, ...], deviation: float = 0.2) -> None:
        super().__init__()
        import zuko

        if not 0 < len(properties) <= latents:
            raise DataError(
                f"between 1 and {latents} properties can have an axis of their own, found {len(properties)}"
            )
        self.latents, self.properties, self.deviation = latents, properties, deviation
        self.targets = Standardiser(len(properties))
        self.register_buffer("centre", torch.zeros(latents, dtype=torch.float64))
        self.register_buffer("matrix", torch.eye(latents, dtype=torch.float64))
        self.flow: Any = zuko.flows.NSF(
            latents, transforms=TRANSFORMS, hidden_features=HIDDEN, bins=BINS, passes=2, randperm=True
        ).double()

    def axes(self, latents: Array) -> Array:
        """Return the axes (n, d) of latents (n, d); the first ones are the standardised properties."""
        with torch.no_grad():
            return np.asarray(self._map(torch.as_tensor(latents))[0])

    def latents_of(self, axes: Array) -> Array:
        """Return the latents (n, d) of axes (n, d)."""
        with torch.no_grad():
            inner = self.flow().transform.inv(torch.as_tensor(axes, dtype=torch.float64))
            return np.asarray(torch.linalg.solve(self.matrix.T, inner.T).T + self.centre)

    def log_prob(self, latents: Array) -> Array:
        """Return the log-density (n,) of latents (n, d) in nats for unknown properties: all axes are N(0, 1)."""
        with torch.no_grad():
            s, slope = self._map(torch.as_tensor(latents))
            return np.asarray((-0.5 * (s**2 + math.log(2 * math.pi))).sum(dim=1) + slope)

    def standardised(self, properties: Array) -> Array:
        """Return the positions on their axes of properties (n, k) given in their units."""
        return np.asarray((torch.as_tensor(properties).double() - self.targets.mean) / self.targets.scale)

    def cost(self, latents: Tensor, targets: Tensor) -> Tensor:
        """Return the mean of -log p(z, y) up to a constant, for standardised properties (n, k)."""
        s, slope = self._map(latents)
        k = targets.shape[1]
        supervised = (s[:, :k] - targets) ** 2 / (2 * self.deviation**2)
        return (supervised.sum(dim=1) + 0.5 * (s[:, k:] ** 2).sum(dim=1) - slope).mean()

    def _map(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        s, slope = self.flow().transform.call_and_ladj((latents.double() - self.centre) @ self.matrix)
        return s, slope + torch.linalg.slogdet(self.matrix)[1]

    @torch.no_grad()
    def start(self, latents: Tensor, targets: Tensor) -> None:
        """Initialise the linear map from latents (n, d) and standardised properties (n, k)."""
        self.centre.copy_(latents.mean(dim=0))
        rest = latents - self.centre
        values, vectors = torch.linalg.eigh(rest.T @ rest / len(rest))
        whiten = vectors / values.clamp_min(1e-12 * values.max()).sqrt()
        rise = torch.linalg.lstsq(rest @ whiten, targets, driver="gelsd").solution
        turn, upper = torch.linalg.qr(torch.cat([rise, torch.eye(self.latents, dtype=rise.dtype)], dim=1))
        signs = torch.where(upper.diagonal() < 0, -1.0, 1.0)
        self.matrix.copy_(whiten @ (turn * signs))


def fit_latent_flow(
    latents: Array, properties: Array, names: tuple[str, ...], *, seed: int, deviation: float = 0.2
) -> LatentFlow:
    """Fit the map to latents (n, d) and properties (n, k), with early stopping on a held-out tenth."""
    few = len(latents) < LEAST_FOR_AXES
    if few or properties.shape != (len(latents), len(names)) or not np.isfinite(properties).all():
        raise DataError(
            f"a latent flow needs at least {LEAST_FOR_AXES} latents with all {len(names)} properties known, found "
            f"{len(latents)} latents and properties {properties.shape}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "latent flow"))
        model = LatentFlow(latents.shape[1], names, deviation)
        model.targets.fit(properties)
        z, y = torch.as_tensor(latents).double(), torch.as_tensor(model.standardised(properties))
        model.start(z, y)
        _train(model, z, y)
    return model.eval()


def _train(model: LatentFlow, z: Tensor, y: Tensor) -> None:
    order = torch.randperm(len(z))
    outside, inside = order[: len(z) // 10], order[len(z) // 10 :]
    optimiser = torch.optim.Adam(model.flow.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    best, kept, waited = math.inf, model.state_dict(), 0
    for _ in range(EPOCHS):
        for chosen in inside[torch.randperm(len(inside))].split(BATCH):
            optimiser.zero_grad()
            model.cost(z[chosen], y[chosen]).backward()
            torch.nn.utils.clip_grad_norm_(model.flow.parameters(), 5.0)
            optimiser.step()
        schedule.step()
        with torch.no_grad():
            now = float(model.cost(z[outside], y[outside]))
        waited = 0 if now < best else waited + 1
        if now < best:
            best, kept = now, {k: v.clone() for k, v in model.state_dict().items()}
        if waited >= PATIENCE:
            break
    model.load_state_dict(kept)
