"""Half of the questions beside the best answer, half from the prior: replace it by your own strategy."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

import msvae


@dataclass(frozen=True)
class Mine(msvae.Searcher):
    """Random steps from the best latents that are known. step: their standard deviation, in that of the prior."""

    name = "mine"
    learns = False

    step: msvae.Positive = 0.3

    def search(self, problem: msvae.Problem) -> msvae.AskTell:
        return Search(problem, self.step)


@dataclass
class Search:
    """A search in progress; its state follows from the seed and from what it was told."""

    problem: msvae.Problem
    step: float
    price: int = 1
    asked: int = 0
    best: tuple[float, msvae.Array | None] = field(default=(np.inf, None))

    def ask(self, n: int) -> msvae.Array:
        """Return latents (n, d)."""
        self.asked += 1
        seed = msvae.seed_of(self.problem.seed, "ask", self.asked)
        new = self.problem.vae.sample_latents(n, seed)
        if self.best[1] is not None:
            half = n // 2
            steps = np.random.default_rng(seed).standard_normal((half, new.shape[1]))
            new[:half] = self.best[1] + self.step * steps
        return new

    def tell(self, latents: msvae.Array, distances: msvae.Array, properties: Mapping[str, msvae.Array]) -> None:
        """Keep the nearest; distances (n,) are NaN where the solver failed."""
        for latent, distance in zip(latents, distances, strict=True):
            if distance < self.best[0]:
                self.best = (float(distance), latent)


@msvae.hook
def msvae_searchers() -> list[type[msvae.Searcher]]:
    return [Mine]
