"""Distributions of latents that are fitted after, or with, the training of the networks."""
