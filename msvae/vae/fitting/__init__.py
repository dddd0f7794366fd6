"""Training of the networks: objective, optimisation steps, history and data-parallel ranks."""
