"""Statistics of microstructures, of latents, and of predictions, and distances between two sets of them."""
