"""From a start with a known density to partition functions: moves, annealing, the inverse VAE, estimates."""
