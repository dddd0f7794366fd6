"""Searches of the latent space with an ask-tell interface: ask for latents, tell the solver's results."""

from __future__ import annotations

from msvae.plugins import hook
from msvae.plugins.interfaces import Searcher
from msvae.sampling.search.strategies import Botorch, Composite, Conditional, GaussianProcess, Gradient, Random


@hook
def msvae_searchers() -> list[type[Searcher]]:
    """Announce the core's own searchers."""
    return [Botorch, Composite, Conditional, GaussianProcess, Gradient, Random]
