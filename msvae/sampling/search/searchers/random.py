"""Random search: samples of the fitted prior."""

from __future__ import annotations

from collections.abc import Mapping

from msvae.seeds import seed_of
from msvae.structures import Array
from msvae.vae.model import VAE

__all__ = ["RandomSearch"]


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
