"""Distributions of latents, fitted during or after the training of the networks."""
