"""Gradient descent of the predicted distance through the heads of a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from msvae.seeds import seed_of
from msvae.structures import Array
from msvae.vae.model import VAE

__all__ = ["Distance", "descend", "descents", "head_means"]

Distance = Callable[[dict[str, torch.Tensor]], torch.Tensor]


def head_means(vae: VAE, latents: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the heads' means (n, *shape) in the properties' units, differentiable in latents (n, d)."""
    return {
        q.name: vae.scale_of(q.name).inverse(vae.heads[q.name](latents).mean).reshape(-1, *q.sizes)
        for q in vae.blueprint.quantities
    }


def descend(
    vae: VAE,
    distance: Distance,
    starts: Array,
    *,
    anchor: Array,
    shift: dict[str, torch.Tensor] | None = None,
    tether: Array | None = None,
    steps: int = 60,
    rate: float = 0.05,
) -> Array:
    """Return latents (n, d) after gradient descent of the predicted distance, kept near the encoded data.

    anchor: encoded latents (m, d), whose mean and spread mark the region in which the decoder was trained.
    shift: added to the head's means (n, *shape). tether: latents (n, d) near which the result has to stay.
    """
    centre = torch.as_tensor(anchor.mean(axis=0), dtype=torch.float32)
    width = torch.as_tensor(anchor.std(axis=0) + 1e-3, dtype=torch.float32)
    home = None if tether is None else torch.as_tensor(tether, dtype=torch.float32)
    latents = torch.as_tensor(starts, dtype=torch.float32).requires_grad_()
    optimiser = torch.optim.Adam([latents], lr=rate)
    for _ in range(steps):
        means = head_means(vae, latents)
        means = means if shift is None else {name: mean + shift[name] for name, mean in means.items()}
        loss = (distance(means).log1p() + (((latents - centre) / width).square().mean(dim=1) - 1.5).clamp_min(0)).sum()
        loss = loss if home is None else loss + 0.5 * ((latents - home) / width).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return latents.detach().numpy().astype(np.float64)


def descents(vae: VAE, distance: Distance, encoded: Array, n: int, seed: int) -> Array:
    """Return the best n latents (n, d) of descents through the heads that start near encoded structures."""
    rng = np.random.default_rng(seed_of(seed, "descents"))
    starts = encoded[rng.integers(len(encoded), size=2 * n)]
    found = descend(
        vae, distance, starts + 0.1 * rng.standard_normal(starts.shape), anchor=encoded, steps=20, rate=0.15
    )
    with torch.no_grad():
        predicted = distance(head_means(vae, torch.as_tensor(found, dtype=torch.float32))).numpy()
    return found[np.argsort(predicted)[:n]]
