"""Samplers: sources of latents, either the prior or a search that learns from evaluations."""
