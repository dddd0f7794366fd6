"""The core's own searchers, as they run: each is asked for latents, and told what the solver says of them."""
