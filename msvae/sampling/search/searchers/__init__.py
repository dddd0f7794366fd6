"""Implementations of the core's own searchers: ask for latents, tell the solver's results."""
