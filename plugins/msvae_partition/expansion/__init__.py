"""The energy: lattices with their operations, expansions in clusters of sites, what was paid for, and guesses."""
