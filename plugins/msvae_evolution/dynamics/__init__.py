"""Latent dynamics: how the latents of a frame go on to a later or an earlier time."""
