"""The searcher that a study names, and what it learns from as the search goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from msvae.campaigns.design.judge import Judge, distance_from
from msvae.plugins.interfaces import Solver
from msvae.sampling.search.aims import Target
from msvae.sampling.search.botorch import BotorchSearch
from msvae.sampling.search.composite import CompositeSearch, Known
from msvae.sampling.search.gradient import GradientSearch
from msvae.sampling.search.plain import PlainSearch
from msvae.sampling.search.searcher import GaussianProcessSearch, Searcher, descents
from msvae.sampling.search.thought import Thought
from msvae.seeds import seed_of
from msvae.structures import Array, Structures
from msvae.structures.evaluations import Evaluations
from msvae.vae.fitting.training import refit_heads
from msvae.vae.model import VAE

__all__ = ["Learner", "searcher_of"]


def searcher_of(solver: Solver, learner: Learner, judge: Judge, seed: int) -> Searcher:
    """Return the study's searcher, which starts from what is known of the data set.

    A composite search that a fast solver answers asks for plain candidates too.
    """
    design, known = judge.design, Known(learner.latents, learner.structures, learner.properties)
    distance = partial(distance_from, design.targets)
    if design.searcher == "gradient":
        return GradientSearch(
            learner.vae, solver, design.targets, distance, known=known, allowed=judge.allowed, seed=seed
        )
    smooth, numbers = partial(_torch_distance, design.targets), list(design.components)
    shared: dict[str, Any] = {"seed": seed, "known": known, "allowed": judge.allowed}
    if design.searcher == "botorch":
        return BotorchSearch(learner.vae, numbers, distance, **shared)
    if design.searcher == "composite":

        def descended(n: int, question: int) -> Array:
            return descents(learner.vae, smooth, learner.latents, n, seed_of(seed, question))

        def thoughtful() -> Searcher:
            return CompositeSearch(
                learner.vae,
                numbers,
                distance,
                **shared,
                expected=learner.vae.predict if learner.vae.heads else None,
                more=descended if learner.vae.heads else None,
                thought=learner.thought,
            )

        if not learner.thought.plain:
            return thoughtful()
        return PlainSearch(
            learner.vae, numbers, distance, other=thoughtful, plain=learner.thought.plain, seed=seed, known=known
        )
    nearness = distance(learner.properties)
    return GaussianProcessSearch(learner.vae, smooth, encoded=learner.latents, known=nearness, seed=seed)


def _torch_distance(targets: tuple[Target, ...], properties: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the root mean square of the same distances, which is smooth."""

    def part(target: Target) -> torch.Tensor:
        array = properties[target.property]
        places: list[tuple[Any, ...]] = [(slice(None), *number.component) for number in target.numbers]
        values = torch.stack([array[place] for place in places])
        low, high = torch.tensor(target.ends, dtype=values.dtype).T[..., None]
        return torch.maximum(low - values, values - high).clamp_min(0) / (target.tolerance * target.scale)

    parts = torch.cat([part(t) for t in targets])
    return (parts.square().mean(dim=0) + 1e-12).sqrt()


@dataclass(eq=False)
class Learner:
    """The head of one search, and what it learns from: encoded structures and verified designs."""

    vae: VAE
    structures: Structures
    latents: Array
    properties: dict[str, Array]
    seed: int
    thought: Thought = field(default_factory=Thought)
    found: list[Evaluations] = field(default_factory=list)

    @classmethod
    def of(
        cls, vae: VAE, structures: Structures, wanted: set[str], *, seed: int, thought: Thought | None = None
    ) -> Learner:
        """Return a learner that starts from the labelled structures. wanted: properties, beside those of the heads."""
        names = sorted({*vae.heads, *wanted})
        known = np.all(
            [np.isfinite(structures.properties[n]).reshape(len(structures), -1).all(axis=1) for n in names], axis=0
        )
        chosen = structures[np.flatnonzero(known)]
        return cls(
            vae,
            chosen,
            vae.encode(chosen),
            {n: np.array(chosen.properties[n]) for n in names},
            seed,
            thought or Thought(),
        )

    def learn(self, table: Evaluations) -> None:
        """Fit the heads to the structures and to all designs, which count more: they are where the search is."""
        if not self.vae.heads:
            return
        self.found.append(table.where(table.done))
        latents = np.concatenate([self.latents, *(t.latents for t in self.found)])
        properties = {n: np.concatenate([a, *(t.properties[n] for t in self.found)])
                      for n, a in self.properties.items()}  # fmt: skip
        new = len(latents) - len(self.latents)
        weights = np.concatenate(
            [np.ones(len(self.latents)), np.full(new, max(1.0, len(self.latents) / max(2 * new, 1)))]
        )
        refit_heads(self.vae, latents, properties, seed=self.seed, steps=self.thought.learning, weights=weights)
