"""Search for a Pareto front: a composite search that changes the weighting of two losses with every question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from msvae.sampling.search.searchers.composite import CompositeSearch
from msvae.structures import Array

__all__ = ["Aimed"]


@dataclass(frozen=True, eq=False)
class Aimed:
    """A composite searcher that uses another weighting with every question."""

    searcher: CompositeSearch
    losses: Any
    rng: np.random.Generator
    price: int = 1

    def ask(self, n: int) -> Array:
        self.searcher.aim(partial(self.losses.weighed, float(self.rng.uniform(0.02, 0.98))))
        return self.searcher.ask(n)

    def tell(self, latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        self.searcher.tell(latents, distances, properties)
