"""Plain candidates: with a fast solver, evaluating many latents costs less than selecting a few.

Half of them are samples of the prior. The others are moves from the known designs and structures nearest the target.
Most of these moves are selected by a linear model of the targets, fitted to known values near the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from msvae.sampling.search.problem import AskTell, Distance, Known
from msvae.sampling.search.searchers.composite import STEPS
from msvae.sampling.search.searchers.targeted import properties_of, slopes_of
from msvae.seeds import seed_of
from msvae.structures import Array
from msvae.study.numbers import Component
from msvae.vae.blueprint import component_values
from msvae.vae.model import VAE

__all__ = ["PlainSearch"]

LEADERS = 10  # designs that moves start from
CHOICE = 8  # moves of which the linear model chooses one
FITTED = 12  # points for every coefficient of the linear model


class PlainSearch:
    """A searcher that adds plain candidates to those of another one.

    The other searcher is created at the second question, because creating it takes time too.
    """

    price = 1

    def __init__(
        self,
        vae: VAE,
        targets: Sequence[Component],
        distance: Distance,
        *,
        other: Callable[[], AskTell],
        plain: int,
        seed: int,
        known: Known | None = None,
    ) -> None:
        """targets: the numbers that are modelled. distance: of properties. plain: plain candidates per question."""
        self.vae, self.targets, self.distance, self.plain, self.seed = vae, tuple(targets), distance, plain, seed
        self.make, self.other, self.asked = other, None, 0
        self.latents, self.values = np.zeros((0, vae.latents)), np.zeros((0, len(self.targets)))
        self.distances, self.found = np.zeros(0), np.zeros(0, dtype=bool)
        self.answers: list[tuple[Array, Array, Mapping[str, Array]]] = []
        if known is not None:
            self._learn(known.latents, distance(known.properties), known.properties, found=False)

    other: AskTell | None

    def ask(self, n: int) -> Array:
        """Return latents (n + plain, d) of the other searcher and plain ones; for the first question all are plain."""
        self.asked += 1
        rng = np.random.default_rng(seed_of(self.seed, "plain", self.asked))
        if self.asked == 1:
            return self._candidates(n + self.plain, rng)
        if self.other is None:
            self.other = self.make()
            for answer in self.answers:
                self.other.tell(*answer)
            self.answers.clear()
        return np.concatenate([self.other.ask(n), self._candidates(self.plain, rng)])

    def tell(self, latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        """Learn the properties (n, *shape) of latents (n, d), NaN where the solver failed."""
        self._learn(latents, distances, properties, found=True)
        if self.other is None:
            self.answers.append((latents, distances, properties))
        else:
            self.other.tell(latents, distances, properties)

    def _learn(self, latents: Array, distances: Array, properties: Mapping[str, Array], *, found: bool) -> None:
        values = np.stack([component_values(properties, t) for t in self.targets], axis=1)
        self.latents, self.values = np.concatenate([self.latents, latents]), np.concatenate([self.values, values])
        self.distances = np.concatenate([self.distances, distances])
        self.found = np.concatenate([self.found, np.full(len(latents), found)])

    def _candidates(self, n: int, rng: np.random.Generator) -> Array:
        """Return n latents (n, d): those of the nearest structures not yet evaluated, moves, and samples."""
        fresh = self.vae.sample_latents(n, seed_of(self.seed, "samples", self.asked))
        order = np.argsort(np.where(np.isfinite(self.distances), self.distances, np.inf), kind="stable")
        leaders = [k for k in order[:LEADERS] if np.isfinite(self.distances[k])]
        if not leaders or n < 2:
            return fresh
        themselves = [k for k in leaders if not self.found[k]] if self.asked == 1 else []
        moved = self._moved(leaders, max(0, n // 2 - len(themselves)), rng)
        chosen = np.concatenate([self.latents[themselves], moved, fresh])
        return np.asarray(chosen[:n])

    def _moved(self, leaders: list[int], n: int, rng: np.random.Generator) -> Array:
        """Return n latents (n, d) moved from leaders by steps that leave the prior invariant."""
        size = n * CHOICE
        start = self.latents[leaders][rng.integers(len(leaders), size=size)]
        step = rng.choice(STEPS, size=(size, 1))
        fresh, centre = self.vae.sample_latents(size, seed_of(self.seed, "moves", self.asked)), self._centre
        found = centre + np.sqrt(1 - step**2) * (start - centre) + step * (fresh - centre)
        expected = self._expected(found)
        if expected is None:
            return np.asarray(found[:n])
        by_chance = n // 4
        best = np.argsort(expected[by_chance:], kind="stable")[: n - by_chance] + by_chance
        return np.asarray(found[np.concatenate([np.arange(by_chance), best])])

    @property
    def _centre(self) -> Array:
        return np.asarray(self.vae.sample_latents(256, seed_of(self.seed, "centre")).mean(axis=0))

    def _expected(self, latents: Array) -> Array | None:
        """Return distances (n,) predicted by a linear model of the nearest known values; None if too few are known."""
        known = np.flatnonzero(np.isfinite(self.values).all(axis=1) & np.isfinite(self.distances))
        size = self.latents.shape[1] + 1
        if len(known) < 2 * size:
            return None
        rows = known[np.argsort(self.distances[known], kind="stable")[: FITTED * size]]
        points, values = self.latents[rows], self.values[rows]
        centre, middle = points.mean(axis=0), values.mean(axis=0)
        expected = middle + (latents - centre) @ slopes_of(points, values)
        return np.asarray(self.distance(properties_of(self.targets, expected)))
