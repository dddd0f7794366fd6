"""The heads of one search, and the data that they learn from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from msvae.sampling.search.effort import Effort
from msvae.structures import Array, Structures
from msvae.structures.evaluations import Evaluations
from msvae.vae.fitting.heads import refit_heads
from msvae.vae.model import VAE

__all__ = ["Learner"]


@dataclass(eq=False)
class Learner:
    """The heads of one search, and their training data: encoded structures and verified designs."""

    vae: VAE
    structures: Structures
    latents: Array
    properties: dict[str, Array]
    seed: int
    effort: Effort = field(default_factory=Effort)
    found: list[Evaluations] = field(default_factory=list)

    @classmethod
    def of(
        cls, vae: VAE, structures: Structures, wanted: set[str], *, seed: int, effort: Effort | None = None
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
            effort or Effort(),
        )

    def learn(self, table: Evaluations) -> None:
        """Fit the heads to the structures and to all designs; designs have a larger weight."""
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
        refit_heads(self.vae, latents, properties, seed=self.seed, steps=self.effort.learning, weights=weights)
