"""Searchers: ask for a batch of latents, tell what became of them.

A searcher's state is what it was told, in order, and its seed: telling the same again gives the same next questions, so
a search that was killed goes on by being told its own record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from msvae.structures import Array
from msvae.vae.model import VAE

__all__ = ["GaussianProcessSearch", "RandomSearch", "Searcher", "descend"]

Distance = Callable[[dict[str, torch.Tensor]], torch.Tensor]
REMEMBERED = 60  # encoded structures that the Gaussian process starts from


class Searcher(Protocol):
    """What a campaign needs of a searcher."""

    def ask(self, n: int) -> Array:
        """Return n latents (n, d) to evaluate next."""

    def tell(self, latents: Array, distances: Array) -> None:
        """Learn the distances (n,) of evaluated latents (n, d) from the target; NaN where the solver failed."""


class RandomSearch:
    """Samples of the prior: the control that every search has to beat."""

    def __init__(self, dimensions: int, seed: int) -> None:
        self.dimensions = dimensions
        self.rng = np.random.default_rng(seed)

    def ask(self, n: int) -> Array:
        return self.rng.standard_normal((n, self.dimensions))

    def tell(self, latents: Array, distances: Array) -> None:
        """Learn nothing."""


class GaussianProcessSearch:
    """Half of a batch from scikit-optimize, half from descent through the head; both start from encoded structures.

    The Gaussian process (expected improvement, constant liar for batches) models log(1 + distance) over the box of the
    encoded data. Descent goes through the differentiable head from the most promising latents near encoded data.
    """

    def __init__(self, vae: VAE, distance: Distance, *, encoded: Array, known: Array, seed: int) -> None:
        """encoded: latents (n, d) of known structures. known: their distances (n,) from the target."""
        self.vae, self.distance, self.encoded = vae, distance, encoded
        self.rng = np.random.default_rng(seed)
        self.best = encoded[np.argsort(known)[:REMEMBERED]]
        self.optimiser = _optimiser(encoded, seed)
        self._remember(self.best, np.sort(known)[:REMEMBERED])

    def ask(self, n: int) -> Array:
        modelled = n // 2
        asked = np.array(self.optimiser.ask(n_points=modelled)) if modelled else np.zeros((0, self.encoded.shape[1]))
        starts = self._starts(512)
        found = descend(self.vae, self.distance, starts, anchor=self.encoded)
        return np.concatenate([found[self._spread_out(found, n - modelled)], asked])

    def tell(self, latents: Array, distances: Array) -> None:
        worst = np.nanmax(distances) if np.isfinite(distances).any() else 1e3
        self._remember(latents, np.where(np.isfinite(distances), distances, worst))
        self.best = np.concatenate([latents[np.isfinite(distances)], self.best])[:2 * REMEMBERED]

    def _remember(self, latents: Array, distances: Array) -> None:
        low, high = np.array(self.optimiser.space.bounds).T
        self.optimiser.tell(np.clip(latents, low, high).tolist(), np.log1p(distances).tolist())

    def _starts(self, n: int) -> Array:
        """Return latents near encoded structures and near the best that were found."""
        near = self.encoded[self.rng.integers(len(self.encoded), size=n // 2)]
        good = self.best[self.rng.integers(min(len(self.best), 20), size=n - n // 2)]
        return np.concatenate([near, good]) + 0.3 * self.rng.standard_normal((n, self.encoded.shape[1]))

    def _spread_out(self, found: Array, n: int) -> Array:
        """Return the indices of n good latents that are not the same one n times."""
        with torch.no_grad():
            order = np.argsort(self._predicted(found))
        pool = order[: max(8 * n, 16)]
        chosen = [int(pool[0])]
        while len(chosen) < n:
            gaps = np.linalg.norm(found[pool][:, None] - found[chosen][None], axis=2).min(axis=1)
            chosen.append(int(pool[np.argmax(gaps)]))
        return np.array(chosen)

    def _predicted(self, latents: Array) -> Array:
        return self.distance(head_means(self.vae, torch.as_tensor(latents, dtype=torch.float32))).numpy()


def _optimiser(encoded: Array, seed: int) -> Any:
    from skopt import Optimizer

    low, high = encoded.min(axis=0), encoded.max(axis=0)
    margin = 0.1 * (high - low) + 1e-3
    box = [(float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True)]
    return Optimizer(box, base_estimator="GP", n_initial_points=0, acq_func="EI", acq_optimizer="sampling",
                     random_state=seed % 2**32)


def head_means(vae: VAE, latents: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the heads' means (n, *shape) in the properties' units, differentiable in latents (n, d)."""
    return {q.name: vae.scale_of(q.name).inverse(vae.heads[q.name](latents).mean).reshape(-1, *q.sizes)
            for q in vae.blueprint.quantities}


def descend(vae: VAE, distance: Distance, starts: Array, *, anchor: Array, steps: int = 60, rate: float = 0.05) -> Array:
    """Return latents (n, d) after gradient descent of the predicted distance, kept near the encoded data.

    anchor: encoded latents (m, d), whose mean and spread say where the decoder has been trained.
    """
    centre = torch.as_tensor(anchor.mean(axis=0), dtype=torch.float32)
    width = torch.as_tensor(anchor.std(axis=0) + 1e-3, dtype=torch.float32)
    latents = torch.as_tensor(starts, dtype=torch.float32).requires_grad_()
    optimiser = torch.optim.Adam([latents], lr=rate)
    for _ in range(steps):
        outside = (((latents - centre) / width).square().mean(dim=1) - 1.5).clamp_min(0)
        loss = (distance(head_means(vae, latents)).log1p() + outside).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return latents.detach().numpy().astype(np.float64)
