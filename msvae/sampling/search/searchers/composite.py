"""Composite search: a Gaussian process for every targeted number, the objective composed afterwards.

Model inputs are latents, and descriptors and critical distances of decoded structures (Moss et al. 2025,
arXiv:2507.03910). If there is a head, its residuals are modelled. The acquisition is the expected improvement of the
composed distance over samples of the models (Astudillo and Frazier 2019, ICML, on composite functions). Candidates stay
where the decoder has been trained: samples of the fitted prior, moves from the best designs that leave the prior
invariant, and candidates from the caller, such as descents through a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.spatial.distance import cdist

from msvae.errors import TargetError
from msvae.sampling.search.effort import Effort
from msvae.sampling.search.problem import Allowed, Distance, Known
from msvae.sampling.search.searchers.coordinates import Coordinates, GaussianProcesses, Groupings, features_of
from msvae.sampling.search.searchers.screening import chance_of_answer, decoded
from msvae.sampling.search.searchers.targeted import properties_of, slopes_of
from msvae.seeds import seed_of
from msvae.structures import Array
from msvae.study.numbers import Component
from msvae.vae.blueprint import component_values
from msvae.vae.model import VAE

__all__ = ["STEPS", "CompositeSearch"]

FIRST, FEWEST = 16, 8  # latents that are drawn before anything is modelled; at least so many with a result, and moves
POOL, MOVES, LEADERS = 400, 120, 6  # candidates from the prior, around the best designs, and how many of these
STEPS = (0.05, 0.1, 0.2, 0.35, 0.6)  # of a move, against the spread of the prior
WIDE = 30  # largest over least value of a number that is modelled by its logarithm
MOST = 200  # points that a model knows
RELIABLE = 0.8  # of the best chance of an answer, below which none is asked for
RENEWED = 20  # parts of the designs, of which one more is found before kernels are fitted anew

Candidates = Callable[[int, int], Array]
Expected = Callable[[Array], Mapping[str, Array]]


class CompositeSearch:
    """The searcher that the module describes. Its state is the sequence of results it was told."""

    price = 1

    def __init__(
        self,
        vae: VAE,
        targets: Sequence[Component],
        distance: Distance,
        *,
        seed: int,
        known: Known | None = None,
        expected: Expected | None = None,
        more: Candidates | None = None,
        allowed: Allowed | None = None,
        effort: Effort | None = None,
    ) -> None:
        """targets: the numbers that are modelled. distance: of properties; it ignores all other numbers.

        expected: a head's predictions of the properties of latents. more: returns further candidates, given their
        number and the index of the question. allowed: which (n,) of latents and decoded structures may be proposed.
        effort: the acquisition effort per question.
        """
        self.vae, self.targets, self.distance, self.seed = vae, tuple(targets), distance, seed
        self.expected, self.more, self.allowed, self.asked = expected, more, allowed, 0
        self.room = (effort or Effort()).candidates(vae.blueprint.specification)
        self.drawn = vae.sample_latents(POOL, seed_of(seed, "pool"))
        self.pool, self.pool_features = np.zeros((0, vae.latents)), np.zeros((0, 0))
        self.models: GaussianProcesses | None = None
        self.renewed = 0  # designs that were known when kernels were fitted last
        self._fill(FIRST)
        if len(self.pool) < FIRST:
            raise TargetError(
                f"only {len(self.pool)} of {POOL} samples of the model pass the guards and constraints of [design]: "
                "loosen the constraints, or train the model on structures that meet them"
            )
        self.latents, self.values = np.zeros((0, vae.latents)), np.zeros((0, len(self.targets)))
        self.features = np.zeros((0, self.pool_features.shape[1]))
        self.distances, self.found = np.zeros(0), np.zeros(0, dtype=bool)
        self.pending = np.zeros((0, vae.latents))
        if known is not None:
            self._learn(known.latents, known.properties, found=False)
        self.known = known

    def tell(self, latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        """Learn from the results of latents (n, d): properties (n, *shape), NaN where the solver failed."""
        gone = {z.tobytes() for z in np.asarray(latents, dtype=np.float64)}
        self.pending = self.pending[[z.tobytes() not in gone for z in self.pending]]
        self._learn(latents, properties, found=True)

    def aim(self, distance: Distance) -> None:
        """Use another distance from now on."""
        self.distance = distance
        self.distances = distance(properties_of(self.targets, self.values))

    def ask(self, n: int) -> Array:
        """Return n latents (n, d) to evaluate next, taking pending evaluations into account."""
        self.asked += 1
        rng = np.random.default_rng(seed_of(self.seed, "ask", self.asked))
        known = np.asarray(np.isfinite(self.values).all(axis=1))
        if known.sum() < (FIRST if self.found.sum() < FIRST else FEWEST):
            chosen = self._unmodelled(n)
        else:
            chosen = self._improving(n, known, rng)
        self.pending = np.concatenate([self.pending, chosen])
        return chosen

    def _fill(self, least: int) -> None:
        """Add samples of the prior to the pool up to a size or until all are drawn; at least one question's share."""
        share, begun = max(self.room // 2, FEWEST), False
        while len(self.drawn) and (not begun or len(self.pool) < least):
            drawn, self.drawn, begun = self.drawn[:share], self.drawn[share:], True
            latents, features, self.groupings = self._allowed(drawn)
            before = self.pool_features if len(self.pool) else features[:0]
            self.pool, self.pool_features = np.concatenate([self.pool, latents]), np.concatenate([before, features])
            self.models = None
        if len(self.pool):
            self.coordinates = Coordinates.of(self.pool_features, self.pool, self.groupings)

    def _learn(self, latents: Array, properties: Mapping[str, Array], *, found: bool) -> None:
        values = np.stack([component_values(properties, t) for t in self.targets], axis=1)
        self.latents = np.concatenate([self.latents, latents])
        unknown = np.full((len(latents), self.features.shape[1]), np.nan)  # they are found once they are needed
        self.features = np.concatenate([self.features, unknown])
        self.values = np.concatenate([self.values, values])
        self.distances = np.concatenate([self.distances, self.distance(properties)])
        self.found = np.concatenate([self.found, np.full(len(latents), found)])

    def _features(self, latents: Array) -> Array:
        return features_of(self.vae.decode(latents))[0]

    def _allowed(self, latents: Array) -> tuple[Array, Array, Groupings]:
        """Return the latents that may be proposed, and the features of their decoded structures; see `features_of`."""
        structures = decoded(self.vae, latents)
        if self.allowed is not None:
            good = np.flatnonzero(self.allowed(latents, structures))
            latents, structures = latents[good], structures[good]
        return (latents, *features_of(structures))

    def _described(self, rows: Array) -> Array:
        """Compute features of rows, the first ones first, up to the limit; return the rows that have features now."""
        new = rows[np.isnan(self.features[rows, 0])]
        new = np.concatenate([new[self.found[new]], new[~self.found[new]]])[: self._unhurried]
        own, old = new[self.found[new]], new[~self.found[new]]
        if len(own):
            self.features[own] = features_of(decoded(self.vae, self.latents[own]))[0]
        if len(old):  # the first that were told of
            assert self.known is not None
            self.features[old] = features_of(self.known.structures[old])[0]
        return np.asarray(rows[np.isfinite(self.features[rows, 0])])

    @property
    def _unhurried(self) -> int:
        """The number of known structures to describe per question; larger for the first question."""
        return max(FEWEST, 2 * self.room if self.models is None and not self.renewed else self.room // 4)

    def _improving(self, n: int, known: Array, rng: np.random.Generator) -> Array:
        """Return the candidates with the largest expected improvement, chosen one after another."""
        self._fill(0)
        candidates, features = self._candidates(known, rng)
        models = self._modelled(known)
        where = self._at(candidates, features)
        if len(self.pending):  # what is on its way is taken to be what is expected of it
            models = models.believing(self._at(self.pending, self._features(self.pending)))
        best, offsets, works = float(np.nanmin(self.distances)), self._offsets(candidates), self._works(where)
        wide, chosen = self._wide, list[int]()
        for _ in range(n):
            drawn = models.draw(where, rng)  # (draws, candidates, targets)
            flat = (drawn + offsets).reshape(-1, len(self.targets))
            flat = np.where(wide, np.exp(np.where(wide, flat, 0.0)), flat)
            distances = self.distance(properties_of(self.targets, flat)).reshape(drawn.shape[:2])
            gain = np.maximum(best - distances, 0).mean(axis=0)
            gain = works * gain if gain.max() > 0 else works / (1 + distances.mean(axis=0))
            gain[chosen] = -np.inf
            chosen.append(int(gain.argmax()))
            if len(chosen) < n:
                models = models.believing(where[chosen[-1:]])
        return candidates[chosen]

    def _modelled(self, known: Array) -> GaussianProcesses:
        """Return models of the known values; kernels are refitted after enough new results or new coordinates."""
        rows, found = self._rows(known), int(self.found.sum())
        kernels = None
        if self.models is not None and found - self.renewed < max(1, found // RENEWED):
            kernels = self.models.kernels
        else:
            self.renewed = found
        points = self._at(self.latents[rows], self.features[rows])
        self.models = GaussianProcesses.fit(points, self._rest(rows), self.coordinates.groupings, kernels)
        return self.models

    def _unmodelled(self, n: int) -> Array:
        """Return n latents of the pool in its order; after some questions, those likely to be solvable."""
        start = int(self.found.sum()) + len(self.pending)
        if self.found.sum() < FIRST:
            self._fill(start + n)
            return np.asarray(self.pool[np.arange(start, start + n) % len(self.pool)])
        gone = {z.tobytes() for z in (*self.latents[self.found], *self.pending)}
        fresh = np.array([k for k, z in enumerate(self.pool) if z.tobytes() not in gone] or [0])
        where = self._at(self.pool[fresh], self.pool_features[fresh])
        if np.isfinite(self.values).all(axis=1).any():
            order = np.argsort(-self._works(where), kind="stable")
        else:
            order = np.array(self._furthest(where, n))
        return np.asarray(self.pool[np.resize(fresh[order], n)])

    def _furthest(self, where: Array, n: int) -> list[int]:
        """Return rows of coordinates (m, k) farthest from all evaluated ones; for when none has succeeded."""
        asked = np.concatenate([self.latents[self.found], self.pending])
        seen = self._at(asked, self._features(asked))
        sizes = self.coordinates.groupings[0]
        weights = np.repeat([1 / np.sqrt(size) for size in sizes], sizes)
        nearest = cdist(where * weights, seen * weights).min(axis=1)
        chosen: list[int] = []
        for _ in range(min(n, len(where))):
            chosen.append(int(nearest.argmax()))
            nearest = np.minimum(nearest, cdist(where * weights, where[chosen[-1:]] * weights)[:, 0])
        return chosen

    def _works(self, where: Array) -> Array:
        """Return the probability (m,) that the solver succeeds, estimated from past designs; 0 where it is too low."""
        failed = ~np.isfinite(self.values).all(axis=1) & self.found
        if not failed.any():
            return np.ones(len(where))
        told = np.flatnonzero(self.found)
        asked = self._described(told[np.argsort(~failed[told], kind="stable")][:MOST])
        points = self._at(self.latents[asked], self.features[asked])
        chance = chance_of_answer(points, failed[asked], where, seed_of(self.seed, "works"))
        return np.where(chance < RELIABLE * chance.max(), 0.0, chance)

    def _rows(self, known: Array) -> Array:
        """Return the rows that models are fitted to: the designs, and of the rest those nearest the target."""
        rows = np.flatnonzero(known)
        near = self.distances[rows]
        if self.found[rows].sum() > MOST // 2:
            order = np.argsort(near, kind="stable")
        else:
            order = np.lexsort((near, ~self.found[rows]))
        return self._described(rows[order][:MOST])

    def _candidates(self, known: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return latents (m, d) and features: from the prior, around the best designs, from the caller."""
        rows = np.flatnonzero(known)
        leaders = self.latents[rows[np.argsort(self.distances[rows])[:LEADERS]]]
        start = leaders[rng.integers(len(leaders), size=MOVES)]
        step = rng.choice(STEPS, size=(MOVES, 1))
        fresh = self.pool[rng.integers(len(self.pool), size=MOVES)]
        centre = self.coordinates.middle
        crossed = centre + np.sqrt(1 - step**2) * (start - centre) + step * (fresh - centre)
        own = [self._unasked(leaders), crossed]
        moved = np.concatenate(own if self.more is None else [*own, self.more(MOVES // 4, self.asked)])
        moved = self._hopeful(moved, max(FEWEST, self.room // 2), rng)
        moved, features, _ = self._allowed(moved)
        return np.concatenate([self.pool, moved]), np.concatenate([self.pool_features, features])

    def _unasked(self, leaders: Array) -> Array:
        """Return the leaders known before the search, whose decoded structures have not been evaluated."""
        gone = {z.tobytes() for z in (*self.latents[self.found], *self.pending)}
        return leaders[[z.tobytes() not in gone for z in leaders]]

    def _hopeful(self, latents: Array, most: int, rng: np.random.Generator) -> Array:
        """Return a limited number of latents (n, d): those predicted nearest the target, and others."""
        if len(latents) <= most:
            return latents
        known = np.flatnonzero(np.isfinite(self.values).all(axis=1))
        near = known[np.argsort(self.distances[known], kind="stable")[:MOST]]
        points, rest, offsets = self.latents[near], self._rest(near), self._offsets(latents)
        expected = rest.mean(axis=0) + offsets + (latents - points.mean(axis=0)) @ slopes_of(points, rest)
        expected = np.where(self._wide, np.exp(np.where(self._wide, expected, 0.0)), expected)
        order = np.argsort(self.distance(properties_of(self.targets, expected)), kind="stable")
        chosen = np.concatenate([order[: most - most // 4], rng.permutation(order[most - most // 4 :])[: most // 4]])
        return np.asarray(latents[chosen])

    def _at(self, latents: Array, features: Array) -> Array:
        return self.coordinates(features, latents)

    def _offsets(self, latents: Array) -> Array:
        """Return a head's predictions of the targets (n, targets); zero without a head."""
        if self.expected is None:
            return np.zeros((len(latents), len(self.targets)))
        properties = self.expected(latents)
        return self._scaled(np.stack([component_values(properties, t) for t in self.targets], axis=1))

    def _rest(self, rows: Array) -> Array:
        return np.asarray(self._scaled(self.values[rows]) - self._offsets(self.latents[rows]))

    @property
    def _wide(self) -> Array:
        """Which targets (targets,) are modelled by their logarithm: positive numbers that span orders of magnitude."""
        known = self.values[np.isfinite(self.values).all(axis=1)]
        least = known.min(axis=0)
        return np.asarray((least > 0) & (known.max(axis=0) > WIDE * np.maximum(least, 1e-300)))

    def _scaled(self, values: Array) -> Array:
        """Return values (n, targets) on the modelled scale; under a logarithm, at least the smallest known value."""
        least = np.where(self.values > 0, self.values, np.inf).min(axis=0, initial=np.inf)
        return np.where(self._wide, np.log(np.maximum(values, np.where(self._wide, least, 1.0))), values)
