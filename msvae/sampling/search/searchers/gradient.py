"""Gradient search: Gauss-Newton steps in latent space, with derivatives through decoder and solver.

At a verified design the derivatives of the targeted numbers with respect to the latents are exact except for the
decoder's last step: they are taken of the expected voxel values, while the design is the most likely structure. A step
is the shortest one, in standard deviations of the prior, that would meet the linearised targets. Steps that did not
help are shortened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from msvae.plugins.differentiable import differentiable
from msvae.sampling.search.aims import Target
from msvae.sampling.search.problem import Allowed, Known
from msvae.seeds import seed_of
from msvae.structures import Array
from msvae.vae.blueprint import component_values

if TYPE_CHECKING:
    from msvae.plugins.interfaces import Solver
    from msvae.vae.model import VAE

__all__ = ["GradientSearch"]

LONGEST = 1.5  # step, in standard deviations of the prior
TRIES = 4  # steps from one design, each half as long as the one before
DAMPING = 1e-3  # of the squared derivatives, relative to their mean

Distance = Callable[[Mapping[str, Array]], Array]


class GradientSearch:
    """A searcher that steps from the best known designs. price: solver calls per question."""

    def __init__(
        self,
        vae: VAE,
        solver: Solver,
        targets: tuple[Target, ...],
        distance: Distance,
        *,
        known: Known,
        allowed: Allowed | None = None,
        seed: int = 0,
    ) -> None:
        """known: labelled structures from which the first steps start. allowed: as in `Problem`."""
        self.vae, self.solver, self.targets, self.distance, self.allowed = vae, solver, targets, distance, allowed
        self.numbers = [number for target in targets for number in target.numbers]
        self.price = 2 + len(self.numbers)  # of the design, of its expected values, and of a derivative of each number
        self.width = vae.sample_latents(256, seed_of(seed, "width")).std(axis=0) + 1e-9
        self.seed, self.asked = seed, 0
        self.latents, self.values = np.zeros((0, vae.latents)), np.zeros((0, len(self.numbers)))
        self.distances, self.steps = np.zeros(0), np.zeros(0, dtype=int)
        self._learn(known.latents, distance(known.properties), known.properties)

    def ask(self, n: int) -> Array:
        """Return n latents (n, d): one step each from the best designs from which few steps have been taken."""
        self.asked += 1
        order = np.lexsort((np.nan_to_num(self.distances, nan=np.inf), self.steps >= TRIES))
        fresh = self.vae.sample_latents(n, seed_of(self.seed, "ask", self.asked))
        usable = [k for k in order[:n] if np.isfinite(self.distances[k])]
        stepped = [self._stepped(int(k)) for k in usable]
        return np.stack([*stepped, *fresh[len(stepped) :]])

    def tell(self, latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        """Learn from the results of latents (n, d): properties (n, *shape), NaN where the solver failed."""
        self._learn(latents, distances, properties)

    def _learn(self, latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        values = np.stack([component_values(properties, number) for number in self.numbers], axis=1)
        self.latents, self.values = np.concatenate([self.latents, latents]), np.concatenate([self.values, values])
        self.distances = np.concatenate([self.distances, distances])
        self.steps = np.concatenate([self.steps, np.zeros(len(latents), dtype=int)])

    def _stepped(self, k: int) -> Array:
        """Return latents (d,) one step from a known design; the step is shortened until the design is allowed."""
        slopes = self._slopes(self.latents[k]) * self.width
        low, high = np.array([ends for target in self.targets for ends in target.ends]).T
        scale = np.array([t.tolerance * t.scale for t in self.targets for _ in t.numbers])
        missing = (np.clip(self.values[k], low, high) - self.values[k]) / scale
        slopes = slopes / scale[:, None]
        square = slopes @ slopes.T
        square += (DAMPING * np.trace(square) / len(square) + 1e-300) * np.eye(len(square))
        step = slopes.T @ np.linalg.solve(square, missing)
        step *= min(1.0, LONGEST / max(float(np.linalg.norm(step)), 1e-300)) * 0.5 ** self.steps[k]
        self.steps[k] += 1
        for _ in range(TRIES):
            found = self.latents[k] + step * self.width
            if self.allowed is None or self.allowed(found[None], self.vae.decode(found[None]))[0]:
                return np.asarray(found)
            step = step / 2
        return np.asarray(self.latents[k] + step * self.width)

    def _slopes(self, latents: Array) -> Array:
        """Return the derivatives (numbers, d) of the targeted numbers with respect to latents (d,)."""
        z = torch.as_tensor(latents[None], dtype=torch.float32).requires_grad_()
        grid = self.vae.blueprint.specification.grid
        grey = self.vae.likelihood(self.vae.output(z, self.vae.network_conditions(None, 1))).mean[:, 0].double()
        found = differentiable(self.solver, grey, grid.spacing, periodic=all(grid.periodic))
        rows = []
        for number in self.numbers:
            place: tuple[Any, ...] = (0, *number.component)
            (slope,) = torch.autograd.grad(found[number.property][place], z, retain_graph=True)
            rows.append(slope[0].double().numpy())
        return np.stack(rows)
