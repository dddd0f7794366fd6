"""Lattices with their operations, and expansions of the energy in clusters of their sites."""
