"""Samplers: where latents come from - the prior, or a search that learns from evaluations."""
