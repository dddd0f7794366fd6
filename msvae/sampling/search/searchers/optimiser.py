"""Search by scikit-optimize's Gaussian process, and by descent through the head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from msvae.sampling.search.descent import Distance, descend, head_means
from msvae.structures import Array
from msvae.vae.model import VAE

__all__ = ["GaussianProcessSearch"]

REMEMBERED = 60  # encoded structures that the Gaussian process starts from


class GaussianProcessSearch:
    """A quarter of a batch from scikit-optimize, the rest from descent through the head; both start from encoded data.

    The Gaussian process (expected improvement, constant liar for batches) models log(1 + distance) over the box of the
    encoded data. Descent goes through the differentiable head: from latents near encoded structures, and from the best
    verified designs, where the head's prediction is corrected by its error at that design, as in a quasi-Newton method.
    """

    price = 1

    def __init__(self, vae: VAE, distance: Distance, *, encoded: Array, known: Array, seed: int) -> None:
        """encoded: latents (n, d) of known structures. known: their distances (n,) from the target."""
        self.vae, self.distance, self.encoded = vae, distance, encoded
        self.rng = np.random.default_rng(seed)
        order = np.argsort(known)[:REMEMBERED]
        self.near = encoded[order]
        self.found = np.zeros((0, encoded.shape[1]))
        self.properties: dict[str, Array] = {}
        self.distances = np.zeros(0)
        self.optimiser = _optimiser(encoded, seed)
        self._model(self.near, known[order])

    def ask(self, n: int) -> Array:
        modelled = n // 4
        asked = np.array(self.optimiser.ask(n_points=modelled)) if modelled else np.zeros((0, self.encoded.shape[1]))
        refined = self._refined((n - modelled + 1) // 2)
        fresh = self._fresh(n - modelled - len(refined))
        return np.concatenate([refined, fresh, asked])

    def tell(self, latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        good = np.isfinite(distances)
        worst = float(distances[good].max()) if good.any() else 1e3
        self._model(latents, np.where(good, distances, worst))
        self.found = np.concatenate([self.found, latents[good]])
        self.distances = np.concatenate([self.distances, distances[good]])
        self.properties = {k: np.concatenate([self.properties.get(k, v[:0]), v[good]]) for k, v in properties.items()}

    def _model(self, latents: Array, distances: Array) -> None:
        low, high = np.array(self.optimiser.space.bounds).T
        self.optimiser.tell(np.clip(latents, low, high).tolist(), np.log1p(distances).tolist())

    def _refined(self, n: int) -> Array:
        """Return at most n latents: short descents from the best designs, corrected for the head's error there."""
        best = np.argsort(self.distances)[:n]
        if len(best) == 0:
            return self.encoded[:0]
        starts = self.found[best]
        with torch.no_grad():
            said = head_means(self.vae, torch.as_tensor(starts, dtype=torch.float32))
        shift = {name: torch.as_tensor(self.properties[name][best]) - mean for name, mean in said.items()}
        jitter = 0.05 * self.rng.standard_normal(starts.shape)
        return descend(self.vae, self.distance, starts + jitter, anchor=self.encoded, shift=shift, tether=starts)

    def _fresh(self, n: int) -> Array:
        """Return n distinct latents: descents that start near encoded structures."""
        if n == 0:
            return self.encoded[:0]
        size = self.encoded.shape[1]
        anywhere = self.encoded[self.rng.integers(len(self.encoded), size=128)]
        starts = np.concatenate([anywhere, self.near]) + 0.2 * self.rng.standard_normal((128 + len(self.near), size))
        found = descend(self.vae, self.distance, starts, anchor=self.encoded)
        with torch.no_grad():
            predicted = self.distance(head_means(self.vae, torch.as_tensor(found, dtype=torch.float32))).numpy()
        pool = found[np.argsort(predicted)[: max(8 * n, 16)]]
        chosen = [0]
        while len(chosen) < n:
            chosen.append(int(np.linalg.norm(pool[:, None] - pool[chosen][None], axis=2).min(axis=1).argmax()))
        return pool[chosen]


def _optimiser(encoded: Array, seed: int) -> Any:
    from skopt import Optimizer

    low, high = encoded.min(axis=0), encoded.max(axis=0)
    margin = 0.1 * (high - low) + 1e-3
    box = [(float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True)]
    return Optimizer(
        box, base_estimator="GP", n_initial_points=0, acq_func="EI", acq_optimizer="sampling", random_state=seed % 2**32
    )
