"""Searches of the latent space: each is asked for latents, and told what the solver says of them."""

from __future__ import annotations

from msvae.plugins import hook
from msvae.plugins.interfaces import Searcher
from msvae.sampling.search.strategies import Botorch, Composite, Conditional, GaussianProcess, Gradient, Random


@hook
def msvae_searchers() -> list[type[Searcher]]:
    """Announce the core's own searchers."""
    return [Botorch, Composite, Conditional, GaussianProcess, Gradient, Random]
