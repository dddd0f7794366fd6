"""Searches of the latent space: each is asked for latents, and told what the solver says of them."""
