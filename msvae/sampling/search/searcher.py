"""Searchers: ask for a batch of latents, tell what became of them.

A searcher's state is what it was told, in order, and its seed: telling the same again gives the same next questions, so
a search that was killed goes on by being told its own record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from msvae.seeds import seed_of
from msvae.structures import Array
from msvae.vae.model import VAE

__all__ = ["GaussianProcessSearch", "RandomSearch", "Searcher", "descend", "descents"]

Distance = Callable[[dict[str, torch.Tensor]], torch.Tensor]
REMEMBERED = 60  # encoded structures that the Gaussian process starts from


class Searcher(Protocol):
    """What a campaign needs of a searcher. price: solver calls that a question costs, its answer included."""

    @property
    def price(self) -> int: ...

    def ask(self, n: int) -> Array:
        """Return n latents (n, d) to evaluate next."""

    def tell(self, latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        """Learn the properties of evaluated latents (n, d), and distances (n,) from the target; NaN for failures."""


class RandomSearch:
    """Samples of the fitted prior: the control that every search has to beat."""

    price = 1

    def __init__(self, vae: VAE, seed: int) -> None:
        self.vae, self.seed, self.asked = vae, seed, 0

    def ask(self, n: int) -> Array:
        self.asked += 1
        return self.vae.sample_latents(n, seed_of(self.seed, "ask", self.asked))

    def tell(self, latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        """Learn nothing."""


class GaussianProcessSearch:
    """A quarter of a batch from scikit-optimize, the rest from descent through the head; both start from encoded data.

    The Gaussian process (expected improvement, constant liar for batches) models log(1 + distance) over the box of the
    encoded data. Descent goes through the differentiable head: from latents near encoded structures, and from the best
    verified designs, where the head's prediction is shifted by its error there, as a quasi-Newton method would.
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
        """Return at most n latents: short descents from the best designs, with the head's error there removed."""
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
        """Return n latents that differ from each other: descents from near encoded structures."""
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

    anchor: encoded latents (m, d), whose mean and spread say where the decoder has been trained.
    shift: what is added to the head's means (n, *shape). tether: latents (n, d) that are not to be left far behind.
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
    """Return n latents (n, d): descents through the heads from near encoded structures, those that come nearest."""
    rng = np.random.default_rng(seed_of(seed, "descents"))
    starts = encoded[rng.integers(len(encoded), size=2 * n)]
    found = descend(
        vae, distance, starts + 0.1 * rng.standard_normal(starts.shape), anchor=encoded, steps=20, rate=0.15
    )
    with torch.no_grad():
        predicted = distance(head_means(vae, torch.as_tensor(found, dtype=torch.float32))).numpy()
    return found[np.argsort(predicted)[:n]]
